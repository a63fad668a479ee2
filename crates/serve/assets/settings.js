// What can be set for a conversation, and the sheet that sets it. A field left empty is not sent: the server's own value holds.

import { byId, h } from "./dom.js";

const SYSTEM = { name: "system", label: "System prompt", help: "What the model is told before the conversation." };

const CHOICES = [
  {
    name: "reasoning_effort",
    label: "Reasoning",
    help: "For models that think before they answer.",
    choices: [["", "As the model does"], ["none", "None"], ["low", "Low"], ["medium", "Medium"], ["high", "High"]],
  },
  {
    name: "context_overflow",
    label: "When the context is full",
    help: "Nothing is left out unless you say so.",
    choices: [["", "Refuse, with the numbers"], ["drop_old_turns", "Leave out the oldest messages"]],
  },
];

const NUMBERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, help: "Higher is freer; 0 is always the same." },
  { name: "top_p", label: "Top p", min: 0.01, max: 1, step: 0.01, help: "Keeps the likeliest up to this sum." },
  { name: "top_k", label: "Top k", min: 0, max: 1000, step: 1, help: "Keeps this many of the likeliest." },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01, help: "Drops the far less likely." },
  { name: "presence_penalty", label: "Presence penalty", min: -2, max: 2, step: 0.1, help: "Away from words used already." },
  { name: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, step: 0.1, help: "Away from words used often." },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.01, max: 100, step: 0.05, help: "Above 1: away from any repetition." },
  { name: "max_tokens", label: "Answer length", min: 1, max: 10_000_000, step: 1, help: "At most, in tokens." },
  { name: "seed", label: "Seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, help: "The same seed, the same answer." },
];

/** The fields of a request that these settings stand for. */
export function sampling(settings) {
  const fields = [...NUMBERS, ...CHOICES].map(({ name }) => [name, settings[name]]);
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined && value !== ""));
}

/** How many settings differ from the server's own. */
export function changes(settings) {
  return Object.keys(sampling(settings)).length + (settings.system?.trim() ? 1 : 0);
}

/**
 * The sheet. `open(settings)` shows and changes this object; `changed()` is called after each change.
 */
export function settingsSheet(changed) {
  const dialog = byId("settings");
  const fields = byId("settings-fields");
  let settings = {};

  function set(name, value) {
    if (value === undefined || value === "") delete settings[name];
    else settings[name] = value;
    changed();
  }

  function draw() {
    fields.replaceChildren(
      systemField(settings, set),
      ...CHOICES.map((field) => choiceField(field, settings, set)),
      h("div", { class: "grid" }, ...NUMBERS.map((field) => numberField(field, settings, set))),
      keyboard(),
    );
  }

  byId("settings-reset").addEventListener("click", () => {
    for (const { name } of [SYSTEM, ...CHOICES, ...NUMBERS]) delete settings[name];
    changed();
    draw();
  });
  closeFromOutside(dialog);

  return {
    open(of) {
      settings = of;
      draw();
      dialog.showModal();
    },
  };
}

/** A click beside a dialog closes it. */
export function closeFromOutside(dialog) {
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

function systemField(settings, set) {
  const area = h("textarea", { id: "set-system", rows: "5", oninput: () => set("system", area.value) });
  area.value = settings.system ?? "";
  return labelled(SYSTEM, area);
}

function choiceField(field, settings, set) {
  const { name, choices } = field;
  const options = choices.map(([value, label]) => h("option", { value }, label));
  const select = h("select", { id: `set-${name}`, onchange: () => set(name, select.value) }, ...options);
  select.value = settings[name] ?? "";
  return labelled(field, select);
}

function numberField(field, settings, set) {
  const { name, min, max, step } = field;
  const error = h("span", { class: "error", role: "alert" });
  const oninput = () => {
    const wrong = input.validity.badInput || input.validity.rangeOverflow || input.validity.rangeUnderflow;
    error.textContent = wrong ? `From ${min} to ${max}.` : "";
    if (!wrong) set(name, input.value === "" ? undefined : Number(input.value));
  };
  const input = h("input", { id: `set-${name}`, type: "number", min, max, step, placeholder: "default", oninput });
  input.value = settings[name] ?? "";
  return labelled(field, input, error);
}

function labelled({ name, label, help }, control, ...more) {
  control.setAttribute("aria-describedby", `help-${name}`);
  const note = h("span", { class: "help", id: `help-${name}` }, help);
  return h("div", { class: "field-set" }, h("label", { for: `set-${name}` }, label), control, note, ...more);
}

const KEYS = [
  ["Enter", "send"],
  ["Shift Enter", "new line"],
  ["Esc", "stop the answer, cancel an edit"],
  ["Ctrl K", "new chat (⌘ K on a Mac)"],
  ["↑", "in an empty box: edit your last message"],
  ["↑ ↓", "on a message: the one before, the one after"],
  ["← →", "on a message: its other branches"],
  ["F2", "on a message: edit it; on a conversation: rename it"],
  ["Delete", "on a conversation: delete it"],
];

function keyboard() {
  const rows = KEYS.map(([keys, what]) => h("div", {}, h("dt", {}, ...keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, what)));
  return h("details", { class: "keyboard" }, h("summary", {}, "Keyboard"), h("dl", {}, ...rows));
}
