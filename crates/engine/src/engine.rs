//! The engine: requests in, events out, one step at a time.

use crate::forward::{Forward, Loaded};
use crate::options::{EngineOptions, EngineStats};
use crate::request::{Event, FinishReason, Logprob, Request, RequestId};
use crate::sampler::{Choice, Sampler};
use crate::scheduler::{Scheduler, Work};
use crate::sequence::Sequence;
use crate::submit::SubmitError;
use crate::{scoring, speculation};
use sampan_kernels::attention::PAGE;
use sampan_model::{CacheSizes, Chunk, Logits, Model};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Runs requests on a model, many at a time. A request's tokens depend on the request alone, and not on what else
/// the engine does.
#[derive(Debug)]
pub struct Engine {
    forward: Box<dyn Forward>,
    pub(crate) scheduler: Scheduler,
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
            scheduler: Scheduler::new(
                &options,
                options.snapshots_of(forward.slot_bytes()),
                forward.rewinds(),
            ),
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
        if request.prompt_logprobs.is_some() && self.options.prompt_logprob_rows == 0 {
            return Err(SubmitError::NoPromptLogprobs);
        }
        if running + waiting >= self.options.max_running.max(1) + self.options.max_waiting {
            return Err(SubmitError::QueueFull { running, waiting });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.scheduler.add(Sequence::new(id, request, room));
        Ok(id)
    }

    /// Ends a request; its last event comes with the next step. Without effect if it has already ended.
    pub fn cancel(&mut self, id: RequestId) {
        if let Some(seq) = self.scheduler.remove(id) {
            self.pending.push_back(finished(&seq, FinishReason::Cancelled, None));
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

    /// Runs the batch's tokens, and leaves in `logits` the rows of each sequence that has none outstanding then.
    fn run(&mut self, batch: &[Work]) {
        if batch.is_empty() {
            return;
        }
        for &work in batch {
            let seq = &mut self.scheduler.running[work.index];
            if seq.start() {
                let (id, prompt_tokens, cached_tokens, queued) =
                    (seq.id, seq.prompt, seq.cached, seq.queued());
                self.pending.push_back(Event::Started { id, prompt_tokens, cached_tokens, queued });
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
                    logits: match rows_wanted(seq, work) {
                        0 => Logits::None,
                        1 => Logits::Last,
                        _ => Logits::All,
                    },
                    adapter: seq.adapter.as_ref(),
                }
            })
            .collect();
        let begun = Instant::now();
        self.forward.forward(&chunks, &mut self.logits);
        let took = begun.elapsed();
        self.scheduler.pace.learn(chunks.iter().map(|chunk| chunk.tokens.len()).sum(), took);
        self.totals.busy += took;
        self.totals.steps += 1;
        for chunk in &chunks {
            self.totals.sequence_steps += 1;
            self.totals.context_steps += (chunk.start + chunk.tokens.len()) as u64;
            self.totals.computed_tokens += chunk.tokens.len() as u64;
        }
    }

    /// Scores prompts, and chooses the next token of each sequence that is ready for it, and those after it as far as its
    /// draft has proved right.
    fn sample(&mut self, batch: &[Work]) -> Vec<Vec<Choice>> {
        let mut rows = self.logits.chunks_exact(self.forward.vocab());
        let mut choices = Vec::with_capacity(batch.len());
        for &work in batch {
            let seq = &mut self.scheduler.running[work.index];
            let rows: Vec<_> = rows.by_ref().take(rows_wanted(seq, work)).collect();
            let ready = if is_ready(seq, work) { 1 + seq.speculation.draft } else { 0 };
            choices.push(match scoring::score(seq, &rows, &mut self.sampler) {
                Err(bad) => vec![Err(FinishReason::Failed(bad))],
                Ok(scored) => {
                    self.pending.extend(scored);
                    speculation::verify(seq, &rows[rows.len() - ready..], &mut self.sampler)
                }
            });
        }
        choices
    }

    /// Records what was run and chosen, lets go of the sequences that have ended, and tells of it all.
    fn emit(&mut self, batch: &[Work], choices: Vec<Vec<Choice>>) -> Vec<Event> {
        let mut events: Vec<Event> = self.pending.drain(..).collect();
        let mut ended = Vec::new();
        for (&work, choices) in batch.iter().zip(choices) {
            let (ran, drafted) = self.scheduler.settle(work, &choices);
            self.totals.drafted_tokens += drafted as u64;
            self.totals.accepted_tokens += choices.len().saturating_sub(1) as u64;
            let seq = &mut self.scheduler.running[work.index];
            let (id, chosen, mut last) = (seq.id, !choices.is_empty(), None);
            for choice in choices {
                match choice {
                    Ok((token, logprob)) => {
                        self.totals.generated_tokens += 1;
                        if seq.generated() == 0 {
                            self.totals.prompt_tokens += seq.prompt as u64;
                            self.totals.cached_tokens += seq.cached as u64;
                        }
                        seq.push(token);
                        if seq.stop_tokens.contains(&token) {
                            last = logprob;
                        } else {
                            events.push(Event::Token { id, token, logprob });
                        }
                    }
                    Err(reason) => ended.push((id, reason, None)),
                }
            }
            self.scheduler.record(ran);
            let seq = &self.scheduler.running[work.index];
            // Without a choice, all is computed only of a request that wants no token.
            if chosen || seq.outstanding() == 0 {
                ended.extend(seq.finish().map(|reason| (id, reason, last)));
            }
        }
        for (id, reason, logprob) in ended {
            if let Some(seq) = self.scheduler.remove(id) {
                events.push(finished(&seq, reason, logprob));
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

/// How many rows of logits the work is to leave: one for the next token, where it can be chosen then, and one for
/// each token of its draft; of a prompt that is scored, all.
fn rows_wanted(seq: &Sequence, work: Work) -> usize {
    if seq.is_scoring() {
        return work.tokens;
    }
    if is_ready(seq, work) { 1 + seq.speculation.draft } else { 0 }
}

/// Whether the sequence's next token can be chosen after this work.
fn is_ready(seq: &Sequence, work: Work) -> bool {
    seq.outstanding() == work.tokens && seq.finish().is_none()
}

fn finished(seq: &Sequence, reason: FinishReason, logprob: Option<Logprob>) -> Event {
    Event::Finished { id: seq.id, reason, logprob, usage: seq.usage() }
}
