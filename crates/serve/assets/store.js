// Conversations and settings in this browser's localStorage: one entry for each conversation, so that a change writes
// only what changed. Nothing else keeps a list of them.

import { checked } from "./tree.js";

const ONE = "sampan.conversation.";
const SETTINGS = "sampan.settings";
const FORMAT = "sampan-conversations";

/** All conversations by id, and what could not be read (it stays where it is). */
export function load() {
  const all = new Map();
  const unreadable = [];
  for (let i = 0; i < localStorage.length; i++) {
    const name = localStorage.key(i);
    if (!name.startsWith(ONE)) continue;
    try {
      const one = checked(JSON.parse(localStorage.getItem(name)));
      all.set(one.id, one);
    } catch (error) {
      unreadable.push(`${name}: ${error.message}`);
    }
  }
  return { all, unreadable };
}

/** Writes one conversation. Throws when the browser's storage is full. */
export function save(one) {
  try {
    localStorage.setItem(ONE + one.id, JSON.stringify(one));
  } catch (error) {
    throw new Error("This browser's storage is full: export conversations and delete some.", { cause: error });
  }
}

/** Deletes one conversation. */
export function remove(id) {
  localStorage.removeItem(ONE + id);
}

/** Calls back with `(id, conversation or null)` when another tab changed one. */
export function watch(changed) {
  addEventListener("storage", ({ key, newValue }) => {
    if (!key?.startsWith(ONE)) return;
    changed(key.slice(ONE.length), newValue === null ? null : checked(JSON.parse(newValue)));
  });
}

/** The settings that a new conversation begins with. */
export const defaults = {
  get() {
    try {
      return { ...JSON.parse(localStorage.getItem(SETTINGS)) };
    } catch {
      return {};
    }
  },
  set: (settings) => localStorage.setItem(SETTINGS, JSON.stringify(settings)),
};

/** Conversations as the text of a file. */
export function toFile(all) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations: [...all] }, null, 1);
}

/** The conversations of a file that `toFile` wrote; throws an Error that says what is wrong. */
export function fromFile(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("this is not a JSON file");
  }
  if (file?.format !== FORMAT) throw new Error("this file holds no conversations of sampan");
  if (file.version !== 1) throw new Error(`this file is of version ${file.version}, and this page reads version 1`);
  if (!Array.isArray(file.conversations)) throw new Error("conversations is not a list");
  return file.conversations.map(checked);
}
