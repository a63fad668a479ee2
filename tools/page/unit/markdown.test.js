// Markdown as the page reads it. Data is written as HTML here, to be read by people; the page itself makes no HTML.

import assert from "node:assert/strict";
import { test } from "node:test";
import { blocks } from "../../../crates/serve/assets/markdown/blocks.js";
import { pieces } from "../../../crates/serve/assets/markdown/code.js";
import { inline } from "../../../crates/serve/assets/markdown/inline.js";

const TAGS = { em: "em", strong: "strong", del: "del" };

function line(nodes) {
  return nodes
    .map((node) => {
      if (typeof node === "string") return node;
      if (node.type === "break") return "<br>";
      if (node.type === "code") return `<code>${node.text}</code>`;
      const inside = line(node.children);
      return node.type === "link" ? `<a ${node.href}>${inside}</a>` : `<${TAGS[node.type]}>${inside}</${TAGS[node.type]}>`;
    })
    .join("");
}

const WRITERS = {
  paragraph: ({ text }) => `<p>${line(inline(text))}`,
  heading: ({ level, text }) => `<h${level}>${line(inline(text))}`,
  rule: () => "<hr>",
  code: ({ language, text }) => `<pre ${language}>${text}</pre>`,
  quote: ({ blocks }) => `<quote>${html(blocks)}</quote>`,
  list({ start, items }) {
    const rows = items.map(({ done, blocks }) => `<li${done === null ? "" : done ? " done" : " todo"}>${html(blocks)}`);
    return start === null ? `<ul>${rows.join("")}</ul>` : `<ol ${start}>${rows.join("")}</ol>`;
  },
  table({ align, head, rows }) {
    const row = (cells) => `<tr>${cells.map((cell) => `<td>${line(inline(cell))}`).join("")}`;
    return `<table ${align.map((side) => side ?? "-").join(" ")}>${row(head)}${rows.map(row).join("")}</table>`;
  },
};

function html(list) {
  return list.map((block) => WRITERS[block.type](block)).join("");
}

/** Each case is a text and what is made of it. */
function check(name, cases) {
  test(name, () => {
    for (const [text, expected] of cases) assert.equal(html(blocks(text)), expected, JSON.stringify(text));
  });
}

check("emphasis", [
  ["*a* **b** ***c*** _d_ __e__", "<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em> <em>d</em> <strong>e</strong>"],
  ["**a *b* c**", "<p><strong>a <em>b</em> c</strong>"],
  ["snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4"],
  ["a **b", "<p>a **b"],
  ["~~gone~~ but ~5 to ~6", "<p><del>gone</del> but ~5 to ~6"],
  ["これは**「重要」**です", "<p>これは<strong>「重要」</strong>です"],
  ["\\*a\\*", "<p>*a*"],
  ["*a **b*", "<p>*a *<em>b</em>"],
]);

check("code inside a line is never emphasis and never a link", [
  ["`*a*` and ``b`c``", "<p><code>*a*</code> and <code>b`c</code>"],
  ["`[a](https://b.example)`", "<p><code>[a](https://b.example)</code>"],
  ["a ` b", "<p>a ` b"],
  ["` `` `", "<p><code>``</code>"],
]);

check("links lead to http and https only", [
  ["[a](https://b.example/c_(d))", "<p><a https://b.example/c_(d)>a</a>"],
  ["[**a**](<http://b.example> \"t\")", "<p><a http://b.example><strong>a</strong></a>"],
  ["see https://b.example/x?y=1.", "<p>see <a https://b.example/x?y=1>https://b.example/x?y=1</a>."],
  ["(https://b.example/)", "<p>(<a https://b.example/>https://b.example/</a>)"],
  ["<https://b.example>", "<p><a https://b.example>https://b.example</a>"],
  ["![boat](https://b.example/i.png)", "<p><a https://b.example/i.png>boat</a>"],
  ["[a](javascript:alert(1))", "<p>[a](javascript:alert(1))"],
  ["[a](JaVaScRiPt:alert(1))", "<p>[a](JaVaScRiPt:alert(1))"],
  ["[a](java&#115;cript:alert(1))", "<p>[a](javascript:alert(1))"],
  ["[a](data:text/html,x)", "<p>[a](data:text/html,x)"],
  ["[a](/etc) [b](//c.example)", "<p>[a](/etc) [b](//c.example)"],
  ["<javascript:alert(1)>", "<p><javascript:alert(1)>"],
  ["xhttps://b.example", "<p>xhttps://b.example"],
  ["https://b.exampleを見る", "<p><a https://b.example>https://b.example</a>を見る"],
]);

check("HTML is text, save for <br>", [
  ["<img src=x onerror=alert(1)>", "<p><img src=x onerror=alert(1)>"],
  ["a<br>b<br/>c", "<p>a<br>b<br>c"],
  ["&lt;b&gt; &amp; &#x41; &nope;", "<p><b> & A &nope;"],
]);

