//! The methods of Python's strings, lists and dictionaries that templates call.

use super::value::{py_space, py_str};
use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Answers `value.method(args)`.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => string(state, value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Map => map(value, method, args)?,
        ValueKind::Seq => list(value, method, args)?,
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn string(state: &State<'_, '_>, s: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "strip" | "lstrip" | "rstrip" => strip(s, method, args)?,
        "split" | "rsplit" => split(s, method == "rsplit", args)?,
        "splitlines" => {
            let (keep, named): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = match keep {
                Some(keep) => keep,
                None => named.get::<Option<bool>>("keepends")?.unwrap_or(false),
            };
            strings(split_lines(s, keep))
        }
        "partition" | "rpartition" => partition(s, method, args)?,
        "startswith" | "endswith" => affix(s, method, args)?,
        "replace" => replace(state, s, args)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(s.strip_prefix(prefix).unwrap_or(s))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(s.strip_suffix(suffix).unwrap_or(s))
        }
        "find" | "rfind" | "index" | "rindex" => {
            let (what,): (&str,) = from_args(args)?;
            let at = if method.starts_with('r') { s.rfind(what) } else { s.find(what) };
            match at {
                Some(at) => Value::from(s[..at].chars().count()),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(wrong(format!("{method}: substring not found"))),
            }
        }
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let mut parts = Vec::new();
            for item in items.try_iter()? {
                state.consume_fuel((s.len() / 64) as u64)?;
                parts.push(text("join", &item)?);
            }
            Value::from(parts.join(s))
        }
        "zfill" | "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            state.consume_fuel((width / 64) as u64)?;
            pad(s, method, width, fill.and_then(|f| f.chars().next()))
        }
        "title" => Value::from(title(s)),
        "casefold" => Value::from(s.to_lowercase().replace('ß', "ss")),
        "swapcase" => Value::from(s.chars().flat_map(swap_case).collect::<String>()),
        "isdecimal" => Value::from(!s.is_empty() && s.chars().all(|c| c.is_ascii_digit())),
        "isspace" => Value::from(!s.is_empty() && s.chars().all(py_space)),
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn strip(s: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (set,): (Option<Value>,) = from_args(args)?;
    let set = set.filter(|set| !set.is_none()).map(|set| text(method, &set)).transpose()?;
    let strip = |c: char| set.as_ref().map_or_else(|| py_space(c), |set| set.contains(c));
    Ok(Value::from(match method {
        "strip" => s.trim_matches(strip),
        "lstrip" => s.trim_start_matches(strip),
        _ => s.trim_end_matches(strip),
    }))
}

fn partition(s: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(wrong(format!("{method}: empty separator")));
    }
    let found = if method == "partition" { s.split_once(separator) } else { s.rsplit_once(separator) };
    let three = match (found, method) {
        (Some((before, after)), _) => [before, separator, after],
        (None, "partition") => [s, "", ""],
        (None, _) => ["", "", s],
    };
    Ok(Value::from(Tuple::from(three.map(Value::from))))
}

fn affix(s: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (affix, rest): (Value, Rest<Value>) = from_args(args)?;
    if !rest.is_empty() {
        return Err(wrong(format!("{method}: start and end positions are not supported")));
    }
    let test = |affix: &str| if method == "startswith" { s.starts_with(affix) } else { s.ends_with(affix) };
    if affix.kind() != ValueKind::Seq {
        return Ok(Value::from(test(&text(method, &affix)?)));
    }
    let mut any = false;
    for item in affix.try_iter()? {
        any |= test(&text(method, &item)?);
    }
    Ok(Value::from(any))
}

fn replace(state: &State<'_, '_>, s: &str, args: &[Value]) -> Result<Value, Error> {
    let (old, new, count, named): (&str, &str, Option<i64>, Kwargs) = from_args(args)?;
    let count = match count {
        Some(count) => count,
        None => named.get::<Option<i64>>("count")?.unwrap_or(-1),
    };
    let matches = if old.is_empty() { s.chars().count() + 1 } else { s.matches(old).count() };
    // Pay before the text grows.
    state.consume_fuel((matches.saturating_mul(new.len()) / 64) as u64)?;
    Ok(Value::from(match usize::try_from(count) {
        Ok(count) => s.replacen(old, new, count),
        Err(_) => s.replace(old, new),
    }))
}

