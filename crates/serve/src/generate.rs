//! From a job to its pieces: encode, submit, decode, sort, end at stop strings.

use crate::answer::{Answer, Call, Ending, Finish, Part, Piece, Scored};
use crate::app::App;
use crate::failure::Failure;
use crate::job::{Dropped, Job};
use crate::loaded::Loaded;
use crate::metrics::Clock;
use crate::wire;
use crate::worker::{Refused, Running};
use axum::http::StatusCode;
use sampan_engine::{Event, FinishReason, Logprob, TokenFilter, Usage};
use sampan_facade::{Encoded, StopMatcher, random_seed};
use sampan_text::{OutputEvent, OutputParser, Start, Tools};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces that may wait for a slow reader before the decoding waits too.
const PIECES: usize = 32;

/// A job with its prompt, and what restricts the answers.
struct Ready {
    job: Job,
    prompt: Encoded,
    dropped: Option<Dropped>,
    filter: Option<Box<dyn TokenFilter>>,
}

fn ready(job: Job, loaded: &Loaded) -> Result<Ready, Failure> {
    let (prompt, dropped) = job.encode(loaded)?;
    let filter = job.filter(loaded, &prompt)?;
    Ok(Ready { job, prompt, dropped, filter })
}

/// Makes the prompts and gives all answers to the engine. What is refused is refused here, before the first piece.
pub(crate) async fn start(app: &App, loaded: Arc<Loaded>, jobs: Vec<Job>) -> Result<Answer, Failure> {
    let worker = loaded.worker()?.clone();
    let model = loaded.clone();
    let ready = move || jobs.into_iter().map(|job| ready(job, &model)).collect::<Result<Vec<_>, Failure>>();
    let prompts = tokio::task::spawn_blocking(ready).await;
    let prompts = prompts.map_err(|e| Failure::internal(format!("encoding failed: {e}")))??;
    let (to, pieces) = mpsc::channel(PIECES);
    let mut answer = Answer { pieces, choices: 0, prompt_tokens: 0, dropped: None, loaded: loaded.clone() };
    let mut pumps = Vec::new();
    for Ready { job, prompt, dropped, filter } in prompts {
        answer.prompt_tokens += prompt.ids.len();
        answer.dropped = answer.dropped.or(dropped);
        let seed = job.asked.seed.unwrap_or_else(random_seed);
        for i in 0..job.choices {
            let clock = app.admit(&loaded, &job, prompt.ids.len())?;
            let request = job.request(&loaded, &prompt.ids, seed.wrapping_add(i as u64), filter.clone());
            let running = worker.submit(request).await.map_err(|refused| match refused {
                Refused::Submit(error) => Failure::from(error),
                Refused::Gone => {
                    Failure::internal("the engine has failed; the model is loaded again for the next request")
                }
            })?;
            let tools = job.offer.as_ref().map(|offer| offer.tools.clone());
            let pump = Pump {
                choice: answer.choices,
                sorter: Sorter::new(&prompt, &job.asked.stop, tools),
                running,
                to: to.clone(),
                scored: job.prompt_logprobs.map(|_| prompt.ids.clone()),
                pending: Vec::new(),
                taken: 0,
                thought: 0,
                cached: 0,
            };
            pumps.push((clock, pump));
            answer.choices += 1;
        }
    }
    for (clock, pump) in pumps {
        let (loaded, stop) = (loaded.clone(), app.stop.clone());
        let deadline = Instant::now() + app.limits.answer_time;
        tokio::spawn(async move { pump.run(&loaded, stop, deadline, clock).await });
    }
    Ok(answer)
}

/// Sorts text into reasoning and content, and ends the content at a stop string.
struct Sorter {
    start: Start,
    /// Whether special tokens are part of the format.
    special: bool,
    parser: OutputParser,
    stop: StopMatcher,
    /// What was not quite as the format wants it.
    warnings: Vec<String>,
    /// Whether there were calls, all of them complete.
    called: Option<bool>,
}

#[derive(Debug, PartialEq)]
enum Sorted {
    Text(Part, String),
    Call(Call),
    ContentWasReasoning,
}

impl Sorter {
    fn new(prompt: &Encoded, stops: &[String], tools: Option<Tools>) -> Sorter {
        let Encoded { start, format, .. } = *prompt;
        let special = format.needs_special(tools.is_some());
        let parser = OutputParser::new(format, start, tools);
        Sorter { start, special, parser, stop: StopMatcher::new(stops), warnings: Vec::new(), called: None }
    }