check("lines and paragraphs", [
  ["a\nb\n\nc", "<p>a<br>b<p>c"],
  ["a\r\nb", "<p>a<br>b"],
  ["a\n---\nb", "<p>a<hr><p>b"],
  ["# a #\n###### b\n#c", "<h1>a<h6>b<p>#c"],
  ["* * *", "<hr>"],
  ["", ""],
]);

check("fenced code", [
  ["```rust\nlet a = 1;\n\n  b\n```\nc", "<pre rust>let a = 1;\n\n  b</pre><p>c"],
  ["~~~\n```\n~~~", "<pre >```</pre>"],
  ["````\n```\n````", "<pre >```</pre>"],
  ["```py\nstill growing", "<pre py>still growing</pre>"],
  ["  ```\n    a\n  ```", "<pre >  a</pre>"],
  ["a\n```\nb\n```", "<p>a<pre >b</pre>"],
]);

check("lists", [
  ["- a\n- b\n\nc", "<ul><li><p>a<li><p>b</ul><p>c"],
  ["1. a\n2. b", "<ol 1><li><p>a<li><p>b</ol>"],
  ["3) a", "<ol 3><li><p>a</ol>"],
  ["1. a\n  - b\n  - c\n2. d", "<ol 1><li><p>a<ul><li><p>b<li><p>c</ul><li><p>d</ol>"],
  ["1. a\n\n   ```\n   x\n   ```\n\n2. b", "<ol 1><li><p>a<pre >x</pre><li><p>b</ol>"],
  ["- [x] a\n- [ ] b", "<ul><li done><p>a<li todo><p>b</ul>"],
  ["- a\ncontinued", "<ul><li><p>a<br>continued</ul>"],
  ["- a\n* b", "<ul><li><p>a</ul><ul><li><p>b</ul>"],
  ["The year was\n1984. It rained.", "<p>The year was<br>1984. It rained."],
  ["Steps:\n1. a", "<p>Steps:<ol 1><li><p>a</ol>"],
  ["**a**", "<p><strong>a</strong>"],
  ["-", "<ul><li></ul>"],
]);

check("quotes", [
  ["> a\n> b\n\nc", "<quote><p>a<br>b</quote><p>c"],
  ["> - a\n> > b", "<quote><ul><li><p>a</ul><quote><p>b</quote></quote>"],
]);

check("tables", [
  ["a | b\n--|:-:\n1 | `x`", "<table - center><tr><td>a<td>b<tr><td>1<td><code>x</code></table>"],
  ["| a | b |\n|--:|:--|\n| 1 |\n| 2 | 3 | 4 |", "<table right left><tr><td>a<td>b<tr><td>1<td><tr><td>2<td>3</table>"],
  ["| a \\| b |\n|---|", "<table -><tr><td>a | b</table>"],
  ["a | b\nc", "<p>a | b<br>c"],
]);

test("equal source makes an equal block, so a growing text changes only its end", () => {
  const text = "# a\n\n- b\n- c\n\n```js\nlet d;\n```\n\n> e\n\nf";
  for (let end = 1; end <= text.length; end += 1) {
    const before = blocks(text.slice(0, end - 1));
    const after = blocks(text.slice(0, end));
    for (let i = 0; i < Math.min(before.length, after.length); i += 1) {
      if (before[i].source === after[i].source) assert.deepEqual(after[i], before[i]);
    }
  }
});

test("no text takes long or goes deep without end", () => {
  const hostile = ["*a ", "*a_ ", "a* ", "**", "[", "![", "](", "`a ``", "> ", "- ", "  - ", "&", "~~a ", "<", "|", "|-", "https://", "\\", "1. ", "# ", "[a](", "_a*"];
  for (const piece of hostile) {
    const text = piece.repeat(20_000);
    const begun = performance.now();
    html(blocks(text));
    html(blocks(`${text}\n|-|`));
    const took = performance.now() - begun;
    assert.ok(took < 5000, `${JSON.stringify(piece)} took ${took} ms`);
  }
});

test("code is coloured by its words, and none of it is lost", () => {
  const cases = [
    ["rust", "fn a<'x>() { \"b\" } // c", "keyword:fn string:\"b\" comment:// c"],
    ["python", "def f(): # c\n  return '''x\ny''' + 1", "keyword:def comment:# c keyword:return string:'''x\ny''' number:1"],
    ["sql", "SELECT a FROM b -- c", "keyword:SELECT keyword:FROM comment:-- c"],
    ["json", '{"a": 1.5, "b": true}', 'string:"a" number:1.5 string:"b" keyword:true'],
    ["bash", "echo ${#a} # b", "keyword:echo comment:# b"],
    ["unknown", "fn if", ""],
    ["js", "`open", "string:`open"],
  ];
  for (const [language, text, expected] of cases) {
    const found = pieces(language, text);
    assert.equal(found.map((piece) => piece.text).join(""), text);
    assert.equal(found.filter(({ kind }) => kind).map(({ kind, text }) => `${kind}:${text}`).join(" "), expected, text);
  }
});
