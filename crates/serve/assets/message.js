// The view of one message: what was said, how it was made, and what can be done with it.

import { duration, figures } from "./answer.js";
import { copyButton, h, iconButton } from "./dom.js";
import { markdownView } from "./markdown/render.js";

/**
 * A message without its content: `update` makes that, at its time (a long conversation has many).
 * @param {Object} message
 * @param {Object} actions `edit(message, text)`, `again(message)`, `turn(message, step)`
 */
export function messageView(message, actions) {
  const name = message.role === "user" ? "You" : message.model;
  const element = h("article", { class: `message ${message.role}`, tabindex: "-1", "aria-label": name });
  let inside = null;
  let shown = null;

  function edit() {
    if (!inside || element.classList.contains("running") || element.classList.contains("editing")) return;
    const body = inside.body.element;
    const form = editor(message, {
      done: (text) => actions.edit(message, text),
      close() {
        element.classList.remove("editing");
        form.replaceWith(body);
        element.focus({ preventScroll: true });
      },
    });
    element.classList.add("editing");
    body.replaceWith(form);
    form.begin();
  }

  return {
    element,
    message,
    edit,
    made: () => inside !== null,
    text: () => inside?.body.element.innerText ?? "",
    /** Shows the message as it is now. `ids` are its alternatives, itself among them. */
    update({ running, ids }) {
      // A finished message does not change: other words make another message.
      if (!running && shown?.running === false && (!ids || shown.count === ids.length)) return;
      shown = { running, count: ids?.length ?? shown?.count };
      inside ??= content(message, element, { ...actions, edit });
      element.classList.toggle("running", running);
      inside.body.update(running);
      inside.foot.update(running, ids);
    },
  };
}

function content(message, element, actions) {
  const body = message.role === "user" ? userBody(message) : answerBody(message);
  const foot = footer(message, actions);
  element.append(body.element, foot.element);
  return { body, foot };
}

/** Which branch this is, what can be done, and the figures. */
function footer(message, { turn, again, edit }) {
  const branch = branchNav((step) => turn(message, step));
  const words = [copyButton("Copy", () => message.content), iconButton("pencil", "Edit", edit)];
  const buttons = h("span", { class: "buttons" }, ...words);
  if (message.role === "assistant") buttons.append(iconButton("again", "Answer again", () => again(message)));
  const stats = h("span", { class: "stats" });
  return {
    element: h("footer", {}, branch.element, buttons, stats),
    update(running, ids) {
      if (ids) branch.show(ids.indexOf(message.id), ids.length);
      for (const button of words) button.hidden = message.content === "";
      const edited = message.edited && message.role === "assistant";
      const made = running ? [] : edited ? ["edited"] : figures(message);
      stats.replaceChildren(...made.map((text) => h("span", {}, text)));
    },
  };
}

function userBody(message) {
  const element = h("div", { class: "said" });
  return { element, update: () => void (element.textContent = message.content) };
}

function answerBody(message) {
  const prose = markdownView(h("div", { class: "prose" }));
  const reasoning = reasoningFold(message);
  const notes = h("div", { class: "notes" });
  const element = h("div", { class: "answer" }, reasoning.element, prose.element, notes);
  return {
    element,
    update(running) {
      reasoning.update(running);
      prose.show(message.content);
      element.classList.toggle("waiting", running && !message.content && !message.reasoning);
      notes.replaceChildren(...remarks(message, running));
    },
  };
}

/** What the model thought, folded: it is made only when it is opened. */
function reasoningFold(message) {
  const summary = h("summary", {});
  const thought = markdownView(h("div", { class: "prose" }));
  const show = () => element.open && thought.show(message.reasoning);
  const element = h("details", { class: "reasoning", hidden: true, ontoggle: show }, summary, thought.element);
  return {
    element,
    update(running) {
      if (!message.reasoning) return;
      const thinking = running && !message.content;
      element.hidden = false;
      element.classList.toggle("thinking", thinking);
      const { first, thought, total } = message.times ?? {};
      const took = first === undefined ? "" : ` for ${duration((thought ?? total) - first)}`;
      summary.textContent = thinking ? "Thinking" : `Thought${took}`;
      show();
    },
  };
}

function remarks({ finish, error, warnings = [], content }, running) {
  const out = warnings.map((text) => h("p", { class: "note" }, text));
  if (error) out.push(h("p", { class: "note error", role: "alert" }, error));
  if (finish === "length") out.push(h("p", { class: "note" }, "Stopped at the longest answer that was allowed."));
  if (finish === "stopped") out.push(h("p", { class: "note" }, "You stopped this answer."));
  if (finish === undefined && !running) out.push(h("p", { class: "note" }, "The page was closed before this answer ended."));
  if (finish === "stop" && content === "") out.push(h("p", { class: "note" }, "The answer is empty."));
  return out;
}

function branchNav(turn) {
  const before = iconButton("left", "The branch before", () => turn(-1));
  const after = iconButton("right", "The branch after", () => turn(1));
  const place = h("span", { class: "place" });
  const element = h("span", { class: "branches", hidden: true }, before, place, after);
  return {
    element,
    show(index, count) {
      element.hidden = count < 2;
      place.textContent = `${index + 1} / ${count}`;
      place.setAttribute("aria-label", `branch ${index + 1} of ${count}`);
      before.disabled = index === 0;
      after.disabled = index === count - 1;
    },
  };
}

/** A box with the words of a message. What is written there becomes another branch. */
function editor(message, { done, close }) {
  const mine = message.role === "user";
  const area = h("textarea", { "aria-label": mine ? "Edit your message" : "Edit the answer", rows: "1", oninput: fit });
  area.value = message.content;
  const finish = () => {
    const text = area.value;
    close();
    if (text.trim() !== "" && (mine || text !== message.content)) done(text);
  };
  const onkeydown = (event) => {
    const sends = mine ? !event.shiftKey : event.ctrlKey || event.metaKey;
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && sends && !event.isComposing) finish();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  area.addEventListener("keydown", onkeydown);
  function fit() {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  }
  const cancel = h("button", { type: "button", class: "quiet", onclick: close }, "Cancel");
  const keep = h("button", { type: "button", class: "primary", onclick: finish }, mine ? "Send" : "Keep");
  const form = h("div", { class: "editor" }, area, h("div", { class: "row" }, h("span", { class: "help" }, "Makes a branch; the old one stays"), cancel, keep));
  form.begin = () => {
    fit();
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  };
  return form;
}
