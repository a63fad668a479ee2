//! `/v1/responses`, without memory: what is needed of a conversation comes with each request.

use super::chat::Head;
use crate::answer::{Answer, Choice, Cost, Ending, Finish, Part, Piece};
use crate::app::{App, Asked as Request};
use crate::failure::{Dialect, Failure};
use crate::fields::{Fields, kind};
use crate::generate;
use crate::job::{Asked, Input, Job};
use crate::loaded::Loaded;
use crate::service::json_body;
use crate::stream::{self, Form, Frame, Frames};
use crate::wire;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Failure>;

pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let mut fields = request.fields;
    let model = fields.text("model")?;
    let mut messages = Vec::new();
    let instructions = fields.text("instructions")?;
    if let Some(text) = &instructions {
        messages.push(json!({"role": "system", "content": text}));
    }
    input(&mut fields, &mut messages)?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let asked = Asked {
        temperature: fields.number("temperature", 0.0..=100.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        max_tokens: fields.count("max_output_tokens", 1..=1 << 24)?,
        ..Asked::default()
    };
    let loaded = app.registry.get(model.as_deref()).await?;
    let vars = reasoning(&mut fields, &loaded)?;
    stateless(&mut fields)?;
    fields.finish()?;
    let job =
        Job { asked, client: request.client.id, ..Job::new(Input::Chat { messages, tools: None, vars }) };
    let mut answer = generate::start(&app, loaded, vec![job]).await?;
    let said = Said {
        head: Head::new("resp_", &answer.loaded.name),
        instructions,
        items: Vec::new(),
        open: None,
        cost: Cost::new(answer.prompt_tokens),
        sequence: 0,
    };
    if stream {
        return Ok(stream::respond(answer, said, Form::Events));
    }
    let choices = answer.whole().await?;
    let choice = choices.first().ok_or_else(|| Failure::internal("there is no answer"))?;
    Ok(json_body(&whole(said, &answer, choice)?))
}

/// What asks for nothing, or for a memory that this server does not have.
fn stateless(fields: &mut Fields) -> Result<()> {
    if let Some(mut text) = fields.object("text")? {
        text.only("format", &[json!({"type": "text"})])?;
        text.finish()?;
    }
    fields.only("tools", &[json!([])])?;
    fields.only("tool_choice", &[json!("auto"), json!("none")])?;
    fields.only("parallel_tool_calls", &[json!(true), json!(false)])?;
    fields.only("truncation", &[json!("disabled")])?;
    fields.only("background", &[json!(false)])?;
    fields.only("include", &[json!([])])?;
    wire::harmless(fields)
}

/// `reasoning`: how hard to think.
fn reasoning(fields: &mut Fields, loaded: &Loaded) -> Result<Map<String, Value>> {
    let mut vars = Map::new();
    if let Some(mut reasoning) = fields.object("reasoning")? {
        let efforts = ["none", "minimal", "low", "medium", "high", "xhigh"];
        if let Some(effort) = reasoning.word("effort", &efforts)? {
            wire::think(loaded, effort, "reasoning.effort", &mut vars)?;
        }
        reasoning.finish()?;
    }
    Ok(vars)
}

/// `input`: a text, or items.
fn input(fields: &mut Fields, messages: &mut Vec<Value>) -> Result<()> {
    let items = match fields.take("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => {
            messages.push(json!({"role": "user", "content": text}));
            return Ok(());
        }
        Some(Value::Array(items)) => items,
        Some(other) => {
            return Err(fields.wrong(
                "input",
                "wrong_type",
                format!("must be text or a list and is {}", kind(&other)),
            ));
        }
    };
    for (at, item) in items.into_iter().enumerate() {
        let mut item = Fields::of(item, &format!("input[{at}]"))?;
        for label in ["id", "status"] {
            item.text(label)?;
        }
        match item.text("type")?.as_deref().unwrap_or("message") {
            "message" => {
                let roles = ["system", "developer", "user", "assistant"];
                let role = item.word("role", &roles)?.ok_or_else(|| item.missing("role"))?;
                let role = if role == "developer" { "system" } else { role };
                let text = content(&mut item, "content")?.ok_or_else(|| item.missing("content"))?;
                messages.push(json!({"role": role, "content": text}));
            }
            "reasoning" => {
                // Belongs to the assistant's message behind it; templates drop what was thought in earlier turns.
                content(&mut item, "content")?;
                content(&mut item, "summary")?;
                item.text("encrypted_content")?;
            }
            other => {
                let why = format!("is {other:?}, which cannot be read here");
                return Err(item.wrong("type", "unsupported_value", why));
            }
        }
        item.finish()?;
    }
    match messages.iter().any(|m| m["role"] != "system") {
        true => Ok(()),
        false => Err(fields.wrong("input", "empty", "has no message")),
    }
}

