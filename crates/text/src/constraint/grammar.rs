//! Constraints as grammars of the engine.

use super::{Beside, Constraint, ConstraintError, calls};
use crate::{OutputFormat, Tokenizer, ToolFormat, Tools};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

/// More text than this is no grammar that somebody wrote for a request.
const MAX_BYTES: usize = 256 << 10;
/// Brackets inside brackets; the engine walks them by recursion.
const MAX_NESTING: usize = 100;

/// What a constraint is called in messages.
pub(super) fn name(constraint: &Constraint) -> &'static str {
    match constraint {
        Constraint::JsonObject | Constraint::JsonSchema(_) => "the JSON schema",
        Constraint::Regex(_) => "the regular expression",
        Constraint::Lark(_) => "the grammar",
        Constraint::Choice(_) => "the list of choices",
        Constraint::Calls { .. } => TOOLS,
    }
}

const TOOLS: &str = "the schema of a tool";

/// The grammar of a constraint, with what the format wants around it.
pub(super) fn build(
    constraint: &Constraint,
    format: &OutputFormat,
    prompt: &str,
    tokenizer: &Tokenizer,
) -> Result<TopLevelGrammar, ConstraintError> {
    if let Constraint::Calls { tools, beside, parallel } = constraint {
        return calls(tools, beside, *parallel, format, tokenizer);
    }
    let mut body = body(constraint)?;
    if format.tools != ToolFormat::Harmony || prompt.ends_with("<|message|>") {
        return Ok(TopLevelGrammar::from_grammar(body));
    }
    body.name = Some(BODY.into());
    let header = calls::markup(tokenizer, "<|channel|>final<|message|>");
    let mut grammar = TopLevelGrammar::from_lark(format!("start: {header} @{BODY}"));
    grammar.grammars.push(body);
    Ok(grammar)
}

/// What grammars call the one of the text beside them.
pub(super) const BODY: &str = "body";

fn calls(
    tools: &Tools,
    beside: &Beside,
    parallel: bool,
    format: &OutputFormat,
    tokenizer: &Tokenizer,
) -> Result<TopLevelGrammar, ConstraintError> {
    tools.iter().try_for_each(|tool| check_schema(&tool.parameters, TOOLS))?;
    let lark = calls::grammar(format.tools, tools, beside, parallel, tokenizer)?;
    let mut grammar = TopLevelGrammar::from_lark(lark);
    if let Beside::Only(constraint) = beside {
        let mut body = body(constraint)?;
        body.name = Some(BODY.into());
        grammar.grammars.push(body);
    }
    Ok(grammar)
}

/// The grammar of a text by itself.
fn body(constraint: &Constraint) -> Result<GrammarWithLexer, ConstraintError> {
    let what = name(constraint);
    Ok(match constraint {
        Constraint::JsonObject => {
            GrammarWithLexer::from_json_schema(bounded(json!({"type": "object"}), true))
        }
        Constraint::JsonSchema(schema) => {
            check_schema(schema, what)?;
            GrammarWithLexer::from_json_schema(bounded(closed(schema), true))
        }
        Constraint::Regex(regex) => {
            check_text(regex, what)?;
            GrammarWithLexer::from_regex(regex)
        }
        Constraint::Lark(lark) => {
            check_text(lark, what)?;
            GrammarWithLexer::from_lark(lark.clone())
        }
        Constraint::Choice(choices) => {
            check_size(choices.iter().map(String::len).sum(), what)?;
            if choices.is_empty() {
                return Err(ConstraintError::Grammar { what, reason: "it is empty".into() });
            }
            let choices: Vec<String> = choices.iter().map(|choice| quote(choice)).collect();
            GrammarWithLexer::from_lark(format!("start: {}", choices.join(" | ")))
        }
        Constraint::Calls { .. } => {
            let reason = "calls cannot stand beside calls".into();
            return Err(ConstraintError::Grammar { what, reason });
        }
    })
}

/// A schema with white space between tokens as people and programs write it: a space or two, or a line end and an indent. A
/// small model that may write more goes on with it until its tokens are used up. What a `strict` one says and cannot
/// be enforced is an error; otherwise it is passed over.
pub(super) fn bounded(mut schema: Value, strict: bool) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        let space = r"[\x20\x09]{1,2}|\x0D?\x0A[\x20\x09]{0,40}";
        let options = json!({"whitespace_pattern": space, "lenient": !strict});
        schema.insert("x-guidance".into(), options);
    }
    schema
}

/// A schema whose objects have no keys but those that they name, unless it says otherwise. It allows nothing that the schema
/// does not; and a model that may make up keys does so, if it is small, without end.
pub(super) fn closed(schema: &Value) -> Value {
    let mut schema = schema.clone();
    // Where schemas are put together, the keys of one are additional ones of another.
    let text = schema.to_string();
    if !["\"allOf\"", "\"if\"", "\"dependentSchemas\""].iter().any(|word| text.contains(word)) {
        close(&mut schema);
    }
    schema
}

fn close(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    let named = map.get("properties").and_then(Value::as_object);
    let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
    let whole = named.is_some_and(|named| {
        required.filter_map(Value::as_str).all(|name| named.contains_key(name))
            && !["$ref", "anyOf", "oneOf", "patternProperties"].iter().any(|key| map.contains_key(*key))
    });
    if whole {
        map.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    for (key, inner) in map {
        match (key.as_str(), inner) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
                named.values_mut().for_each(close);
            }
            ("anyOf" | "oneOf" | "prefixItems", Value::Array(list)) => list.iter_mut().for_each(close),
            ("items" | "additionalProperties", inner) => close(inner),
            _ => {}
        }
    }
}

/// A text as a literal of a grammar.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

fn check_schema(schema: &Value, what: &'static str) -> Result<(), ConstraintError> {
    if !schema.is_object() {
        let reason = "it is not an object".into();
        return Err(ConstraintError::Grammar { what, reason });
    }
    if nesting_of(schema) > MAX_NESTING {
        return Err(too_deep(what));
    }
    check_size(schema.to_string().len(), what)
}

/// How deep a value is; stops counting where it is too deep.
fn nesting_of(value: &Value) -> usize {
    let mut level = vec![value];
    for depth in 0..=MAX_NESTING {
        level = level
            .into_iter()
            .flat_map(|value| -> Box<dyn Iterator<Item = &Value>> {
                match value {
                    Value::Array(items) => Box::new(items.iter()),
                    Value::Object(map) => Box::new(map.values()),
                    _ => Box::new(std::iter::empty()),
                }
            })
            .collect();
        if level.is_empty() {
            return depth;
        }
    }
    MAX_NESTING + 1
}

fn check_text(text: &str, what: &'static str) -> Result<(), ConstraintError> {
    check_size(text.len(), what)?;
    let mut depth = 0usize;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(too_deep(what));
        }
    }
    Ok(())
}

fn check_size(bytes: usize, what: &'static str) -> Result<(), ConstraintError> {
    if bytes > MAX_BYTES {
        return Err(ConstraintError::TooLarge { what, found: format!("{bytes} bytes"), most: MAX_BYTES });
    }
    Ok(())
}

fn too_deep(what: &'static str) -> ConstraintError {
    ConstraintError::TooLarge { what, found: "brackets inside brackets".into(), most: MAX_NESTING }
}
