//! `/v1/responses`, without memory: what is needed of a conversation comes with each request.

mod input;
mod item;
mod said;

use super::Head;
use crate::app::{App, Asked as Request};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::job::{Asked, Input, Job, Overflow};
use crate::loaded::Loaded;
use crate::service::json_body;
use crate::stream::{self, Form};
use crate::{generate, shape, thinking, tools, wire};
use axum::extract::State;
use axum::response::Response;
use said::{Echo, Said};
use serde_json::{Map, Value, json};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Failure>;

pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let mut fields = request.fields;
    let model = fields.text("model")?;
    let echo = Echo::of(&fields);
    let mut messages = Vec::new();
    if let Some(text) = fields.text("instructions")? {
        messages.push(json!({"role": "system", "content": text}));
    }
    input::read(&mut fields, &mut messages)?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let asked = Asked {
        temperature: fields.number("temperature", 0.0..=100.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        max_tokens: fields.count("max_output_tokens", 1..=1 << 24)?,
        ..Asked::default()
    };
    let loaded = app.registry.get(model.as_deref()).await?;
    let (job, coded) = job(&loaded, messages, &mut fields)?;
    stateless(&mut fields)?;
    fields.finish()?;
    let job = Job { asked, client: request.client.id, ..job };
    let logprobs = job.logprobs.is_some();
    let answer = generate::start(&app, loaded, vec![job]).await;
    let mut answer = answer.map_err(|failure| failure.renamed("messages", "input"))?;
    let mut said = Said::new(Head::new("resp_", &answer.loaded.name), echo, &answer, logprobs, coded);
    if stream {
        return Ok(stream::respond(answer, said, Form::Events));
    }
    let choices = answer.whole().await?;
    let choice = choices.first().ok_or_else(|| Failure::internal("there is no answer"))?;
    Ok(json_body(&said.whole(choice)?))
}

/// What the request wants, and whether it wants its reasoning in a form to be sent back.
fn job(loaded: &Loaded, messages: Vec<Value>, fields: &mut Fields) -> Result<(Job, bool)> {
    let (vars, max_reasoning) = reasoning(fields, loaded)?;
    let mut shape = None;
    if let Some(mut text) = fields.object("text")? {
        shape = shape::of_text(&mut text)?;
        text.only("verbosity", &[json!("medium")])?;
        text.finish()?;
    }
    let offer = tools::of_responses(fields)?;
    let top = fields.count("top_logprobs", 0..=20)?;
    let included = included(fields)?;
    let coded = included.contains(&REASONING);
    let included = included.contains(&LOGPROBS);
    if top.is_some_and(|n| n > 0) && !included {
        return Err(fields.wrong("top_logprobs", "contradiction", format!("needs {LOGPROBS:?} in include")));
    }
    let overflow = match fields.word("truncation", &["auto", "disabled"])? {
        Some("auto") => Overflow::DropOldTurns,
        _ => Overflow::Refuse,
    };
    let logprobs = included.then_some(top.unwrap_or(0));
    let chat = Job::new(Input::Chat { messages, vars, open: false });
    Ok((Job { logprobs, overflow, offer, shape, max_reasoning, ..chat }, coded))
}

const LOGPROBS: &str = "message.output_text.logprobs";
const REASONING: &str = "reasoning.encrypted_content";

/// `include`: what is wanted beside the text.
fn included(fields: &mut Fields) -> Result<Vec<&'static str>> {
    let list = fields.list("include")?.unwrap_or_default();
    let known = [LOGPROBS, REASONING];
    let one = |(at, what): (usize, Value)| {
        let why = || format!("is {what}; known: {}", known.join(", "));
        let found = known.into_iter().find(|known| what == *known);
        found.ok_or_else(|| fields.wrong(&format!("include[{at}]"), "unknown_value", why()))
    };
    list.into_iter().enumerate().map(one).collect()
}

/// What asks for nothing, or for a memory that this server does not have.
fn stateless(fields: &mut Fields) -> Result<()> {
    for memory in ["previous_response_id", "conversation"] {
        if fields.see(memory).is_some() {
            let why = "asks for what was said before, and this server keeps nothing; send the whole conversation as input";
            return Err(fields.wrong(memory, "unsupported_value", why));
        }
    }
    fields.only("background", &[json!(false)])?;
    if let Some(mut options) = fields.object("stream_options")? {
        options.only("include_obfuscation", &[json!(false)])?;
        options.finish()?;
    }
    // Labels, which the answer repeats.
    if let Some(labels) = fields.object("metadata")? {
        let path = fields.name("metadata");
        let texts = labels.rest();
        if let Some((label, _)) = texts.iter().find(|(_, value)| !value.is_string()) {
            let name = format!("{path}.{label}");
            return Err(Failure::field(name.clone(), "wrong_type", format!("{name} must be a string")));
        }
    }
    wire::harmless(fields)
}

/// `reasoning`: how hard to think, and for how long.
fn reasoning(fields: &mut Fields, loaded: &Loaded) -> Result<(Map<String, Value>, Option<usize>)> {
    let mut vars = Map::new();
    let Some(mut reasoning) = fields.object("reasoning")? else { return Ok((vars, None)) };
    if let Some(effort) = reasoning.word("effort", &thinking::EFFORTS)? {
        thinking::effort(loaded, effort, "reasoning.effort", &mut vars)?;
    }
    let most = reasoning.count("max_tokens", 0..=1 << 24)?;
    // What was thought is given as it is, which is what `auto` comes to where there is no better summary.
    reasoning.only("summary", &[json!("auto")])?;
    reasoning.finish()?;
    Ok((vars, most))
}
