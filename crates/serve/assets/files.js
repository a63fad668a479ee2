// Conversations to a file and back.

import { h } from "./dom.js";

/** Lets the browser save a text as a file. */
export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = h("a", { href: url, download: name });
  link.click();
  // The browser reads it after the click returns.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** What came from a file put among what is here: of the same conversation the newer one stays. Returns what changed. */
export function merge(all, imported) {
  const taken = imported.filter((one) => !(all.get(one.id)?.updated >= one.updated));
  for (const one of taken) all.set(one.id, one);
  return taken;
}
