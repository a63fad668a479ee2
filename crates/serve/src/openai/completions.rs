//! `/v1/completions`: texts continued as they stand, or filled in the middle.

use super::{Head, prompt_logprobs, usage, warnings};
use crate::answer::{Answer, Choice, Cost, Piece, Scored};
use crate::app::{App, Asked};
use crate::failure::{Dialect, Failure};
use crate::fields::{Fields, kind};
use crate::generate;
use crate::job::{Input, Job};
use crate::loaded::Loaded;
use crate::service::json_body;
use crate::stream::{self, Form, Frame, Frames};
use crate::{shape, wire};
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// Prompts that one request may bring.
const MOST_PROMPTS: usize = 256;

/// Tokens of an answer for which no number is asked, as OpenAI has it.
const DEFAULT_TOKENS: usize = 16;

pub(crate) async fn handle(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let Asked { mut fields, client } = asked;
    let model = fields.text("model")?;
    let (stream, include_usage) = wire::streaming(&mut fields)?;
    let echo = fields.flag("echo")?.unwrap_or(false);
    let ranked = prompt_logprobs(&mut fields, stream)?;
    let mut jobs = jobs(fields, echo, client.id)?;
    let logprobs = jobs.first().is_some_and(|job| job.logprobs.is_some());
    for job in &mut jobs {
        // What is echoed has scores like the rest.
        let echoed = job.logprobs.filter(|_| echo);
        job.prompt_logprobs = echoed.max(ranked);
    }
    let loaded = app.registry.get(model.as_deref()).await?;
    let echoes = if echo { echoes(&loaded, &jobs) } else { Vec::new() };
    let answer = generate::start(&app, loaded, jobs).await;
    let mut answer = answer.map_err(|failure| failure.renamed("messages", "prompt"))?;
    let head = Head::new("cmpl-", &answer.loaded.name);
    if stream {
        let frames = Chunks {
            head,
            loaded: answer.loaded.clone(),
            offsets: vec![0; answer.choices],
            echoed: vec![false; answer.choices],
            echoes,
            logprobs,
            include_usage,
            cost: Cost::new(answer.prompt_tokens),
        };
        return Ok(stream::respond(answer, frames, Form::Events));
    }
    let choices = answer.whole().await?;
    let wanted = Wanted { logprobs, echo, ranked: ranked.is_some() };
    Ok(json_body(&whole(&head, &answer, &choices, &echoes, wanted)?))
}

fn jobs(mut fields: Fields, echo: bool, client: u64) -> Result<Vec<Job>, Failure> {
    let prompts = prompts(&mut fields)?;
    let suffix = fields.text("suffix")?.filter(|suffix| !suffix.is_empty());
    let mut asked = wire::sampling(&mut fields)?;
    asked.max_tokens = asked.max_tokens.or(Some(DEFAULT_TOKENS));
    let choices = wire::choices(&mut fields)?;
    fields.only("best_of", &[json!(choices)])?;
    let logprobs = fields.count("logprobs", 0..=20)?;
    if echo && suffix.is_some() {
        return Err(fields.wrong("echo", "contradiction", "cannot be combined with suffix"));
    }
    let shape = shape::of(&mut fields)?;
    wire::harmless(&mut fields)?;
    let wrong = fields.wrong("suffix", "wrong_type", "needs a prompt that is text");
    fields.finish()?;
    let job = |input: Input| {
        let input = match (input, &suffix) {
            (Input::Text(before), Some(after)) => Input::Fill { before, after: after.clone() },
            (_, Some(_)) => return Err(wrong.clone()),
            (input, None) => input,
        };
        Ok(Job { asked: asked.clone(), choices, logprobs, shape: shape.clone(), client, ..Job::new(input) })
    };
    prompts.into_iter().map(job).collect()
}

/// A text, several, token ids, or several lists of these.
fn prompts(fields: &mut Fields) -> Result<Vec<Input>, Failure> {
    let list = match fields.take("prompt") {
        None => return Err(fields.missing("prompt")),
        Some(Value::String(text)) => return Ok(vec![Input::Text(text)]),
        Some(Value::Array(list)) => list,
        Some(other) => {
            let why = format!("must be a string, a list of strings, or token ids, and is {}", kind(&other));
            return Err(fields.wrong("prompt", "wrong_type", why));
        }
    };
    if list.is_empty() || list.len() > MOST_PROMPTS && !list[0].is_number() {
        let why = format!("has {} entries; 1 to {MOST_PROMPTS} prompts are taken", list.len());
        return Err(fields.wrong("prompt", "out_of_range", why));
    }
    if list[0].is_number() {
        return Ok(vec![Input::Ids(wire::tokens(fields, "prompt", &list)?)]);
    }
    let prompt = |(at, value): (usize, Value)| match value {
        Value::String(text) => Ok(Input::Text(text)),
        Value::Array(ids) => Ok(Input::Ids(wire::tokens(fields, &format!("prompt[{at}]"), &ids)?)),
        other => {
            let why = format!("must be a string or token ids and is {}", kind(&other));
            Err(fields.wrong(&format!("prompt[{at}]"), "wrong_type", why))
        }
    };
    list.into_iter().enumerate().map(prompt).collect()
}