    /// The texts that are certain now; after a stop string was found, none.
    fn push(&mut self, text: &str, last: bool) -> Vec<Sorted> {
        let mut events = self.parser.push(text);
        if last {
            events.extend(self.parser.finish());
        }
        let mut sorted = Vec::new();
        for event in events {
            match event {
                OutputEvent::Reasoning(text) => sorted.push(Sorted::Text(Part::Reasoning, text)),
                OutputEvent::Content(text) => sorted.push(Sorted::Text(Part::Content, self.stop.push(&text))),
                OutputEvent::ContentWasReasoning => {
                    sorted.push(Sorted::Text(Part::Content, self.stop.finish()));
                    sorted.push(Sorted::ContentWasReasoning);
                }
                OutputEvent::Warning(warning) => self.warnings.push(warning.to_string()),
                OutputEvent::CallStart { index, id, name } => {
                    self.called.get_or_insert(true);
                    let id = id.unwrap_or_else(|| wire::id("call_"));
                    sorted.push(Sorted::Call(Call::Start { index, id, name }));
                }
                OutputEvent::CallArguments { index, json } => {
                    sorted.push(Sorted::Call(Call::Arguments { index, json }));
                }
                OutputEvent::CallEnd { complete, .. } => {
                    self.called = self.called.map(|all| all && complete);
                    sorted.push(Sorted::Call(Call::End));
                }
                // Shown to nobody.
                OutputEvent::Markup(_) => {}
            }
        }
        if last {
            sorted.push(Sorted::Text(Part::Content, self.stop.finish()));
        }
        sorted
    }
}

fn scored(token: u32, logprob: Logprob) -> Scored {
    Scored { token, logprob: Some(logprob.logprob), top: logprob.top }
}

/// Resolves when the server ends.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What a pump waits for.
enum Next {
    Event(Event),
    /// The engine's thread has ended.
    Lost,
    /// Nobody reads any more.
    Unwanted,
    /// Time is up.
    Late,
    /// The server ends.
    Shutdown,
}

/// Carries one choice from the engine to whoever reads it.
struct Pump {
    choice: usize,
    sorter: Sorter,
    running: Running,
    to: mpsc::Sender<(usize, Piece)>,
    /// The prompt's tokens, where their scores are wanted.
    scored: Option<Vec<u32>>,
    /// Scores of tokens whose text is not yet certain.
    pending: Vec<Scored>,
    /// Tokens seen.
    taken: usize,
    /// Of these, tokens of reasoning.
    thought: usize,
    /// Tokens of the prompt that were in the cache.
    cached: usize,
}

impl Pump {
    async fn run(
        mut self,
        loaded: &Loaded,
        mut stop: watch::Receiver<bool>,
        deadline: Instant,
        mut clock: Clock,
    ) {
        let tokenizer = &loaded.speech.tokenizer;
        let mut decoder = match self.sorter.start {
            _ if self.sorter.special => tokenizer.stream_with_special(),
            Start::Answer => tokenizer.stream_continued(),
            _ => tokenizer.stream(),
        };
        // Nothing comes before a prompt's first token, so that it has no score.
        if let Some(&first) = self.scored.as_ref().and_then(|prompt| prompt.first()) {
            let first = Scored { token: first, logprob: None, top: Vec::new() };
            if self.to.send((self.choice, Piece::Prompt(vec![first]))).await.is_err() {
                return clock.ended("abort");
            }
        }
        loop {
            let event = tokio::select! {
                event = self.running.next() => event.map_or(Next::Lost, Next::Event),
                () = self.to.closed() => Next::Unwanted,
                () = tokio::time::sleep_until(deadline) => Next::Late,
                () = told(&mut stop) => Next::Shutdown,
            };
            match event {
                Next::Event(Event::Started { cached_tokens, queued, .. }) => {
                    clock.started(cached_tokens, queued);
                    self.cached = cached_tokens;
                }
                Next::Event(Event::Prompt { first, logprobs, .. }) => {
                    let prompt = self.scored.as_deref().unwrap_or_default();
                    let tokens = prompt.get(first..).unwrap_or_default();
                    let scores = tokens.iter().zip(logprobs).map(|(&token, l)| scored(token, l)).collect();
                    if self.to.send((self.choice, Piece::Prompt(scores))).await.is_err() {
                        return clock.ended("abort");
                    }
                }
                Next::Event(Event::Token { token, logprob, .. }) => {
                    self.taken += 1;
                    self.thought += usize::from(self.sorter.parser.in_reasoning());
                    clock.token();
                    self.pending.extend(logprob.map(|l| scored(token, l)));
                    let text = decoder.push(token);
                    if self.give(&text, false).await.is_break() {
                        return clock.ended("abort");
                    }
                    if let Some(found) = self.sorter.stop.found() {
                        let finish = Finish::StopString(found.to_owned());
                        return self.end(finish, Usage::default(), None, Vec::new(), clock).await;
                    }
                }
                Next::Event(Event::Finished { reason, usage, logprob, .. }) => {
                    let rest = decoder.finish();
                    if self.give(&rest, true).await.is_break() {
                        return clock.ended("abort");
                    }
                    return self.finished(reason, usage, logprob, clock).await;
                }
                Next::Late => {
                    let rest = decoder.finish();
                    let _ = self.give(&rest, true).await;
                    let warnings = vec!["the server's time limit ended this answer".to_owned()];
                    return self.end(Finish::Length, Usage::default(), None, warnings, clock).await;
                }
                Next::Unwanted => return clock.ended("abort"),
                Next::Shutdown => {
                    clock.ended("abort");
                    return self.fail(Failure::shutdown()).await;
                }
                Next::Lost => {
                    clock.ended("error");
                    return self.fail(Failure::internal("the engine has failed")).await;
                }
            }
        }
    }

