//! `/api/chat` and `/api/generate`.

use super::{keep_alive, options, timestamp};
use crate::answer::{Answer, Call, Choice, Cost, Ending, Finish, Part, Piece, Scored, ToolCall};
use crate::app::{App, Asked};
use crate::failure::{Dialect, Failure};
use crate::fields::Fields;
use crate::generate;
use crate::job::{Input, Job, Overflow};
use crate::loaded::Loaded;
use crate::registry::KeepAlive;
use crate::service::json_body;
use crate::stream::{self, Form, Frame, Frames};
use crate::{messages, openai, shape, thinking, tools, wire};
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

type Result<T> = std::result::Result<T, Failure>;

/// Whose answer it is: the two routes put the text in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Chat,
    Generate,
}

pub(crate) async fn handle(State(app): State<Arc<App>>, asked: Asked) -> Result<Response> {
    let begun = Instant::now();
    let mut fields = asked.fields;
    let model = fields.need_text("model")?;
    let list = fields.list("messages")?.unwrap_or_default();
    let mut messages = Vec::new();
    for (at, value) in list.into_iter().enumerate() {
        messages.push(message(value, &format!("messages[{at}]"))?);
    }
    let offer = tools::of(&mut fields)?;
    let loaded = app.registry.get(Some(&model)).await?;
    let vars = think(&mut fields, &loaded)?;
    // As Ollama's own templates have it, an assistant's last message is left open.
    let open = messages::is_begun(&messages);
    let input = (!messages.is_empty()).then_some(Input::Chat { messages, vars, open });
    let overflow =
        if fields.flag("truncate")? == Some(true) { Overflow::DropOldTurns } else { Overflow::Refuse };
    let job = input.map(|input| Job { offer, overflow, ..Job::new(input) });
    respond(&app, loaded, fields, asked.client.id, job, Route::Chat, begun).await
}

pub(crate) async fn generate(State(app): State<Arc<App>>, asked: Asked) -> Result<Response> {
    let begun = Instant::now();
    let mut fields = asked.fields;
    let model = fields.need_text("model")?;
    let prompt = fields.text("prompt")?.filter(|prompt| !prompt.is_empty());
    let suffix = fields.text("suffix")?.filter(|suffix| !suffix.is_empty());
    let system = fields.text("system")?;
    let raw = fields.flag("raw")?.unwrap_or(false);
    let loaded = app.registry.get(Some(&model)).await?;
    let vars = think(&mut fields, &loaded)?;
    // A model without a template continues the text, as Ollama's default template has it.
    let plain = raw || loaded.speech.template(false).is_err();
    if plain && system.is_some() {
        return Err(fields.wrong(
            "system",
            "contradiction",
            "has no place where the text is continued as it stands",
        ));
    }
    let input = prompt.map(|prompt| match suffix {
        Some(after) => Input::Fill { before: prompt, after },
        None if plain => Input::Text(prompt),
        None => {
            let system = system.map(|text| json!({"role": "system", "content": text}));
            let user = json!({"role": "user", "content": prompt});
            let messages = system.into_iter().chain([user]).collect();
            Input::Chat { messages, vars, open: false }
        }
    });
    respond(&app, loaded, fields, asked.client.id, input.map(Job::new), Route::Generate, begun).await
}

/// `think`: a switch or a level.
fn think(fields: &mut Fields, loaded: &Loaded) -> Result<Map<String, Value>> {
    let mut vars = Map::new();
    let effort = match fields.take("think") {
        None => return Ok(vars),
        Some(Value::Bool(false)) => "none",
        Some(Value::Bool(true)) => "medium",
        Some(Value::String(level)) if level == "low" => "low",
        Some(Value::String(level)) if level == "medium" => "medium",
        Some(Value::String(level)) if level == "high" => "high",
        Some(other) => {
            return Err(fields.wrong(
                "think",
                "unknown_value",
                format!("is {other}; known: true, false, low, medium, high"),
            ));
        }
    };
    thinking::effort(loaded, effort, "think", &mut vars)?;
    Ok(vars)
}

