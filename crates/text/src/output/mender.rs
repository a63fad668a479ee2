//! JSON as models write it, to JSON as programs read it, while it streams.

/// How the values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// JSON, with the mistakes that models make: see [`Mender`].
    Json,
    /// As JSON, but strings stand raw between two of these marks.
    Marked(&'static str),
    /// The arguments of a call in Python: `(key=value, ...)`.
    Python,
}

/// How far a push came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The value goes on, or the next text decides what this is.
    More,
    /// The value is complete.
    Done,
    /// What comes next fits no value.
    Broken,
    /// The text has ended inside the value.
    Unfinished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    /// Inside a string that ends with this, and whether its backslashes escape.
    Text(&'static str, bool),
    Nothing,
}

/// Copies one JSON value and mends it on the way: line breaks inside strings, single quotes, a comma too many, bare keys, and the
/// literals of Python. Valid JSON passes to the byte as it is.
#[derive(Clone, Debug)]
pub(super) struct Mender {
    dialect: Dialect,
    expect: Expect,
    /// The closing brackets still due, the innermost last.
    open: Vec<char>,
    /// The string being read is a key.
    key: bool,
    mended: bool,
}

/// serde_json reads no deeper either.
const MAX_DEPTH: usize = 100;
/// No number or word is longer.
const MAX_WORD: usize = 1 << 12;

impl Mender {
    pub(super) fn new(dialect: Dialect) -> Self {
        let expect = if dialect == Dialect::Python { Expect::Nothing } else { Expect::Value };
        let mut mender = Self { dialect, expect, open: Vec::new(), key: false, mended: false };
        if dialect == Dialect::Python {
            // The bracket is part of what tells a call from a word, so it has been read.
            mender.open.push(')');
            mender.expect = Expect::KeyOrEnd;
        }
        mender
    }

