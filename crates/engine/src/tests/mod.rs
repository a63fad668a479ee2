mod clients;
mod fake;
mod filters;
mod same_tokens;
mod scheduling;
mod scores;
mod snapshots;
mod speculation;

use crate::request::{Event, FinishReason, Logprob, Request, RequestId, Usage};
use crate::sampler::Sampling;
use crate::{Engine, EngineOptions};
use fake::{Fake, VOCAB};
use sampan_kernels::attention::{KvFormat, PAGE};
use std::collections::HashMap;

fn options(pages: usize, max_batch_tokens: usize, max_running: usize) -> EngineOptions {
    let kv_format = KvFormat::F32;
    EngineOptions {
        kv_format,
        pages,
        max_batch_tokens,
        max_running,
        max_waiting: 1000,
        ..EngineOptions::default()
    }
}

/// An engine may be handed to a thread of its own.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Engine>();
};

fn engine(options: EngineOptions) -> Engine {
    Engine::with_forward(Box::new(Fake::new(options.pages)), options)
}

/// Over a model with state beside its pages.
fn stateful(options: EngineOptions) -> Engine {
    let slots = options.max_running + options.snapshots;
    Engine::with_forward(Box::new(Fake::with_slots(options.pages, slots)), options)
}

/// `n` tokens that differ by `seed` from the first one on.
fn prompt(seed: u32, n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (seed * 7 + i * i + i / 11) % 37).collect()
}

fn request(prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request { max_tokens: Some(max_tokens), ..Request::new(prompt, 10_000, VOCAB) }
}

/// What the events have said about each request.
#[derive(Debug, Default)]
struct Log(HashMap<RequestId, Entry>);

#[derive(Clone, Debug, Default)]
struct Entry {
    started: Option<(usize, usize)>,
    /// With the index of the prompt's token.
    scores: Vec<(usize, Logprob)>,
    tokens: Vec<u32>,
    finished: Option<(FinishReason, Usage)>,
}

impl Log {
    /// Takes the events of one step, and checks that they come in order.
    fn add(&mut self, events: Vec<Event>) {
        for event in events {
            let (Event::Started { id, .. }
            | Event::Prompt { id, .. }
            | Event::Token { id, .. }
            | Event::Finished { id, .. }) = event;
            let entry = self.0.entry(id).or_default();
            assert!(entry.finished.is_none(), "{event:?} after the end");
            match event {
                Event::Started { prompt_tokens, cached_tokens, .. } => {
                    assert_eq!(entry.started.replace((prompt_tokens, cached_tokens)), None, "started twice");
                }
                Event::Prompt { first, logprobs, .. } => {
                    assert!(entry.started.is_some() && entry.tokens.is_empty(), "the prompt comes first");
                    let next = entry.scores.last().map_or(first, |(last, _)| last + 1);
                    assert_eq!(first, next, "scores come in order");
                    entry.scores.extend((first..).zip(logprobs));
                }
                Event::Token { token, .. } => {
                    assert!(entry.started.is_some(), "a token before the start");
                    entry.tokens.push(token);
                }
                Event::Finished { reason, usage, .. } => entry.finished = Some((reason, usage)),
            }
        }
    }

    fn step(&mut self, engine: &mut Engine) {
        let events = engine.step();
        assert_eq!(engine.check(), Ok(()));
        self.add(events);
    }

    fn run(mut self, engine: &mut Engine) -> Log {
        let mut steps = 0;
        while !engine.is_idle() {
            self.step(engine);
            steps += 1;
            assert!(steps < 100_000, "the engine does not get anywhere: {:?}", engine.stats());
        }
        assert_eq!(engine.stats().pages_used, 0);
        self
    }

    fn end(&self, id: RequestId) -> (&FinishReason, &Usage) {
        let (reason, usage) = self.0[&id].finished.as_ref().expect("every request ends");
        (reason, usage)
    }
}

fn run_all(engine: &mut Engine) -> Log {
    Log::default().run(engine)
}
