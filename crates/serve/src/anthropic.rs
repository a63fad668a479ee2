//! Anthropic's `/v1/messages`.

use crate::answer::{Answer, Call, Choice, Cost, Ending, Finish, Part, Piece};
use crate::app::{App, Asked as Request};
use crate::failure::{Dialect, Failure};
use crate::fields::{Fields, kind};
use crate::generate;
use crate::job::{Asked, Input, Job};
use crate::loaded::Loaded;
use crate::openai::warnings;
use crate::service::json_body;
use crate::stream::{self, Form, Frame, Frames};
use crate::tools::{Choice as ToolChoice, Offer};
use crate::{messages, shape, thinking, wire};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use sampan_text::strftime;
use serde_json::{Map, Value, json};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Failure>;

/// Whether a request comes from a client of Anthropic's API, where another API has the same route.
pub(crate) fn asks(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// A model of OpenAI's list in Anthropic's words.
pub(crate) fn model(listed: &Value) -> Value {
    let (id, created) = (&listed["id"], listed["created"].as_i64().unwrap_or(0));
    json!({"type": "model", "id": id, "display_name": id, "created_at": strftime("%FT%TZ", created)})
}

/// `/v1/messages`
pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let mut fields = request.fields;
    let model = fields.need_text("model")?;
    let most = fields.count("max_tokens", 1..=1 << 24)?.ok_or_else(|| fields.missing("max_tokens"))?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let asked = Asked {
        max_tokens: Some(most),
        temperature: fields.number("temperature", 0.0..=1.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: fields.count("top_k", 0..=1 << 24)?,
        stop: wire::stop(&mut fields, "stop_sequences")?,
        ..Asked::default()
    };
    if let Some(mut metadata) = fields.object("metadata")? {
        metadata.text("user_id")?;
        metadata.finish()?;
    }
    cached(&mut fields)?;
    fields.only("service_tier", &[json!("auto"), json!("standard_only")])?;
    let loaded = app.registry.get(Some(&model)).await?;
    let job = conversation(&mut fields, &loaded)?;
    if let Some(limit) = job.max_reasoning.filter(|limit| *limit >= most) {
        let why = format!("is {limit}; it must be less than max_tokens, which is {most}");
        return Err(fields.wrong("thinking.budget_tokens", "contradiction", why));
    }
    fields.finish()?;
    let job = Job { asked, client: request.client.id, ..job };
    let mut answer = generate::start(&app, loaded, vec![job]).await?;
    let (id, model) = (wire::id("msg_"), answer.loaded.name.clone());
    if stream {
        let cost = Cost::new(answer.prompt_tokens);
        return Ok(stream::respond(answer, Events { id, model, block: None, blocks: 0, cost }, Form::Events));
    }
    let choices = answer.whole().await?;
    let choice = choices.first().ok_or_else(|| Failure::internal("there is no answer"))?;
    Ok(json_body(&whole(&id, &answer, choice)?))
}

/// `/v1/messages/count_tokens`
pub(crate) async fn count(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let mut fields = request.fields;
    let model = fields.need_text("model")?;
    let loaded = app.registry.get(Some(&model)).await?;
    let job = conversation(&mut fields, &loaded)?;
    fields.finish()?;
    let counted =
        tokio::task::spawn_blocking(move || job.encode(&loaded).map(|(prompt, _)| prompt.ids.len()));
    let tokens = counted.await.map_err(|e| Failure::internal(e.to_string()))??;
    Ok(json_body(&json!({"input_tokens": tokens})))
}

/// System text, messages, thinking, tools, the shape of the answer: what both routes read.
fn conversation(fields: &mut Fields, loaded: &Loaded) -> Result<Job> {
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
    let offer = tools(fields)?;
    let open = messages::is_begun(&messages);
    let thought = |message: &Value| !message["reasoning_content"].is_null();
    if open && on == Some(true) && !messages.last().is_some_and(thought) {
        let why = "is wanted before the answer, and the last message has begun the answer without";
        return Err(fields.wrong("thinking", "contradiction", why));
    }
    Ok(Job { offer, shape, max_reasoning, ..Job::new(Input::Chat { messages, vars, open }) })
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
    let (mut wanted, mut parallel) = (ToolChoice::default(), true);
    if let Some(mut choice) = fields.object("tool_choice")? {
        let kinds = ["auto", "none", "any", "tool"];
        wanted = match choice.word("type", &kinds)?.ok_or_else(|| choice.missing("type"))? {
            "tool" => ToolChoice::named(choice.need_text("name")?),
            kind => ToolChoice { required: kind == "any", none: kind == "none", ..ToolChoice::default() },
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
fn cached(block: &mut Fields) -> Result<()> {
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

fn stop_reason(finish: &Finish) -> (&'static str, Option<&str>) {
    match finish {
        Finish::Stop => ("end_turn", None),
        Finish::Calls => ("tool_use", None),
        Finish::StopString(text) => ("stop_sequence", Some(text)),
        Finish::Length | Finish::Broken(_) => ("max_tokens", None),
        Finish::Context => ("model_context_window_exceeded", None),
    }
}

fn usage(cost: Cost) -> Value {
    json!({
        "input_tokens": cost.prompt - cost.cached.min(cost.prompt),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cost.cached,
        "output_tokens": cost.completion,
    })
}

fn whole(id: &str, answer: &Answer, choice: &Choice) -> Result<Value> {
    let mut content = Vec::new();
    if !choice.reasoning.is_empty() {
        content.push(json!({"type": "thinking", "thinking": choice.reasoning, "signature": ""}));
    }
    if !choice.content.trim().is_empty() || (content.is_empty() && choice.calls.is_empty()) {
        content.push(json!({"type": "text", "text": choice.content}));
    }
    for call in &choice.calls {
        let input: Value =
            serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({"raw": call.arguments}));
        content.push(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}));
    }
    let ending = choice.ending()?;
    let (reason, sequence) = stop_reason(&ending.finish);
    let mut value = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": answer.loaded.name,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage(Cost::of(answer.prompt_tokens, std::slice::from_ref(choice))),
    });
    if !ending.warnings.is_empty() {
        value["warnings"] = warnings(&ending.warnings);
    }
    Ok(value)
}

