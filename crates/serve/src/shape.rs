//! What the text of an answer must look like, read from the fields of each API.

use crate::failure::Failure;
use crate::fields::{Fields, kind};
use sampan_text::{Constraint, ConstraintError};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Failure>;

/// What an answer must look like, and the field that asks for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) constraint: Constraint,
    pub(crate) field: String,
}

impl Shape {
    /// The failure of a shape that cannot be kept.
    pub(crate) fn refused(&self, error: &ConstraintError) -> Failure {
        let code = match error {
            ConstraintError::Format { .. } => "unsuited_model",
            _ => "invalid_constraint",
        };
        Failure::field(self.field.clone(), code, format!("{}: {error}", self.field))
    }
}

/// What vLLM calls a schema, a grammar and so on that stand beside OpenAI's `response_format`.
const KINDS: [&str; 5] = ["json", "json_object", "regex", "choice", "grammar"];

/// `response_format`, and vLLM's `structured_outputs` and `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar`.
pub(crate) fn of(fields: &mut Fields) -> Result<Option<Shape>> {
    let mut shapes = Vec::new();
    if let Some(mut format) = fields.object("response_format")? {
        let kinds = ["text", "json_object", "json_schema"];
        let kind = format.word("type", &kinds)?.ok_or_else(|| format.missing("type"))?;
        if let Some(shape) = response_format(&mut format, kind)? {
            shapes.push(shape);
        }
        format.finish()?;
    }
    if let Some(mut outputs) = fields.object("structured_outputs")? {
        for kind in KINDS {
            shapes.extend(structured(&mut outputs, kind, kind)?);
        }
        outputs.finish()?;
    }
    for kind in KINDS.iter().filter(|kind| **kind != "json_object") {
        shapes.extend(structured(fields, &format!("guided_{kind}"), kind)?);
    }
    only_one(shapes)
}

fn only_one(mut shapes: Vec<Shape>) -> Result<Option<Shape>> {
    match &shapes[..] {
        [first, second, ..] => Err(Failure::field(
            second.field.clone(),
            "contradiction",
            format!("{} contradicts {}; send one of them", second.field, first.field),
        )),
        _ => Ok(shapes.pop()),
    }
}

fn response_format(format: &mut Fields, kind: &str) -> Result<Option<Shape>> {
    match kind {
        "json_schema" => {
            let mut schema = format.object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
            let shape = named_schema(&mut schema)?;
            schema.finish()?;
            Ok(Some(shape))
        }
        "json_object" => match format.take("schema") {
            // llama.cpp and others take a schema here.
            Some(value) => Ok(Some(schema(value, format.name("schema"))?)),
            None => Ok(Some(Shape { constraint: Constraint::JsonObject, field: format.name("type") })),
        },
        _ => Ok(None),
    }
}

/// `name`, `description`, `schema`, `strict`. A schema holds whether it is called strict or not.
fn named_schema(fields: &mut Fields) -> Result<Shape> {
    fields.text("name")?;
    fields.text("description")?;
    fields.flag("strict")?;
    let value = fields.take("schema").ok_or_else(|| fields.missing("schema"))?;
    schema(value, fields.name("schema"))
}

/// `text.format` of the responses API, which has the parts of a schema beside its type.
pub(crate) fn of_text(text: &mut Fields) -> Result<Option<Shape>> {
    let Some(mut format) = text.object("format")? else { return Ok(None) };
    let kinds = ["text", "json_object", "json_schema"];
    let shape = match format.word("type", &kinds)?.ok_or_else(|| format.missing("type"))? {
        "json_schema" => Some(named_schema(&mut format)?),
        other => response_format(&mut format, other)?,
    };
    format.finish()?;
    Ok(shape)
}

/// Anthropic's `output_format`, and the same inside `output_config`.
pub(crate) fn of_output(fields: &mut Fields, field: &str) -> Result<Option<Shape>> {
    let Some(mut format) = fields.object(field)? else { return Ok(None) };
    format.word("type", &["json_schema"])?.ok_or_else(|| format.missing("type"))?;
    let value = format.take("schema").ok_or_else(|| format.missing("schema"))?;
    let shape = schema(value, format.name("schema"))?;
    format.finish()?;
    Ok(Some(shape))
}

/// Ollama's `format`: `"json"`, or a schema.
pub(crate) fn of_format(fields: &mut Fields) -> Result<Option<Shape>> {
    match fields.take("format") {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text == "json" => {
            Ok(Some(Shape { constraint: Constraint::JsonObject, field: fields.name("format") }))
        }
        Some(value @ Value::Object(_)) => schema(value, fields.name("format")).map(Some),
        Some(other) => {
            let why = format!("is {other}; it must be \"json\" or a JSON schema");
            Err(fields.wrong("format", "unknown_value", why))
        }
    }
}

