//! Our own turns, through the engine's own path.

use super::row::{Kind, Row, most_streams};
use super::{Runner, too_much};
use crate::error::{AppError, Result};
use sampan::machine::available_memory;
use sampan::{Error, Memory, Model, PROGRAM_BYTES, Prepared};
use sampan_engine::{Engine, EngineOptions, Event, FinishReason, PAGE, Request};
use std::sync::Arc;
use std::time::Instant;

/// An engine that is as large as the rows need, and what it takes.
pub(super) struct Pool {
    pub(super) options: EngineOptions,
    pub(super) memory: Memory,
}

/// Sizes the engine for the rows.
pub(super) fn pool(rows: &[Row], prepared: &Prepared) -> Result<Pool> {
    let pages = rows.iter().map(|row| row.streams * row.context().div_ceil(PAGE)).max().unwrap_or(0);
    let max_running = most_streams(rows);
    let options = EngineOptions {
        kv_format: prepared.kv,
        pages: pages + 1,
        max_running,
        snapshots: 4,
        // What a made-up text repeats says nothing about real ones.
        speculate: 0,
        prompt_logprob_rows: 0,
        ..EngineOptions::default()
    };
    let Prepared { plan, kernels, kv, .. } = prepared;
    let memory = plan.memory(kernels, *kv, options.pages * PAGE, options.max_batch_tokens.max(max_running));
    let kv = memory.kv + options.state_bytes(plan);
    let scratch = memory.scratch + options.logits_bytes(plan) + PROGRAM_BYTES;
    let memory = Memory { kv, scratch, ..memory };
    match available_memory() {
        Some(available) if memory.total() as u64 > available.bytes => {
            Err(too_much(memory.total() as u64, &available))
        }
        _ => Ok(Pool { options, memory }),
    }
}

/// Requests of made-up tokens.
pub(super) struct Ours {
    engine: Engine,
    vocab: usize,
    context: usize,
    state: u64,
    /// What streams have in their context before: the last prompt, if it was long enough, which is in the cache.
    before: Vec<u32>,
}

impl Ours {
    pub(super) fn new(model: Arc<Model>, prepared: &Prepared, options: &EngineOptions) -> Ours {
        Ours {
            engine: Engine::new(model, options.clone()),
            vocab: prepared.plan.vocab,
            context: prepared.context,
            state: 1,
            before: Vec::new(),
        }
    }

    /// Prompt tokens per second. The tokens are new ones: nothing of them is in the cache.
    fn prompt(&mut self, tokens: usize) -> Result<f64> {
        let prompt = self.tokens(tokens);
        self.before.clone_from(&prompt);
        self.submit(prompt, 1)?;
        let mut usage = None;
        while !self.engine.is_idle() {
            for event in self.step()? {
                if let Event::Finished { usage: of, .. } = event {
                    usage = Some(of);
                }
            }
        }
        let usage = usage.ok_or_else(|| AppError::internal("the engine dropped a request"))?;
        let computed = usage.prompt_tokens - usage.cached_tokens;
        Ok(computed as f64 / usage.prefill.as_secs_f64())
    }

    /// Tokens per second of all streams together, over the steps in which all of them generate.
    fn generate(&mut self, row: &Row) -> Result<f64> {
        self.fill(row.depth)?;
        for _ in 0..row.streams {
            let mut prompt = self.before[..row.depth - 1].to_vec();
            prompt.extend(self.tokens(1));
            self.submit(prompt, row.tokens + 1)?;
        }
        let (mut firsts, mut generated) = (Vec::new(), 0);
        let (mut begin, mut speed) = (None, None);
        while !self.engine.is_idle() {
            let mut ended = false;
            for event in self.step()? {
                match event {
                    Event::Token { .. } if begin.is_some() => generated += 1,
                    Event::Token { id, .. } if !firsts.contains(&id) => firsts.push(id),
                    Event::Finished { .. } => ended = true,
                    _ => {}
                }
            }
            if begin.is_none() && firsts.len() == row.streams {
                begin = Some(Instant::now());
            } else if let (Some(begin), true) = (begin, ended) {
                // From here on fewer streams are left.
                speed.get_or_insert_with(|| f64::from(generated) / begin.elapsed().as_secs_f64());
            }
        }
        let short = || {
            let what = format!("{} tokens for {} streams are too few to measure", row.tokens, row.streams);
            AppError::user(what).hint("give a larger --generate")
        };
        speed.ok_or_else(short)
    }

    /// Brings the context that streams begin with into the cache, as far as it is not there still.
    fn fill(&mut self, depth: usize) -> Result<()> {
        if let Some(missing) = depth.checked_sub(self.before.len()) {
            let more = self.tokens(missing);
            self.before.extend(more);
        }
        if depth > PAGE {
            self.submit(self.before[..depth - 1].to_vec(), 0)?;
            while !self.engine.is_idle() {
                self.step()?;
            }
        }
        Ok(())
    }

    fn submit(&mut self, prompt: Vec<u32>, generate: usize) -> Result<()> {
        let request =
            Request { max_tokens: Some(generate), ..Request::new(prompt, self.context, self.vocab) };
        self.engine.submit(request).map_err(Error::from)?;
        Ok(())
    }

    fn step(&mut self) -> Result<Vec<Event>> {
        let events = self.engine.step();
        let failed = |event: &Event| match event {
            Event::Finished { reason: FinishReason::Failed(bad), .. } => Some(bad.clone()),
            _ => None,
        };
        match events.iter().find_map(failed) {
            Some(bad) => Err(Error::from(bad).into()),
            None => Ok(events),
        }
    }

    /// Made-up tokens, never the same ones twice, so that nothing is found in the cache by accident.
    fn tokens(&mut self, n: usize) -> Vec<u32> {
        let vocab = self.vocab as u64;
        let mut next = || {
            // Knuth's multiplier for 64-bit linear congruential generators (MMIX).
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.state >> 33) % vocab) as u32
        };
        (0..n).map(|_| next()).collect()
    }
}

impl Runner for Ours {
    fn name(&self) -> &str {
        "sampan"
    }

    fn warm_up(&mut self) -> Result<()> {
        self.prompt(64.min(self.context - 2))?;
        Ok(())
    }

    fn measure(&mut self, row: &Row) -> Result<f64> {
        match row.kind {
            Kind::Prompt => self.prompt(row.tokens),
            Kind::Generate => self.generate(row),
        }
    }
}

/// Reads a few tokens and generates one, in an engine of its own.
pub(super) fn first_token(model: Arc<Model>, prepared: &Prepared, prompt: usize) -> Result<()> {
    let options = EngineOptions {
        kv_format: prepared.kv,
        pages: 2,
        max_running: 1,
        snapshots: 0,
        ..EngineOptions::default()
    };
    Ours::new(model, prepared, &options).prompt(prompt).map(drop)
}
