// One page in one browser profile of its own, with the words that the checks are written in.

import assert from "node:assert/strict";

/** Milliseconds; long, because the machine may be busy. */
const WAIT = 90_000;

/** Opens the page of `server` in a fresh profile. */
export async function openPage(browser, server, { width = 1280, height = 800, phone = false, dark = false } = {}) {
  const context = await browser.createBrowserContext();
  await context.overridePermissions(server.url, ["clipboard-read", "clipboard-write"]);
  const tab = await context.newPage();
  await tab.setViewport({ width, height, isMobile: phone, hasTouch: phone, deviceScaleFactor: 2 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  const page = new Page(context, tab, server);
  await page.load();
  return page;
}

class Page {
  constructor(context, tab, server) {
    this.context = context;
    this.tab = tab;
    this.server = server;
    /** What must stay empty: errors of scripts, refusals by the policy, requests to other places. */
    this.faults = [];
    /** Bodies of the chat requests, in order. */
    this.asked = [];
    tab.on("pageerror", (error) => this.faults.push(error.message));
    tab.on("console", (message) => this.heard(message.text()));
    tab.on("request", (request) => this.requested(request));
  }

  heard(text) {
    // A refused request is the browser's remark on an answer that the checks ask for.
    if (!/Failed to load resource: the server responded with a status of 4/.test(text)) this.faults.push(text);
  }

  requested(request) {
    const url = request.url();
    if (!url.startsWith(`${this.server.url}/`) && !url.startsWith("blob:")) this.faults.push(`request to ${url}`);
    if (url.endsWith("/v1/chat/completions")) this.asked.push(JSON.parse(request.postData()));
  }

  async load() {
    await this.tab.goto(`${this.server.url}/`, { timeout: WAIT });
    await this.ready();
  }

  async reload() {
    await this.tab.reload({ timeout: WAIT });
    await this.ready();
  }

  /** Until the server has said which models it has, or that it wants a key. */
  ready() {
    return this.until(() => document.querySelector("#model:enabled, #key[open]"));
  }

  /** Closes it, and holds it to having made no fault. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.faults, []);
  }

  press(...keys) {
    return keys.reduce((before, key) => before.then(() => this.chord(key)), Promise.resolve());
  }

  async chord(keys) {
    const parts = keys.split("+");
    for (const key of parts.slice(0, -1)) await this.tab.keyboard.down(key);
    await this.tab.keyboard.press(parts.at(-1));
    for (const key of parts.slice(0, -1).reverse()) await this.tab.keyboard.up(key);
  }

  async write(text) {
    await this.tab.focus("#prompt");
    await this.tab.keyboard.type(text);
  }

  /** Writes, sends with Enter and waits for the whole answer. */
  async say(text) {
    await this.write(text);
    await this.press("Enter");
    await this.answered();
  }

  async answered() {
    await this.until(() => document.querySelector("article.assistant") && !document.querySelector(".running"));
  }

  /** Slows the network down to so many bytes a second; `null` lifts it. */
  slow(bytes) {
    const upload = 1 << 20;
    return this.tab.emulateNetworkConditions(bytes === null ? null : { download: bytes, upload, latency: 0 });
  }

  until(condition, ...values) {
    return this.tab.waitForFunction(condition, { timeout: WAIT, polling: 20 }, ...values);
  }

  /** The texts of all elements that match. */
  texts(selector) {
    return this.tab.$$eval(selector, (all) => all.map((element) => element.innerText.trim()));
  }

  async text(selector) {
    return (await this.texts(selector)).at(-1);
  }

  count(selector) {
    return this.tab.$$eval(selector, (all) => all.length);
  }

  /** Clicks the last element that matches, wherever it is scrolled to, after pointing at it. */
  async click(selector) {
    const all = await this.tab.$$(selector);
    assert.ok(all.length > 0, `there is no ${selector}`);
    await all.at(-1).evaluate((element) => element.scrollIntoView({ block: "nearest" }));
    const article = await all.at(-1).evaluateHandle((element) => element.closest("article, li"));
    if (article.asElement()) await article.asElement().hover();
    await all.at(-1).click();
  }

  evaluate(code, ...values) {
    return this.tab.evaluate(code, ...values);
  }

  /** Replaces what stands in a field. */
  async fill(selector, text) {
    await this.tab.click(selector, { count: 3 });
    await this.press("Backspace");
    await this.tab.type(selector, text);
  }

  async screenshot(path) {
    // Buttons appear under the pointer; a picture shows the page at rest.
    await this.tab.mouse.move(2, 2);
    await this.evaluate(() => new Promise((done) => setTimeout(done, 300)));
    await this.tab.screenshot({ path });
  }
}
