//! What is asked for, what comes back, and a request under way.

use crate::kv::pages_for;
use crate::sampler::Sampling;
use crate::speculation::Speculation;
use sampan_kernels::attention::PAGE;
use std::fmt;
use std::time::{Duration, Instant};

/// Names a request within its engine; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A prompt and how to continue it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tokens to continue; at least one, each below the model's vocabulary size.
    pub prompt: Vec<u32>,
    /// How a token is chosen from the logits.
    pub sampling: Sampling,
    /// The most tokens to generate; `None`: until the context is full. 0 reads the prompt into the cache and ends.
    pub max_tokens: Option<usize>,
    /// Tokens that end the answer. They are counted in the usage and not sent as [`Event::Token`].
    pub stop_tokens: Vec<u32>,
    /// The most tokens of prompt and answer together.
    pub context: usize,
    /// Only ids below this are ever chosen: the tokenizer's size, where the model's rows of logits are padded.
    pub vocab_limit: usize,
}

/// Log-probabilities under the model's own logits, before any stage of the sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprob {
    /// Natural logarithm of the chosen token's probability.
    pub logprob: f32,
    /// The most likely tokens, the likeliest first; as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// What happened in a step. A request gets at most one `Started`, then its tokens, and exactly one `Finished`.
#[derive(Clone, Debug)]
pub enum Event {
    /// The first chunk of the prompt was run.
    Started {
        /// The request.
        id: RequestId,
        /// Tokens in the prompt.
        prompt_tokens: usize,
        /// Of these, tokens whose keys and values were found in the cache when it started.
        cached_tokens: usize,
    },
    /// One more token of the answer.
    Token {
        /// The request.
        id: RequestId,
        /// The token.
        token: u32,
        /// Present where [`Sampling::logprobs`] asks for it.
        logprob: Option<Logprob>,
    },
    /// The request has ended and its id is forgotten.
    Finished {
        /// The request.
        id: RequestId,
        /// Why.
        reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
}

/// Why a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// This stop token was chosen.
    Stop(u32),
    /// `max_tokens` were generated.
    Length,
    /// Prompt and answer fill the context, or the whole KV pool.
    Context,
    /// [`crate::Engine::cancel`] was called.
    Cancelled,
    /// No token can be chosen from the model's logits.
    Failed(BadLogits),
}

/// The logits of a position do not allow any choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the logits for the token at position {position} {what}")]
pub struct BadLogits {
    /// Position of the token that was to be chosen: how many tokens come before it.
    pub position: usize,
    /// What is wrong with them, and what to do.
    pub what: &'static str,
}

/// What a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens in the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that were found in the cache.
    pub cached_tokens: usize,
    /// Tokens chosen, with a stop token.
    pub generated_tokens: usize,
    /// Tokens proposed by [`crate::EngineOptions::speculate`].
    pub drafted_tokens: usize,
    /// Of these, tokens that were then chosen: so many forward passes fewer than tokens.
    pub accepted_tokens: usize,
    /// From the step in which the prompt's first chunk was run until the first token.
    pub prefill: Duration,
    /// From the first token until the end.
    pub decode: Duration,
    /// From submission until the first token, waiting included.
    pub first_token: Duration,
}

/// A request under way. `prompt <= tokens.len()` and `computed <= tokens.len() <= limit`; the rest is derived.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    pub(crate) sampling: Sampling,
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) vocab_limit: usize,
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
            prefill: self.started.map_or(Duration::ZERO, |start| first - start),
            decode: now - first,
            first_token: first - self.submitted,
        }
    }
}
