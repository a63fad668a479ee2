//! The response object, and the events that tell of it while it grows.

use super::item::{Item, What};
use crate::answer::{Answer, Call, Choice, Cost, Ending, Finish, Part, Piece, Scored, ToolCall};
use crate::failure::{Dialect, Failure};
use crate::fields::Fields;
use crate::loaded::Loaded;
use crate::openai::{Head, dropped, warnings};
use crate::stream::{Frame, Frames};
use crate::wire;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a response says of its request, as it was sent or as it is where nothing was.
#[derive(Clone, Debug)]
pub(super) struct Echo(Map<String, Value>);

impl Echo {
    pub(super) fn of(fields: &Fields) -> Echo {
        let defaults = json!({
            "instructions": null,
            "metadata": {},
            "max_output_tokens": null,
            "parallel_tool_calls": true,
            "reasoning": {"effort": null, "summary": null},
            "temperature": null,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": null,
            "truncation": "disabled",
        });
        let Value::Object(mut map) = defaults else { return Echo(Map::new()) };
        for (name, value) in &mut map {
            if let Some(sent) = fields.see(name) {
                *value = sent.clone();
            }
        }
        Echo(map)
    }
}

/// The response as far as it has been said.
pub(super) struct Said {
    head: Head,
    echo: Echo,
    loaded: Arc<Loaded>,
    logprobs: bool,
    /// Reasoning is given in a form to be sent back.
    coded: bool,
    dropped: Option<Value>,
    items: Vec<Value>,
    open: Option<Item>,
    cost: Cost,
    sequence: u64,
}

impl Said {
    pub(super) fn new(head: Head, echo: Echo, answer: &Answer, logprobs: bool, coded: bool) -> Said {
        Said {
            head,
            echo,
            loaded: answer.loaded.clone(),
            logprobs,
            coded,
            dropped: answer.dropped.map(dropped),
            items: Vec::new(),
            open: None,
            cost: Cost::new(answer.prompt_tokens),
            sequence: 0,
        }
    }

    /// The response to a request that is not streamed.
    pub(super) fn whole(&mut self, choice: &Choice) -> Result<Value, Failure> {
        let scores = self.scores(choice.scores.get(choice.thought..).unwrap_or_default());
        for (part, text) in [(Part::Reasoning, &choice.reasoning), (Part::Content, &choice.content)] {
            if !text.is_empty() {
                let scores = if part == Part::Content { scores.clone() } else { Vec::new() };
                self.items.push(self.completed(&Item::text(part, text.clone(), scores)));
            }
        }
        for call in &choice.calls {
            self.items.push(self.completed(&Item::call(call.clone())));
        }
        let ending = choice.ending()?;
        self.cost.add(ending);
        Ok(self.response(Some(ending)))
    }

    /// An item as it is when all of it has been said.
    fn completed(&self, item: &Item) -> Value {
        let mut value = item.value("completed");
        let coded = if self.coded { item.coded() } else { Value::Null };
        if !coded.is_null() {
            value["encrypted_content"] = coded;
        }
        value
    }

