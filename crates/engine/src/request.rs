//! What is asked for, and what comes back.

use crate::filter::{FilterError, TokenFilter};
use crate::sampler::Sampling;
use sampan_model::Adapter;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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
    /// Restricts the tokens of the answer. Log-probabilities do not know of it.
    pub filter: Option<Box<dyn TokenFilter>>,
    /// Report the log-probabilities of the prompt's own tokens.
    pub prompt_logprobs: Option<PromptLogprobs>,
    /// Whose request it is. Those who have requests waiting get their turns so that each has about the same number of
    /// tokens computed; one who asks for much waits for himself.
    pub client: u64,
    /// What changes the model for this request; loaded for the engine's model. Requests share cached prefixes with those
    /// of the same adapter only.
    pub adapter: Option<Arc<Adapter>>,
}

impl Request {
    /// A request for the likeliest answer of any length, without stop tokens, by client 0.
    pub fn new(prompt: Vec<u32>, context: usize, vocab_limit: usize) -> Request {
        Request {
            prompt,
            sampling: Sampling::default(),
            max_tokens: None,
            stop_tokens: Vec::new(),
            context,
            vocab_limit,
            filter: None,
            prompt_logprobs: None,
            client: 0,
            adapter: None,
        }
    }
}

/// Which log-probabilities of a prompt are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptLogprobs {
    /// Index of the first token of the prompt whose log-probability is wanted, and with it those of all after it. Nothing
    /// comes before token 0, so that it has none; 0 means the same as 1. Tokens before this one can come from the cache.
    pub from: usize,
    /// How many of the most likely tokens to report at each place.
    pub top: usize,
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
        /// Time from submission to the first step.
        queued: Duration,
    },
    /// Log-probabilities of the prompt: of token `first` and those after it. Comes once for each part of the prompt that
    /// is run, before the first token of the answer.
    Prompt {
        /// The request.
        id: RequestId,
        /// Index of the first of these tokens in the prompt.
        first: usize,
        /// One for each token.
        logprobs: Vec<Logprob>,
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
        /// Of the stop token that ended it, where [`Sampling::logprobs`] asks for it.
        logprob: Option<Logprob>,
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
    /// The filter accepts the answer as it is and lets nothing follow, not even a stop token, of which the request has
    /// none.
    Complete,
    /// No token can be chosen from the model's logits.
    Failed(BadLogits),
    /// The filter allows no token.
    Filter(FilterError),
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
    /// How often the request lost its pages to an older one and was computed again.
    pub preemptions: usize,
    /// From submission until the step in which the prompt's first chunk was run.
    pub queued: Duration,
    /// From the step in which the prompt's first chunk was run until the first token.
    pub prefill: Duration,
    /// From the first token until the end.
    pub decode: Duration,
    /// From submission until the first token, waiting included.
    pub first_token: Duration,
}
