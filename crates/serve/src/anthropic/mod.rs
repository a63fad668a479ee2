//! Anthropic's `/v1/messages`.

mod events;
mod read;

use crate::answer::{Answer, Choice, Cost, Finish};
use crate::app::{App, Asked as Request};
use crate::failure::Failure;
use crate::generate;
use crate::job::{Asked, Job};
use crate::openai::warnings;
use crate::service::json_body;
use crate::stream::{self, Form};
use crate::wire;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use events::Events;
use read::{cached, conversation};
use sampan_text::strftime;
use serde_json::{Value, json};
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