fn message(value: Value, path: &str) -> Result<Value> {
    let mut fields = Fields::of(value, path)?;
    let role = fields.word("role", &["system", "user", "assistant", "tool"])?;
    let role = role.ok_or_else(|| fields.missing("role"))?;
    let mut message = json!({"role": role, "content": fields.text("content")?.unwrap_or_default()});
    if let Some(thinking) = fields.text("thinking")? {
        message["reasoning_content"] = thinking.into();
    }
    if let Some(name) = fields.text("tool_name")? {
        message["name"] = name.into();
    }
    if let Some(id) = fields.text("tool_call_id")? {
        message["tool_call_id"] = id.into();
    }
    if let Some(calls) = fields.list("tool_calls")? {
        message["tool_calls"] = calls.into();
    }
    fields.only("images", &[json!([])])?;
    fields.finish()?;
    Ok(message)
}

/// Answers; a request without a prompt only loads the model, or lets go of it.
async fn respond(
    app: &App,
    loaded: Arc<Loaded>,
    mut fields: Fields,
    client: u64,
    job: Option<Job>,
    route: Route,
    begun: Instant,
) -> Result<Response> {
    let stream = fields.flag("stream")?.unwrap_or(true);
    let asked = options(&mut fields)?;
    let most = loaded.prepared.context;
    if let Some(context) = asked.context.filter(|context| *context > most) {
        let why = format!(
            "options.num_ctx is {context} and this model is served with a context of {most}; \
                           ask for less, or start the server with --context {context}"
        );
        return Err(Failure::field("options.num_ctx", "out_of_range", why));
    }
    let keep = keep_alive(&mut fields)?;
    let shape = shape::of_format(&mut fields)?;
    let logprobs = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.count("top_logprobs", 0..=20)?;
    if top.is_some_and(|n| n > 0) && !logprobs {
        return Err(fields.wrong("top_logprobs", "contradiction", "needs logprobs: true"));
    }
    let logprobs = logprobs.then_some(top.unwrap_or(0));
    fields.finish()?;
    let mut lines = Lines {
        loaded: loaded.clone(),
        route,
        begun,
        cost: Cost::default(),
        dropped: None,
        call: None,
        scores: logprobs.map(|_| Vec::new()),
    };
    if keep.is_some() {
        app.registry.keep(Some(&loaded.name), keep)?;
    }
    let Some(job) = job else {
        let mut value = lines.object(Part::Content, "");
        value["done"] = true.into();
        let unload = keep == Some(KeepAlive::For(Duration::ZERO));
        value["done_reason"] = if unload { "unload" } else { "load" }.into();
        return Ok(json_body(&value));
    };
    let job = Job { asked, client, shape, logprobs, ..job };
    let mut answer = generate::start(app, loaded, vec![job]).await?;
    let dropped = answer.dropped.map(openai::dropped);
    let lines = Lines { cost: Cost::new(answer.prompt_tokens), dropped, ..lines };
    if stream {
        return Ok(stream::respond(answer, lines, Form::Lines));
    }
    let choices = answer.whole().await?;
    let choice = choices.first().ok_or_else(|| Failure::internal("there is no answer"))?;
    Ok(json_body(&whole(lines, &answer, choice)?))
}

fn whole(mut lines: Lines, _: &Answer, choice: &Choice) -> Result<Value> {
    let ending = choice.ending()?;
    lines.score(&choice.scores);
    let mut value = lines.last(ending, &choice.content);
    if !choice.reasoning.is_empty() {
        let place = if lines.route == Route::Chat { &mut value["message"] } else { &mut value };
        place["thinking"] = choice.reasoning.as_str().into();
    }
    if !choice.calls.is_empty() {
        value["message"]["tool_calls"] = choice.calls.iter().map(tool_call).collect();
    }
    Ok(value)
}

