// One answer: asks the server and records in the message what comes, as it comes.
//
//   message { model, content, reasoning, finish, error, warnings, usage, times }
//
// `finish` is the server's reason, "stopped" by the user, or "error"; it is missing while the answer is being written.
// `times` are milliseconds from the request: `first` token, end of the reasoning (`thought`), and `total`.

import { chat } from "./api.js";
import { sampling } from "./settings.js";
import { prompt } from "./tree.js";

/**
 * Streams into `message`, calling `changed()` after every part.
 * Throws only what came before the first part (a refusal); later failures are recorded beside the text, which is kept.
 */
export async function answer(tree, message, signal, changed) {
  const request = { model: message.model, messages: prompt(tree, message.parent), ...sampling(tree.settings) };
  const begun = performance.now();
  const since = () => Math.round(performance.now() - begun);
  message.times = {};
  try {
    for await (const part of chat(request, signal)) {
      record(message, part, since);
      changed();
    }
    message.finish ??= "stop";
  } catch (error) {
    if (error.name === "AbortError") message.finish = "stopped";
    else if (message.times.first === undefined) throw error;
    else fail(message, error);
  } finally {
    message.times.total = since();
  }
  changed();
}

/** Records why there is no answer, or no more of it. */
export function fail(message, error) {
  message.finish = "error";
  message.error = error.message;
}

function record(message, part, since) {
  if (part.text || part.reasoning) message.times.first ??= since();
  if (part.reasoning) message.reasoning = (message.reasoning ?? "") + part.reasoning;
  if (part.text) {
    if (message.reasoning) message.times.thought ??= since();
    message.content += part.text;
  }
  if (part.finish) message.finish = part.finish;
  if (part.warning) (message.warnings ??= []).push(part.warning);
  if (part.usage) {
    message.usage = {
      prompt: part.usage.prompt_tokens,
      cached: part.usage.prompt_tokens_details?.cached_tokens ?? 0,
      completion: part.usage.completion_tokens,
    };
  }
}

/** Seconds below which a browser does not tell pieces apart that came one after the other, so that a speed would be made up. */
const BRIEF = 0.05;

/** The figures of a finished answer, as short texts; `[]` where nothing is known. */
export function figures({ usage, times }) {
  if (!usage || times?.first === undefined) return [];
  const seconds = (times.total - times.first) / 1000;
  const out = [];
  // The first token ends the prompt; the time after it made the others.
  if (usage.completion > 1 && seconds >= BRIEF) out.push(`${rounded((usage.completion - 1) / seconds)} tokens/s`);
  out.push(`${count(usage.completion)} ${usage.completion === 1 ? "token" : "tokens"}`);
  out.push(`first after ${duration(times.first)}`);
  out.push(`${count(usage.cached)} of ${count(usage.prompt)} prompt tokens cached`);
  return out;
}

/** Milliseconds as people say them. */
export function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 1) return `${Math.max(seconds, 0.01).toFixed(2)} s`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** A whole number with separators. */
export function count(number) {
  return number.toLocaleString("en");
}

function rounded(number) {
  return number < 10 ? number.toFixed(1) : count(Math.round(number));
}