    /// The response object; `ending` is missing while it is in progress.
    fn response(&self, ending: Option<&Ending>) -> Value {
        let (status, error, incomplete) = match ending.map(|e| &e.finish) {
            None => ("in_progress", Value::Null, Value::Null),
            Some(Finish::Length | Finish::Context) => {
                ("incomplete", Value::Null, json!({"reason": "max_output_tokens"}))
            }
            Some(Finish::Broken(why)) => {
                ("failed", json!({"code": "server_error", "message": why}), Value::Null)
            }
            Some(_) => ("completed", Value::Null, Value::Null),
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
        let mut value = json!({
            "id": self.head.id,
            "object": "response",
            "created_at": self.head.created,
            "status": status,
            "error": error,
            "incomplete_details": incomplete,
            "model": self.head.model,
            "output": self.items,
            "store": false,
            "previous_response_id": null,
            "usage": usage,
        });
        if let Some(map) = value.as_object_mut() {
            map.extend(self.echo.0.clone());
        }
        if let Some(dropped) = &self.dropped {
            value["dropped"] = dropped.clone();
        }
        if let Some(ending) = ending.filter(|ending| !ending.warnings.is_empty()) {
            value["warnings"] = warnings(&ending.warnings);
        }
        value
    }

    /// Log-probabilities in the form of the chat API, which this one shares.
    fn scores(&self, scores: &[Scored]) -> Vec<Value> {
        let wanted = if self.logprobs { scores } else { &[] };
        wire::chat_logprobs(&self.loaded, wanted)["content"].as_array().cloned().unwrap_or_default()
    }

    fn event(&mut self, name: &'static str, mut data: Value) -> Frame {
        data["type"] = name.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        Frame::event(name, data)
    }

    /// Closes the open item, if there is one, and opens this one.
    fn start(&mut self, item: Item, frames: &mut Vec<Frame>) {
        self.close(frames);
        let at = self.items.len();
        let added = json!({"output_index": at, "item": item.value("in_progress")});
        frames.push(self.event("response.output_item.added", added));
        let (id, content) = (item.id.clone(), item.content());
        self.open = Some(item);
        if !content.is_null() {
            let part = json!({"item_id": id, "output_index": at, "content_index": 0, "part": content});
            frames.push(self.event("response.content_part.added", part));
        }
    }

    /// Closes the open item, if there is one.
    fn close(&mut self, frames: &mut Vec<Frame>) {
        let Some(item) = self.open.take() else { return };
        let (at, value) = (self.items.len(), self.completed(&item));
        match &item.what {
            What::Text { part, text, logprobs } => {
                let place = json!({"item_id": item.id, "output_index": at, "content_index": 0});
                let (mut done, mut whole) = (place.clone(), place);
                done["text"] = text.as_str().into();
                whole["part"] = item.content();
                let name = match part {
                    Part::Content => {
                        done["logprobs"] = logprobs.clone().into();
                        "response.output_text.done"
                    }
                    Part::Reasoning => "response.reasoning_text.done",
                };
                frames.push(self.event(name, done));
                frames.push(self.event("response.content_part.done", whole));
            }
            What::Call(ToolCall { name, arguments, .. }) => {
                let done =
                    json!({"item_id": item.id, "output_index": at, "name": name, "arguments": arguments});
                frames.push(self.event("response.function_call_arguments.done", done));
            }
        }
        frames.push(self.event("response.output_item.done", json!({"output_index": at, "item": value})));
        self.items.push(value);
    }

    fn text(&mut self, of: Part, more: &str, scores: &[Scored], frames: &mut Vec<Frame>) {
        let open = |item: &Item| matches!(&item.what, What::Text { part, .. } if *part == of);
        if !self.open.as_ref().is_some_and(open) {
            self.start(Item::text(of, String::new(), Vec::new()), frames);
        }
        let (at, scores) = (self.items.len(), self.scores(scores));
        let Some(Item { id, what: What::Text { text, logprobs, .. } }) = &mut self.open else { return };
        text.push_str(more);
        let mut delta = json!({"item_id": id, "output_index": at, "content_index": 0, "delta": more});
        let name = match of {
            Part::Content => {
                logprobs.extend(scores.iter().cloned());
                delta["logprobs"] = scores.into();
                "response.output_text.delta"
            }
            Part::Reasoning => "response.reasoning_text.delta",
        };
        frames.push(self.event(name, delta));
    }

    fn call(&mut self, call: Call, frames: &mut Vec<Frame>) {
        match call {
            Call::Start { id, name, .. } => {
                self.start(Item::call(ToolCall { id, name, arguments: String::new() }), frames);
            }
            Call::Arguments { json, .. } => {
                let at = self.items.len();
                let Some(Item { id, what: What::Call(call) }) = &mut self.open else { return };
                call.arguments.push_str(&json);
                let delta = json!({"item_id": id, "output_index": at, "delta": json});
                frames.push(self.event("response.function_call_arguments.delta", delta));
            }
            Call::End => self.close(frames),
        }
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
            Piece::Text { part, text, scores } => self.text(part, &text, &scores, &mut frames),
            Piece::Call(call, _) => self.call(call, &mut frames),
            Piece::ContentWasReasoning => self.close(&mut frames),
            Piece::Ended(ending) => {
                self.close(&mut frames);
                self.cost.add(&ending);
                let response = self.response(Some(&ending));
                let name = match response["status"].as_str() {
                    Some("incomplete") => "response.incomplete",
                    Some("failed") => "response.failed",
                    _ => "response.completed",
                };
                frames.push(self.event(name, json!({"response": response})));
            }
            Piece::Prompt(_) | Piece::Failed(_) => {}
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
