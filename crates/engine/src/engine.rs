//! The engine: requests in, events out, one step at a time.

use crate::forward::{Forward, Loaded};
use crate::request::{Event, FinishReason, Request, RequestId, Sequence};
use crate::sampler::{Choice, Sampler};
use crate::scheduler::{Scheduler, Work};
use crate::submit::SubmitError;
use sampan_kernels::attention::{KvFormat, PAGE};
use sampan_model::{CacheSizes, Chunk, Logits, Model, Plan};
use std::collections::VecDeque;
use std::sync::Arc;

/// Sizes that are fixed for an engine's life.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Size of the KV pool in pages of [`PAGE`] tokens.
    pub pages: usize,
    /// Tokens in a step. Each generating request always gets its one; prompts share the rest, which is never less
    /// than a page.
    pub max_batch_tokens: usize,
    /// Requests that are computed at the same time.
    pub max_running: usize,
    /// Requests that may wait besides those; more are refused.
    pub max_waiting: usize,
    /// States of sequences that are kept for others with the same beginning, at most. Only for models that have
    /// state beside their pages (windows, recurrent layers); without any, these compute every prompt from its start.
    pub snapshots: usize,
    /// Bytes of these states together, at most.
    pub snapshot_bytes: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            kv_format: KvFormat::F16,
            pages: 256,
            max_batch_tokens: 512,
            max_running: 16,
            max_waiting: 256,
            snapshots: 32,
            snapshot_bytes: 1 << 30,
        }
    }
}

impl EngineOptions {
    /// Bytes that the states of `plan` can take beyond [`Plan::memory`], which counts one sequence: those of the
    /// other running sequences, and the snapshots. Committed as they are first used.
    pub fn state_bytes(&self, plan: &Plan) -> usize {
        let slot = plan.slot_bytes(self.kv_format, self.pages);
        (self.max_running.max(1) - 1 + self.snapshots_of(slot).unwrap_or(0)) * slot
    }

    /// How many snapshots there may be, each of so many bytes; `None` where there is nothing to save.
    pub(crate) fn snapshots_of(&self, slot_bytes: usize) -> Option<usize> {
        Some(self.snapshots.min(self.snapshot_bytes.checked_div(slot_bytes)?))
    }
}

/// The engine's state in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Pages in the pool.
    pub pages: usize,
    /// Pages that running requests hold.
    pub pages_used: usize,
    /// Pages that nobody holds and whose contents can be found again.
    pub pages_cached: usize,
    /// Pages without contents.
    pub pages_free: usize,
    /// Requests being computed.
    pub running: usize,
    /// Requests waiting for their turn.
    pub waiting: usize,
    /// Steps that ran the model.
    pub steps: u64,
    /// Prompt tokens of the requests that have got as far as their first token.
    pub prompt_tokens: u64,
    /// Of these, tokens that were found in the cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// How often a request lost its pages to an older one and was computed again.
    pub preemptions: u64,
    /// States kept for sequences to come; always 0 for a model that has none beside its pages.
    pub snapshots: usize,
    /// Bytes of these.
    pub snapshot_bytes: usize,
    /// How often a request went on from one.
    pub snapshot_hits: u64,
}

/// Runs requests on a model, many at a time. A request's tokens depend on the request alone, and not on what else
/// the engine does.
#[derive(Debug)]
pub struct Engine {
    forward: Box<dyn Forward>,
    scheduler: Scheduler,
    sampler: Sampler,
    logits: Vec<f32>,
    pending: VecDeque<Event>,
    options: EngineOptions,
    next_id: u64,
    totals: EngineStats,
}

impl Engine {
    /// An engine over a loaded model. The memory of pages and states is committed as it is first used.
    pub fn new(model: Arc<Model>, options: EngineOptions) -> Engine {
        let EngineOptions { kv_format: format, pages, .. } = options;
        let snapshots = options.snapshots_of(model.plan().slot_bytes(format, pages)).unwrap_or(0);
        let slots = options.max_running.max(1) + snapshots;
        Engine::with_forward(Box::new(Loaded::new(model, CacheSizes { format, pages, slots })), options)
    }

    pub(crate) fn with_forward(forward: Box<dyn Forward>, options: EngineOptions) -> Engine {
        Engine {
            scheduler: Scheduler::new(&options, options.snapshots_of(forward.slot_bytes())),
            forward,
            sampler: Sampler::default(),
            logits: Vec::new(),
            pending: VecDeque::new(),
            options,
            next_id: 0,
            totals: EngineStats::default(),
        }
    }

    /// Takes a request on; [`Engine::step`] runs it.
    ///
    /// # Errors
    /// If the request can never be run as it is, or the queue is full; the message has the numbers. Nothing of the
    /// request is kept then.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, SubmitError> {
        let room = self.options.pages * PAGE;
        let (running, waiting) = (self.scheduler.running.len(), self.scheduler.waiting.len());
        SubmitError::check(&request, self.forward.vocab(), room)?;
        if running + waiting >= self.options.max_running.max(1) + self.options.max_waiting {
            return Err(SubmitError::QueueFull { running, waiting });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.scheduler.waiting.push_back(Sequence::new(id, request, room));
        Ok(id)
    }

