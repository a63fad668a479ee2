// The blocks of Markdown: text in, plain data out. inline.js reads what is inside them, render.js makes elements.
//
// Follows CommonMark and GitHub's tables and task lists where models do, with three departures: no code by indentation
// (models indent for other reasons), no headings underlined with --- (models mean a rule), and lists nest from two spaces on.
// It must also read well while the text is still growing: an open fence is code already.

/** Deeper quotes and lists are plain text: a stranger's text may not exhaust the stack. */
const DEEPEST = 24;

const FENCE = /^(\s*)(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(?:(\s+)(.*)|\s*)$/;
const TASK = /^\[([ xX])\]\s+/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

/**
 * The blocks of a text, each with the `source` it was read from (equal source, equal block):
 * `heading { level, text }`, `paragraph { text }`, `code { language, text }`, `quote { blocks }`, `rule`,
 * `list { start, items: [{ done, blocks }] }` (`start` is null for bullets, `done` for what is no task),
 * `table { align, head, rows }`.
 */
export function blocks(text) {
  return read(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

function read(lines, depth) {
  const readers = depth < DEEPEST ? [fence, heading, rule, quote, list, table, paragraph] : [paragraph];
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (blank(lines[at])) {
      at += 1;
      continue;
    }
    for (const reader of readers) {
      const read = reader(lines, at, depth);
      if (!read) continue;
      found.push({ ...read.block, source: lines.slice(at, read.end).join("\n") });
      at = read.end;
      break;
    }
  }
  return found;
}

const blank = (line) => line === undefined || /^\s*$/.test(line);
const indent = (line) => line.match(/^\s*/)[0].length;
const dedent = (line, by) => line.slice(Math.min(by, indent(line)));

function fence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const [, space, marks, info] = open;
  let end = at + 1;
  while (end < lines.length && !closes(lines[end], marks)) end += 1;
  const text = lines.slice(at + 1, end).map((line) => dedent(line, space.length)).join("\n");
  const language = info.trim().split(/[\s{]/)[0];
  return { block: { type: "code", language, text }, end: Math.min(end + 1, lines.length) };
}

function closes(line, marks) {
  const trimmed = line.trim();
  return trimmed.length >= marks.length && trimmed === marks[0].repeat(trimmed.length);
}

function heading(lines, at) {
  const found = HEADING.exec(lines[at]);
  if (!found) return null;
  const text = lines[at].slice(found[0].length).trim().replace(/(?:^|\s)#+$/, "").trimEnd();
  return { block: { type: "heading", level: found[1].length, text }, end: at + 1 };
}

function rule(lines, at) {
  return RULE.test(lines[at]) ? { block: { type: "rule" }, end: at + 1 } : null;
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  if (end === at) return null;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { block: { type: "quote", blocks: read(inner, depth + 1) }, end };
}

function list(lines, at, depth) {
  const first = item(lines[at]);
  if (!first) return null;
  const items = [];
  let end = at;
  for (;;) {
    const next = item(lines[end]);
    if (!next || next.kind !== first.kind || next.indent > first.indent + 1) break;
    const stop = itemEnd(lines, end, next);
    items.push(content(lines.slice(end, stop), next, depth));
    end = stop;
    // Blank lines between two items belong to the list.
    let over = end;
    while (over < lines.length && blank(lines[over])) over += 1;
    if (over < lines.length && item(lines[over])) end = over;
  }
  const start = first.number === undefined ? null : first.number;
  return { block: { type: "list", start, items }, end: trimmed(lines, at, end) };
}

/** The marker of a list item: where it stands, where its text begins, and which kind of list it makes. */
function item(line) {
  if (line === undefined || RULE.test(line)) return null;
  const found = ITEM.exec(line);
  if (!found) return null;
  const [, space, marker, gap] = found;
  const number = /\d/.test(marker) ? Number.parseInt(marker, 10) : undefined;
  const text = space.length + marker.length + (gap && gap.length <= 4 ? gap.length : 1);
  return { indent: space.length, text, number, kind: number === undefined ? marker : marker.at(-1) };
}

function itemEnd(lines, at, { indent: outer }) {
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    if (blank(lines[end])) continue;
    const inside = indent(lines[end]) >= outer + 2;
    // A line that is not indented still belongs to the paragraph it continues.
    const lazy = !blank(lines[end - 1]) && !interrupts(lines, end) && !item(lines[end]);
    if (!inside && !lazy) break;
  }
  return trimmed(lines, at, end);
}

function content(lines, { text: by }, depth) {
  const inner = [lines[0].slice(by), ...lines.slice(1).map((line) => dedent(line, by))];
  const task = TASK.exec(inner[0]);
  if (task) inner[0] = inner[0].slice(task[0].length);
  return { done: task ? task[1] !== " " : null, blocks: read(inner, depth + 1) };
}

function trimmed(lines, at, end) {
  while (end > at + 1 && blank(lines[end - 1])) end -= 1;
  return end;
}

function table(lines, at) {
  if (!lines[at].includes("|") || blank(lines[at + 1]) || !DIVIDER.test(lines[at + 1])) return null;
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map(alignment);
  if (head.length !== align.length) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && !blank(lines[end])) end += 1;
  const width = (row) => Array.from(head, (_, i) => row[i] ?? "");
  const rows = lines.slice(at + 2, end).map((line) => width(cells(line)));
  return { block: { type: "table", align, head, rows }, end };
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function alignment(cell) {
  if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
  return cell.startsWith(":") ? "left" : null;
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && !blank(lines[end]) && !interrupts(lines, end)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join("\n").trimEnd();
  return { block: { type: "paragraph", text }, end };
}

/** Whether a line ends the paragraph before it. A number other than 1 does not: it is often just the end of a sentence. */
function interrupts(lines, at) {
  const line = lines[at];
  const marker = item(line);
  const begins = marker && !blank(line.slice(marker.text)) && (marker.number ?? 1) === 1;
  return begins || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || table(lines, at) !== null;
}
