// Puts the page together: what is shown, what is running, and what each action does.

import { answer, count, fail } from "./answer.js";
import { key, models as askModels } from "./api.js";
import { composer as makeComposer } from "./composer.js";
import { byId, h, setIcon } from "./dom.js";
import { download, merge } from "./files.js";
import { withKey } from "./key.js";
import { changes, closeFromOutside, settingsSheet } from "./settings.js";
import { sidebar as makeSidebar } from "./sidebar.js";
import * as store from "./store.js";
import { threadView, welcome } from "./thread.js";
import { toast } from "./toast.js";
import * as tree from "./tree.js";

const mac = /Mac|iPhone|iPad/.test(navigator.platform);
const { all, unreadable } = store.load();
/** Answers being written: message id -> what stops it. */
const running = new Map();
let models = [];
let problem = "";
let current = fresh();

const sidebar = makeSidebar({ open, remove, rename });
const thread = threadView({ edit, again, turn, running: (id) => running.has(id) });
const composer = makeComposer({ send, stop, editLast });
const settings = settingsSheet(() => {
  store.defaults.set(current.settings);
  if (all.has(current.id)) keep(current);
  showBar();
});

// --- What is shown -------------------------------------------------------------------------------------------------

function fresh() {
  return tree.conversation(store.defaults.get());
}

function show() {
  thread.show(current, welcome(modelName(), problem, findModels));
  sidebar.show(all.values(), current.id);
  composer.setRunning(shownRunning().length > 0);
  byId("title").textContent = tree.title(current);
  document.title = all.has(current.id) ? `${tree.title(current)} · sampan` : "sampan";
  showBar();
}

function showBar() {
  const select = byId("model");
  const names = models.map(({ id }) => id);
  select.replaceChildren(...(names.length > 0 ? names : ["no model"]).map((id) => h("option", { value: id }, id)));
  select.disabled = names.length === 0;
  if (names.length > 0) select.value = modelName();
  const changed = changes(current.settings);
  byId("settings-open").classList.toggle("changed", changed > 0);
  byId("settings-open").setAttribute("aria-label", changed > 0 ? `Settings, ${changed} changed` : "Settings");
  byId("key-forget").hidden = !key.get();
  byId("hint-context").textContent = contextUsed();
}

/** The model that answers next: the one chosen for the conversation if the server has it, else the server's first. */
function modelName() {
  const names = models.map(({ id }) => id);
  return names.includes(current.settings.model) ? current.settings.model : (names[0] ?? "");
}

/** How much of the context the conversation fills, if the server says how long it is. */
function contextUsed() {
  const last = tree.path(current).findLast(({ usage }) => usage);
  const length = models.find(({ id }) => id === modelName())?.max_model_len;
  return last && length ? `${count(last.usage.prompt + last.usage.completion)} of ${count(length)} tokens` : "";
}

function open(id) {
  current = all.get(id) ?? fresh();
  show();
}

function begin() {
  // Not by the event of a changed hash, which comes later than the next key.
  if (location.hash) history.pushState(null, "", location.pathname);
  open("");
  sidebar.closeIfDrawer();
  composer.focus();
}

// --- Saying something and being answered ---------------------------------------------------------------------------

function send(text) {
  if (models.length === 0) {
    findModels();
    return false;
  }
  const parent = tree.path(current).at(-1)?.id ?? null;
  all.set(current.id, current);
  ask(tree.add(current, parent, "user", text));
  if (location.hash.slice(1) !== current.id) history.replaceState(null, "", `#${current.id}`);
  return true;
}

/** Begins an answer to the message `asked`. */
function ask(asked) {
  const message = tree.add(current, asked.id, "assistant", "");
  message.model = modelName();
  keep(current);
  run(current, message);
  thread.end();
}

async function run(of, message) {
  const controller = new AbortController();
  running.set(message.id, controller);
  show();
  announce(`${message.model} is answering`);
  const saving = setInterval(() => keep(of), 2000);
  const draw = oncePerFrame(() => of === current && thread.update(message));
  try {
    await withKey(() => answer(of, message, controller.signal, draw));
  } catch (error) {
    fail(message, error);
  }
  clearInterval(saving);
  running.delete(message.id);
  of.updated = Date.now();
  keep(of);
  // What the files of a model say is known once it has been loaded.
  if (!models.find(({ id }) => id === message.model)?.max_model_len) findModels();
  if (of !== current) return sidebar.show(all.values(), current.id);
  show();
  announce(message.error ?? `${message.model} answered: ${thread.view(message.id)?.text() ?? ""}`);
}

/** Many calls, one frame: tokens come faster than a screen shows. */
function oncePerFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

function shownRunning() {
  return tree.path(current).filter(({ id }) => running.has(id));
}

function stop() {
  for (const { id } of shownRunning()) running.get(id).abort();
}

/** Other words for a message: one of the user's is answered anew, an answer stands as it was edited. */
function edit(message, text) {
  const other = tree.edit(current, message.id, text);
  if (other.role === "user") return ask(other);
  Object.assign(other, { model: message.model, finish: "stop" });
  keep(current);
  show();
  thread.view(other.id).element.focus({ preventScroll: true });
}

function again(message) {
  if (models.length > 0) ask(current.messages[message.parent]);
}