fn text(method: &str, value: &Value) -> Result<String, Error> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| wrong(format!("{method}: expected a string, got {}", value.kind())))
}

fn split(s: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(separator) => separator,
        None => named.get::<Option<Value>>("sep")?.unwrap_or_default(),
    };
    let limit = match limit {
        Some(limit) => limit,
        None => named.get::<Option<i64>>("maxsplit")?.unwrap_or(-1),
    };
    named.assert_all_used()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX - 1) + 1;
    let mut parts: Vec<&str> = if separator.is_none() || separator.is_undefined() {
        split_at_space(s, limit, from_right)
    } else {
        let separator = text("split", &separator)?;
        if separator.is_empty() {
            return Err(wrong("split: empty separator".into()));
        }
        match from_right {
            true => s.rsplitn(limit, separator.as_str()).collect(),
            false => s.splitn(limit, separator.as_str()).collect(),
        }
    };
    if from_right {
        parts.reverse();
    }
    Ok(strings(parts))
}

/// Splits at runs of white space into at most `limit` parts, in the order of the search.
fn split_at_space(s: &str, limit: usize, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = s;
    loop {
        rest = if from_right { rest.trim_end_matches(py_space) } else { rest.trim_start_matches(py_space) };
        if rest.is_empty() {
            return parts;
        }
        let cut = if from_right { rest.rfind(py_space) } else { rest.find(py_space) };
        let Some(cut) = cut.filter(|_| parts.len() + 1 < limit) else {
            parts.push(rest);
            return parts;
        };
        let (before, after) = rest.split_at(cut);
        let (part, more) = match from_right {
            true => (after.trim_start_matches(py_space), before),
            false => (before, after),
        };
        parts.push(part);
        rest = more;
    }
}

/// A list of strings.
fn strings<'a>(parts: impl IntoIterator<Item = &'a str>) -> Value {
    Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>())
}

fn split_lines(s: &str, keep: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = s;
    while !rest.is_empty() {
        let is_break = |c| {
            matches!(
                c,
                '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
            )
        };
        let end = rest.find(is_break).unwrap_or(rest.len());
        let line_break = match &rest[end..] {
            tail if tail.starts_with("\r\n") => 2,
            tail => tail.chars().next().map_or(0, char::len_utf8),
        };
        lines.push(if keep { &rest[..end + line_break] } else { &rest[..end] });
        rest = &rest[end + line_break..];
    }
    lines
}

pub(super) fn pad(s: &str, method: &str, width: usize, fill: Option<char>) -> Value {
    let missing = width.saturating_sub(s.chars().count());
    let fill_with = |n: usize, c: char| std::iter::repeat_n(c, n).collect::<String>();
    let fill = fill.unwrap_or(' ');
    Value::from(match method {
        "ljust" => format!("{s}{}", fill_with(missing, fill)),
        "rjust" => format!("{}{s}", fill_with(missing, fill)),
        "zfill" => {
            let (sign, digits) = match s.strip_prefix(['+', '-']) {
                Some(digits) => (&s[..1], digits),
                None => ("", s),
            };
            format!("{sign}{}{digits}", fill_with(missing, '0'))
        }
        _ => {
            // Python puts the odd one on the left only if the width is odd, too.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{s}{}", fill_with(left, fill), fill_with(missing - left, fill))
        }
    })
}

/// Every letter after something that is not one becomes a capital, even behind an apostrophe.
fn title(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut in_word = false;
    for c in s.chars() {
        match in_word {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        in_word = c.is_alphabetic();
    }
    out
}

fn swap_case(c: char) -> Vec<char> {
    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
}

fn map(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => {
            let () = from_args(args)?;
            Ok(Some(value.clone()))
        }
        "pop" | "popitem" | "update" | "clear" | "setdefault" => {
            Err(wrong(format!("{method} would change a dictionary, which templates may not do")))
        }
        _ => Ok(None),
    }
}

fn list(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => {
            let () = from_args(args)?;
            Ok(Some(value.clone()))
        }
        "index" => {
            let (what,): (Value,) = from_args(args)?;
            match value.try_iter()?.position(|item| item == what) {
                Some(at) => Ok(Some(Value::from(at))),
                None => Err(wrong(format!("{} is not in the list", py_str(&what)))),
            }
        }
        "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
            Err(wrong(format!("{method} would change a list, which templates may not do")))
        }
        _ => Ok(None),
    }
}
