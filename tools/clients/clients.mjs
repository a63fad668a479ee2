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
const parameters = {
  type: "object",
  properties: { a: { type: "integer", minimum: 0, maximum: 99 } },
  required: ["a"],
  additionalProperties: false,
};
await check("a schema, streamed", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "x", strict: true, schema: parameters } };
  const stream = client.chat.completions.stream({ model: "mini", messages, temperature: 0, response_format });
  assert.ok(JSON.parse(await stream.finalContent()).a >= 0);
});
await check("tools, whole and streamed", async () => {
  const tools = [{ type: "function", function: { name: "add", parameters, strict: true } }];
  const body = { model: "mini", messages, temperature: 0, tools, tool_choice: "required", parallel_tool_calls: false };
  const [call] = (await client.chat.completions.create(body)).choices[0].message.tool_calls;
  const streamed = await client.chat.completions.stream(body).finalMessage();
  assert.equal(streamed.tool_calls[0].function.arguments, call.function.arguments);
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
