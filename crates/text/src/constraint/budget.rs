//! A limit on reasoning: when it is reached, the end of the reasoning is what comes next.

use super::gate::{At, Plan};
use crate::{OutputFormat, ReasoningTags, Special, Tokenizer, ToolFormat};
use std::sync::Arc;

/// Counts the tokens of reasoning, and ends it when there are too many: then only the tokens that close it may come, one
/// after the other. A clone goes on by itself.
#[derive(Clone, Debug)]
pub struct ReasoningLimit {
    tokenizer: Arc<Tokenizer>,
    plan: Arc<Plan>,
    /// What closes reasoning, as models write it.
    end: Arc<[u32]>,
    /// What may not follow that: a header that would open reasoning again.
    again: Option<u32>,
    left: usize,
    place: Place,
    mask: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// As the format has it.
    Before(At),
    /// So many tokens of the end are there.
    Ending(usize),
    /// The end is there, and something may not follow.
    Ended,
    /// Nothing is restricted any more.
    Over,
}

impl ReasoningLimit {
    /// Allows so many tokens of reasoning in the answer to `prompt` (as rendered) by a model of this format. `None` where
    /// the answer has no reasoning.
    pub fn new(most: usize, format: &OutputFormat, prompt: &str, tokenizer: &Arc<Tokenizer>) -> Option<Self> {
        let (plan, at) = Plan::new(format, prompt, tokenizer);
        if at == At::Passed {
            return None;
        }
        let encode = |text: &str| tokenizer.encode(text, Special::Parse).unwrap_or_default();
        let (end, again) = match (format.tools, format.reasoning) {
            (ToolFormat::Harmony, _) => {
                (encode("<|end|><|start|>assistant<|channel|>"), encode("analysis").first().copied())
            }
            (_, Some(ReasoningTags::THINK)) => (encode("\n</think>\n\n"), None),
            (_, tags) => (encode(tags?.close), None),
        };
        let mut limit = Self {
            tokenizer: tokenizer.clone(),
            plan: Arc::new(plan),
            end: end.into(),
            again,
            left: most,
            place: Place::Before(at),
            mask: Vec::new(),
        };
        limit.look();
        Some(limit)
    }

    /// Begins the end where nothing is left.
    fn look(&mut self) {
        if self.left == 0 && matches!(self.place, Place::Before(At::Reasoning { .. })) {
            self.place = if self.end.is_empty() { Place::Over } else { Place::Ending(0) };
        }
    }

    /// Whether the end of the reasoning is being written, so that nothing else may come.
    pub fn is_ending(&self) -> bool {
        matches!(self.place, Place::Ending(_))
    }

    /// The tokens that may come next, as [`super::ConstraintState::mask`] has them; none: all.
    pub fn mask(&mut self) -> Option<&[u32]> {
        let words = self.tokenizer.vocab_size().div_ceil(32);
        self.mask.clear();
        match (&self.place, self.again) {
            (Place::Ending(done), _) => {
                let token = self.end[*done];
                self.mask.resize(words, 0);
                self.mask[token as usize / 32] |= 1 << (token % 32);
            }
            (Place::Ended, Some(token)) => {
                self.mask.resize(words, u32::MAX);
                self.mask[token as usize / 32] &= !(1 << (token % 32));
            }
            _ => return None,
        }
        Some(&self.mask)
    }

    fn allows(&self, token: u32) -> bool {
        match self.place {
            Place::Ending(done) => self.end[done] == token,
            Place::Ended => self.again != Some(token),
            _ => true,
        }
    }

    /// Takes the token that was chosen.
    pub fn commit(&mut self, token: u32) {
        let bytes = self.tokenizer.token_bytes(token).unwrap_or_default();
        self.place = match std::mem::replace(&mut self.place, Place::Over) {
            Place::Before(At::Lead { opened, .. }) if self.plan.open[opened] == token => {
                let opened = opened + 1;
                Place::Before(match opened == self.plan.open.len() {
                    true => At::Reasoning { tail: Vec::new() },
                    false => At::Lead { opened, direct: false },
                })
            }
            Place::Before(At::Reasoning { tail }) => {
                self.left = self.left.saturating_sub(1);
                match self.plan.reason(tail, bytes) {
                    still @ At::Reasoning { .. } => Place::Before(still),
                    _ => Place::Over,
                }
            }
            Place::Ending(done) if done + 1 < self.end.len() => Place::Ending(done + 1),
            Place::Ending(_) => Place::Ended,
            Place::Before(_) | Place::Ended | Place::Over => Place::Over,
        };
        self.look();
    }

    /// How many of these tokens, from the first on, may come one after the other.
    pub fn valid(&self, tokens: &[u32]) -> usize {
        let mut ahead = self.clone();
        let wrong = tokens.iter().position(|&token| {
            let allowed = ahead.allows(token);
            ahead.commit(token);
            !allowed
        });
        wrong.unwrap_or(tokens.len())
    }
}
