// Runs the checks of the page in headless Chromium. Usage: node browser/run.js [--binary PATH] [--only PATTERN] [--shots FOLDER]

import fs from "node:fs/promises";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import puppeteer from "puppeteer-core";
import { checks } from "./checks.js";
import { openPage } from "./page.js";
import { start } from "./server.js";
import { screenshots } from "./shots.js";

const { values } = parseArgs({
  options: {
    binary: { type: "string", default: "../../target/debug/sampan" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    only: { type: "string", default: "" },
    shots: { type: "string", default: "shots" },
    url: { type: "string" },
    "locked-url": { type: "string" },
  },
});

// Headless Chromium claims to have no mouse; the page shows other things to those who have one.
const MOUSE = "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4";

const temporary = await fs.mkdtemp(path.join(os.tmpdir(), "sampan-page-"));
await fs.mkdir(values.shots, { recursive: true });
const key = "a-key-for-the-checks";
const server = values.url ? { url: values.url, stop() {} } : await start(values.binary, temporary);
const locked = values["locked-url"] ? { url: values["locked-url"], key, stop() {} } : await start(values.binary, temporary, { key });
// Nothing but the page itself: no calls home, no first run, no card.
const QUIET = ["no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"];
const args = [...QUIET.map((flag) => `--${flag}`), "--force-color-profile=srgb", MOUSE];
const browser = await puppeteer.launch({ executablePath: values.chromium, args });
const axe = await fs.readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const openAt = (at, options) => openPage(browser, at, options);
const open = (options) => openAt(server, options);
let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  if (!new RegExp(values.only).test(name)) continue;
  const folder = await fs.mkdtemp(path.join(temporary, "check-"));
  try {
    await check({ open, openAt, server, locked, axe, folder, shots: values.shots });
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack.replace(/^/gm, "        ")}`);
  }
}
if (!values.only) await screenshots(open, values.shots);
await browser.close();
server.stop();
locked.stop();
await fs.rm(temporary, { recursive: true });
console.log(failed === 0 ? `all checks hold; pictures in ${values.shots}` : `${failed} checks failed`);
process.exitCode = failed === 0 ? 0 : 1;
