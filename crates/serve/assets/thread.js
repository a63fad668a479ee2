// The messages shown. Views are kept, so that a token changes one message and a turn only what lies below it.

import { byId, h, icon } from "./dom.js";
import { messageView } from "./message.js";
import { branches, path } from "./tree.js";

/** How near the end counts as the end, in pixels. */
const NEAR = 48;

/** How many messages are made at once, from the end; those before them follow while the browser is idle. */
const SOON = 30;
const later = globalThis.requestIdleCallback ?? ((work) => setTimeout(work, 20));

/** @param {Object} actions what `messageView` needs, and `running(id)` */
export function threadView(actions) {
  const scroller = byId("thread");
  const list = byId("messages");
  const toEnd = byId("to-end");
  let views = new Map();
  let owner = null;
  /** Views that are still without content. */
  let waiting = [];
  /** The page follows the answer until the reader goes up. */
  let follows = true;
  let top = 0;

  function atEnd() {
    return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR;
  }

  function end() {
    follows = true;
    scroller.scrollTop = scroller.scrollHeight;
    toEnd.hidden = true;
  }

  scroller.addEventListener("scroll", () => {
    if (atEnd()) follows = true;
    else if (scroller.scrollTop < top) follows = false;
    top = scroller.scrollTop;
    toEnd.hidden = follows || atEnd();
  }, { passive: true });
  toEnd.addEventListener("click", end);
  new ResizeObserver(() => (follows ? end() : undefined)).observe(list);
  new ResizeObserver(() => (follows ? end() : undefined)).observe(scroller);

  function viewOf(message) {
    if (!views.has(message.id)) views.set(message.id, messageView(message, actions));
    return views.get(message.id);
  }

  function makeSome() {
    for (const make of waiting.splice(-SOON)) make();
    if (waiting.length > 0) later(makeSome);
  }

  return {
    /** Shows the branch of a conversation that is chosen; `welcome` stands where there is none yet. */
    show(tree, welcome) {
      if (owner !== tree) {
        views = new Map();
        owner = tree;
        follows = true;
      }
      const all = branches(tree);
      const shown = path(tree).map(viewOf);
      const elements = shown.length > 0 ? shown.map(({ element }) => element) : [welcome];
      let same = 0;
      while (same < elements.length && list.children[same] === elements[same]) same += 1;
      while (list.children.length > same) list.lastChild.remove();
      list.append(...elements.slice(same));
      const idle = waiting.length === 0;
      waiting = [];
      for (const [i, view] of shown.entries()) {
        const make = () => view.update({ running: actions.running(view.message.id), ids: all.get(view.message.parent) });
        if (view.made() || i >= shown.length - SOON) make();
        else waiting.push(make);
      }
      if (idle && waiting.length > 0) later(makeSome);
      if (follows) end();
    },
    /** Shows what changed in one message. */
    update(message) {
      views.get(message.id)?.update({ running: actions.running(message.id) });
    },
    end,
    view: (id) => views.get(id),
    /** Moves the focus to the message `step` further than the one that has it, or to the last. */
    move(step) {
      const all = [...list.querySelectorAll("article")];
      const at = all.indexOf(document.activeElement?.closest?.("article"));
      const next = at < 0 ? all.at(-1) : all[at + step];
      next?.focus();
      return next !== undefined;
    },
  };
}

/** What stands where nothing was said yet. */
export function welcome(model, problem, retry) {
  const lines = problem
    ? [h("p", { class: "note error", role: "alert" }, problem), h("button", { type: "button", onclick: retry }, "Try again")]
    : [h("p", {}, model ? "Runs on this server. What you write goes nowhere else." : "")];
  return h("div", { class: "welcome" }, icon("boat"), h("h2", {}, model || "sampan"), ...lines);
}
