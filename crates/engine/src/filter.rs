//! Which tokens may come next: what a grammar, or whatever else knows, tells the sampler.

use crate::request::FinishReason;
use std::fmt::Debug;

/// Restricts the tokens of one answer, one after the other. It is told of every token that is chosen, but for the stop
/// token that ends the answer, and only of those: what is merely proposed is asked about with [`TokenFilter::valid`].
///
/// Stop tokens are not the filter's business: they may be chosen exactly where [`TokenFilter::accepts`] holds, whatever
/// the mask says of them. Text of any kind may come before what is to be restricted: a filter that is dormant has no mask.
pub trait TokenFilter: Debug + Send {
    /// The tokens that may come next: token `t` where bit `t % 32` of word `t / 32` is set, and none beyond the last word.
    /// `None`: all.
    ///
    /// # Errors
    /// Why there is no telling, as the end of the sentence "the filter ..."; it ends the request.
    fn mask(&mut self) -> Result<Option<&[u32]>, String>;

    /// Whether the answer may end here.
    fn accepts(&mut self) -> bool;

    /// This token was chosen; the mask had it.
    ///
    /// # Errors
    /// As [`TokenFilter::mask`].
    fn commit(&mut self, token: u32) -> Result<(), String>;

    /// How many of these tokens, from the first on, may come next, one after the other. Changes nothing. A wrong answer
    /// costs time and does no harm: each token is held against its own mask before it is chosen.
    fn valid(&mut self, draft: &[u32]) -> usize {
        draft.len()
    }

    /// The same filter at the same place, for another answer.
    fn boxed_clone(&self) -> Box<dyn TokenFilter>;
}

impl Clone for Box<dyn TokenFilter> {
    fn clone(&self) -> Box<dyn TokenFilter> {
        // Not that of the box itself, which is this function.
        (**self).boxed_clone()
    }
}

/// A filter has come to a place where it allows no token, or knows no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at position {position} the filter {cause}")]
pub struct FilterError {
    /// Position of the token that was to be chosen: how many tokens come before it.
    pub position: usize,
    /// The end of the sentence "the filter ...".
    pub cause: String,
}

/// What may be chosen at one position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed<'a> {
    mask: Option<&'a [u32]>,
    stop_tokens: &'a [u32],
    end: bool,
}

impl<'a> Allowed<'a> {
    /// What the filter allows of a vocabulary of `vocab` tokens at `position`; an error is how the answer ends.
    pub(crate) fn by(
        filter: &'a mut dyn TokenFilter,
        stop_tokens: &'a [u32],
        vocab: usize,
        position: usize,
    ) -> Result<Allowed<'a>, FinishReason> {
        let end = filter.accepts();
        let mask = filter.mask().map_err(|cause| FinishReason::Filter(FilterError { position, cause }))?;
        let allowed = Allowed { mask, stop_tokens, end };
        if (0..vocab as u32).any(|token| allowed.has(token)) {
            return Ok(allowed);
        }
        let cause = "allows no token, and the answer cannot end here either: what it asks for cannot be written with \
                     this vocabulary";
        Err(if end {
            FinishReason::Complete
        } else {
            FinishReason::Filter(FilterError { position, cause: cause.into() })
        })
    }

    fn has(&self, token: u32) -> bool {
        if self.stop_tokens.contains(&token) {
            return self.end;
        }
        let word = |mask: &[u32]| mask.get(token as usize / 32).copied().unwrap_or(0);
        self.mask.is_none_or(|mask| word(mask) >> (token % 32) & 1 == 1)
    }

    /// Forbids what is not allowed in a row of logits.
    pub(crate) fn apply(&self, row: &mut [f32]) {
        let ends: Vec<Option<f32>> = self.stop_tokens.iter().map(|&t| row.get(t as usize).copied()).collect();
        if let Some(mask) = self.mask {
            for (i, logits) in row.chunks_mut(32).enumerate() {
                let word = mask.get(i).copied().unwrap_or(0);
                if word != u32::MAX {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        *logit = if word >> bit & 1 == 1 { *logit } else { f32::NEG_INFINITY };
                    }
                }
            }
        }
        for (&token, logit) in self.stop_tokens.iter().zip(ends) {
            if let (Some(at), Some(logit)) = (row.get_mut(token as usize), logit) {
                *at = if self.end { logit } else { f32::NEG_INFINITY };
            }
        }
    }
}
