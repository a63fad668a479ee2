// What programs do with the official OpenAI client for Node, against a server with `mini`.
import OpenAI from "openai";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const { version } = JSON.parse(readFileSync("node_modules/openai/package.json"));
const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "3 + 4" }];
let failed = 0;

async function check(what, run) {
  try {
    await run();
    console.log(`| openai (Node) ${version} | ${what} | ok |`);
  } catch (error) {
    failed += 1;
    console.log(`| openai (Node) ${version} | ${what} | FAILED: ${error} |`);
  }
}

await check("chat", async () => {
  const r = await client.chat.completions.create({ model: "mini", messages, temperature: 0 });
  assert.equal(r.choices[0].message.content, "3 + 4 = 7");
});
await check("chat, streamed", async () => {
  const stream = client.chat.completions.stream({ model: "mini", messages, temperature: 0 });
  assert.equal(await stream.finalContent(), "3 + 4 = 7");
});
await check("responses, streamed", async () => {
  const stream = client.responses.stream({ model: "mini", input: "3 + 4", temperature: 0 });
  assert.equal((await stream.finalResponse()).output_text, "3 + 4 = 7");
});
await check("embeddings", async () => {
  const r = await client.embeddings.create({ model: "mini", input: ["a", "b"] });
  assert.equal(r.data.length, 2);
});
await check("errors", async () => {
  const asked = client.chat.completions.create({ model: "mini", messages, colour: 1 });
  await assert.rejects(asked, (error) => error.status === 400 && error.param === "colour");
});
process.exit(failed > 0 ? 1 : 0);
