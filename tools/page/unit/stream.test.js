// Server-sent events, cut at every byte, and the figures of an answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { duration, figures } from "../../../crates/serve/assets/answer.js";
import { events } from "../../../crates/serve/assets/sse.js";

async function read(chunks) {
  const body = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
  const found = [];
  for await (const data of events(body)) found.push(data);
  return found;
}

test("events are the same however the bytes are cut", async () => {
  const text = 'data: {"a":"é🚣"}\r\n\r\n: ping\n\nevent: x\ndata:1\ndata: 2\n\n\rdata: \r\rdata: [DONE]\n\n';
  const bytes = new TextEncoder().encode(text);
  const expected = ['{"a":"é🚣"}', "1\n2", "", "[DONE]"];
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    assert.deepEqual(await read([bytes.slice(0, cut), bytes.slice(cut)]), expected, `cut at ${cut}`);
  }
  assert.deepEqual(await read([...bytes].map((byte) => Uint8Array.of(byte))), expected);
});

/** What a stream says by the letter of the standard, read at once and slowly. */
function reference(text) {
  const lines = text.replaceAll("\r\n", "\n").replaceAll("\r", "\n").split("\n");
  const found = [];
  let data = [];
  for (const line of lines.slice(0, -1)) {
    if (line === "" && data.length > 0) found.push(data.splice(0).join("\n"));
    else if (line.startsWith("data: ")) data.push(line.slice(6));
    else if (line.startsWith("data:")) data.push(line.slice(5));
  }
  return found;
}

test("any bytes at all, cut anywhere, are read as the standard has it", async () => {
  const pieces = ["data:", "data: ", "data", ":", " ", "\n", "\n\n", "\r", "\r\n", "event: x", "id: 1", "[DONE]", "{", "é", "🚣", "\u0000", "\ud800"].map((piece) => [...new TextEncoder().encode(piece)]);
  // A generator of our own, so that a failure can be had again.
  let state = 1;
  const random = (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let round = 0; round < 3000; round += 1) {
    const bytes = Uint8Array.from(Array.from({ length: random(24) }, () => (random(8) === 0 ? [random(256)] : pieces[random(pieces.length)])).flat());
    const chunks = [];
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + random(6);
      chunks.push(bytes.slice(at, end));
      at = end;
    }
    const expected = reference(new TextDecoder().decode(bytes));
    assert.deepEqual(await read(chunks), expected, `round ${round}: ${JSON.stringify([...bytes])}`);
  }
});

test("an event that did not end is none", async () => {
  assert.deepEqual(await read([new TextEncoder().encode("data: 1\n\ndata: 2\n")]), ["1"]);
});

test("figures of an answer", () => {
  const usage = { prompt: 1340, cached: 1312, completion: 101 };
  const cases = [
    [{ usage, times: { first: 200, total: 2200 } }, "50 tokens/s, 101 tokens, first after 0.20 s, 1,312 of 1,340 prompt tokens cached"],
    [{ usage, times: { first: 200, total: 220 } }, "101 tokens, first after 0.20 s, 1,312 of 1,340 prompt tokens cached"],
    [{ usage: { ...usage, completion: 1 }, times: { first: 200, total: 200 } }, "1 token, first after 0.20 s, 1,312 of 1,340 prompt tokens cached"],
    [{ usage, times: {} }, ""],
    [{ times: { first: 1, total: 2 } }, ""],
  ];
  for (const [message, expected] of cases) assert.equal(figures(message).join(", "), expected);
  assert.deepEqual([3, 999, 12_340, 125_000].map(duration), ["0.01 s", "1.00 s", "12.3 s", "2 min 5 s"]);
});
