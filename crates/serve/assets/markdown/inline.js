// What stands inside a block of Markdown: emphasis, code, links. Text in, plain data out:
// a node is a string or `{ type: "em" | "strong" | "del" | "link" | "code" | "break", children | text, href }`.

const PUNCTUATION = /[\p{P}\p{S}]/u;
const WIDE = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u3000-\u303f\uff00-\uffef]/u;
const URL_TEXT = /https?:\/\/[^\s<>"`\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]+/y;
const TARGET = /\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y;
const ANGLE = /<(https?:\/\/[^\s<>]*)>/y;
const BREAK = /<br\s*\/?>/iy;
const ENTITY = /&(?:(amp|lt|gt|quot|apos|nbsp)|#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6}));/y;
const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** The nodes of a text. */
export function inline(text) {
  return new Reader(text).nodes();
}

/** The address of a link that may be followed, or null: only http and https, only complete ones. */
export function safeAddress(href) {
  try {
    const { protocol } = new URL(href);
    return protocol === "https:" || protocol === "http:" ? href : null;
  } catch {
    return null;
  }
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
    /** What was read: strings, nodes, and `{ run }` and `{ bracket }` marks that may still turn out to be text. */
    this.out = [];
    this.brackets = [];
    /** Lengths of backtick runs that nothing closes from here on: looked for once. */
    this.unclosed = new Set();
  }

  nodes() {
    while (this.at < this.text.length) this.step();
    return emphasis(this.out);
  }

  step() {
    const { text, at } = this;
    switch (text[at]) {
      case "\\":
        return this.escape();
      case "\n":
        return this.put({ type: "break" }, 1);
      case "`":
        return this.code();
      case "*":
      case "_":
      case "~":
        return this.run();
      case "!":
      case "[":
        return this.open();
      case "]":
        return this.close();
      case "<":
        return this.angle();
      case "&":
        return this.entity();
      default:
        return this.plain();
    }
  }

  put(node, length) {
    this.out.push(node);
    this.at += length;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    return pattern.exec(this.text);
  }

  escape() {
    const next = this.text[this.at + 1];
    if (next === "\n") this.put({ type: "break" }, 2);
    else if (next !== undefined && /[!-/:-@[-`{-~]/.test(next)) this.put(next, 2);
    else this.put("\\", 1);
  }

  code() {
    const marks = /`+/y;
    marks.lastIndex = this.at;
    const { length } = marks.exec(this.text)[0];
    const end = this.unclosed.has(length) ? -1 : this.closing(length);
    if (end < 0) {
      this.unclosed.add(length);
      return this.put("`".repeat(length), length);
    }
    let inside = this.text.slice(this.at + length, end).replaceAll("\n", " ");
    if (/^ .*[^ ].* $/s.test(inside)) inside = inside.slice(1, -1);
    this.put({ type: "code", text: inside }, end + length - this.at);
  }

  closing(length) {
    for (const found of this.text.slice(this.at + length).matchAll(/`+/g)) {
      if (found[0].length === length) return this.at + length + found.index;
    }
    return -1;
  }

  /** A run of `*`, `_` or `~`: whether it may open or close emphasis depends on its neighbours. */
  run() {
    const { text, at } = this;
    const mark = text[at];
    let end = at;
    while (text[end] === mark) end += 1;
    const before = at === 0 ? " " : lastCharacter(text, at);
    const after = end === text.length ? " " : String.fromCodePoint(text.codePointAt(end));
    const soft = (character) => /\s/.test(character) || PUNCTUATION.test(character) || WIDE.test(character);
    const opens = !/\s/.test(after) && (!PUNCTUATION.test(after) || soft(before));
    const closes = !/\s/.test(before) && (!PUNCTUATION.test(before) || soft(after));
    const inWord = mark === "_" && opens && closes;
    this.put(
      {
        run: mark,
        length: end - at,
        opens: opens && (!inWord || PUNCTUATION.test(before)),
        closes: closes && (!inWord || PUNCTUATION.test(after)),
        both: opens && closes,
      },
      end - at,
    );
  }

  open() {
    const image = this.text[this.at] === "!";
    if (image && this.text[this.at + 1] !== "[") return this.put("!", 1);
    const bracket = { bracket: image ? "![" : "[" };
    this.brackets.push({ bracket, index: this.out.length });
    this.put(bracket, image ? 2 : 1);
  }

  /** `](address)` makes a link of what stands since the bracket. Images become links too: nothing is fetched. */
  close() {
    const open = this.brackets.pop();
    this.at += 1;
    const target = open && this.match(TARGET);
    const href = target && safeAddress((target[1] ?? target[2]).replace(/\\([!-/:-@[-`{-~])/g, "$1"));
    if (!href) return this.put("]", 0);
    const inside = emphasis(this.out.splice(open.index).slice(1));
    // A link holds no other link.
    this.brackets.length = 0;
    this.put({ type: "link", href, children: inside.length > 0 ? inside : [href] }, target[0].length);
  }

  angle() {
    const found = this.match(BREAK);
    if (found) return this.put({ type: "break" }, found[0].length);
    const address = this.match(ANGLE);
    const href = address && safeAddress(address[1]);
    if (href) this.put({ type: "link", href, children: [href] }, address[0].length);
    else this.put("<", 1);
  }

  entity() {
    const found = this.match(ENTITY);
    if (!found) return this.put("&", 1);
    const code = found[2] ? Number.parseInt(found[2], 10) : Number.parseInt(found[3], 16);
    const known = found[1] ? NAMED[found[1]] : code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : found[0];
    this.put(known, found[0].length);
  }

  plain() {
    const word = this.at === 0 || !/[\p{L}\p{N}]/u.test(this.text[this.at - 1]);
    const found = word && this.text[this.at] === "h" ? this.match(URL_TEXT) : null;
    const href = found && safeAddress(trimAddress(found[0]));
    if (href) return this.put({ type: "link", href, children: [href] }, href.length);
    let end = this.at + 1;
    while (end < this.text.length && !"\\\n`*_~![]<&".includes(this.text[end]) && !this.addressAt(end)) end += 1;
    this.put(this.text.slice(this.at, end), end - this.at);
  }

  addressAt(at) {
    return this.text[at] === "h" && this.text.startsWith("http", at) && !/[\p{L}\p{N}]/u.test(this.text[at - 1]);
  }
}

function lastCharacter(text, end) {
  const low = text.charCodeAt(end - 1);
  const pair = low >= 0xdc00 && low <= 0xdfff && end > 1;
  return text.slice(end - (pair ? 2 : 1), end);
}

/** An address in running text does not include the punctuation of the sentence around it. */
function trimAddress(address) {
  let end = address.length;
  for (;;) {
    const last = address[end - 1];
    const unpaired = last === ")" && count(address, ")", end) > count(address, "(", end);
    if (!unpaired && !/[.,:;!?'*_~\]]/.test(last)) return address.slice(0, end);
    end -= 1;
  }
}

function count(text, character, end) {
  let found = 0;
  for (let i = 0; i < end; i += 1) if (text[i] === character) found += 1;
  return found;
}

/** Pairs the runs as CommonMark does, and turns what is left of them into text. */
function emphasis(items) {
  const out = [];
  const openers = [];
  for (const entry of items) {
    if (entry.run === undefined) {
      out.push(entry.bracket ?? entry);
      continue;
    }
    let left = entry.length;
    while (entry.closes && left > 0) {
      const index = openerFor(openers, entry, left);
      if (index < 0) break;
      const opener = openers[index];
      const used = Math.min(opener.left, left, 2);
      const inside = out.splice(opener.at).slice(1);
      openers.length = index;
      opener.left -= used;
      left -= used;
      if (opener.left > 0) {
        out.push(opener.entry.run.repeat(opener.left));
        openers.push(opener);
      }
      out.push({ type: entry.run === "~" ? "del" : used === 2 ? "strong" : "em", children: joined(inside) });
    }
    if (left === 0) continue;
    if (entry.opens) openers.push({ entry, left, at: out.length });
    out.push(entry.run.repeat(left));
  }
  return joined(out);
}

/** How far back an opener is looked for: what opens earlier than that is text. Keeps hostile text linear. */
const FAR = 64;

function openerFor(openers, entry, left) {
  for (let i = openers.length - 1; i >= Math.max(0, openers.length - FAR); i -= 1) {
    const opener = openers[i];
    if (opener.entry.run !== entry.run) continue;
    if (entry.run === "~") {
      // One tilde means "about".
      if (opener.left === 2 && left === 2) return i;
      continue;
    }
    const { length } = opener.entry;
    const odd = (opener.entry.both || entry.both) && (length + entry.length) % 3 === 0;
    if (!odd || (length % 3 === 0 && entry.length % 3 === 0)) return i;
  }
  return -1;
}

/** Neighbouring strings as one. */
function joined(nodes) {
  const out = [];
  for (const node of nodes) {
    if (typeof node === "string" && typeof out.at(-1) === "string") out[out.length - 1] += node;
    else out.push(node);
  }
  return out;
}
