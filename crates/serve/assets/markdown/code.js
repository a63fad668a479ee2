// Colours for code by its words alone: comments, strings, numbers, keywords. Not a parser; when in doubt it stays plain.

const KEYWORDS = {
  c: "auto break case catch class const constexpr continue default delete do else enum export extern false final finally for friend goto if import inline namespace new nullptr null operator override package private protected public return sizeof static struct super switch template this throw throws true try typedef typename union unsigned using var virtual void volatile while bool char double float int long short abstract extends implements interface boolean async await let function of in typeof instanceof yield from as undefined readonly type declare keyof never unknown any string number func defer go chan map range select fallthrough guard init protocol extension self where val fun when is object data sealed companion internal out get set record",
  rust: "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self Self static struct super trait true type unsafe use where while",
  python: "and as assert async await break class continue def del elif else except False finally for from global if import in is lambda match case None nonlocal not or pass raise return True try while with yield self",
  ruby: "alias and begin break case class def do else elsif end ensure false for if in module next nil not or redo require rescue retry return self super then true undef unless until when while yield",
  shell: "if then else elif fi case esac for while until do done in function return local export set unset source echo exit cd",
  sql: "select from where and or not in is null as join left right inner outer full on group by order having limit offset insert into values update set delete create table index view drop alter add primary key foreign references unique default distinct union all case when then else end exists between like with",
};

const LANGUAGES = {
  rust: "rust", rs: "rust", python: "python", py: "python", ruby: "ruby", rb: "ruby", sql: "sql",
  sh: "shell", bash: "shell", shell: "shell", zsh: "shell", console: "shell", toml: "plain#", yaml: "plain#", yml: "plain#",
  json: "plain", c: "c", h: "c", cpp: "c", "c++": "c", cc: "c", java: "c", js: "c", javascript: "c", jsx: "c", ts: "c",
  typescript: "c", tsx: "c", go: "c", golang: "c", swift: "c", kotlin: "c", kt: "c", cs: "c", csharp: "c", php: "c", dart: "c", scala: "c",
};

const COMMENTS = {
  c: String.raw`\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)`,
  rust: String.raw`\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)`,
  python: String.raw`#[^\n]*`,
  ruby: String.raw`#[^\n]*`,
  shell: String.raw`(?<![^\s;])#[^\n]*`,
  "plain#": String.raw`(?<![^\s])#[^\n]*`,
  sql: String.raw`--[^\n]*|\/\*[^]*?(?:\*\/|$)`,
  plain: String.raw`(?!)`,
};

const STRINGS = {
  // A lone quote in Rust is a lifetime.
  rust: String.raw`"(?:[^"\\]|\\[^])*"?|'(?:[^'\\\n]|\\[^\n]+?)'`,
  python: String.raw`"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:[^"\\\n]|\\[^])*"?|'(?:[^'\\\n]|\\[^])*'?`,
  c: String.raw`"(?:[^"\\\n]|\\[^])*"?|'(?:[^'\\\n]|\\[^])*'?|${"`"}(?:[^${"`"}\\]|\\[^])*${"`"}?`,
};
const ANY_STRING = String.raw`"(?:[^"\\]|\\[^])*"?|'(?:[^'\\]|\\[^])*'?`;

/** Longer code stays plain: colouring it again with every token would be felt. */
const LONGEST = 40_000;

/** The code cut into `{ kind, text }`; `kind` is comment, string, number, keyword, or null for the rest. */
export function pieces(language, text) {
  const family = LANGUAGES[language.toLowerCase()];
  if (!family || text.length > LONGEST) return [{ kind: null, text }];
  const words = new Set((KEYWORDS[family] ?? "true false null").split(" "));
  const fold = family === "sql" ? (word) => word.toLowerCase() : (word) => word;
  const pattern = new RegExp(
    `(?<comment>${COMMENTS[family]})|(?<string>${STRINGS[family] ?? ANY_STRING})` +
      String.raw`|(?<number>\b\d[\w.]*)|(?<word>[A-Za-z_]\w*)`,
    "g",
  );
  const out = [];
  let at = 0;
  for (const found of text.matchAll(pattern)) {
    const { comment, string, word } = found.groups;
    const kind = comment ? "comment" : string ? "string" : word === undefined ? "number" : words.has(fold(word)) ? "keyword" : null;
    if (!kind) continue;
    if (found.index > at) out.push({ kind: null, text: text.slice(at, found.index) });
    out.push({ kind, text: found[0] });
    at = found.index + found[0].length;
  }
  if (at < text.length || out.length === 0) out.push({ kind: null, text: text.slice(at) });
  return out;
}