/// A text, or parts with text.
fn content(item: &mut Fields, field: &str) -> Result<Option<String>> {
    let parts = match item.take(field) {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(parts)) => parts,
        Some(other) => {
            return Err(item.wrong(
                field,
                "wrong_type",
                format!("must be text or a list and is {}", kind(&other)),
            ));
        }
    };
    let mut text = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        let mut part = Fields::of(part, &item.name(&format!("{field}[{at}]")))?;
        match part.need_text("type")?.as_str() {
            "input_text" | "output_text" | "text" | "reasoning_text" | "summary_text" => {
                text.push_str(&part.need_text("text")?);
                part.only("annotations", &[json!([])])?;
                part.only("logprobs", &[json!([])])?;
            }
            other => {
                return Err(part.wrong(
                    "type",
                    "unsupported_value",
                    format!("is {other:?}; only text can be read here"),
                ));
            }
        }
        part.finish()?;
    }
    Ok(Some(text))
}

fn whole(mut said: Said, _: &Answer, choice: &Choice) -> Result<Value> {
    for (part, text) in [(Part::Reasoning, &choice.reasoning), (Part::Content, &choice.content)] {
        if !text.is_empty() {
            let item = Item { id: wire::id(prefix(part)), part, text: text.clone() };
            said.items.push(item.value("completed"));
        }
    }
    let ending = choice.ending()?;
    said.cost.add(ending);
    Ok(said.response(Some(ending)))
}

/// An item of the output.
struct Item {
    id: String,
    part: Part,
    text: String,
}

fn prefix(part: Part) -> &'static str {
    if part == Part::Content { "msg_" } else { "rs_" }
}

impl Item {
    fn content(&self) -> Value {
        match self.part {
            Part::Content => {
                json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": []})
            }
            Part::Reasoning => json!({"type": "reasoning_text", "text": self.text}),
        }
    }

    fn value(&self, status: &str) -> Value {
        let content = if status == "completed" { json!([self.content()]) } else { json!([]) };
        match self.part {
            Part::Content => json!({
                "id": self.id, "type": "message", "role": "assistant", "status": status, "content": content,
            }),
            Part::Reasoning => json!({
                "id": self.id, "type": "reasoning", "status": status, "summary": [], "content": content,
            }),
        }
    }
}

/// The response as far as it has been said.
struct Said {
    head: Head,
    instructions: Option<String>,
    items: Vec<Value>,
    open: Option<Item>,
    cost: Cost,
    sequence: u64,
}

impl Said {
    /// The response object; `ending` is missing while it is in progress.
    fn response(&self, ending: Option<&Ending>) -> Value {
        let cut = ending.is_some_and(|e| matches!(e.finish, Finish::Length | Finish::Context));
        let status = match (ending, cut) {
            (None, _) => "in_progress",
            (_, true) => "incomplete",
            (_, false) => "completed",
        };
        let Cost { prompt, cached, completion, reasoning } = self.cost;
        let usage = ending.map(|_| {
            json!({
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": completion,
                "output_tokens_details": {"reasoning_tokens": reasoning},
                "total_tokens": prompt + completion,
            })
        });
        json!({
            "id": self.head.id,
            "object": "response",
            "created_at": self.head.created,
            "status": status,
            "error": null,
            "incomplete_details": cut.then(|| json!({"reason": "max_output_tokens"})),
            "instructions": self.instructions,
            "model": self.head.model,
            "output": self.items,
            "parallel_tool_calls": true,
            "tool_choice": "auto",
            "tools": [],
            "metadata": {},
            "store": false,
            "previous_response_id": null,
            "text": {"format": {"type": "text"}},
            "truncation": "disabled",
            "usage": usage,
        })
    }

