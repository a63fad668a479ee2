// The list of conversations: a column beside the page, or a drawer over it where the page is narrow.

import { byId, h, iconButton } from "./dom.js";
import { title } from "./tree.js";

const OPEN = "sampan.sidebar";
const narrow = matchMedia("(max-width: 760px)");

/** @param {Object} actions `open(id)`, `remove(id)`, `rename(id, title)` */
export function sidebar(actions) {
  const element = byId("sidebar");
  const nav = byId("conversations");
  const root = document.documentElement;

  function set(open) {
    root.classList.toggle("sidebar", open);
    // What is out of sight is out of reach of the keyboard too.
    element.inert = !open;
    byId("sidebar-open").setAttribute("aria-expanded", String(open));
    if (!narrow.matches) localStorage.setItem(OPEN, open ? "yes" : "no");
  }

  const atStart = () => set(!narrow.matches && localStorage.getItem(OPEN) !== "no");
  const close = () => {
    set(false);
    byId("sidebar-open").focus();
  };
  narrow.addEventListener("change", atStart);
  byId("sidebar-open").addEventListener("click", () => {
    set(!root.classList.contains("sidebar"));
    if (!element.inert) byId("new-chat").focus();
  });
  byId("sidebar-close").addEventListener("click", close);
  byId("shade").addEventListener("click", close);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && narrow.matches) close();
  });
  nav.addEventListener("keydown", (event) => {
    const all = [...nav.querySelectorAll("a")];
    const at = all.indexOf(document.activeElement);
    if (at < 0) return;
    const { id } = all[at].dataset;
    if (event.key === "ArrowDown") all[at + 1]?.focus();
    else if (event.key === "ArrowUp") (all[at - 1] ?? byId("new-chat")).focus();
    else if (event.key === "Delete") actions.remove(id);
    else if (event.key === "F2") rename(id);
    else return;
    event.preventDefault();
  });
  byId("new-chat").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") nav.querySelector("a")?.focus();
  });

  function rename(id) {
    const link = nav.querySelector(`a[data-id="${id}"]`);
    const before = link.textContent;
    const input = h("input", { type: "text", "aria-label": "Title", maxlength: "200" });
    input.value = before;
    let over = false;
    const finish = (keep) => {
      if (over) return;
      over = true;
      input.replaceWith(link);
      link.focus();
      if (keep && input.value.trim() !== before) actions.rename(id, input.value.trim());
    };
    input.addEventListener("blur", () => finish(true));
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && !event.isComposing) finish(true);
      if (event.key === "Escape") finish(false);
    });
    link.replaceWith(input);
    input.focus();
    input.select();
  }

  function row(tree, current) {
    const name = title(tree);
    const link = h("a", { href: `#${tree.id}`, "data-id": tree.id, title: name, "aria-current": current ? "page" : undefined }, name);
    link.addEventListener("click", () => {
      if (narrow.matches) set(false);
    });
    return h(
      "li",
      {},
      link,
      iconButton("pencil", `Rename “${name}”`, () => rename(tree.id)),
      iconButton("trash", `Delete “${name}”`, () => actions.remove(tree.id)),
    );
  }

  atStart();
  return {
    /** Lists the conversations, the latest first, by when they were last changed. */
    show(all, currentId) {
      const focused = document.activeElement?.dataset?.id;
      const sorted = [...all].sort((a, b) => b.updated - a.updated);
      const groups = new Map();
      for (const tree of sorted) {
        const label = age(tree.updated);
        if (!groups.has(label)) groups.set(label, []);
        groups.get(label).push(row(tree, tree.id === currentId));
      }
      nav.replaceChildren(...[...groups].flatMap(([label, rows]) => [h("h2", {}, label), h("ul", {}, ...rows)]));
      if (focused) nav.querySelector(`a[data-id="${focused}"]`)?.focus();
    },
    closeIfDrawer() {
      if (narrow.matches) set(false);
    },
  };
}

/** The heading under which a day belongs. */
function age(time, now = new Date()) {
  const today = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const day = 24 * 3600 * 1000;
  if (time >= today) return "Today";
  if (time >= today - day) return "Yesterday";
  if (time >= today - 7 * day) return "This week";
  return "Earlier";
}
