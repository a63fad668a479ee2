//! `/v1/chat/completions`.

use super::messages::{continued, messages};
use super::{Head, dropped, prompt_logprobs, usage, warnings};
use crate::answer::{Answer, Call, Choice, Cost, Part, Piece, Scored, ToolCall};
use crate::app::{App, Asked};
use crate::failure::{Dialect, Failure};
use crate::fields::Fields;
use crate::generate;
use crate::job::{Input, Job, Overflow};
use crate::loaded::Loaded;
use crate::service::json_body;
use crate::stream::{self, Form, Frame, Frames};
use crate::{shape, thinking, tools, wire};
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) async fn handle(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let Asked { mut fields, client } = asked;
    let model = fields.text("model")?;
    let messages = messages(&mut fields)?;
    let loaded = app.registry.get(model.as_deref()).await?;
    let (mut job, stream, include_usage) = job(&loaded, messages, fields)?;
    job.client = client.id;
    let logprobs = job.logprobs.is_some();
    let mut answer = generate::start(&app, loaded, vec![job]).await?;
    let head = Head::new("chatcmpl-", &answer.loaded.name);
    if stream {
        let frames = Chunks::new(head, &answer, logprobs, include_usage);
        return Ok(stream::respond(answer, frames, Form::Events));
    }
    let choices = answer.whole().await?;
    Ok(json_body(&whole(&head, &answer, &choices, logprobs)?))
}

/// What the request wants, whether as a stream, and whether with usage in it.
fn job(loaded: &Loaded, messages: Vec<Value>, mut fields: Fields) -> Result<(Job, bool, bool), Failure> {
    let asked = wire::sampling(&mut fields)?;
    let choices = wire::choices(&mut fields)?;
    let (stream, include_usage) = wire::streaming(&mut fields)?;
    let mut vars = thinking::variables(loaded, &mut fields)?;
    if let Some(effort) = fields.word("reasoning_effort", &thinking::EFFORTS)? {
        thinking::effort(loaded, effort, "reasoning_effort", &mut vars)?;
    }
    let max_reasoning = thinking::limit(&mut fields)?;
    let open = continued(&mut fields, &messages)?;
    let logprobs = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.count("top_logprobs", 0..=20)?;
    if top.is_some_and(|n| n > 0) && !logprobs {
        return Err(fields.wrong("top_logprobs", "contradiction", "needs logprobs: true"));
    }
    let overflow = fields.word("context_overflow", &["refuse", "drop_old_turns"])?;
    fields.only("modalities", &[json!(["text"])])?;
    let prompt_logprobs = prompt_logprobs(&mut fields, stream)?;
    let (shape, offer) = (shape::of(&mut fields)?, tools::of(&mut fields)?);
    wire::harmless(&mut fields)?;
    fields.finish()?;
    let job = Job {
        asked,
        choices,
        logprobs: logprobs.then_some(top.unwrap_or(0)),
        overflow: if overflow == Some("drop_old_turns") { Overflow::DropOldTurns } else { Overflow::Refuse },
        prompt_logprobs,
        offer,
        shape,
        max_reasoning,
        ..Job::new(Input::Chat { messages, vars, open })
    };
    Ok((job, stream, include_usage))
}

fn whole(head: &Head, answer: &Answer, choices: &[Choice], logprobs: bool) -> Result<Value, Failure> {
    let mut body = head.whole("chat.completion", answer, choices, |index, choice| {
        let ending = choice.ending()?;
        let mut message = json!({"role": "assistant", "content": choice.content, "refusal": null});
        if !choice.reasoning.is_empty() {
            message["reasoning_content"] = choice.reasoning.as_str().into();
        }
        if !choice.calls.is_empty() {
            let call = |c: &ToolCall| {
                let function = json!({"name": c.name, "arguments": c.arguments});
                json!({"id": c.id, "type": "function", "function": function})
            };
            message["tool_calls"] = choice.calls.iter().map(call).collect();
            if choice.content.is_empty() {
                message["content"] = Value::Null;
            }
        }
        let scores = logprobs.then(|| wire::chat_logprobs(&answer.loaded, &choice.scores));
        let finish = ending.finish.openai();
        Ok(json!({"index": index, "message": message, "logprobs": scores, "finish_reason": finish}))
    })?;
    // The prompt is the same of all choices.
    if let Some(scores) = choices.first().map(|choice| &choice.prompt).filter(|scores| !scores.is_empty()) {
        body["prompt_logprobs"] = wire::prompt_logprobs(&answer.loaded, scores);
    }
    Ok(body)
}