    fn event(&mut self, name: &'static str, mut data: Value) -> Frame {
        data["type"] = name.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        Frame::event(name, data)
    }

    fn start(&mut self, part: Part, frames: &mut Vec<Frame>) {
        let at = self.items.len();
        let item = Item { id: wire::id(prefix(part)), part, text: String::new() };
        let (value, id, content) = (item.value("in_progress"), item.id.clone(), item.content());
        self.open = Some(item);
        frames.push(self.event("response.output_item.added", json!({"output_index": at, "item": value})));
        let part = json!({"item_id": id, "output_index": at, "content_index": 0, "part": content});
        frames.push(self.event("response.content_part.added", part));
    }

    /// Closes the open item, if there is one.
    fn close(&mut self, frames: &mut Vec<Frame>) {
        let Some(item) = self.open.take() else { return };
        let (at, value) = (self.items.len(), item.value("completed"));
        let name = match item.part {
            Part::Content => "response.output_text.done",
            Part::Reasoning => "response.reasoning_text.done",
        };
        let place = json!({"item_id": item.id, "output_index": at, "content_index": 0});
        let with = |field: &str, value: Value| {
            let mut place = place.clone();
            place[field] = value;
            place
        };
        let mut text = with("text", item.text.as_str().into());
        if item.part == Part::Content {
            text["logprobs"] = json!([]);
        }
        frames.push(self.event(name, text));
        frames.push(self.event("response.content_part.done", with("part", item.content())));
        frames.push(self.event("response.output_item.done", json!({"output_index": at, "item": value})));
        self.items.push(value);
    }
}

impl Frames for Said {
    fn begin(&mut self) -> Vec<Frame> {
        let response = self.response(None);
        vec![
            self.event("response.created", json!({"response": response})),
            self.event("response.in_progress", json!({"response": response})),
        ]
    }

    fn piece(&mut self, _: usize, piece: Piece) -> Vec<Frame> {
        let mut frames = Vec::new();
        match piece {
            Piece::Text { part, text, .. } => {
                if self.open.as_ref().is_none_or(|item| item.part != part) {
                    self.close(&mut frames);
                    self.start(part, &mut frames);
                }
                let at = self.items.len();
                let id = self.open.as_mut().map(|item| {
                    item.text.push_str(&text);
                    item.id.clone()
                });
                let mut delta = json!({"item_id": id, "output_index": at, "content_index": 0, "delta": text});
                let name = match part {
                    Part::Content => {
                        delta["logprobs"] = json!([]);
                        "response.output_text.delta"
                    }
                    Part::Reasoning => "response.reasoning_text.delta",
                };
                frames.push(self.event(name, delta));
            }
            Piece::ContentWasReasoning => self.close(&mut frames),
            Piece::Ended(ending) => {
                self.close(&mut frames);
                self.cost.add(&ending);
                let response = self.response(Some(&ending));
                let name = match response["status"].as_str() {
                    Some("incomplete") => "response.incomplete",
                    _ => "response.completed",
                };
                frames.push(self.event(name, json!({"response": response})));
            }
            // No tools are offered here.
            Piece::Call(_) | Piece::Failed(_) => {}
        }
        frames
    }

    fn end(&mut self) -> Vec<Frame> {
        Vec::new()
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Frame> {
        let error = failure.body(Dialect::OpenAi);
        let (code, message) = (error["error"]["code"].clone(), error["error"]["message"].clone());
        vec![self.event("error", json!({"code": code, "message": message, "param": null}))]
    }
}
