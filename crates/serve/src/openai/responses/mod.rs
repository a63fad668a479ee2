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
    let job = job(&loaded, messages, &mut fields)?;
    stateless(&mut fields)?;
    fields.finish()?;
    let job = Job { asked, client: request.client.id, ..job };
    let logprobs = job.logprobs.is_some();
    let mut answer = generate::start(&app, loaded, vec![job]).await?;
    let mut said = Said::new(Head::new("resp_", &answer.loaded.name), echo, &answer, logprobs);
    if stream {
        return Ok(stream::respond(answer, said, Form::Events));
    }
    let choices = answer.whole().await?;
    let choice = choices.first().ok_or_else(|| Failure::internal("there is no answer"))?;
    Ok(json_body(&said.whole(choice)?))
}

fn job(loaded: &Loaded, messages: Vec<Value>, fields: &mut Fields) -> Result<Job> {
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
    if top.is_some_and(|n| n > 0) && !included {
        return Err(fields.wrong("top_logprobs", "contradiction", format!("needs {INCLUDED:?} in include")));
    }
    let overflow = match fields.word("truncation", &["auto", "disabled"])? {
        Some("auto") => Overflow::DropOldTurns,
        _ => Overflow::Refuse,
    };
    let logprobs = included.then_some(top.unwrap_or(0));
    Ok(Job {
        logprobs,
        overflow,
        offer,
        shape,
        max_reasoning,
        ..Job::new(Input::Chat { messages, vars, open: false })
    })
}

const INCLUDED: &str = "message.output_text.logprobs";

/// `include`: whether log-probabilities are wanted.
fn included(fields: &mut Fields) -> Result<bool> {
    let list = fields.list("include")?.unwrap_or_default();
    match list.iter().position(|what| what != INCLUDED) {
        None => Ok(!list.is_empty()),
        Some(at) => {
            let why = format!("is {}; known: {INCLUDED}", list[at]);
            Err(fields.wrong(&format!("include[{at}]"), "unknown_value", why))
        }
    }
}

/// What asks for nothing, or for a memory that this server does not have.
fn stateless(fields: &mut Fields) -> Result<()> {
    fields.only("background", &[json!(false)])?;
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
