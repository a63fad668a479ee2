// Short notices at the edge of the page.

import { byId, h } from "./dom.js";

let timer;

/** Shows a text, with an action if one is given. It goes away by itself; an error stays longer. */
export function toast(text, { action, label, lasts = 6000 } = {}) {
  const element = byId("toast");
  clearTimeout(timer);
  const hide = () => {
    element.hidden = true;
  };
  const run = () => {
    hide();
    action();
  };
  element.replaceChildren(h("span", {}, text), ...(action ? [h("button", { type: "button", onclick: run }, label)] : []));
  element.hidden = false;
  timer = setTimeout(hide, lasts);
}