/// The chunks of a streamed answer.
struct Chunks {
    head: Head,
    loaded: Arc<Loaded>,
    choices: usize,
    logprobs: bool,
    include_usage: bool,
    cost: Cost,
    dropped: Option<Value>,
}

impl Chunks {
    fn new(head: Head, answer: &Answer, logprobs: bool, include_usage: bool) -> Chunks {
        Chunks {
            head,
            loaded: answer.loaded.clone(),
            choices: answer.choices,
            logprobs,
            include_usage,
            cost: Cost::new(answer.prompt_tokens),
            dropped: answer.dropped.map(dropped),
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = self.head.object("chat.completion.chunk", choices);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn choice(&self, index: usize, delta: Value, logprobs: Option<Value>, finish: Option<&str>) -> Value {
        self.chunk(json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]))
    }
}

impl Frames for Chunks {
    fn begin(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        for index in 0..self.choices {
            let mut chunk = self.choice(index, json!({"role": "assistant", "content": ""}), None, None);
            if let Some(dropped) = self.dropped.take() {
                chunk["dropped"] = dropped;
            }
            frames.push(Frame::data(chunk));
        }
        frames
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Frame> {
        let scores = |scores: &[Scored]| self.logprobs.then(|| wire::chat_logprobs(&self.loaded, scores));
        let some = |list: &[Scored]| Some(list).filter(|list| !list.is_empty()).and_then(scores);
        match piece {
            Piece::Text { part, text, scores: list } => {
                let field = if part == Part::Content { "content" } else { "reasoning_content" };
                let mut delta = Map::new();
                delta.insert(field.into(), text.into());
                vec![Frame::data(self.choice(index, delta.into(), scores(&list), None))]
            }
            Piece::Call(call, list) => {
                let call = match call {
                    Call::Start { index: at, id, name } => {
                        let function = json!({"name": name, "arguments": ""});
                        json!({"index": at, "id": id, "type": "function", "function": function})
                    }
                    Call::Arguments { index: at, json } => {
                        json!({"index": at, "function": {"arguments": json}})
                    }
                    Call::End if list.is_empty() => return Vec::new(),
                    Call::End => Value::Null,
                };
                let delta = if call.is_null() { json!({}) } else { json!({"tool_calls": [call]}) };
                vec![Frame::data(self.choice(index, delta, some(&list), None))]
            }
            Piece::ContentWasReasoning => {
                let mut chunk = self.choice(index, json!({}), None, None);
                chunk["warnings"] = warnings(&["the content so far was reasoning".to_owned()]);
                vec![Frame::data(chunk)]
            }
            Piece::Ended(ending) => {
                self.cost.add(&ending);
                let list = some(&ending.scores);
                let mut chunk = self.choice(index, json!({}), list, Some(ending.finish.openai()));
                if !ending.warnings.is_empty() {
                    chunk["warnings"] = warnings(&ending.warnings);
                }
                vec![Frame::data(chunk)]
            }
            // Prompts are not scored in streams.
            Piece::Prompt(_) | Piece::Failed(_) => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = usage(self.cost);
            frames.push(Frame::data(chunk));
        }
        frames.push(Frame::data("[DONE]"));
        frames
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Frame> {
        vec![Frame::data(failure.body(Dialect::OpenAi))]
    }
}
