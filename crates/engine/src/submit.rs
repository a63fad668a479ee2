//! Why a request is not taken on.

use crate::request::Request;
use crate::sampler::Sampling;

/// A request that was refused; nothing of it is kept.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SubmitError {
    /// There is nothing to continue.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt} tokens and the context holds {context}, one of them for the answer; \
         shorten the prompt or raise the context"
    )]
    ContextExceeded {
        /// Tokens in the prompt.
        prompt: usize,
        /// The request's limit for prompt and answer together.
        context: usize,
    },
    /// Even alone, the request would not fit.
    #[error(
        "the prompt has {prompt} tokens and the KV cache holds {room}, one of them for the answer; \
         shorten the prompt or start with a larger KV cache"
    )]
    PoolTooSmall {
        /// Tokens in the prompt.
        prompt: usize,
        /// Tokens that the whole KV pool holds.
        room: usize,
    },
    /// Too many requests are waiting.
    #[error("{running} requests are running and {waiting} are waiting, which is the limit; try again later")]
    QueueFull {
        /// Requests being computed.
        running: usize,
        /// Requests waiting.
        waiting: usize,
    },
    /// An id that the model does not have.
    #[error("token {index} of the prompt is {token}, and the model's tokens end at {vocab}")]
    TokenOutOfRange {
        /// Where in the prompt.
        index: usize,
        /// The id.
        token: u32,
        /// The model's vocabulary size.
        vocab: usize,
    },
    /// The limit allows no token, or more than there are logits.
    #[error("the vocabulary limit is {limit}; it must be at least 1 and at most the model's {vocab}")]
    VocabLimit {
        /// The request's limit.
        limit: usize,
        /// The model's vocabulary size.
        vocab: usize,
    },
    /// Log-probabilities of the prompt are wanted, and no rows are set aside for them.
    #[error("this engine computes no log-probabilities of prompts; start it with rows of logits for them")]
    NoPromptLogprobs,
    /// A sampling setting out of its range.
    #[error("{field} is {value}; it must be {allowed}")]
    BadSampling {
        /// The field of [`Sampling`].
        field: &'static str,
        /// What it is.
        value: f32,
        /// What it may be.
        allowed: &'static str,
    },
}

impl SubmitError {
    /// Checks a request by itself. `room`: tokens that the KV pool holds.
    pub(crate) fn check(request: &Request, vocab: usize, room: usize) -> Result<(), SubmitError> {
        let Request { prompt: tokens, context, vocab_limit: limit, .. } = request;
        let (prompt, context, limit) = (tokens.len(), *context, *limit);
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if prompt >= context {
            return Err(SubmitError::ContextExceeded { prompt, context });
        }
        if prompt >= room {
            return Err(SubmitError::PoolTooSmall { prompt, room });
        }
        if let Some(index) = tokens.iter().position(|&token| token as usize >= vocab) {
            return Err(SubmitError::TokenOutOfRange { index, token: tokens[index], vocab });
        }
        if limit == 0 || limit > vocab {
            return Err(SubmitError::VocabLimit { limit, vocab });
        }
        check_sampling(&request.sampling, limit)
    }
}

fn check_sampling(sampling: &Sampling, vocab_limit: usize) -> Result<(), SubmitError> {
    const FINITE: &str = "a finite number";
    const NOT_NEGATIVE: &str = "0 or more";
    const POSITIVE: &str = "greater than 0";
    const SHARE: &str = "from 0 to 1";
    let s = sampling;
    let not_negative = |x: f32| x.is_finite() && x >= 0.0;
    let share = |x: f32| (0.0..=1.0).contains(&x);
    let mut rows = vec![
        ("temperature", s.temperature, not_negative(s.temperature), NOT_NEGATIVE),
        ("top_p", s.top_p, share(s.top_p), SHARE),
        ("min_p", s.min_p, share(s.min_p), SHARE),
        ("typical_p", s.typical_p, share(s.typical_p), SHARE),
        (
            "repeat_penalty",
            s.repeat_penalty,
            s.repeat_penalty.is_finite() && s.repeat_penalty > 0.0,
            POSITIVE,
        ),
        ("presence_penalty", s.presence_penalty, s.presence_penalty.is_finite(), FINITE),
        ("frequency_penalty", s.frequency_penalty, s.frequency_penalty.is_finite(), FINITE),
    ];
    for &(token, bias) in &s.logit_bias {
        rows.push(("logit_bias", bias, bias < f32::INFINITY, "a finite number or minus infinity"));
        rows.push((
            "logit_bias token",
            token as f32,
            (token as usize) < vocab_limit,
            "a token of the vocabulary",
        ));
    }
    if let Some(dry) = &s.dry {
        rows.push(("dry.multiplier", dry.multiplier, not_negative(dry.multiplier), NOT_NEGATIVE));
        rows.push(("dry.base", dry.base, dry.base.is_finite() && dry.base >= 1.0, "1 or more"));
    }
    match rows.into_iter().find(|&(_, _, ok, _)| !ok) {
        Some((field, value, _, allowed)) => Err(SubmitError::BadSampling { field, value, allowed }),
        None => Ok(()),
    }
}
