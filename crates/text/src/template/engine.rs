//! The template engine, set up as Hugging Face transformers sets up Jinja2.

use super::value::{py_space, py_str};
use super::{methods, strftime, tojson, value};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};

/// Set as the source of an error that the template raised itself.
#[derive(Debug)]
pub(super) struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the template refused the messages")
    }
}

impl std::error::Error for Refused {}

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

/// Tests that look at Python's types.
fn add_tests(env: &mut Environment<'static>) {
    env.add_test("sequence", |v: &Value| {
        matches!(v.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
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
