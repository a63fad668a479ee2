//! What an engine is told when it is made, and what it tells of itself.

use crate::speculation::ROWS;
use sampan_kernels::Kernels;
use sampan_kernels::attention::{KvFormat, PAGE};
use sampan_model::{Memory, Plan};
use std::time::Duration;

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
    /// The same for a step that also generates: an answer does not pause for longer than so many tokens take.
    pub max_mixed_tokens: usize,
    /// For how long an answer may pause at most: steps that also generate are made so long, from the moment when one has told
    /// how long a token takes, and `max_mixed_tokens` no longer counts. `None`: nothing depends on time.
    pub max_mixed_time: Option<Duration>,
    /// Requests that are computed at the same time.
    pub max_running: usize,
    /// Requests that may wait besides those; more are refused.
    pub max_waiting: usize,
    /// States of sequences that are kept for others with the same beginning, at most. Only for models that have
    /// state beside their pages (windows, recurrent layers); without any, these compute every prompt from its start.
    pub snapshots: usize,
    /// Bytes of these states together, at most.
    pub snapshot_bytes: usize,
    /// Tokens that are proposed at most from the request's own text and checked together with the next one; 0: none.
    /// Changes how many steps an answer takes, and not the answer. Without effect on models with layers whose state
    /// cannot go back (recurrent ones, compressed entries).
    pub speculate: usize,
    /// Rows of logits in a step for tokens of prompts that ask for [`crate::Request::prompt_logprobs`]; such prompts
    /// are run in parts of so many tokens. 0: these requests are refused.
    pub prompt_logprob_rows: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            kv_format: KvFormat::I16,
            pages: 256,
            max_batch_tokens: 512,
            max_mixed_tokens: 128,
            max_mixed_time: None,
            max_running: 16,
            max_waiting: 256,
            snapshots: 32,
            snapshot_bytes: 1 << 30,
            speculate: 0,
            prompt_logprob_rows: 64,
        }
    }
}

impl EngineOptions {
    /// All that an engine with these sizes can take, in bytes; pages, states and activations are committed as they are
    /// first used.
    pub fn memory(&self, plan: &Plan, kernels: &Kernels) -> Memory {
        let Memory { weights, kv, scratch } =
            plan.memory(kernels, self.kv_format, self.pages * PAGE, self.most_rows());
        Memory { weights, kv: kv + self.state_bytes(plan), scratch: scratch + self.logits_bytes(plan) }
    }

    /// The same sizes with as many pages as fit into `bytes` beside everything else: at least those of one request of
    /// `context` tokens, at most those of [`EngineOptions::max_running`].
    ///
    /// # Errors
    /// What would be needed for one request, if that is more.
    pub fn fit(
        mut self,
        plan: &Plan,
        kernels: &Kernels,
        context: usize,
        bytes: u64,
    ) -> Result<EngineOptions, Memory> {
        // A page more, as a request ends one token before its pages do.
        let least = context.div_ceil(PAGE) + 1;
        let most = least.saturating_mul(self.max_running.max(1)).min(1 << 30);
        // Beside the pages everything as large as it can get.
        let page = plan.kv_bytes_per_page(self.kv_format);
        self.pages = most;
        let Memory { weights, kv, scratch } = self.memory(plan, kernels);
        let needed = Memory { weights, kv: kv - (most - least) * page, scratch };
        let left = bytes.checked_sub(needed.total() as u64).ok_or(needed)?;
        let more = left.checked_div(page as u64).map_or(most, |pages| pages as usize);
        self.pages = least + more.min(most - least);
        Ok(self)
    }

    /// Rows of the largest step: however many generate, a page of a prompt goes with them.
    fn most_rows(&self) -> usize {
        self.max_batch_tokens.max(self.max_running.max(1) + PAGE.min(self.max_batch_tokens))
    }

    /// Bytes that the states of `plan` can take beyond [`Plan::memory`], which counts one sequence: those of the
    /// other running sequences, and the snapshots. Committed as they are first used.
    pub fn state_bytes(&self, plan: &Plan) -> usize {
        let slot = plan.slot_bytes(self.kv_format, self.pages);
        (self.max_running.max(1) - 1 + self.snapshots_of(slot).unwrap_or(0)) * slot
    }

    /// Bytes of the rows of logits that a step can take beyond [`Plan::memory`], which counts one.
    pub fn logits_bytes(&self, plan: &Plan) -> usize {
        let running = self.max_running.max(1);
        let drafts = if plan.rewinds() { self.speculate } else { 0 };
        let rows = running.max(ROWS.min(running.saturating_mul(1 + drafts)));
        let rows = rows - 1 + self.prompt_logprob_rows;
        plan.head.as_ref().map_or(0, |head| rows * head.rows * size_of::<f32>())
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
    /// Tokens that were run in these: of prompts, of answers, proposed ones, and those that were computed again.
    pub computed_tokens: u64,
    /// Sequences in these, one for each that a step had.
    pub sequence_steps: u64,
    /// Tokens of context that these had, each counted for each step.
    pub context_steps: u64,
    /// Time in the model.
    pub busy: Duration,
    /// Prompt tokens of the requests that have got as far as their first token.
    pub prompt_tokens: u64,
    /// Of these, tokens that were found in the cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Tokens proposed beside those.
    pub drafted_tokens: u64,
    /// Of these, tokens that were what the model chose: each saved a step of its request.
    pub accepted_tokens: u64,
    /// How often a request lost its pages to an older one and was computed again.
    pub preemptions: u64,
    /// States kept for sequences to come; always 0 for a model that has none beside its pages.
    pub snapshots: usize,
    /// Bytes of these.
    pub snapshot_bytes: usize,
    /// How often a request went on from one.
    pub snapshot_hits: u64,
}