/// What a block of a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text(Part),
    Call,
}

/// The events of a streamed message.
struct Events {
    id: String,
    model: String,
    /// The kind of the block that is open, and its number.
    block: Option<(Block, usize)>,
    blocks: usize,
    cost: Cost,
}

impl Events {
    /// Closes the open block, if there is one.
    fn close(&mut self, frames: &mut Vec<Frame>) {
        let Some((block, index)) = self.block.take() else { return };
        if block == Block::Text(Part::Reasoning) {
            let delta = json!({"type": "signature_delta", "signature": ""});
            frames.push(event("content_block_delta", json!({"index": index, "delta": delta})));
        }
        frames.push(event("content_block_stop", json!({"index": index})));
    }

    fn open(&mut self, part: Part, frames: &mut Vec<Frame>) -> usize {
        if let Some((_, index)) = self.block.filter(|(open, _)| *open == Block::Text(part)) {
            return index;
        }
        let start = match part {
            Part::Content => json!({"type": "text", "text": ""}),
            Part::Reasoning => json!({"type": "thinking", "thinking": "", "signature": ""}),
        };
        self.start(Block::Text(part), start, frames)
    }

    fn start(&mut self, block: Block, start: Value, frames: &mut Vec<Frame>) -> usize {
        self.close(frames);
        let index = self.blocks;
        self.blocks += 1;
        self.block = Some((block, index));
        frames.push(event("content_block_start", json!({"index": index, "content_block": start})));
        index
    }

    fn call(&mut self, call: Call, frames: &mut Vec<Frame>) {
        match call {
            Call::Start { id, name, .. } => {
                let start = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.start(Block::Call, start, frames);
            }
            Call::Arguments { json, .. } => {
                let index = self.block.map_or(0, |(_, index)| index);
                let delta = json!({"type": "input_json_delta", "partial_json": json});
                frames.push(event("content_block_delta", json!({"index": index, "delta": delta})));
            }
            Call::End => self.close(frames),
        }
    }

    fn ended(&mut self, ending: &Ending) -> Vec<Frame> {
        self.cost.add(ending);
        let mut frames = Vec::new();
        if self.blocks == 0 {
            self.open(Part::Content, &mut frames);
        }
        self.close(&mut frames);
        let (reason, sequence) = stop_reason(&ending.finish);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        let mut data = json!({"delta": delta, "usage": usage(self.cost)});
        if !ending.warnings.is_empty() {
            data["warnings"] = warnings(&ending.warnings);
        }
        frames.push(event("message_delta", data));
        frames
    }
}

/// An event whose data names it too.
fn event(name: &'static str, mut data: Value) -> Frame {
    data["type"] = name.into();
    Frame::event(name, data)
}

impl Frames for Events {
    fn begin(&mut self) -> Vec<Frame> {
        let message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage(self.cost),
        });
        vec![event("message_start", json!({"message": message}))]
    }

    fn piece(&mut self, _: usize, piece: Piece) -> Vec<Frame> {
        let mut frames = Vec::new();
        match piece {
            Piece::Text { part, text, .. } => {
                let index = self.open(part, &mut frames);
                let delta = match part {
                    Part::Content => json!({"type": "text_delta", "text": text}),
                    Part::Reasoning => json!({"type": "thinking_delta", "thinking": text}),
                };
                frames.push(event("content_block_delta", json!({"index": index, "delta": delta})));
            }
            Piece::Call(call, _) => self.call(call, &mut frames),
            Piece::ContentWasReasoning => self.close(&mut frames),
            Piece::Ended(ending) => frames = self.ended(&ending),
            Piece::Prompt(_) | Piece::Failed(_) => {}
        }
        frames
    }

    fn end(&mut self) -> Vec<Frame> {
        vec![event("message_stop", json!({}))]
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Frame> {
        vec![Frame::event("error", failure.body(Dialect::Anthropic))]
    }
}
