// Pictures of the page as people meet it, for people to look at.

import path from "node:path";
import { everything } from "./texts.js";

const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844, phone: true } };

/** Writes the pictures into `folder`. */
export async function screenshots(open, folder) {
  for (const [size, options] of Object.entries(SIZES)) {
    for (const dark of [false, true]) {
      const page = await open({ ...options, dark });
      const shot = (name) => page.screenshot(path.join(folder, `${size}-${dark ? "dark" : "light"}-${name}.png`));
      await shot("1-empty");
      await tour(page, shot, size);
      await page.tab.goto(new URL("docs", page.server.url).href);
      await page.until(() => document.querySelector("#routes section"));
      await shot("9-docs");
      await page.close();
    }
  }
}

async function tour(page, shot, size) {
  await page.say("What is 274 + 58?");
  await page.click(".reasoning summary");
  await shot("2-reasoning");
  await page.click("article.assistant button[aria-label='Edit']");
  await page.evaluate((text) => (document.querySelector(".editor textarea").value = text), everything);
  await page.click(".editor .primary");
  await page.evaluate(() => (document.querySelector("#thread").scrollTop = 0));
  await shot("3-markdown");
  await page.say("Write arigatou in hiragana");
  await page.click("article.assistant:last-of-type button[aria-label='Answer again']");
  await page.answered();
  await shot("4-branches");
  await page.click("article.user:nth-last-of-type(2) button[aria-label='Edit']");
  await shot("5-edit");
  await page.press("Escape");
  await page.click("#settings-open");
  await shot("6-settings");
  await page.press("Escape");
  if (size === "phone") {
    await page.click("#sidebar-open");
    await shot("7-drawer");
    await page.press("Escape");
  }
  // A new conversation: after an answer of other words `mini` does not think.
  await page.press("Control+k");
  await page.slow(4000);
  await page.write("What is 512 + 256?");
  await page.press("Enter");
  await page.until(() => document.querySelector(".running .reasoning:not([hidden])"));
  await shot("8-thinking");
  await page.press("Escape");
  await page.answered();
  await page.slow(null);
}
