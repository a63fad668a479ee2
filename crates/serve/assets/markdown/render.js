// Markdown as elements. What the text says becomes text nodes; no attribute but a checked address comes from it.

import { copyButton, h } from "../dom.js";
import { blocks } from "./blocks.js";
import { pieces } from "./code.js";
import { inline } from "./inline.js";

/** A view of text that grows: `show(text)` makes anew only the blocks that changed. */
export function markdownView(element) {
  let shown = [];
  return {
    element,
    show(text) {
      const next = blocks(text);
      let same = 0;
      while (same < shown.length && same < next.length && shown[same] === next[same].source) same += 1;
      while (element.children.length > same) element.lastChild.remove();
      element.append(...next.slice(same).map(block));
      shown = next.map(({ source }) => source);
    },
  };
}

const KINDS = {
  paragraph: ({ text }) => h("p", {}, ...line(text)),
  // The page has its own first heading; those of an answer stand below it.
  heading: ({ level, text }) => h(`h${Math.min(level + 1, 6)}`, { class: `level-${level}` }, ...line(text)),
  rule: () => h("hr"),
  quote: (quote) => h("blockquote", {}, ...quote.blocks.map(block)),
  code,
  list,
  table,
};

function block(data) {
  return KINDS[data.type](data);
}

function code({ language, text }) {
  const inside = pieces(language, text).map(({ kind, text }) => (kind ? h("span", { class: kind }, text) : text));
  return h(
    "figure",
    { class: "code" },
    h("figcaption", {}, h("span", {}, language || "text"), copyButton("Copy code", () => text)),
    // It scrolls sideways, so the keyboard must reach it.
    h("pre", { tabindex: "0" }, h("code", {}, ...inside)),
  );
}

function list({ start, items }) {
  const tight = items.every(({ blocks }) => blocks.filter(({ type }) => type === "paragraph").length <= 1);
  const rows = items.map(({ done, blocks }) => {
    const children = blocks.flatMap((data) => (tight && data.type === "paragraph" ? line(data.text) : [block(data)]));
    if (done === null) return h("li", {}, ...children);
    const box = h("input", { type: "checkbox", disabled: true, checked: done, "aria-label": done ? "done" : "to do" });
    return h("li", { class: "task" }, box, ...children);
  });
  if (start === null) return h("ul", {}, ...rows);
  return h("ol", { start: start === 1 ? undefined : start }, ...rows);
}

function table({ align, head, rows }) {
  const row = (tag, cells) =>
    h("tr", {}, ...cells.map((text, i) => h(tag, { class: align[i] ?? undefined }, ...line(text))));
  const body = rows.map((cells) => row("td", cells));
  return h("div", { class: "table", tabindex: "0" }, h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, ...body)));
}

function line(text) {
  return inline(text).map(node);
}

function node(data) {
  if (typeof data === "string") return data;
  if (data.type === "break") return h("br");
  if (data.type === "code") return h("code", {}, data.text);
  const children = data.children.map(node);
  if (data.type !== "link") return h(data.type, {}, ...children);
  const { href } = data;
  return h("a", { href, title: href, target: "_blank", rel: "noopener noreferrer" }, ...children);
}
