// A conversation is a tree of messages. An edit never overwrites: it adds a sibling, and the old branch stays.
//
//   conversation { id, title, created, updated, settings, messages: { id: message }, chosen: { parent: child } }
//   message      { id, parent, role, content, … what answer.js records }
//
// `parent` is null for a first message. `chosen` says which child is shown below a message ("" stands for the top);
// everything else (children, siblings, the path shown) is derived.

/** A conversation without messages. */
export function conversation(settings, now = Date.now()) {
  return { id: newId(), title: "", created: now, updated: now, settings, messages: {}, chosen: {} };
}

/** Adds a message below `parent` (an id or null) and shows it. */
export function add(tree, parent, role, content, now = Date.now()) {
  const message = { id: newId(), parent, role, content };
  tree.messages[message.id] = message;
  tree.chosen[parent ?? ""] = message.id;
  tree.updated = now;
  return message;
}

/** The messages shown, from the first to the last. */
export function path(tree) {
  const shown = [];
  let at = tree.chosen[""];
  while (at !== undefined) {
    shown.push(tree.messages[at]);
    at = tree.chosen[at];
  }
  return shown;
}

/** The messages from the first to this one, whatever is shown. */
export function ancestors(tree, id) {
  const line = [];
  for (let at = id; at !== null; at = tree.messages[at].parent) line.unshift(tree.messages[at]);
  return line;
}

/** The alternatives at each place, oldest first: parent (or null) -> ids. */
export function branches(tree) {
  const all = new Map();
  for (const { id, parent } of Object.values(tree.messages)) {
    if (all.has(parent)) all.get(parent).push(id);
    else all.set(parent, [id]);
  }
  return all;
}

/** Shows this message instead of its siblings; below it the branch shown last. */
export function choose(tree, id) {
  tree.chosen[tree.messages[id].parent ?? ""] = id;
}

/** Shows the sibling `step` places further; false if there is none. */
export function turn(tree, id, step) {
  const all = branches(tree).get(tree.messages[id].parent);
  const next = all[all.indexOf(id) + step];
  if (next === undefined) return false;
  choose(tree, next);
  return true;
}

/** A sibling of the message with other words. */
export function edit(tree, id, content, now = Date.now()) {
  const { parent, role } = tree.messages[id];
  const message = add(tree, parent, role, content, now);
  message.edited = true;
  return message;
}

/** What the server is sent to answer the message `id`: the system prompt and the line that leads there. */
export function prompt(tree, id) {
  const line = ancestors(tree, id)
    .filter((message) => message.content !== "")
    .map(({ role, content }) => ({ role, content }));
  const system = tree.settings.system?.trim();
  return system ? [{ role: "system", content: system }, ...line] : line;
}

/** What to call it: its title, or how it begins. */
export function title(tree) {
  if (tree.title) return tree.title;
  const first = path(tree)[0]?.content.trim().split(/\s+/).join(" ") ?? "";
  return first.length > 60 ? `${first.slice(0, 59)}…` : first || "New chat";
}

/**
 * A conversation from outside (a file, an older page), checked; throws an Error that says what is wrong.
 * What is not part of a conversation is left behind.
 */
export function checked(value) {
  const { id, title, created, updated, settings, messages, chosen } = object(value, "a conversation");
  const tree = {
    id: identity(id, "the id of a conversation"),
    title: text(title, "title"),
    created: number(created, "created"),
    updated: number(updated, "updated"),
    settings: { ...object(settings, "settings") },
    messages: {},
    chosen: {},
  };
  for (const [key, entry] of Object.entries(object(messages, "messages"))) {
    const message = object(entry, "a message");
    identity(key, "the id of a message");
    if (message.id !== key) throw new Error(`a message is kept as ${key} and calls itself ${message.id}`);
    if (message.role !== "user" && message.role !== "assistant") throw new Error(`unknown role ${message.role}`);
    // Parents come before their children, so there can be no circle.
    if (message.parent !== null && !Object.hasOwn(tree.messages, message.parent)) {
      throw new Error(`message ${key} follows ${message.parent}, which is not before it`);
    }
    tree.messages[key] = { ...message, content: text(message.content, "content") };
  }
  for (const [parent, child] of Object.entries(object(chosen, "chosen"))) {
    const known = Object.hasOwn(tree.messages, child) && (tree.messages[child].parent ?? "") === parent;
    if (!known) throw new Error(`chosen names ${child}, which does not follow ${parent || "the top"}`);
    tree.chosen[parent] = child;
  }
  return tree;
}

/** 128 random bits. (`crypto.randomUUID` is missing on pages that come by plain http from another machine.) */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function identity(value, what) {
  if (typeof value !== "string" || !/^[0-9a-f]{32}$/.test(value)) throw new Error(`${what} is not 32 hexadecimal digits`);
  return value;
}

function object(value, what) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${what} is not an object`);
  return value;
}

function text(value, what) {
  if (typeof value !== "string") throw new Error(`${what} is not text`);
  return value;
}

function number(value, what) {
  if (!Number.isFinite(value)) throw new Error(`${what} is not a number`);
  return value;
}