/// The prompts' texts, one for each choice.
fn echoes(loaded: &Loaded, jobs: &[Job]) -> Vec<String> {
    let text = |job: &Job| match &job.input {
        Input::Text(text) => text.clone(),
        Input::Ids(ids) => loaded.speech.tokenizer.decode(ids, false),
        _ => String::new(),
    };
    jobs.iter().flat_map(|job| std::iter::repeat_n(text(job), job.choices)).collect()
}

/// Which scores are wanted, and where.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    logprobs: bool,
    echo: bool,
    /// Those of the prompt in vLLM's form.
    ranked: bool,
}

/// The scores of an answer, with that of the token that ended it, which has no text in the answer.
fn scores(scores: &[Scored], stop: Option<&Scored>) -> Vec<Scored> {
    scores.iter().chain(stop).cloned().collect()
}

fn whole(
    head: &Head,
    answer: &Answer,
    choices: &[Choice],
    echoes: &[String],
    wanted: Wanted,
) -> Result<Value, Failure> {
    head.whole("text_completion", answer, choices, |index, choice| {
        let ending = choice.ending()?;
        let echo = echoes.get(index).map(String::as_str).unwrap_or_default();
        let logprobs = wanted.logprobs.then(|| {
            let mut all = if wanted.echo { choice.prompt.clone() } else { Vec::new() };
            all.extend(scores(&choice.scores, ending.stop.as_ref()));
            wire::text_logprobs(&answer.loaded, &all, 0).0
        });
        let mut value = json!({
            "index": index,
            "text": format!("{echo}{}", choice.content),
            "logprobs": logprobs,
            "finish_reason": ending.finish.openai(),
        });
        if wanted.ranked {
            value["prompt_logprobs"] = wire::prompt_logprobs(&answer.loaded, &choice.prompt);
        }
        Ok(value)
    })
}

/// The chunks of a streamed completion.
struct Chunks {
    head: Head,
    loaded: Arc<Loaded>,
    /// Where the next token's text begins, for each choice.
    offsets: Vec<usize>,
    echoes: Vec<String>,
    /// Whether it has been said, of each choice.
    echoed: Vec<bool>,
    logprobs: bool,
    include_usage: bool,
    cost: Cost,
}

impl Chunks {
    fn choice(&mut self, index: usize, text: &str, scores: &[Scored], finish: Option<&str>) -> Value {
        let scores = self.logprobs.then(|| {
            let (value, offset) = wire::text_logprobs(&self.loaded, scores, self.offsets[index]);
            self.offsets[index] = offset;
            value
        });
        let choice = json!({"index": index, "text": text, "logprobs": scores, "finish_reason": finish});
        let mut chunk = self.head.object("text_completion", json!([choice]));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

impl Frames for Chunks {
    fn begin(&mut self) -> Vec<Frame> {
        // An echo with scores comes when they do.
        if self.logprobs {
            return Vec::new();
        }
        let echoes = std::mem::take(&mut self.echoes);
        echoes.iter().enumerate().map(|(i, echo)| Frame::data(self.choice(i, echo, &[], None))).collect()
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Frame> {
        match piece {
            Piece::Prompt(scores) => {
                let first = !std::mem::replace(&mut self.echoed[index], true);
                let echo = if first { self.echoes.get_mut(index).map(std::mem::take) } else { None };
                vec![Frame::data(self.choice(index, &echo.unwrap_or_default(), &scores, None))]
            }
            Piece::Text { text, scores, .. } => vec![Frame::data(self.choice(index, &text, &scores, None))],
            Piece::Ended(ending) => {
                self.cost.add(&ending);
                let scores = scores(&ending.scores, ending.stop.as_ref());
                let mut chunk = self.choice(index, "", &scores, Some(ending.finish.openai()));
                if !ending.warnings.is_empty() {
                    chunk["warnings"] = warnings(&ending.warnings);
                }
                vec![Frame::data(chunk)]
            }
            Piece::Call(..) | Piece::ContentWasReasoning | Piece::Failed(_) => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.include_usage {
            let mut chunk = self.head.object("text_completion", json!([]));
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
