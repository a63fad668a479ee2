//! The conversation of a request: system text, messages, thinking, tools.

use crate::failure::Failure;
use crate::fields::{Fields, kind};
use crate::job::{Input, Job};
use crate::loaded::Loaded;
use crate::tools::{Choice, Offer};
use crate::{messages, shape, thinking};
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Failure>;

/// System text, messages, thinking, tools, the shape of the answer: what both routes read.
pub(super) fn conversation(fields: &mut Fields, loaded: &Loaded) -> Result<Job> {
    let mut messages = Vec::new();
    if let Some(system) = texts(fields, "system")? {
        messages.push(json!({"role": "system", "content": system}));
    }
    let list = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if list.is_empty() {
        return Err(fields.wrong("messages", "empty", "is empty; at least one message is needed"));
    }
    for (at, value) in list.into_iter().enumerate() {
        message(value, &format!("messages[{at}]"), &mut messages)?;
    }
    let (mut vars, mut max_reasoning, mut on) = (Map::new(), None, None);
    if let Some(mut thinking) = fields.object("thinking")? {
        let kind = thinking.word("type", &["enabled", "disabled", "adaptive"])?;
        let kind = kind.ok_or_else(|| thinking.missing("type"))?;
        if kind == "enabled" {
            max_reasoning = thinking.count("budget_tokens", 1..=1 << 24)?;
        }
        thinking.finish()?;
        on = Some(kind != "disabled");
    }
    let (mut shape, mut effort) = (shape::of_output(fields, "output_format")?, None);
    if let Some(mut output) = fields.object("output_config")? {
        effort = output.word("effort", &["low", "medium", "high", "max"])?;
        if let Some(other) = shape::of_output(&mut output, "format")?
            && let Some(shape) = shape.replace(other)
        {
            return Err(output.wrong("format", "contradiction", format!("contradicts {}", shape.field)));
        }
        output.finish()?;
    }
    match (on, effort) {
        (None, None) => {}
        (Some(false), _) => thinking::effort(loaded, "none", "thinking", &mut vars)?,
        (Some(true), None) => thinking::effort(loaded, "medium", "thinking", &mut vars)?,
        (_, Some(level)) => {
            let level = if level == "max" { "xhigh" } else { level };
            thinking::effort(loaded, level, "output_config.effort", &mut vars)?;
        }
    }
    unmanaged(fields)?;
    let offer = tools(fields)?;
    let open = messages::is_begun(&messages);
    let thought = |message: &Value| !message["reasoning_content"].is_null();
    if open && on == Some(true) && !messages.last().is_some_and(thought) {
        let why = "is wanted before the answer, and the last message has begun the answer without";
        return Err(fields.wrong("thinking", "contradiction", why));
    }
    Ok(Job { offer, shape, max_reasoning, ..Job::new(Input::Chat { messages, vars, open }) })
}

/// `context_management`, as Claude Code sends it: nothing that was thought is to be taken out of the conversation, and nothing
/// is. Whoever wants something taken out is told that it is not.
fn unmanaged(fields: &mut Fields) -> Result<()> {
    let Some(mut management) = fields.object("context_management")? else { return Ok(()) };
    for (at, edit) in management.list("edits")?.unwrap_or_default().into_iter().enumerate() {
        let mut edit = Fields::of(edit, &management.name(&format!("edits[{at}]")))?;
        edit.word("type", &["clear_thinking_20251015"])?.ok_or_else(|| edit.missing("type"))?;
        let keep = edit.take("keep").ok_or_else(|| edit.missing("keep"))?;
        if keep != "all" {
            return Err(edit.wrong("keep", "unsupported_value", format!("is {keep}; all is kept here")));
        }
        edit.finish()?;
    }
    management.finish()
}

/// Tools, in the form that templates know.
fn tools(fields: &mut Fields) -> Result<Option<Offer>> {
    let mut list = Vec::new();
    for (at, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        let mut tool = Fields::of(tool, &format!("tools[{at}]"))?;
        tool.only("type", &[json!("custom")])?;
        cached(&mut tool)?;
        let (name, description) = (tool.need_text("name")?, tool.text("description")?);
        let parameters = tool.take("input_schema").ok_or_else(|| tool.missing("input_schema"))?;
        let strict = tool.flag("strict")?.unwrap_or(false);
        tool.finish()?;
        let mut function =
            json!({"name": name, "description": description.unwrap_or_default(), "parameters": parameters});
        if strict {
            function["strict"] = true.into();
        }
        list.push(json!({"type": "function", "function": function}));
    }
    let (mut wanted, mut parallel) = (Choice::default(), true);
    if let Some(mut choice) = fields.object("tool_choice")? {
        let kinds = ["auto", "none", "any", "tool"];
        wanted = match choice.word("type", &kinds)?.ok_or_else(|| choice.missing("type"))? {
            "tool" => Choice::named(choice.need_text("name")?),
            kind => Choice { required: kind == "any", none: kind == "none", ..Choice::default() },
        };
        parallel = !choice.flag("disable_parallel_tool_use")?.unwrap_or(false);
        choice.finish()?;
    }
    Offer::new(list, wanted, parallel, "tool_choice")
}

