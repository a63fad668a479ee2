//! An item of the output: a message, what was thought, or a call.

use crate::answer::{Part, ToolCall};
use crate::wire;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What coded reasoning begins with.
const CODED: &str = "sampan:";

/// What was coded by [`Item::coded`].
pub(super) fn decoded(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text.strip_prefix(CODED)?).ok()?).ok()
}

/// What an item is, and what it says so far.
#[derive(Clone, Debug)]
pub(super) enum What {
    Text { part: Part, text: String, logprobs: Vec<Value> },
    Call(ToolCall),
}

/// An item of the output.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) what: What,
}

impl Item {
    pub(super) fn text(part: Part, text: String, logprobs: Vec<Value>) -> Item {
        let prefix = if part == Part::Content { "msg_" } else { "rs_" };
        Item { id: wire::id(prefix), what: What::Text { part, text, logprobs } }
    }

    pub(super) fn call(call: ToolCall) -> Item {
        Item { id: wire::id("fc_"), what: What::Call(call) }
    }

    /// The one part of a message or of what was thought.
    pub(super) fn content(&self) -> Value {
        match &self.what {
            What::Text { part: Part::Content, text, logprobs } => {
                json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
            }
            What::Text { part: Part::Reasoning, text, .. } => json!({"type": "reasoning_text", "text": text}),
            What::Call(_) => Value::Null,
        }
    }

    /// What was thought, in the field that clients who keep nothing of it send back with the next request. It is theirs to
    /// read, so that it is coded and not encrypted.
    pub(super) fn coded(&self) -> Value {
        match &self.what {
            What::Text { part: Part::Reasoning, text, .. } => {
                format!("{CODED}{}", STANDARD.encode(text)).into()
            }
            _ => Value::Null,
        }
    }

    pub(super) fn value(&self, status: &str) -> Value {
        let content = if status == "completed" { json!([self.content()]) } else { json!([]) };
        let id = &self.id;
        match &self.what {
            What::Text { part: Part::Content, .. } => {
                json!({"id": id, "type": "message", "role": "assistant", "status": status, "content": content})
            }
            What::Text { part: Part::Reasoning, .. } => {
                json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
            }
            What::Call(ToolCall { id: call, name, arguments }) => json!({
                "id": id,
                "type": "function_call",
                "call_id": call,
                "name": name,
                "arguments": arguments,
                "status": status,
            }),
        }
    }
}