    /// Says why the engine ended the request.
    async fn finished(mut self, reason: FinishReason, usage: Usage, logprob: Option<Logprob>, clock: Clock) {
        let mut warnings = Vec::new();
        let stop = match reason {
            FinishReason::Stop(token) => logprob.map(|l| scored(token, l)),
            _ => None,
        };
        let finish = match reason {
            _ if self.sorter.stop.stopped() => {
                Finish::StopString(self.sorter.stop.found().unwrap_or_default().to_owned())
            }
            FinishReason::Stop(_) | FinishReason::Complete if self.sorter.called == Some(true) => {
                Finish::Calls
            }
            FinishReason::Stop(_) | FinishReason::Complete => Finish::Stop,
            FinishReason::Length => Finish::Length,
            FinishReason::Context => Finish::Context,
            FinishReason::Cancelled => return clock.ended("abort"),
            FinishReason::Failed(bad) => {
                clock.ended("error");
                return self.fail(Failure::internal(bad.to_string())).await;
            }
            FinishReason::Filter(bad) if usage.generated_tokens == 0 => {
                clock.ended("error");
                let code = "invalid_constraint";
                return self.fail(Failure::new(StatusCode::BAD_REQUEST, code, bad.to_string())).await;
            }
            // What has been written is not thrown away.
            FinishReason::Filter(bad) => {
                let why = format!("this answer is not complete: {bad}");
                warnings.push(why.clone());
                Finish::Broken(why)
            }
        };
        self.taken = usage.generated_tokens;
        self.end(finish, usage, stop, warnings, clock).await;
    }

    /// Sorts a text and sends what is certain. `Break`: nobody is there any more.
    async fn give(&mut self, text: &str, last: bool) -> ControlFlow<()> {
        for sorted in self.sorter.push(text, last) {
            let piece = match sorted {
                Sorted::Text(_, text) if text.is_empty() => continue,
                Sorted::Text(part, text) => {
                    Piece::Text { part, text, scores: std::mem::take(&mut self.pending) }
                }
                Sorted::Call(call) => Piece::Call(call, std::mem::take(&mut self.pending)),
                Sorted::ContentWasReasoning => {
                    self.thought = self.taken;
                    Piece::ContentWasReasoning
                }
            };
            if self.to.send((self.choice, piece)).await.is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// `usage` is the engine's, or the default where the answer ends before the engine does.
    async fn end(
        mut self,
        finish: Finish,
        usage: Usage,
        stop: Option<Scored>,
        mut warnings: Vec<String>,
        clock: Clock,
    ) {
        warnings.append(&mut self.sorter.warnings);
        let usage = Usage { generated_tokens: self.taken, cached_tokens: self.cached, ..usage };
        clock.ended(finish.openai());
        // What came after a stop string is none of the answer.
        let scores = match finish {
            Finish::StopString(_) => Vec::new(),
            _ => std::mem::take(&mut self.pending),
        };
        let ending = Ending { finish, usage, reasoning_tokens: self.thought, scores, stop, warnings };
        let _ = self.to.send((self.choice, Piece::Ended(ending))).await;
    }

    async fn fail(self, failure: Failure) {
        let _ = self.to.send((self.choice, Piece::Failed(failure))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_text::OutputFormat;
    use serde_json::json;

    /// What a model of Qwen's kind writes, as it is sorted: texts, and calls with their arguments.
    #[test]
    fn calls_are_told_from_text() {
        let template = "{{ tools }} <think> </think> <tool_call>{\"name\": x, \"arguments\": y}</tool_call>";
        let format = OutputFormat::of_template(template);
        let prompt = Encoded { ids: Vec::new(), text: String::new(), start: Start::Either, format };
        let tools =
            json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]);
        let mut sorter = Sorter::new(&prompt, &[], Some(Tools::from_json(&tools)));
        let output = "<think>\nHm.\n</think>\n\nLet me.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 3}}\n</tool_call>";
        let (mut text, mut thought, mut calls) = (String::new(), String::new(), Vec::new());
        for (at, _) in output.char_indices() {
            for sorted in sorter.push(&output[at..=at], at + 1 == output.len()) {
                match sorted {
                    Sorted::Text(Part::Content, piece) => text.push_str(&piece),
                    Sorted::Text(Part::Reasoning, piece) => thought.push_str(&piece),
                    Sorted::Call(Call::Start { name, .. }) => calls.push((name, String::new())),
                    Sorted::Call(Call::Arguments { index, json }) => calls[index].1.push_str(&json),
                    _ => {}
                }
            }
        }
        let call = ("add".to_owned(), r#"{"a": 3}"#.to_owned());
        assert_eq!((thought.as_str(), text.trim(), calls), ("Hm.", "Let me.", vec![call]));
        assert_eq!((sorter.called, sorter.warnings), (Some(true), Vec::new()));
    }
}