/// A schema: an object, `true`, or one of these as a text.
fn schema(value: Value, field: String) -> Result<Shape> {
    let value = match value {
        Value::String(text) => serde_json::from_str(&text).map_err(|e| {
            Failure::field(field.clone(), "invalid_json", format!("{field} is no JSON schema: {e}"))
        })?,
        other => other,
    };
    match value {
        Value::Object(_) => Ok(Shape { constraint: Constraint::JsonSchema(value), field }),
        Value::Bool(true) => Ok(Shape { constraint: Constraint::JsonSchema(json!({})), field }),
        other => {
            let message = format!("{field} must be a JSON schema and is {}", kind(&other));
            Err(Failure::field(field, "wrong_type", message))
        }
    }
}

/// One of vLLM's ways to say what is wanted.
fn structured(fields: &mut Fields, field: &str, of: &str) -> Result<Option<Shape>> {
    let constraint = match of {
        "json" => {
            let value = fields.take(field);
            return value.map(|value| schema(value, fields.name(field))).transpose();
        }
        "json_object" => fields.flag(field)?.filter(|wanted| *wanted).map(|_| Constraint::JsonObject),
        "regex" => fields.text(field)?.map(Constraint::Regex),
        "grammar" => fields.text(field)?.map(Constraint::Lark),
        _ => match fields.list(field)? {
            None => None,
            Some(list) => {
                let text = |(at, value): (usize, Value)| match value {
                    Value::String(text) => Ok(text),
                    other => {
                        let why = format!("must be a string and is {}", kind(&other));
                        Err(fields.wrong(&format!("{field}[{at}]"), "wrong_type", why))
                    }
                };
                Some(Constraint::Choice(list.into_iter().enumerate().map(text).collect::<Result<_>>()?))
            }
        },
    };
    Ok(constraint.map(|constraint| Shape { constraint, field: fields.name(field) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_ask_for_a_shape() {
        let schema = json!({"type": "object"});
        let wanted = Constraint::JsonSchema(schema.clone());
        for (body, constraint, field) in [
            (json!({"response_format": {"type": "text"}}), None, ""),
            (
                json!({"response_format": {"type": "json_object"}}),
                Some(Constraint::JsonObject),
                "response_format.type",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}}}),
                Some(wanted.clone()),
                "response_format.json_schema.schema",
            ),
            (json!({"guided_json": schema.to_string()}), Some(wanted), "guided_json"),
            (json!({"guided_regex": "a+"}), Some(Constraint::Regex("a+".into())), "guided_regex"),
            (
                json!({"structured_outputs": {"choice": ["a"]}}),
                Some(Constraint::Choice(vec!["a".into()])),
                "structured_outputs.choice",
            ),
            (
                json!({"structured_outputs": {"grammar": "start: \"a\""}}),
                Some(Constraint::Lark("start: \"a\"".into())),
                "structured_outputs.grammar",
            ),
        ] {
            let mut fields = Fields::of(body.clone(), "").unwrap();
            let shape = of(&mut fields).unwrap();
            fields.finish().unwrap();
            let expected = constraint.map(|constraint| Shape { constraint, field: field.into() });
            assert_eq!(shape, expected, "{body}");
        }
    }

    #[test]
    fn shapes_that_contradict_or_are_none_are_refused_by_name() {
        for (body, code, param) in [
            (json!({"guided_regex": "a", "guided_choice": ["b"]}), "contradiction", "guided_choice"),
            (
                json!({"structured_outputs": {"regex": "a", "json": {}}}),
                "contradiction",
                "structured_outputs.regex",
            ),
            (json!({"response_format": {"type": "xml"}}), "unknown_value", "response_format.type"),
            (json!({"response_format": {"type": "json_schema"}}), "missing", "response_format.json_schema"),
            (json!({"guided_json": 7}), "wrong_type", "guided_json"),
            (json!({"guided_json": "{"}), "invalid_json", "guided_json"),
            (json!({"guided_choice": [1]}), "wrong_type", "guided_choice[0]"),
            (
                json!({"structured_outputs": {"structural_tag": "x"}}),
                "unknown_field",
                "structured_outputs.structural_tag",
            ),
        ] {
            let failure = of(&mut Fields::of(body.clone(), "").unwrap()).unwrap_err();
            assert_eq!((failure.code, failure.param.as_deref()), (code, Some(param)), "{body}");
        }
    }
}