    /// Ends a request; its last event comes with the next step. Without effect if it has already ended.
    pub fn cancel(&mut self, id: RequestId) {
        if let Some(seq) = self.scheduler.remove(id) {
            self.pending.push_back(finished(&seq, FinishReason::Cancelled));
        }
    }

    /// Whether there is nothing to do: every request has ended and its last event has been handed out.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.scheduler.running.is_empty() && self.scheduler.waiting.is_empty()
    }

    /// Runs the model once, if there is work, and says what has happened since the last step.
    pub fn step(&mut self) -> Vec<Event> {
        let batch = self.scheduler.schedule();
        self.run(&batch);
        let choices = self.sample(&batch);
        self.emit(&batch, choices)
    }

    /// Runs the batch's tokens, and leaves in `logits` a row for each sequence that has none outstanding then.
    fn run(&mut self, batch: &[Work]) {
        self.logits.clear();
        if batch.is_empty() {
            return;
        }
        for &work in batch {
            let seq = &mut self.scheduler.running[work.index];
            if seq.start() {
                let (id, prompt_tokens, cached_tokens) = (seq.id, seq.prompt, seq.cached);
                self.pending.push_back(Event::Started { id, prompt_tokens, cached_tokens });
            }
        }
        for (from, to) in self.scheduler.pages.slots.copies() {
            self.forward.copy_slot(from, to);
        }
        let running = &self.scheduler.running;
        let chunks: Vec<Chunk<'_>> = batch
            .iter()
            .map(|&work| {
                let seq = &running[work.index];
                Chunk {
                    tokens: &seq.tokens[seq.computed..][..work.tokens],
                    start: seq.computed,
                    pages: &seq.pages,
                    slot: seq.slot.expect("a running sequence has a slot"),
                    logits: if wants_token(seq, work) { Logits::Last } else { Logits::None },
                }
            })
            .collect();
        self.forward.forward(&chunks, &mut self.logits);
        self.totals.steps += 1;
    }

    /// Chooses the next token of each sequence that is ready for it; `None` for the others.
    fn sample(&mut self, batch: &[Work]) -> Vec<Option<Choice>> {
        let mut rows = self.logits.chunks_exact(self.forward.vocab());
        let mut choices = Vec::with_capacity(batch.len());
        for &work in batch {
            let seq = &self.scheduler.running[work.index];
            let row = if wants_token(seq, work) { rows.next() } else { None };
            choices.push(row.map(|row| {
                let Sequence { sampling, tokens, prompt, vocab_limit, .. } = seq;
                self.sampler.choose(&row[..*vocab_limit], tokens, *prompt, sampling)
            }));
        }
        choices
    }

    /// Records what was run and chosen, lets go of the sequences that have ended, and tells of it all.
    fn emit(&mut self, batch: &[Work], choices: Vec<Option<Choice>>) -> Vec<Event> {
        let mut events: Vec<Event> = self.pending.drain(..).collect();
        let mut ended = Vec::new();
        for (&work, choice) in batch.iter().zip(choices) {
            self.scheduler.record(work);
            let seq = &mut self.scheduler.running[work.index];
            let id = seq.id;
            match choice {
                Some(Ok((token, logprob))) => {
                    self.totals.generated_tokens += 1;
                    if seq.generated() == 0 {
                        self.totals.prompt_tokens += seq.prompt as u64;
                        self.totals.cached_tokens += seq.cached as u64;
                    }
                    seq.push(token);
                    if !seq.stop_tokens.contains(&token) {
                        events.push(Event::Token { id, token, logprob });
                    }
                    ended.extend(seq.finish().map(|reason| (id, reason)));
                }
                Some(Err(bad)) => ended.push((id, FinishReason::Failed(bad))),
                // Without a choice, all is computed only of a request that wants no token.
                None if seq.outstanding() == 0 => ended.extend(seq.finish().map(|reason| (id, reason))),
                None => {}
            }
        }
        for (id, reason) in ended {
            if let Some(seq) = self.scheduler.remove(id) {
                events.push(finished(&seq, reason));
            }
        }
        debug_assert_eq!(if self.is_idle() { self.check() } else { Ok(()) }, Ok(()));
        events
    }

    /// The state in numbers.
    pub fn stats(&self) -> EngineStats {
        let Scheduler { running, waiting, pages, preemptions, .. } = &self.scheduler;
        EngineStats {
            pages: pages.total(),
            pages_used: pages.used(),
            pages_cached: pages.cached(),
            pages_free: pages.free(),
            running: running.len(),
            waiting: waiting.len(),
            preemptions: *preemptions,
            snapshots: pages.slots.saved(),
            snapshot_bytes: pages.slots.saved() * self.forward.slot_bytes(),
            snapshot_hits: pages.slots.restored(),
            ..self.totals
        }
    }

    /// Checks that the order of requests, the page tables, the reference counts, the free list, the prefix index and
    /// the slots agree. For tests and idle moments: takes time in proportion to the pool's size.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn check(&self) -> Result<(), String> {
        self.scheduler.check()
    }
}

/// Whether the sequence's next token can be chosen once the work is done.
fn wants_token(seq: &Sequence, work: Work) -> bool {
    seq.outstanding() == work.tokens && seq.finish().is_none()
}

fn finished(seq: &Sequence, reason: FinishReason) -> Event {
    Event::Finished { id: seq.id, reason, usage: seq.usage() }
}
