//! JSON to the engine's values, and values to the texts that Python would print.

use minijinja::value::{Value, ValueKind};
use serde_json::Value as Json;
use std::fmt::Write;

/// JSON as the engine's value; objects keep the order of their keys.
pub(super) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::from(n),
            (_, Some(n)) => Value::from(n),
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::from(s.as_str()),
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(k, v)| (k.as_str(), from_json(v)))),
    }
}

/// Nesting beyond this is cut short instead of overflowing the stack.
pub(super) const MAX_DEPTH: usize = 200;

/// Whether `json` may be walked by recursion. JSON texts that were parsed always may.
pub(super) fn is_shallow(json: &Json) -> bool {
    let mut level: Vec<&Json> = vec![json];
    for _ in 0..MAX_DEPTH {
        level = level
            .into_iter()
            .flat_map(|json| -> Box<dyn Iterator<Item = &Json>> {
                match json {
                    Json::Array(items) => Box::new(items.iter()),
                    Json::Object(map) => Box::new(map.values()),
                    _ => Box::new(std::iter::empty()),
                }
            })
            .filter(|json| json.is_array() || json.is_object())
            .collect();
        if level.is_empty() {
            return true;
        }
    }
    false
}

/// `str(value)`.
pub(super) fn py_str(value: &Value) -> String {
    match value.as_str() {
        Some(s) => s.to_owned(),
        None => {
            let mut out = String::new();
            write_py(value, &mut out, 0);
            out
        }
    }
}

fn write_py(value: &Value, out: &mut String, depth: usize) {
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number => out.push_str(&py_number(value)),
        ValueKind::String => py_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            // A tuple prints itself with parentheses; everything else of this kind is a list.
            let tuple = value.to_string().starts_with('(');
            out.push(if tuple { '(' } else { '[' });
            for (n, item) in value.try_iter().into_iter().flatten().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                write_py(&item, out, depth + 1);
            }
            if tuple && value.len() == Some(1) {
                out.push(',');
            }
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Map => {
            out.push('{');
            for (n, key) in value.try_iter().into_iter().flatten().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                write_py(&key, out, depth + 1);
                out.push_str(": ");
                write_py(&value.get_item(&key).unwrap_or_default(), out, depth + 1);
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{value}");
        }
    }
}

/// A number as Python prints it: the shortest digits that read back, an exponent from 1e16 on.
pub(super) fn py_number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(f) => py_float(f),
        Err(_) => value.to_string(),
    }
}

fn py_float(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let exponential = format!("{f:e}");
    let (digits, exponent) = exponential.split_once('e').unwrap_or((&exponential, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = f.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `repr` of a string.
fn py_quoted(s: &str, out: &mut String) {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in s.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            // Python escapes every space but the ordinary one, and line separators.
            c if c.is_whitespace() && c != ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// White space as Python's `str.isspace` sees it.
pub(super) fn py_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_python_prints_them() {
        for (f, want) in [
            (1.0, "1.0"),
            (2020.5, "2020.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e20, "1.5e+20"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.0, "-0.0"),
            (1e-300, "1e-300"),
        ] {
            assert_eq!(py_float(f), want);
        }
    }

    #[test]
    fn containers_print_as_python_prints_them() {
        let json = serde_json::json!({"a": [1, true, null, "it's", "\"q\" '", "\u{a0}\n"], "b": {}});
        assert_eq!(
            py_str(&from_json(&json)),
            r#"{'a': [1, True, None, "it's", '"q" \'', '\xa0\n'], 'b': {}}"#
        );
    }
}