    /// What stands before the first text that is pushed.
    pub(super) fn prologue(&self) -> &'static str {
        if self.dialect == Dialect::Python { "{" } else { "" }
    }

    /// Whether anything was changed.
    pub(super) fn mended(&self) -> bool {
        self.mended
    }

    /// Reads as much of `text` as is certain, appends JSON to `out`, and says how many bytes were read. `ended`: nothing follows.
    pub(super) fn push(&mut self, text: &str, ended: bool, out: &mut String) -> (usize, Progress) {
        let mut at = 0;
        loop {
            if self.expect == Expect::Nothing {
                return (at, Progress::Done);
            }
            match self.step(&text[at..], ended, out) {
                Some(0) => return (at, Progress::Broken),
                Some(bytes) => at += bytes,
                None => return (at, if ended { Progress::Unfinished } else { Progress::More }),
            }
        }
    }

    /// Reads one thing: how many bytes it has; none if it is not complete, 0 if it fits nothing.
    fn step(&mut self, text: &str, ended: bool, out: &mut String) -> Option<usize> {
        if let Expect::Text(end, escapes) = self.expect {
            return self.string(text, end, escapes, ended, out);
        }
        let first = text.chars().next()?;
        if first.is_ascii_whitespace() {
            out.push(first);
            return Some(1);
        }
        match self.expect {
            Expect::Colon if first == ':' || (first == '=' && self.dialect == Dialect::Python) => {
                out.push(':');
                self.expect = Expect::Value;
                Some(1)
            }
            Expect::Colon => Some(0),
            Expect::CommaOrEnd if first == ',' => self.comma(text, ended, out),
            Expect::CommaOrEnd | Expect::ValueOrEnd | Expect::KeyOrEnd
                if self.open.last() == Some(&first) =>
            {
                self.open.pop();
                out.push(if first == ')' { '}' } else { first });
                self.after_value();
                Some(1)
            }
            Expect::CommaOrEnd => Some(0),
            Expect::Key | Expect::KeyOrEnd => self.begin_scalar(text, true, ended, out),
            _ => match first {
                '{' | '[' if self.open.len() >= MAX_DEPTH => Some(0),
                '{' => Some(self.enter('{', '}', Expect::KeyOrEnd, out)),
                '[' => Some(self.enter('[', ']', Expect::ValueOrEnd, out)),
                _ => self.begin_scalar(text, false, ended, out),
            },
        }
    }

    fn enter(&mut self, bracket: char, closing: char, expect: Expect, out: &mut String) -> usize {
        out.push(bracket);
        self.open.push(closing);
        self.expect = expect;
        1
    }

    fn after_value(&mut self) {
        self.expect = if self.open.is_empty() { Expect::Nothing } else { Expect::CommaOrEnd };
    }

    /// A comma before a closing bracket is one too many.
    fn comma(&mut self, text: &str, ended: bool, out: &mut String) -> Option<usize> {
        let next = text[1..].trim_start().chars().next();
        match next {
            Some(next) if self.open.last() == Some(&next) => self.mended = true,
            None if !ended => return None,
            _ => {
                out.push(',');
                self.expect = if self.open.last() == Some(&']') { Expect::Value } else { Expect::Key };
            }
        }
        Some(1)
    }

    fn begin_scalar(&mut self, text: &str, key: bool, ended: bool, out: &mut String) -> Option<usize> {
        self.key = key;
        if let Dialect::Marked(mark) = self.dialect {
            if text.starts_with(mark) {
                out.push('"');
                self.expect = Expect::Text(mark, false);
                return Some(mark.len());
            }
            if !ended && mark.starts_with(text) {
                return None;
            }
        }
        let quote = match text.as_bytes()[0] {
            b'"' => "\"",
            b'\'' => "'",
            _ => return self.word(text, ended, out),
        };
        self.mended |= quote == "'" && self.dialect == Dialect::Json;
        out.push('"');
        self.expect = Expect::Text(quote, true);
        Some(1)
    }

    /// A number, a literal, or a word without quotes.
    fn word(&mut self, text: &str, ended: bool, out: &mut String) -> Option<usize> {
        let ends = |c: char| c.is_whitespace() || ",:{}[]()\"'<".contains(c) || (c == '=' && self.key);
        let word = match text.find(ends) {
            Some(end) => &text[..end],
            None if text.len() > MAX_WORD => return Some(0),
            None if ended => text,
            None => return None,
        };
        if word.is_empty() || word.len() > MAX_WORD {
            return Some(0);
        }
        let literal = match word {
            "true" | "True" => Some("true"),
            "false" | "False" => Some("false"),
            "null" | "None" => Some("null"),
            _ if !self.key && is_number(word) => Some(word),
            _ => None,
        };
        match literal.filter(|_| !self.key) {
            Some(literal) => {
                self.mended |= literal != word && self.dialect == Dialect::Json;
                out.push_str(literal);
            }
            None => {
                self.mended |= self.dialect == Dialect::Json;
                out.push('"');
                escape_into(word, out);
                out.push('"');
            }
        }
        self.close_scalar();
        Some(word.len())
    }

    fn close_scalar(&mut self) {
        if self.key {
            self.key = false;
            self.expect = Expect::Colon;
        } else {
            self.after_value();
        }
    }

    /// A run of a string, an escape in it, or its end.
    fn string(
        &mut self,
        text: &str,
        end: &'static str,
        escapes: bool,
        ended: bool,
        out: &mut String,
    ) -> Option<usize> {
        if text.starts_with(end) {
            out.push('"');
            self.close_scalar();
            return Some(end.len());
        }
        if escapes && text.starts_with('\\') {
            let (bytes, plain) = escape(text, ended, out)?;
            self.mended |= !plain;
            return Some(bytes);
        }
        if text.is_empty() || (!ended && end.starts_with(text)) {
            return None;
        }
        let first = text.chars().next().map_or(1, char::len_utf8);
        let stop = |c: char| end.starts_with(c) || (escapes && c == '\\');
        let run = text[first..].find(stop).map_or(text.len(), |n| first + n);
        let before = out.len();
        escape_into(&text[..run], out);
        self.mended |= escapes && out.len() - before != run;
        Some(run)
    }
}

/// Copies the escape that `text` begins with; what is none becomes a backslash that stands for itself. Gives the bytes read and
/// whether it was valid; none if more text is needed.
fn escape(text: &str, ended: bool, out: &mut String) -> Option<(usize, bool)> {
    let kind = text[1..].chars().next()?;
    match kind {
        '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => {
            out.push_str(&text[..2]);
            Some((2, true))
        }
        '\'' => {
            out.push('\'');
            Some((2, false))
        }
        'u' => {
            let Some(first) = unit(text) else {
                if !ended && could_be_unit(text) {
                    return None;
                }
                out.push_str("\\\\");
                return Some((1, false));
            };
            match first {
                0xD800..=0xDBFF => {
                    let rest = &text[6..];
                    match unit(rest) {
                        Some(0xDC00..=0xDFFF) => {
                            out.push_str(&text[..12]);
                            return Some((12, true));
                        }
                        None if !ended && could_be_unit(rest) => return None,
                        _ => out.push('\u{FFFD}'),
                    }
                    Some((6, false))
                }
                0xDC00..=0xDFFF => {
                    out.push('\u{FFFD}');
                    Some((6, false))
                }
                _ => {
                    out.push_str(&text[..6]);
                    Some((6, true))
                }
            }
        }
        _ => {
            out.push_str("\\\\");
            Some((1, false))
        }
    }
}

