//! From a job to its pieces: encode, submit, decode, sort, end at stop strings.

use crate::answer::{Answer, Ending, Finish, Part, Piece, Scored};
use crate::app::App;
use crate::failure::Failure;
use crate::job::Job;
use crate::loaded::Loaded;
use crate::metrics::Clock;
use crate::worker::{Refused, Running};
use sampan_engine::{Event, FinishReason, Usage};
use sampan_facade::{Encoded, StopMatcher, random_seed};
use sampan_text::{OutputEvent, OutputFormat, OutputParser, Start};
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces that may wait for a slow reader before the decoding waits too.
const PIECES: usize = 32;

/// Makes the prompts and gives all answers to the engine. What is refused is refused here, before the first piece.
pub(crate) async fn start(app: &App, loaded: Arc<Loaded>, jobs: Vec<Job>) -> Result<Answer, Failure> {
    let worker = loaded.worker()?.clone();
    let model = loaded.clone();
    let encode = move || {
        let encode = |job: Job| job.encode(&model).map(|(prompt, dropped)| (job, prompt, dropped));
        jobs.into_iter().map(encode).collect::<Result<Vec<_>, Failure>>()
    };
    let prompts = tokio::task::spawn_blocking(encode).await;
    let prompts = prompts.map_err(|e| Failure::internal(format!("encoding failed: {e}")))??;
    let (to, pieces) = mpsc::channel(PIECES);
    let mut answer = Answer { pieces, choices: 0, prompt_tokens: 0, dropped: None, loaded: loaded.clone() };
    let mut pumps = Vec::new();
    for (job, prompt, dropped) in prompts {
        app.limits.check_prompt(prompt.ids.len())?;
        answer.prompt_tokens += prompt.ids.len();
        answer.dropped = answer.dropped.or(dropped);
        let seed = job.asked.seed.unwrap_or_else(random_seed);
        for i in 0..job.choices {
            let request = job.request(&loaded, &prompt.ids, seed.wrapping_add(i as u64));
            let running = worker.submit(request).await.map_err(|refused| match refused {
                Refused::Submit(error) => Failure::from(error),
                Refused::Gone => {
                    Failure::internal("the engine has failed; the model is loaded again for the next request")
                }
            })?;
            let sorter = Sorter::new(&prompt, &job.asked.stop);
            pumps.push((
                prompt.ids.len(),
                Pump {
                    choice: answer.choices,
                    sorter,
                    running,
                    to: to.clone(),
                    pending: Vec::new(),
                    taken: 0,
                    thought: 0,
                    cached: 0,
                },
            ));
            answer.choices += 1;
        }
    }
    for (tokens, pump) in pumps {
        let (loaded, stop) = (loaded.clone(), app.stop.clone());
        let (metrics, deadline) = (app.metrics.clone(), Instant::now() + app.limits.answer_time);
        tokio::spawn(async move {
            let clock = metrics.clock(tokens);
            pump.run(&loaded, stop, deadline, clock).await;
        });
    }
    Ok(answer)
}

/// Sorts text into reasoning and content, and ends the content at a stop string.
struct Sorter {
    start: Start,
    format: OutputFormat,
    parser: OutputParser,
    stop: StopMatcher,
    /// What was not quite as the format wants it.
    warnings: Vec<String>,
}

enum Sorted {
    Text(Part, String),
    ContentWasReasoning,
}

