// What the page must do, each check in a fresh profile. They run on the model `mini`; none depends on what it says.

import assert from "node:assert/strict";
import fs from "node:fs/promises";
import path from "node:path";
import { bigConversation, hostile } from "./texts.js";

/** `mini` shows its working when it adds. */
const SUM = "What is 274 + 58?";
const WORD = "Write arigatou in hiragana";

const last = "article.assistant:last-of-type";
const figures = (page) => page.texts(`${last} .stats span`);
const button = (name) => `button[aria-label="${name}"]`;

export const checks = {
  async "the page is served with a strict policy, and again from the browser's cache"({ open, server }) {
    const first = await fetch(`${server.url}/`);
    assert.match(first.headers.get("content-type"), /^text\/html/);
    assert.match(first.headers.get("content-security-policy"), /default-src '(self|none)'/);
    assert.doesNotMatch(first.headers.get("content-security-policy"), /unsafe/);
    assert.equal(first.headers.get("x-content-type-options"), "nosniff");
    const again = await fetch(`${server.url}/`, { headers: { "if-none-match": first.headers.get("etag") } });
    assert.equal(again.status, 304);
    const page = await open();
    assert.equal(await page.text(".welcome h2"), "mini");
    await page.close();
  },

  async "Enter sends, Shift Enter makes a line, and the answer streams with its figures"({ open }) {
    const page = await open();
    await page.write("What is");
    await page.press("Shift+Enter");
    await page.tab.keyboard.type("274 + 58?");
    assert.equal(await page.count("article"), 0);
    await page.evaluate(() => {
      window.states = new Set();
      new MutationObserver(() => window.states.add(document.querySelector(".reasoning summary")?.textContent)).observe(
        document.querySelector("#messages"),
        { childList: true, subtree: true, characterData: true },
      );
    });
    await page.slow(4000);
    await page.press("Enter");
    await page.answered();
    assert.deepEqual(await page.texts(".said"), ["What is\n274 + 58?"]);
    assert.ok(await page.evaluate(() => window.states.has("Thinking")), "nothing was seen before the end");
    assert.match((await figures(page)).join(", "), /tokens.*first after .* s, \d+ of \d+ prompt tokens cached/);
    assert.match(await page.evaluate(() => document.querySelector("#announcer").textContent), /mini answered: ./);
    await page.close();
  },

  async "reasoning is folded, and opens"({ open }) {
    const page = await open();
    await page.say(SUM);
    assert.match(await page.text(".reasoning summary"), /^Thought for/);
    assert.equal(await page.evaluate(() => document.querySelector(".reasoning").open), false);
    await page.click(".reasoning summary");
    await page.until(() => document.querySelector(".reasoning .prose").innerText.length > 10);
    assert.ok((await page.text(`${last} .answer > .prose`)).length > 0);
    await page.close();
  },

  async "the second turn finds the first in the cache, and is sent with it"({ open }) {
    const page = await open();
    for (const text of [SUM, WORD, SUM]) await page.say(text);
    const [, cached] = /(\d[\d,]*) of [\d,]+ prompt/.exec((await figures(page)).join(" "));
    assert.ok(Number(cached.replace(",", "")) > 0, "nothing was cached");
    assert.deepEqual(page.asked[2].messages.map(({ role }) => role), ["user", "assistant", "user", "assistant", "user"]);
    assert.ok(page.asked[2].stream_options.include_usage);
    await page.close();
  },

  async "Esc and the button stop an answer, and keep what came"({ open }) {
    const page = await open();
    const stops = { Esc: () => page.press("Escape"), button: () => page.tab.click("#send") };
    for (const [name, stop] of Object.entries(stops)) {
      await page.slow(600);
      await page.write(SUM);
      await page.press("Enter");
      await page.until(() => document.querySelector(".running :is(.reasoning:not([hidden]), .answer > .prose > *)"));
      assert.equal(await page.evaluate(() => document.querySelector("#send").getAttribute("aria-label")), "Stop");
      await stop();
      await page.answered();
      assert.equal(await page.text(`${last} .note`), "You stopped this answer.", name);
      await page.slow(null);
    }
    assert.equal(await page.evaluate(() => document.querySelector("#send").getAttribute("aria-label")), "Send");
    await page.say(WORD);
    await page.close();
  },

  async "an edited message makes a branch; branches are kept and can be walked"({ open }) {
    const page = await open();
    await page.say(WORD);
    await page.say(SUM);
    const before = await page.texts(".said");
    await page.click(`article.user:first-of-type ${button("Edit")}`);
    await page.fill(".editor textarea", "Who are you?");
    await page.press("Enter");
    await page.answered();
    assert.deepEqual(await page.texts(".said"), ["Who are you?"]);
    assert.equal(await page.text("article.user .place"), "2 / 2");
    await page.click(`article.user ${button("The branch before")}`);
    assert.deepEqual(await page.texts(".said"), before);
    await page.click(`${last} ${button("Answer again")}`);
    await page.answered();
    assert.equal(await page.text(`${last} .place`), "2 / 2");
    await page.reload();
    assert.deepEqual(await page.texts(".said"), before);
    assert.equal(await page.text(`${last} .place`), "2 / 2");
    // By keyboard: from the message that has the focus.
    await page.tab.focus("article.user");
    await page.press("ArrowRight");
    assert.deepEqual(await page.texts(".said"), ["Who are you?"]);
    await page.press("ArrowLeft");
    assert.deepEqual(await page.texts(".said"), before);
    await page.close();
  },

  async "an edited answer stands as it was written, and the conversation goes on from it"({ open }) {
    const page = await open();
    await page.say(WORD);
    await page.click(`${last} ${button("Edit")}`);
    await page.fill(".editor textarea", "Thirty-two.");
    await page.press("Control+Enter");
    assert.equal(await page.text(`${last} .answer > .prose`), "Thirty-two.");
    assert.deepEqual(await figures(page), ["edited"]);
    await page.say(SUM);
    assert.equal(page.asked.at(-1).messages[1].content, "Thirty-two.");
    await page.close();
  },

  async "what a model writes stays text"({ open }) {
    const page = await open();
    await page.say(WORD);
    await page.click(`${last} ${button("Edit")}`);
    await page.evaluate((text) => (document.querySelector(".editor textarea").value = text), hostile);
    await page.click(".editor .primary");
    await page.until(() => document.querySelector(".prose table"));
    const found = await page.evaluate(() => ({
      ran: window.ran,
      made: [...document.querySelectorAll(".answer > .prose *")]
        .filter((e) => /^(IMG|SCRIPT|IFRAME|OBJECT|FORM|STYLE|svg|VIDEO)$/.test(e.tagName) && !e.closest("button"))
        .map((e) => e.outerHTML),
      handlers: [...document.querySelectorAll(".answer > .prose *")].flatMap((e) => e.getAttributeNames()).filter((n) => /^on/.test(n)),
      links: [...document.querySelectorAll(".answer > .prose a")].map((a) => `${a.protocol} ${a.rel} ${a.target}`),
      text: document.querySelector(".answer > .prose").textContent,
    }));
    assert.equal(found.ran, undefined);
    assert.deepEqual(found.made, []);
    assert.deepEqual(found.handlers, []);
    assert.deepEqual(found.links, ["https: noopener noreferrer _blank"]);
    assert.match(found.text, /<img src=x onerror=/);
    assert.match(found.text, /javascript:window\.ran/);
    // Beside the renderer stands the policy: even a script of the page could not make elements of text.
    const refused = await page.evaluate(() => {
      try {
        document.createElement("p").innerHTML = "<b>a</b>";
        return "it was made";
      } catch (error) {
        return error.name;
      }
    });
    assert.equal(refused, "TypeError");
    page.faults = page.faults.filter((fault) => !/TrustedHTML/.test(fault));
    await page.close();
  },

  async "code has a button that copies it"({ open }) {
    const page = await open();
    await page.say(WORD);
    await page.click(`${last} ${button("Edit")}`);
    await page.evaluate(() => (document.querySelector(".editor textarea").value = "```rust\nfn a() {}\n\n// b\n```"));
    await page.click(".editor .primary");
    await page.click(button("Copy code"));
    await page.until(() => document.querySelector('.code button[title="Copied"]'));
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "fn a() {}\n\n// b");
    await page.close();
  },

  async "settings are sent, kept, and refused when out of range"({ open }) {
    const page = await open();
    await page.click("#settings-open");
    await page.fill("#set-system", "You are a boatman.");
    await page.fill("#set-temperature", "0");
    await page.fill("#set-max_tokens", "8");
    await page.fill("#set-top_p", "7");
    assert.equal(await page.text("#settings .error:not(:empty)"), "From 0.01 to 1.");
    await page.press("Escape");
    await page.say(SUM);
    const { messages, temperature, max_tokens, top_p } = page.asked[0];
    assert.deepEqual(messages[0], { role: "system", content: "You are a boatman." });
    assert.deepEqual([temperature, max_tokens, top_p], [0, 8, undefined]);
    assert.match((await page.texts(`${last} .note`)).join(" "), /longest answer/);
    await page.reload();
    await page.click("#settings-open");
    const kept = () => page.evaluate(() => ["system", "temperature", "max_tokens", "top_p"].map((n) => document.querySelector(`#set-${n}`).value));
    assert.deepEqual(await kept(), ["You are a boatman.", "0", "8", ""]);
    await page.click("#settings-reset");
    assert.deepEqual(await kept(), ["", "", "", ""]);
    await page.close();
  },

  async "the picker lists the server's models"({ open, server }) {
    const { data } = await (await fetch(`${server.url}/v1/models`)).json();
    const page = await open();
    assert.deepEqual(await page.texts("#model option"), data.map(({ id }) => id));
    await page.tab.select("#model", data.at(-1).id);
    await page.say(WORD);
    assert.equal(page.asked[0].model, data.at(-1).id);
    await page.close();
  },

  async "the keyboard is enough"({ open }) {
    const page = await open();
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
    assert.equal(await focused(), "prompt");
    await page.say(WORD);
    await page.press("ArrowUp");
    assert.equal(await page.count(".editor"), 1);
    await page.press("Escape");
    assert.equal(await page.count(".editor"), 0);
    assert.match(await focused(), /message user/);
    await page.press("ArrowDown");
    assert.match(await focused(), /message assistant/);
    assert.equal(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), "solid");
    await page.press("F2");
    assert.equal(await page.count(".editor"), 1);
    await page.press("Escape", "ArrowDown");
    assert.equal(await focused(), "prompt");
    await page.press("Control+k");
    assert.equal(await page.count("article"), 0);
    await page.say(SUM);
    assert.equal(await page.count("#conversations a"), 2);
    await page.tab.focus("#new-chat");
    await page.press("ArrowDown", "ArrowDown", "Enter");
    await page.until((word) => document.querySelector(".said").innerText === word, WORD);
    await page.press("F2");
    await page.tab.keyboard.type("Thanks");
    await page.press("Enter", "Delete");
    assert.equal(await page.count("#conversations a"), 1);
    await page.click("#toast button");
    assert.deepEqual((await page.texts("#conversations a")).sort(), ["Thanks", SUM]);
    await page.close();
  },

  async "Enter that ends the composition of characters sends nothing"({ open }) {
    const page = await open();
    await page.write("ありがとう");
    await page.evaluate(() => {
      const event = new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true });
      document.querySelector("#prompt").dispatchEvent(event);
    });
    assert.equal(await page.count("article"), 0);
    await page.close();
  },

  async "an error of the server is shown with its text, and the message can be tried again"({ open, server }) {
    const page = await open();
    const message = "a b c ".repeat(20_000);
    const refused = await fetch(`${server.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "mini", messages: [{ role: "user", content: message }] }),
    });
    assert.equal(refused.status, 400);
    await page.evaluate((text) => (document.querySelector("#prompt").value = text), message);
    await page.press("Enter");
    await page.answered();
    assert.equal(await page.text(`${last} .note.error`), (await refused.json()).error.message);
    await page.click(`article.user ${button("Edit")}`);
    await page.evaluate((text) => (document.querySelector(".editor textarea").value = text), WORD);
    await page.press("Enter");
    await page.answered();
    assert.equal(await page.count(".note.error"), 0);
    await page.close();
  },

  async "a server that is gone is an error too, and what was said is kept"({ open }) {
    const page = await open();
    await page.tab.setOfflineMode(true);
    await page.say(WORD);
    assert.match(await page.text(`${last} .note.error`), /does not answer/);
    await page.tab.setOfflineMode(false);
    await page.click(`${last} ${button("Answer again")}`);
    await page.answered();
    assert.equal(await page.count(".note.error"), 0);
    page.faults = page.faults.filter((fault) => !/ERR_INTERNET_DISCONNECTED/.test(fault));
    await page.close();
  },

  async "a server with a key is asked with a key, which is kept for this tab alone"({ openAt, locked, shots }) {
    const page = await openAt(locked);
    await page.until(() => document.querySelector("#key[open]"));
    const reason = await page.text("#key-reason");
    assert.ok(reason.length > 10, reason);
    await page.screenshot(path.join(shots, "key.png"));
    await page.tab.type("#key-value", "wrong");
    await page.press("Enter");
    await page.until(() => document.querySelector("#key[open]") && document.querySelector("#key-value").value === "");
    await page.tab.type("#key-value", locked.key);
    await page.press("Enter");
    await page.until(() => document.querySelector(".welcome h2")?.innerText === "mini");
    await page.say(WORD);
    assert.equal(await page.count(".note.error"), 0);
    const kept = await page.evaluate(() => [JSON.stringify(localStorage), JSON.stringify(sessionStorage)]);
    assert.deepEqual(kept.map((text) => text.includes(locked.key)), [false, true]);
    await page.close();
  },

  async "conversations leave as a file and come back"({ open, folder }) {
    const page = await open();
    await page.say(WORD);
    await page.click(`article.user ${button("Edit")}`);
    await page.press("Enter");
    await page.answered();
    const client = await page.tab.createCDPSession();
    await client.send("Page.setDownloadBehavior", { behavior: "allow", downloadPath: folder });
    await page.click("#export");
    const file = await appears(folder, /^sampan-.*\.json$/);
    const kept = () => page.evaluate(() => Object.entries(localStorage).filter(([name]) => name.startsWith("sampan.conversation")));
    const before = await kept();
    await page.evaluate(() => localStorage.clear());
    await page.load();
    await page.reload();
    assert.equal(await page.count("#conversations a"), 0);
    const input = await page.tab.$("#import-file");
    await input.uploadFile(file);
    await page.until(() => document.querySelector("#conversations a"));
    assert.deepEqual(await kept(), before);
    await fs.writeFile(path.join(folder, "other.json"), '{"a": 1}');
    await input.uploadFile(path.join(folder, "other.json"));
    await page.until(() => /Not imported: this file holds no conversations/.test(document.querySelector("#toast").innerText));
    await page.close();
  },

  async "a thousand messages open at once, and an answer changes only itself"({ open }) {
    const page = await open();
    const big = bigConversation(1000);
    await page.evaluate((one) => localStorage.setItem(`sampan.conversation.${one.id}`, JSON.stringify(one)), big);
    await page.reload();
    const opened = await page.evaluate(async (id) => {
      const begun = performance.now();
      location.hash = id;
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      return performance.now() - begun;
    }, big.id);
    assert.equal(await page.count("article"), 1000);
    assert.ok(opened < 3000, `it took ${opened} ms`);
    await page.until(() => [...document.querySelectorAll("article")].every((article) => article.firstChild));
    await page.evaluate(() => {
      window.touched = new Set();
      new MutationObserver((all) => {
        for (const { target } of all) window.touched.add(target.nodeType === 1 ? target.closest("article") : target.parentElement?.closest("article"));
      }).observe(document.querySelector("#messages"), { childList: true, subtree: true, characterData: true });
    });
    await page.say(WORD);
    const touched = await page.evaluate(() => [...window.touched].filter((element) => element).length);
    assert.equal(touched, 2, "messages that changed: the question and its answer");
    console.log(`    1,000 messages opened in ${Math.round(opened)} ms`);
    await page.close();
  },

  async "the page follows an answer until the reader goes up"({ open }) {
    const page = await open({ height: 420 });
    const gap = () => page.evaluate(() => {
      const { scrollHeight, scrollTop, clientHeight } = document.querySelector("#thread");
      return scrollHeight - scrollTop - clientHeight;
    });
    for (let turns = 0; turns < 3; turns += 1) await page.say(SUM);
    assert.ok((await gap()) < 2, `${await gap()} pixels below`);
    await page.slow(1000);
    await page.write(SUM);
    await page.press("Enter");
    await page.until(() => document.querySelector(".running .reasoning:not([hidden])"));
    const [x, y] = [700, 200];
    await page.tab.mouse.move(x, y);
    await page.tab.mouse.wheel({ deltaY: -300 });
    await page.until(() => !document.querySelector("#to-end").hidden);
    const up = await gap();
    await page.answered();
    assert.ok((await gap()) >= up - 1, "the page moved under the reader");
    await page.click("#to-end");
    assert.ok((await gap()) < 2);
    await page.close();
  },

  async "the list of routes fits a phone too, in the light and in the dark"({ open, server, axe }) {
    for (const dark of [false, true]) {
      const page = await open({ width: 390, height: 844, phone: true, dark });
      await page.tab.goto(`${server.url}/docs`);
      await page.until(() => document.querySelectorAll("#routes section").length > 20);
      const beyond = await page.evaluate(() => {
        for (const answers of document.querySelectorAll("details")) answers.open = true;
        const all = [...document.querySelectorAll("body *")].filter((element) => element.getBoundingClientRect().right > 390.5);
        const text = all.filter((element) => !element.closest("pre")).map((element) => element.outerHTML.slice(0, 80));
        return [document.documentElement.scrollWidth, ...text];
      });
      assert.deepEqual(beyond, [390]);
      await inspect(page, axe, `the list of routes, ${dark ? "dark" : "light"}`);
      await page.close();
    }
  },

  async "a phone shows everything without scrolling sideways"({ open }) {
    const page = await open({ width: 390, height: 844, phone: true });
    const fits = async (what) => {
      const wide = await page.evaluate(() => [document.documentElement.scrollWidth, document.querySelector("#thread").scrollWidth]);
      assert.ok(Math.max(...wide) <= 390, `${what} is ${wide} pixels wide`);
    };
    await fits("the empty page");
    await page.say(SUM);
    await page.click(`${last} ${button("Edit")}`);
    await page.evaluate((text) => (document.querySelector(".editor textarea").value = text), hostile);
    await page.click(".editor .primary");
    await fits("a conversation");
    await page.click("#sidebar-open");
    await page.until(() => document.querySelector("#sidebar").getBoundingClientRect().left === 0);
    await fits("the drawer");
    await page.press("Escape");
    await page.until(() => document.querySelector("#sidebar").inert);
    await page.click("#sidebar-open");
    await page.until(() => document.querySelector("#sidebar").getBoundingClientRect().left === 0);
    await page.click("#conversations a");
    await page.until(() => document.querySelector("#sidebar").inert);
    await page.click("#settings-open");
    await fits("the settings");
    await page.close();
  },

  async "dark follows the system, and the button overrules it"({ open }) {
    const page = await open({ dark: true });
    const dark = () => page.evaluate(() => {
      const [red] = getComputedStyle(document.body).backgroundColor.match(/\d+/g);
      return Number(red) < 80;
    });
    assert.ok(await dark());
    await page.click("#theme");
    assert.ok(!(await dark()));
    await page.reload();
    assert.ok(!(await dark()));
    await page.click("#theme");
    await page.click("#theme");
    assert.ok(await dark());
    await page.close();
  },

  async "axe finds no fault in reach, names or contrast"({ open, axe }) {
    for (const dark of [false, true]) {
      const page = await open({ dark });
      await page.say(SUM);
      await page.click(`${last} ${button("Edit")}`);
      await page.evaluate((text) => (document.querySelector(".editor textarea").value = text), hostile);
      await page.click(".editor .primary");
      await page.click("article.user .said");
      await inspect(page, axe, `conversation, ${dark ? "dark" : "light"}`);
      await page.click("#settings-open");
      await inspect(page, axe, `settings, ${dark ? "dark" : "light"}`);
      await page.close();
    }
  },
};

async function inspect(page, axe, where) {
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => (await window.axe.run()).violations);
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
  assert.deepEqual(found, [], where);
}

/** The first file of a folder with such a name, once it is written. */
async function appears(folder, name) {
  for (let tries = 0; tries < 200; tries += 1) {
    const found = (await fs.readdir(folder)).find((entry) => name.test(entry));
    if (found) return path.join(folder, found);
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`no file ${name} came to ${folder}`);
}
