// What the page asks of the server: the list of models, and streamed answers.

import { events } from "./sse.js";

/** What the server refused, in its own words. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.name = "ServerError";
    /** HTTP status; 0 when there was no answer at all, or the error came inside a stream. */
    this.status = status;
  }
}

const KEY = "sampan.key";

/** The API key lives as long as the tab. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** The models of the server, as `/v1/models` lists them. */
export async function models() {
  const response = await ask("v1/models", {});
  const list = await response.json();
  return list.data;
}

/**
 * Streams an answer as parts `{ text }`, `{ reasoning }`, `{ finish }`, `{ usage }`, `{ warning }`.
 * @param {Object} request body of /v1/chat/completions without the fields about streaming
 * @param {AbortSignal} signal stops it, here and on the server
 */
export async function* chat(request, signal) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await ask("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    yield* parts(JSON.parse(data));
  }
  throw new ServerError("The connection ended before the answer did.", 0);
}

function* parts(chunk) {
  if (chunk.error) throw new ServerError(chunk.error.message ?? JSON.stringify(chunk.error), 0);
  for (const warning of chunk.warnings ?? []) yield { warning: warning.message ?? String(warning) };
  if (chunk.dropped) yield { warning: `The oldest ${chunk.dropped.messages} messages were left out, so that the rest fits the context.` };
  const choice = chunk.choices?.[0];
  if (choice?.delta?.reasoning_content) yield { reasoning: choice.delta.reasoning_content };
  if (choice?.delta?.content) yield { text: choice.delta.content };
  if (choice?.finish_reason) yield { finish: choice.finish_reason };
  if (chunk.usage) yield { usage: chunk.usage };
}

async function ask(path, options) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is sampan still running?", 0);
  }
  if (!response.ok) throw new ServerError(await refusal(response), response.status);
  return response;
}

/** The text of an error: OpenAI's shape, or whatever came. */
async function refusal(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    const message = typeof error === "string" ? error : error.message;
    if (message) return message;
  } catch {
    // Not JSON: the text itself is all there is.
  }
  return text.trim() || `The server answered ${response.status} ${response.statusText}`.trim();
}