function turn(message, step) {
  if (!tree.turn(current, message.id, step)) return;
  keep(current);
  show();
  const shown = tree.path(current)[tree.ancestors(current, message.id).length - 1];
  thread.view(shown.id).element.focus({ preventScroll: true });
}

function editLast() {
  const last = tree.path(current).findLast(({ role }) => role === "user");
  if (last) thread.view(last.id).edit();
}

// --- Keeping -------------------------------------------------------------------------------------------------------

function keep(one) {
  // A conversation deleted while it was being answered stays deleted.
  if (!all.has(one.id)) return;
  try {
    store.save(one);
  } catch (error) {
    toast(error.message, { lasts: 20_000 });
  }
}

function remove(id) {
  const one = all.get(id);
  for (const message of Object.values(one.messages)) running.get(message.id)?.abort();
  all.delete(id);
  store.remove(id);
  if (current === one) begin();
  else show();
  const action = () => {
    all.set(id, one);
    keep(one);
    show();
  };
  toast(`Deleted “${tree.title(one)}”`, { label: "Undo", action, lasts: 10_000 });
}

function rename(id, title) {
  all.get(id).title = title;
  keep(all.get(id));
  show();
}

async function importFile(file) {
  try {
    const found = store.fromFile(await file.text());
    const taken = merge(all, found);
    taken.forEach(keep);
    open(current.id);
    toast(`${taken.length} imported, ${found.length - taken.length} already here`);
  } catch (error) {
    toast(`Not imported: ${error.message}`, { lasts: 20_000 });
  }
}

// --- The server ----------------------------------------------------------------------------------------------------

async function findModels() {
  try {
    models = await withKey(askModels);
    problem = models.length === 0 ? "The server has no model." : "";
  } catch (error) {
    problem = error.message;
    if (tree.path(current).length > 0) toast(problem, { label: "Try again", action: findModels, lasts: 20_000 });
  }
  show();
}

function announce(text) {
  byId("announcer").textContent = text;
}

// --- Controls ------------------------------------------------------------------------------------------------------

const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function theme(next) {
  const root = document.documentElement;
  if (next === "auto") {
    localStorage.removeItem("sampan.theme");
    delete root.dataset.theme;
  } else {
    localStorage.setItem("sampan.theme", next);
    root.dataset.theme = next;
  }
  setIcon(byId("theme").querySelector("svg"), { auto: "auto", light: "sun", dark: "moon" }[next]);
  byId("theme").setAttribute("aria-label", THEMES[next]);
  byId("theme").title = THEMES[next];
}

function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  const article = event.target.matches?.("article.message") ? event.target : null;
  if (event.key.toLowerCase() === "k" && (mac ? event.metaKey : event.ctrlKey) && !event.altKey) begin();
  else if (event.key === "Escape" && shownRunning().length > 0) stop();
  else if (article) return onMessageKey(event, article);
  else return;
  event.preventDefault();
}

function onMessageKey(event, article) {
  const view = tree.path(current).map(({ id }) => thread.view(id)).find(({ element }) => element === article);
  const moves = { ArrowUp: () => thread.move(-1), ArrowDown: () => thread.move(1) || composer.focus() };
  const turns = { ArrowLeft: () => turn(view.message, -1), ArrowRight: () => turn(view.message, 1) };
  const does = { ...moves, ...turns, F2: () => view.edit(), Escape: () => composer.focus() }[event.key];
  if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
  does();
  event.preventDefault();
}

function listen() {
  const on = (id, name, does) => byId(id).addEventListener(name, does);
  on("new-chat", "click", begin);
  on("bar-new", "click", begin);
  on("settings-open", "click", () => settings.open(current.settings));
  on("model", "change", () => {
    current.settings.model = byId("model").value;
    store.defaults.set(current.settings);
    keep(current);
    show();
    composer.focus();
  });
  on("theme", "click", () => {
    const names = Object.keys(THEMES);
    theme(names[(names.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % names.length]);
  });
  on("key-forget", "click", () => {
    key.forget();
    showBar();
  });
  on("export", "click", () => download(`sampan-${new Date().toISOString().slice(0, 10)}.json`, store.toFile(all.values())));
  on("import", "click", () => byId("import-file").click());
  on("import-file", "change", () => {
    const [file] = byId("import-file").files;
    if (file) importFile(file);
    byId("import-file").value = "";
  });
  on("thread", "keydown", (event) => {
    // From the area itself the arrows lead to the messages.
    if (event.target === byId("thread") && event.key === "ArrowUp" && thread.move(-1)) event.preventDefault();
  });
  closeFromOutside(byId("key"));
  addEventListener("keydown", onKey);
  addEventListener("hashchange", () => open(location.hash.slice(1)));
  addEventListener("pagehide", () => running.size > 0 && all.forEach(keep));
  store.watch((id, other) => {
    if (Object.keys(all.get(id)?.messages ?? {}).some((message) => running.has(message))) return;
    if (other) all.set(id, other);
    else all.delete(id);
    if (current.id === id) open(id);
    else show();
  });
}

theme(document.documentElement.dataset.theme ?? "auto");
byId("new-chat-keys").textContent = mac ? "⌘ K" : "Ctrl K";
byId("hint-keys").textContent = "Enter sends, Shift Enter makes a new line";
listen();
open(location.hash.slice(1));
composer.focus();
if (unreadable.length > 0) toast(`Could not read ${unreadable.length} of the conversations kept here: ${unreadable[0]}`, { lasts: 20_000 });
findModels();