/// A string, or blocks of type `text`.
fn texts(fields: &mut Fields, field: &str) -> Result<Option<String>> {
    let blocks = match fields.take(field) {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(blocks)) => blocks,
        Some(other) => {
            let why = format!("must be a string or a list of blocks and is {}", kind(&other));
            return Err(fields.wrong(field, "wrong_type", why));
        }
    };
    let mut text = String::new();
    for (at, block) in blocks.into_iter().enumerate() {
        let mut block = Fields::of(block, &fields.name(&format!("{field}[{at}]")))?;
        if block.need_text("type")? != "text" {
            return Err(block.wrong(
                "type",
                "unsupported_value",
                "is not text, and only text can be read here",
            ));
        }
        text.push_str(&block.need_text("text")?);
        cached(&mut block)?;
        block.finish()?;
    }
    Ok(Some(text))
}

/// `cache_control`: everything that can be cached is, so that the hint asks for what is done anyway.
pub(super) fn cached(block: &mut Fields) -> Result<()> {
    if let Some(mut control) = block.object("cache_control")? {
        control.only("type", &[json!("ephemeral")])?;
        control.only("ttl", &[json!("5m"), json!("1h")])?;
        control.finish()?;
    }
    Ok(())
}

/// One message becomes one in the chat API's form, and one more for each tool result.
fn message(value: Value, path: &str, out: &mut Vec<Value>) -> Result<()> {
    let mut fields = Fields::of(value, path)?;
    let role = fields.word("role", &["user", "assistant"])?.ok_or_else(|| fields.missing("role"))?;
    let blocks = match fields.take("content") {
        None => return Err(fields.missing("content")),
        Some(Value::String(text)) => {
            out.push(json!({"role": role, "content": text}));
            return fields.finish();
        }
        Some(Value::Array(blocks)) => blocks,
        Some(other) => {
            let why = format!("must be a string or a list of blocks and is {}", kind(&other));
            return Err(fields.wrong("content", "wrong_type", why));
        }
    };
    fields.finish()?;
    if blocks.is_empty() && role == "user" {
        let field = format!("{path}.content");
        return Err(Failure::field(
            field.clone(),
            "empty",
            format!("{field} is empty; at least one block is needed"),
        ));
    }
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    for (at, block) in blocks.into_iter().enumerate() {
        let mut block = Fields::of(block, &format!("{path}.content[{at}]"))?;
        cached(&mut block)?;
        match (block.need_text("type")?.as_str(), role) {
            ("text", _) => {
                text.push_str(&block.need_text("text")?);
                block.only("citations", &[json!([])])?;
            }
            ("thinking", "assistant") => {
                reasoning.push_str(&block.need_text("thinking")?);
                block.text("signature")?;
            }
            ("tool_use", "assistant") => {
                let (id, name) = (block.need_text("id")?, block.need_text("name")?);
                let input = block.take("input").unwrap_or_else(|| json!({}));
                calls.push(
                    json!({"id": id, "type": "function", "function": {"name": name, "arguments": input}}),
                );
            }
            ("tool_result", "user") => {
                let id = block.need_text("tool_use_id")?;
                let result = texts(&mut block, "content")?.unwrap_or_default();
                let failed = block.flag("is_error")?.unwrap_or(false);
                let content = if failed { format!("Error: {result}") } else { result };
                out.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
            }
            (other, _) => {
                let why = format!("is {other:?}, which cannot be read in a message of the {role}");
                return Err(block.wrong("type", "unsupported_value", why));
            }
        }
        block.finish()?;
    }
    let mut message = json!({"role": role, "content": text});
    if !reasoning.is_empty() {
        message["reasoning_content"] = reasoning.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    if role == "assistant" || !text.is_empty() {
        out.push(message);
    }
    Ok(())
}
