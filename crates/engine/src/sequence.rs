//! A request under way.

use crate::filter::TokenFilter;
use crate::kv::{ROOT, pages_for};
use crate::request::{FinishReason, Request, RequestId, Usage};
use crate::sampler::Sampling;
use crate::speculation::Speculation;
use sampan_kernels::attention::PAGE;
use sampan_model::Adapter;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request under way. `prompt <= tokens.len()` and `computed <= tokens.len() <= limit`; the rest is derived.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    pub(crate) sampling: Sampling,
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) vocab_limit: usize,
    pub(crate) filter: Option<Box<dyn TokenFilter>>,
    pub(crate) client: u64,
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// The parent of its first page.
    pub(crate) root: u32,
    /// How many of the most likely tokens to report for each token of the prompt.
    pub(crate) prompt_top: usize,
    /// Index of the next token of the prompt whose log-probability is to be reported; the prompt's length: none.
    pub(crate) scored: usize,
    max_tokens: Option<usize>,
    /// Prompt and answer so far; while a step runs, a draft behind them.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
    /// Tokens whose keys and values are in `pages`.
    pub(crate) computed: usize,
    /// Tokens of prompt and answer at which the request ends.
    pub(crate) limit: usize,
    pub(crate) pages: Vec<u32>,
    /// Where its state is; only while it is running.
    pub(crate) slot: Option<u32>,
    /// A position, at a border of pages, at which sequences part: behind it others may want to go on.
    pub(crate) branch: usize,
    /// Prompt tokens that did not have to be computed for the first token.
    pub(crate) cached: usize,
    pub(crate) speculation: Speculation,
    pub(crate) preemptions: usize,
    submitted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
}

impl Sequence {
    /// `room`: the most tokens that any request can have, whatever it asks for.
    pub(crate) fn new(id: RequestId, request: Request, room: usize) -> Sequence {
        let prompt = request.prompt.len();
        let answer = request.max_tokens.unwrap_or(usize::MAX);
        Sequence {
            id,
            sampling: request.sampling,
            stop_tokens: request.stop_tokens,
            vocab_limit: request.vocab_limit,
            filter: request.filter,
            client: request.client,
            adapter: request.adapter,
            root: ROOT,
            prompt_top: request.prompt_logprobs.map_or(0, |wanted| wanted.top),
            scored: request.prompt_logprobs.map_or(prompt, |wanted| wanted.from.clamp(1, prompt)),
            max_tokens: request.max_tokens,
            tokens: request.prompt,
            prompt,
            computed: 0,
            limit: prompt.saturating_add(answer).min(request.context).min(room),
            pages: Vec::new(),
            slot: None,
            branch: 0,
            cached: 0,
            speculation: Speculation::default(),
            preemptions: 0,
            submitted: Instant::now(),
            started: None,
            first_token: None,
        }
    }

    /// Tokens of the answer so far.
    pub(crate) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// Tokens that must be run before the next one can be chosen.
    pub(crate) fn outstanding(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether one token in one step is all that is missing.
    pub(crate) fn is_decoding(&self) -> bool {
        self.outstanding() == 1
    }

    /// Whether it has had its turn and lost it again, be it before its first step.
    pub(crate) fn was_preempted(&self) -> bool {
        self.preemptions > 0
    }

    /// The first position of which the logits are wanted: none before it has to be run if it is in the cache.
    pub(crate) fn first_row(&self) -> usize {
        if self.scored < self.prompt { self.scored - 1 } else { self.tokens.len() - 1 }
    }

    /// Whether the tokens that are run next are to be scored: every row of theirs.
    pub(crate) fn is_scoring(&self) -> bool {
        self.scored < self.prompt && self.computed == self.scored - 1
    }

    /// Pages that are missing for the tokens known so far and a page's worth of answer.
    pub(crate) fn pages_short(&self) -> usize {
        pages_for((self.tokens.len() + PAGE).min(self.limit)).saturating_sub(self.pages.len())
    }

    /// Why the request has ended, if it has.
    pub(crate) fn finish(&self) -> Option<FinishReason> {
        let last = *self.tokens.last()?;
        if self.generated() > 0 && self.stop_tokens.contains(&last) {
            return Some(FinishReason::Stop(last));
        }
        if self.tokens.len() < self.limit {
            return None;
        }
        let all = self.max_tokens.is_some_and(|max| self.generated() >= max);
        Some(if all { FinishReason::Length } else { FinishReason::Context })
    }

    /// The request is about to be run; true the first time.
    pub(crate) fn start(&mut self) -> bool {
        let first = self.started.is_none();
        self.started.get_or_insert_with(Instant::now);
        first
    }

    /// Time from submission to the first step, or to now where there was none yet.
    pub(crate) fn queued(&self) -> Duration {
        self.started.unwrap_or_else(Instant::now) - self.submitted
    }

    /// Appends a token of the answer.
    pub(crate) fn push(&mut self, token: u32) {
        self.first_token.get_or_insert_with(Instant::now);
        self.tokens.push(token);
    }

    /// The next position of which the state is worth saving: where sequences part, and the last border of pages in
    /// the prompt from which the same prompt can go on.
    pub(crate) fn stop(&self) -> Option<usize> {
        let last = (self.prompt - 1) / PAGE * PAGE;
        [self.branch, last].into_iter().filter(|&at| at > self.computed).min()
    }

    /// Another sequence is the same up to position `at`, and will go on from there.
    pub(crate) fn part_at(&mut self, at: usize) {
        if self.branch <= self.computed || at < self.branch {
            self.branch = at;
        }
    }

    /// Forgets what was computed. Pages and slot have been given back.
    pub(crate) fn restart(&mut self) {
        self.computed = 0;
        if self.generated() == 0 {
            self.cached = 0;
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let now = Instant::now();
        // Of a request that ends before its first token, all the time so far was spent towards it.
        let first = self.first_token.unwrap_or(now);
        Usage {
            prompt_tokens: self.prompt,
            cached_tokens: self.cached,
            generated_tokens: self.generated(),
            drafted_tokens: self.speculation.drafted,
            accepted_tokens: self.speculation.accepted,
            preemptions: self.preemptions,
            queued: self.started.unwrap_or(first) - self.submitted,
            prefill: self.started.map_or(Duration::ZERO, |start| first - start),
            decode: now - first,
            first_token: first - self.submitted,
        }
    }
}
