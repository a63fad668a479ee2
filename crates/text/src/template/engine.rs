//! The template engine, set up as Hugging Face transformers sets up Jinja2.

use super::value::{py_space, py_str};
use super::{methods, strftime, tojson, value};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};
use std::io;

/// Set as the source of an error that the template raised itself.
#[derive(Debug)]
pub(super) struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the template refused the messages")
    }
}

impl std::error::Error for Refused {}

/// No prompt is longer.
const MAX_OUTPUT: usize = 64 << 20;

/// Output that refuses to grow without end.
pub(super) struct Bounded(pub(super) Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("the prompt is longer than {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name under which the template is compiled.
pub(super) const NAME: &str = "chat";

/// An environment that knows `source`. `now` is in seconds since 1970, local time.
pub(super) fn build(source: &str, now: i64) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_unknown_method_callback(methods::call);
    env.set_formatter(|out, _, value| {
        match value.as_str() {
            Some(text) => out.write_str(text)?,
            None if value.is_undefined() => {}
            None => out.write_str(&py_str(value))?,
        }
        Ok(())
    });
    env.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, py_str(message)).with_source(Refused))
    });
    env.add_function("strftime_now", move |format: &str| strftime::strftime(format, now));
    env.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    env.add_function("joiner", minijinja_contrib::globals::joiner);
    add_filters(&mut env);
    add_tests(&mut env);
    env.add_template_owned(NAME, without_generation_blocks(source))?;
    Ok(env)
}

/// Filters whose results differ between the engine and Jinja2, or that transformers replaces.
fn add_filters(env: &mut Environment<'static>) {
    env.add_filter("tojson", tojson::tojson);
    env.add_filter("string", |value: &Value| soft_str(value));
    env.add_filter("trim", |value: &Value, set: Option<&str>| {
        let text = soft_str(value);
        let strip = |c: char| set.map_or_else(|| py_space(c), |set| set.contains(c));
        text.trim_matches(strip).to_owned()
    });
    env.add_filter("upper", |value: &Value| soft_str(value).to_uppercase());
    env.add_filter("lower", |value: &Value| soft_str(value).to_lowercase());
    for name in ["e", "escape", "forceescape"] {
        env.add_filter(name, |value: &Value| escape(&soft_str(value)));
    }
    env.add_filter("int", |value: &Value, default: Option<Value>| {
        let number = match value.as_str() {
            Some(text) => text
                .trim_matches(py_space)
                .parse::<i64>()
                .ok()
                .or_else(|| text.parse::<f64>().ok().map(|f| f as i64)),
            None if value.kind() == ValueKind::Bool => Some(i64::from(value.is_true())),
            None => value.as_i64().or_else(|| f64::try_from(value.clone()).ok().map(|f| f as i64)),
        };
        number.map(Value::from).or(default).unwrap_or_else(|| Value::from(0))
    });
    env.add_filter("float", |value: &Value, default: Option<Value>| {
        let number = match value.as_str() {
            Some(text) => text.trim_matches(py_space).parse::<f64>().ok(),
            None => f64::try_from(value.clone()).ok(),
        };
        number.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0))
    });
    env.add_filter("wordcount", |value: &Value| words(&soft_str(value)));
    env.add_filter("center", |state: &mut State<'_, '_>, value: &Value, width: Option<usize>| {
        let width = width.unwrap_or(80);
        state.consume_fuel((width / 64) as u64)?;
        Ok::<_, Error>(methods::pad(&soft_str(value), "center", width, None))
    });
    env.add_filter("truncate", truncate);
    // Not part of Jinja2, but templates in circulation use it where arguments may be JSON texts.
    env.add_filter("from_json", |text: &str| -> Result<Value, Error> {
        let json = serde_json::from_str(text)
            .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("from_json: {e}")))?;
        Ok(value::from_json(&json))
    });
    env.add_filter("items", |state: &mut State<'_, '_>, value: &Value, _rest: Rest<Value>| {
        match value.kind() {
            ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
            ValueKind::Map => value.call_method(state, "items", &[]),
            _ => Err(Error::new(ErrorKind::InvalidOperation, "can only get item pairs from a mapping")),
        }
    });
}

fn soft_str(value: &Value) -> String {
    if value.is_undefined() { String::new() } else { py_str(value) }
}

/// Runs of letters, digits and underscores.
fn words(text: &str) -> usize {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// `truncate(s, length=255, killwords=False, end='...', leeway=5)`.
fn truncate(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let argument = |at: usize, name: &str| match positional.get(at) {
        Some(value) => Ok(Some(value.clone())),
        None => named.get::<Option<Value>>(name),
    };
    let number = |value: Option<Value>, default: usize| value.and_then(|v| v.as_usize()).unwrap_or(default);
    let length = number(argument(0, "length")?, 255);
    let kill_words = argument(1, "killwords")?.is_some_and(|v| v.is_true());
    let end = argument(2, "end")?.map_or_else(|| "...".to_owned(), |v| py_str(&v));
    let leeway = number(argument(3, "leeway")?, 5);
    let text = soft_str(value);
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = if kill_words {
        kept.as_str()
    } else {
        kept.rsplit_once(' ').map_or(kept.as_str(), |(words, _)| words)
    };
    Ok(format!("{kept}{end}"))
}

/// Tests that look at Python's types.
fn add_tests(env: &mut Environment<'static>) {
    env.add_test("sequence", |v: &Value| {
        matches!(v.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    env.add_test("callable", |v: &Value| v.kind() == ValueKind::Plain);
    env.add_test("iterable", |v: &Value| {
        matches!(
            v.kind(),
            ValueKind::Seq | ValueKind::Iterable | ValueKind::String | ValueKind::Map | ValueKind::Undefined
        )
    });
}

/// `{% generation %}` marks what a model wrote, for training. It renders as its content in a scope of its own.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        out.push_str(before);
        rest = tag;
        let Some(close) = tag.find("%}") else { break };
        let inside = tag[..close].trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match inside {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => continue,
        };
        out.push_str(&tag[..close].replacen(inside, replacement, 1));
        rest = &tag[close..];
    }
    out.push_str(rest);
    out
}