/// The UTF-16 unit of a `\uXXXX` in front.
fn unit(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("\\u")?.get(..4)?;
    hex.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(hex, 16).ok()).flatten()
}

/// Whether more text could make a `\uXXXX` of this.
fn could_be_unit(text: &str) -> bool {
    text.len() < 6
        && text.bytes().enumerate().all(|(n, b)| match n {
            0 => b == b'\\',
            1 => b == b'u',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Whether `word` is a number in JSON.
pub(super) fn is_number(word: &str) -> bool {
    matches!(word.as_bytes().first(), Some(b'-' | b'0'..=b'9'))
        && serde_json::from_str::<serde_json::Number>(word).is_ok()
}

/// Appends `text` as it stands inside a JSON string.
pub(super) fn escape_into(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mends `text` whole and cut at every place; gives the JSON, what is left, and the end.
    fn mend(dialect: Dialect, text: &str) -> (String, String, Progress) {
        let run = |parts: [&str; 2]| {
            let mut mender = Mender::new(dialect);
            let (mut out, mut held) = (mender.prologue().to_owned(), String::new());
            let mut progress = Progress::More;
            for (n, part) in parts.into_iter().enumerate() {
                held.push_str(part);
                if progress == Progress::More {
                    let (read, now) = mender.push(&held, n == 1, &mut out);
                    held.drain(..read);
                    progress = now;
                }
            }
            (out, held, progress)
        };
        let whole = run([text, ""]);
        for (at, _) in text.char_indices() {
            assert_eq!(run([&text[..at], &text[at..]]), whole, "{text:?} cut at {at}");
        }
        whole
    }

    fn check(dialect: Dialect, text: &str, json: &str, rest: &str) {
        assert_eq!(mend(dialect, text), (json.into(), rest.into(), Progress::Done), "{text:?}");
        serde_json::from_str::<serde_json::Value>(json).expect("JSON");
    }

    #[test]
    fn json_passes_unchanged() {
        for json in [
            r#"{"a": [1, -2.5e3, true, null, {"b": {}}], "c" : "x\"\\\u00e9\ud83d\ude00é😀" }"#,
            "[]",
            "{ }",
            r#""text""#,
            "{\n  \"deep\": [[[]], {}]\n}",
        ] {
            check(Dialect::Json, &format!("{json} rest"), json, " rest");
        }
    }

    #[test]
    fn mistakes_are_mended() {
        for (text, json) in [
            ("{\"a\": \"one\ntwo\t\"}", r#"{"a": "one\ntwo\t"}"#),
            ("{'a': 'it\\'s \"x\"'}", r#"{"a": "it's \"x\""}"#),
            ("{\"a\": [1, 2, ], }", r#"{"a": [1, 2 ] }"#),
            ("{a: True, b: None, c: False}", r#"{"a": true, "b": null, "c": false}"#),
            (r#"{"a": "\d\x\u12"}"#, r#"{"a": "\\d\\x\\u12"}"#),
            (r#"{"a": "\ud83d!\udc00"}"#, "{\"a\": \"\u{FFFD}!\u{FFFD}\"}"),
            (r#"{"a": .5, "b": 01}"#, r#"{"a": ".5", "b": "01"}"#),
        ] {
            check(Dialect::Json, text, json, "");
        }
    }

    #[test]
    fn other_dialects() {
        let marked = Dialect::Marked("<|\"|>");
        check(
            marked,
            "{city:<|\"|>Bad \"Aibling\" \\ <|\"|>,n:[1,2.5],deep:{<|\"|>k<|\"|>:true}}<tool_call|>",
            r#"{"city":"Bad \"Aibling\" \\ ","n":[1,2.5],"deep":{"k":true}}"#,
            "<tool_call|>",
        );
        check(
            Dialect::Python,
            "city='Oslo', n = 3, deep={'k': None}) x",
            r#"{"city":"Oslo", "n" : 3, "deep":{"k": null}}"#,
            " x",
        );
        check(Dialect::Python, ")", "{}", "");
    }

    #[test]
    fn what_fits_nothing_is_broken() {
        let deep = "[".repeat(101);
        for text in ["}", "{\"a\" 1}", "{\"a\": 1 2}", "{,}", "[1 2]", &deep, "{1}"] {
            assert_eq!(mend(Dialect::Json, text).2, Progress::Broken, "{text:?}");
        }
        for text in ["", "{", "{\"a\": \"x", "{\"a\": \"x\\u00", "[1,", "{\"a\""] {
            assert_eq!(mend(Dialect::Json, text).2, Progress::Unfinished, "{text:?}");
        }
    }
}
