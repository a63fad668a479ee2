// The only place that makes elements. Text becomes text nodes: nothing on this page is ever parsed as HTML.

/**
 * An element. An attribute that is a function listens (`onclick`), `true` stands alone, `false` and `undefined` are left out.
 * @param {string} tag
 * @param {Object} attributes
 * @param {...(Node|string)} children
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** A drawing of icons.svg; the control around it carries the name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "use"));
  setIcon(svg, name);
  return svg;
}

/** Changes which drawing an icon shows. */
export function setIcon(svg, name) {
  svg.querySelector("use").setAttribute("href", `assets/icons.svg#${name}`);
}

/** A button that shows only an icon. */
export function iconButton(name, label, onclick) {
  return h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick }, icon(name));
}

/** A button that copies what `text()` returns, and shows that it did. */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    const copied = await copy(text());
    setIcon(button.firstChild, copied ? "check" : "close");
    button.title = copied ? "Copied" : "The browser did not allow it";
    setTimeout(() => {
      setIcon(button.firstChild, "copy");
      button.title = label;
    }, 1500);
  });
  return button;
}

/** The clipboard exists on https and localhost only; elsewhere a selection still works. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

/** The element with this id; it must exist. */
export function byId(id) {
  return document.getElementById(id) ?? fail(id);
}

function fail(id) {
  throw new Error(`index.html has no #${id}`);
}
