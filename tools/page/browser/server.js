// The real binary, serving `mini` on a free port.

import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import path from "node:path";

const READY = 120_000;

/** Starts it; resolves to `{ url, key, stop() }` when it answers. */
export async function start(binary, folder, { key } = {}) {
  const args = ["serve", "mini", "--port", "0"];
  if (key) {
    const file = path.join(folder, "keys");
    await fs.writeFile(file, `${key}\n`, { mode: 0o600 });
    args.push("--api-key-file", file);
  }
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const url = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`it did not say where it listens:\n${said}`)), READY);
    const hear = (chunk) => {
      said += chunk;
      const found = /https?:\/\/127\.0\.0\.1:\d+/.exec(said);
      if (found) {
        clearTimeout(timer);
        resolve(found[0]);
      }
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("exit", (code) => reject(new Error(`it ended with ${code}:\n${said}`)));
    child.on("error", reject);
  });
  return { url, key, stop: () => child.kill("SIGTERM") };
}