impl Sorter {
    fn new(prompt: &Encoded, stops: &[String]) -> Sorter {
        let Encoded { start, format, .. } = *prompt;
        let parser = OutputParser::new(format, start, None);
        Sorter { start, format, parser, stop: StopMatcher::new(stops), warnings: Vec::new() }
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
                // Shown to nobody; and without tools there are no calls.
                _ => {}
            }
        }
        if last {
            sorted.push(Sorted::Text(Part::Content, self.stop.finish()));
        }
        sorted
    }
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
        mut clock: Clock<'_>,
    ) {
        let tokenizer = &loaded.speech.tokenizer;
        let mut decoder = match self.sorter.start {
            _ if self.sorter.format.needs_special(false) => tokenizer.stream_with_special(),
            Start::Answer => tokenizer.stream_continued(),
            _ => tokenizer.stream(),
        };
        loop {
            let event = tokio::select! {
                event = self.running.next() => event.map_or(Next::Lost, Next::Event),
                () = self.to.closed() => Next::Unwanted,
                () = tokio::time::sleep_until(deadline) => Next::Late,
                () = told(&mut stop) => Next::Shutdown,
            };
            match event {
                Next::Event(Event::Started { cached_tokens, .. }) => self.cached = cached_tokens,
                Next::Event(Event::Token { token, logprob, .. }) => {
                    self.taken += 1;
                    self.thought += usize::from(self.sorter.parser.in_reasoning());
                    clock.token();
                    self.pending.extend(logprob.map(|l| Scored {
                        token,
                        logprob: Some(l.logprob),
                        top: l.top,
                    }));
                    let text = decoder.push(token);
                    if self.give(&text, false).await.is_break() {
                        return clock.ended("abort");
                    }
                    if let Some(found) = self.sorter.stop.found() {
                        let finish = Finish::StopString(found.to_owned());
                        return self.end(finish, Usage::default(), Vec::new(), clock).await;
                    }
                }
                Next::Event(Event::Finished { reason, usage, .. }) => {
                    let rest = decoder.finish();
                    if self.give(&rest, true).await.is_break() {
                        return clock.ended("abort");
                    }
                    return self.finished(reason, usage, clock).await;
                }
                Next::Late => {
                    let rest = decoder.finish();
                    let _ = self.give(&rest, true).await;
                    let warnings = vec!["the server's time limit ended this answer".to_owned()];
                    return self.end(Finish::Length, Usage::default(), warnings, clock).await;
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
    async fn finished(mut self, reason: FinishReason, usage: Usage, clock: Clock<'_>) {
        let finish = match reason {
            _ if self.sorter.stop.stopped() => {
                Finish::StopString(self.sorter.stop.found().unwrap_or_default().to_owned())
            }
            FinishReason::Stop(_) => Finish::Stop,
            FinishReason::Length => Finish::Length,
            FinishReason::Context => Finish::Context,
            FinishReason::Cancelled => return clock.ended("abort"),
            FinishReason::Failed(bad) => {
                clock.ended("error");
                return self.fail(Failure::internal(bad.to_string())).await;
            }
        };
        self.taken = usage.generated_tokens;
        self.end(finish, usage, Vec::new(), clock).await;
    }

    /// Sorts a text and sends what is certain. `Break`: nobody is there any more.
    async fn give(&mut self, text: &str, last: bool) -> ControlFlow<()> {
        for sorted in self.sorter.push(text, last) {
            let piece = match sorted {
                Sorted::Text(_, text) if text.is_empty() => continue,
                Sorted::Text(part, text) => {
                    Piece::Text { part, text, scores: std::mem::take(&mut self.pending) }
                }
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
    async fn end(mut self, finish: Finish, usage: Usage, warnings: Vec<String>, clock: Clock<'_>) {
        let usage = Usage { generated_tokens: self.taken, cached_tokens: self.cached, ..usage };
        clock.ended(finish.openai());
        // What came after a stop string is none of the answer.
        let scores = match finish {
            Finish::StopString(_) => Vec::new(),
            _ => std::mem::take(&mut self.pending),
        };
        let ending = Ending { finish, usage, reasoning_tokens: self.thought, scores, warnings };
        let _ = self.to.send((self.choice, Piece::Ended(ending))).await;
    }

    async fn fail(self, failure: Failure) {
        let _ = self.to.send((self.choice, Piece::Failed(failure))).await;
    }
}
