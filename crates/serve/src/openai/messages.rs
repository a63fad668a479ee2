//! Messages of the chat API, checked and brought into the form that templates know.

use crate::failure::Failure;
use crate::fields::{Fields, kind};
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Failure>;

/// Checks messages; every field is honoured or refused by its name.
pub(crate) fn messages(fields: &mut Fields) -> Result<Vec<Value>> {
    let list = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if list.is_empty() {
        return Err(fields.wrong("messages", "empty", "is empty; at least one message is needed"));
    }
    list.into_iter().enumerate().map(|(at, value)| message(value, &format!("messages[{at}]"))).collect()
}

/// What a prompt ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The beginning of the assistant's next message.
    Answer,
    /// The assistant's last message, left open.
    Open,
    /// The last message; nobody's turn is begun.
    Closed,
}

/// `continue_final_message` and `add_generation_prompt`, as vLLM has them.
pub(crate) fn end(fields: &mut Fields, messages: &[Value]) -> Result<End> {
    let open = fields.flag("continue_final_message")?.unwrap_or(false);
    match (open, fields.flag("add_generation_prompt")?) {
        (true, Some(true)) => {
            let why =
                "is true, which begins another message than the one that continue_final_message goes on with";
            Err(fields.wrong("add_generation_prompt", "contradiction", why))
        }
        (true, _) if !crate::messages::may_be_continued(messages) => {
            let why = "is true, and the last message is not one of the assistant without tool_calls";
            Err(fields.wrong("continue_final_message", "contradiction", why))
        }
        (true, _) => Ok(End::Open),
        (false, Some(false)) => Ok(End::Closed),
        (false, _) => Ok(End::Answer),
    }
}

/// Whether an answer goes on with the last message.
pub(crate) fn continued(fields: &mut Fields, messages: &[Value]) -> Result<bool> {
    match end(fields, messages)? {
        End::Open => Ok(true),
        End::Answer => Ok(false),
        End::Closed => {
            let why = "is false, so that nobody's turn would be answered; continue_final_message goes on with the last message";
            Err(fields.wrong("add_generation_prompt", "contradiction", why))
        }
    }
}

fn message(value: Value, path: &str) -> Result<Value> {
    let mut fields = Fields::of(value, path)?;
    let roles = ["system", "developer", "user", "assistant", "tool"];
    let role = fields.word("role", &roles)?.ok_or_else(|| fields.missing("role"))?;
    let mut out = Map::new();
    // Few templates know the newer word.
    out.insert("role".into(), if role == "developer" { "system" } else { role }.into());
    let content = content(&mut fields)?;
    match (&content, role) {
        (None, "assistant") => out.insert("content".into(), "".into()),
        (None, _) => return Err(fields.missing("content")),
        (Some(text), _) => out.insert("content".into(), text.as_str().into()),
    };
    if let Some(name) = fields.text("name")? {
        out.insert("name".into(), name.into());
    }
    if role == "assistant" {
        let reasoning = fields.text("reasoning_content")?;
        if let Some(reasoning) = reasoning.or(fields.text("reasoning")?) {
            out.insert("reasoning_content".into(), reasoning.into());
        }
        fields.only("refusal", &[json!("")])?;
        fields.only("annotations", &[json!([])])?;
        if let Some(calls) = fields.list("tool_calls")?.filter(|calls| !calls.is_empty()) {
            let path = fields.name("tool_calls");
            let calls: Result<Vec<Value>> =
                calls.into_iter().enumerate().map(|(at, v)| tool_call(v, &format!("{path}[{at}]"))).collect();
            out.insert("tool_calls".into(), calls?.into());
        } else if content.is_none() {
            return Err(fields.missing("content"));
        }
    }
    if role == "tool" {
        out.insert("tool_call_id".into(), fields.need_text("tool_call_id")?.into());
    }
    fields.finish()?;
    Ok(Value::Object(out))
}

/// The text of a message: a string, or parts of type `text`.
fn content(fields: &mut Fields) -> Result<Option<String>> {
    let parts = match fields.take("content") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(parts)) => parts,
        Some(other) => {
            return Err(fields.wrong(
                "content",
                "wrong_type",
                format!("must be a string or a list and is {}", kind(&other)),
            ));
        }
    };
    let mut text = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        let mut part = Fields::of(part, &fields.name(&format!("content[{at}]")))?;
        match part.need_text("type")?.as_str() {
            "text" => text.push_str(&part.need_text("text")?),
            "refusal" => text.push_str(&part.need_text("refusal")?),
            other => {
                let why = format!("is {other:?}; only text can be read here");
                return Err(part.wrong("type", "unsupported_value", why));
            }
        }
        part.finish()?;
    }
    Ok(Some(text))
}

fn tool_call(value: Value, path: &str) -> Result<Value> {
    let mut call = Fields::of(value, path)?;
    call.only("type", &[json!("function")])?;
    call.whole("index", 0..=i64::MAX)?;
    let id = call.text("id")?;
    let mut function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
    let name = function.need_text("name")?;
    let arguments = function.take("arguments").unwrap_or_else(|| json!("{}"));
    if !arguments.is_string() && !arguments.is_object() {
        let why = format!("must be JSON in a string and is {}", kind(&arguments));
        return Err(function.wrong("arguments", "wrong_type", why));
    }
    function.finish()?;
    call.finish()?;
    Ok(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}))
}
