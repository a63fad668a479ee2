//! `input`: a text, or items of a conversation.

use super::item::decoded;
use crate::failure::Failure;
use crate::fields::{Fields, kind};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Failure>;

/// Reads the conversation into messages in the chat API's form.
pub(super) fn read(fields: &mut Fields, messages: &mut Vec<Value>) -> Result<()> {
    let items = match fields.take("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => {
            messages.push(json!({"role": "user", "content": text}));
            return Ok(());
        }
        Some(Value::Array(items)) => items,
        Some(other) => {
            let why = format!("must be text or a list and is {}", kind(&other));
            return Err(fields.wrong("input", "wrong_type", why));
        }
    };
    let mut said = Said { messages, reasoning: String::new() };
    for (at, item) in items.into_iter().enumerate() {
        said.item(Fields::of(item, &format!("input[{at}]"))?)?;
    }
    match messages.iter().any(|m| m["role"] != "system") {
        true => Ok(()),
        false => Err(fields.wrong("input", "empty", "has no message")),
    }
}

/// The conversation as far as it has been read.
struct Said<'a> {
    messages: &'a mut Vec<Value>,
    /// What was thought before the assistant's next message or call.
    reasoning: String,
}

impl Said<'_> {
    fn item(&mut self, mut item: Fields) -> Result<()> {
        for label in ["id", "status"] {
            item.text(label)?;
        }
        match item.text("type")?.as_deref().unwrap_or("message") {
            "message" => {
                let roles = ["system", "developer", "user", "assistant"];
                let role = item.word("role", &roles)?.ok_or_else(|| item.missing("role"))?;
                let text = content(&mut item, "content")?.ok_or_else(|| item.missing("content"))?;
                match role {
                    "assistant" => self.assistant(json!({"role": role, "content": text})),
                    "developer" => self.messages.push(json!({"role": "system", "content": text})),
                    _ => self.messages.push(json!({"role": role, "content": text})),
                }
            }
            "reasoning" => {
                let summary = content(&mut item, "summary")?;
                let text = content(&mut item, "content")?.filter(|text| !text.is_empty());
                let coded = match item.text("encrypted_content")? {
                    None => None,
                    Some(coded) => Some(decoded(&coded).ok_or_else(|| {
                        item.wrong(
                            "encrypted_content",
                            "unsupported_value",
                            "is not of this server, and cannot be read",
                        )
                    })?),
                };
                let text = text.or(coded).or(summary);
                self.reasoning.push_str(&text.unwrap_or_default());
            }
            "function_call" => {
                let (id, name) = (item.need_text("call_id")?, item.need_text("name")?);
                let function = json!({"name": name, "arguments": item.need_text("arguments")?});
                self.call(json!({"id": id, "type": "function", "function": function}));
            }
            "function_call_output" => {
                let id = item.need_text("call_id")?;
                let text = content(&mut item, "output")?.ok_or_else(|| item.missing("output"))?;
                self.messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
            }
            other => {
                let why = format!("is {other:?}, which cannot be read here");
                return Err(item.wrong("type", "unsupported_value", why));
            }
        }
        item.finish()
    }

    fn assistant(&mut self, mut message: Value) {
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = std::mem::take(&mut self.reasoning).into();
        }
        self.messages.push(message);
    }

    /// Calls in a row, and the text before them, are one message.
    fn call(&mut self, call: Value) {
        if self.messages.last().is_none_or(|last| last["role"] != "assistant") {
            self.assistant(json!({"role": "assistant", "content": ""}));
        }
        if let Some(last) = self.messages.last_mut() {
            match last["tool_calls"].as_array_mut() {
                Some(calls) => calls.push(call),
                None => last["tool_calls"] = json!([call]),
            }
        }
    }
}

/// A text, or parts with text.
fn content(item: &mut Fields, field: &str) -> Result<Option<String>> {
    let parts = match item.take(field) {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(parts)) => parts,
        Some(other) => {
            let why = format!("must be text or a list and is {}", kind(&other));
            return Err(item.wrong(field, "wrong_type", why));
        }
    };
    let mut text = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        let mut part = Fields::of(part, &item.name(&format!("{field}[{at}]")))?;
        match part.need_text("type")?.as_str() {
            "input_text" | "output_text" | "text" | "reasoning_text" | "summary_text" => {
                text.push_str(&part.need_text("text")?);
                part.only("annotations", &[json!([])])?;
                // Of an answer of ours that comes back.
                part.list("logprobs")?;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_messages() {
        let text = |kind: &str, text: &str| json!([{"type": kind, "text": text}]);
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
        let input = json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": text("input_text", "hi")},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": text("reasoning_text", "Hm.")},
            call("c1"),
            call("c2"),
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {"type": "function_call_output", "call_id": "c2", "output": text("input_text", "2")},
            {"type": "message", "role": "assistant", "content": text("output_text", "3")},
        ]);
        let mut messages = Vec::new();
        read(&mut Fields::of(json!({"input": input}), "").unwrap(), &mut messages).unwrap();
        let function =
            |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let expected = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [function("c1"), function("c2")]},
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {"role": "tool", "tool_call_id": "c2", "content": "2"},
            {"role": "assistant", "content": "3"},
        ]);
        assert_eq!(Value::Array(messages), expected);
    }
}