/// The lines of a streamed answer.
struct Lines {
    loaded: Arc<Loaded>,
    route: Route,
    begun: Instant,
    cost: Cost,
    /// What was left out of the conversation, for the last line.
    dropped: Option<Value>,
    /// The call that is being written: lines only hold whole ones.
    call: Option<ToolCall>,
    /// Scores that go with the next line; `None` where they are not wanted.
    scores: Option<Vec<Scored>>,
}

/// A call in Ollama's form, with its arguments as an object.
fn tool_call(call: &ToolCall) -> Value {
    let arguments: Value =
        serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.as_str().into());
    json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}})
}

impl Lines {
    fn score(&mut self, more: &[Scored]) {
        self.scores.iter_mut().for_each(|scores| scores.extend_from_slice(more));
    }

    fn object(&mut self, part: Part, text: &str) -> Value {
        let mut value =
            json!({"model": self.loaded.name, "created_at": timestamp(SystemTime::now()), "done": false});
        let (content, thinking) = if part == Part::Content { (text, "") } else { ("", text) };
        match self.route {
            Route::Chat => value["message"] = json!({"role": "assistant", "content": content}),
            Route::Generate => value["response"] = content.into(),
        }
        if !thinking.is_empty() {
            let place = if self.route == Route::Chat { &mut value["message"] } else { &mut value };
            place["thinking"] = thinking.into();
        }
        if let Some(scores) = self.scores.as_mut().map(std::mem::take).filter(|scores| !scores.is_empty()) {
            value["logprobs"] = wire::chat_logprobs(&self.loaded, &scores)["content"].take();
        }
        value
    }

    fn last(&mut self, ending: &Ending, text: &str) -> Value {
        self.cost.add(ending);
        let mut value = self.object(Part::Content, text);
        let nanoseconds = |d: std::time::Duration| d.as_nanos() as u64;
        let usage = &ending.usage;
        let more = json!({
            "done": true,
            "done_reason": match ending.finish {
                Finish::Stop | Finish::StopString(_) | Finish::Calls => "stop",
                Finish::Length | Finish::Context | Finish::Broken(_) => "length",
            },
            "total_duration": nanoseconds(self.begun.elapsed()),
            "load_duration": 0,
            "prompt_eval_count": self.cost.prompt,
            "prompt_eval_duration": nanoseconds(usage.prefill),
            "eval_count": self.cost.completion,
            "eval_duration": nanoseconds(usage.decode),
        });
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        if let Some(dropped) = self.dropped.take() {
            value["dropped"] = dropped;
        }
        if !ending.warnings.is_empty() {
            value["warnings"] = openai::warnings(&ending.warnings);
        }
        value
    }
}

impl Frames for Lines {
    fn piece(&mut self, _: usize, piece: Piece) -> Vec<Frame> {
        match piece {
            Piece::Text { part, text, scores } => {
                self.score(&scores);
                vec![Frame::data(self.object(part, &text))]
            }
            Piece::Ended(ending) => {
                self.score(&ending.scores);
                vec![Frame::data(self.last(&ending, ""))]
            }
            Piece::Call(Call::Start { id, name, .. }, scores) => {
                self.score(&scores);
                self.call = Some(ToolCall { id, name, arguments: String::new() });
                Vec::new()
            }
            Piece::Call(Call::Arguments { json, .. }, scores) => {
                self.score(&scores);
                if let Some(call) = &mut self.call {
                    call.arguments.push_str(&json);
                }
                Vec::new()
            }
            Piece::Call(Call::End, scores) => {
                self.score(&scores);
                let mut value = self.object(Part::Content, "");
                value["message"]["tool_calls"] = self.call.take().iter().map(tool_call).collect();
                vec![Frame::data(value)]
            }
            Piece::Prompt(_) | Piece::ContentWasReasoning | Piece::Failed(_) => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Frame> {
        Vec::new()
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Frame> {
        vec![Frame::data(failure.body(Dialect::Ollama))]
    }
}
