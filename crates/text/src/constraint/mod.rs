//! Output that must satisfy a grammar: which tokens may come next.

mod budget;
mod calls;
mod gate;
mod grammar;
mod literal;
mod vocabulary;

pub use budget::ReasoningLimit;

use crate::{OutputFormat, Tokenizer, Tools};
use gate::{At, Plan, is_break};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use std::fmt;
use std::sync::Arc;

/// What an output must satisfy.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema(serde_json::Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// Text of a grammar in the Lark variant of llguidance.
    Lark(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Calls of these tools, in the format of the model, with arguments that satisfy the schemas.
    Calls {
        /// The tools that may be called: all of a request, or the one that it names.
        tools: Tools,
        /// What may come beside calls.
        beside: Beside,
        /// More than one call may come.
        parallel: bool,
    },
}

/// What may come beside the calls of tools.
#[derive(Clone, Debug, PartialEq)]
pub enum Beside {
    /// Nothing: at least one call must come.
    Nothing,
    /// Any text, in place of calls or before them.
    Text,
    /// A text that satisfies this, in place of calls.
    Only(Box<Constraint>),
}

/// Why a constraint cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The grammar or schema is wrong, or says something that cannot be enforced.
    #[error("{what} cannot be used: {reason}")]
    Grammar {
        /// What was given: "the JSON schema", "the regular expression".
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The grammar or schema is larger than a request may bring.
    #[error("{what} is too large: {found} where at most {most} are allowed")]
    TooLarge {
        /// What was given.
        what: &'static str,
        /// What was counted, with its unit.
        found: String,
        /// How much may be.
        most: usize,
    },
    /// The model's format has no way to keep it.
    #[error("tool calls cannot be constrained: {reason}")]
    Format {
        /// Why.
        reason: String,
    },
    /// It became too complex while text was generated.
    #[error("the grammar cannot be followed any further: {reason}")]
    Failed {
        /// What the engine said.
        reason: String,
    },
}

/// Compiles constraints for one vocabulary. Made once for a model; takes some tenths of a second.
pub struct Constraints {
    factory: ParserFactory,
    tokenizer: Arc<Tokenizer>,
    /// Tokens that are nothing but line breaks.
    breaks: Arc<[u32]>,
}

impl fmt::Debug for Constraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraints").field("tokenizer", &self.tokenizer).finish_non_exhaustive()
    }
}

/// What a grammar from a stranger may cost: some tens of milliseconds to compile, some tens of megabytes to follow.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 30_000,
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

impl Constraints {
    /// Prepares a vocabulary; `stop_tokens` are those that end an answer.
    ///
    /// # Errors
    /// When the grammar engine refuses the vocabulary.
    pub fn new(tokenizer: Arc<Tokenizer>, stop_tokens: &[u32]) -> Result<Self, ConstraintError> {
        let environment = vocabulary::environment(tokenizer.clone(), stop_tokens);
        let mut factory = ParserFactory::new_simple(&environment)
            .map_err(|e| ConstraintError::Grammar { what: "the vocabulary", reason: e.to_string() })?;
        factory.quiet();
        *factory.limits_mut() = limits();
        let size = tokenizer.vocab_size() as u32;
        let breaks = (0..size).filter(|id| is_break(tokenizer.token_bytes(*id))).collect();
        Ok(Self { factory, tokenizer, breaks })
    }

    /// Compiles a constraint for the answer to `prompt` (as rendered) by a model of this format. It holds from the end of the
    /// reasoning on, if the model reasons, and from the beginning if it does not.
    ///
    /// # Errors
    /// What is wrong with it; all that can be known is known now.
    pub fn compile(
        &self,
        constraint: &Constraint,
        format: &OutputFormat,
        prompt: &str,
    ) -> Result<ConstraintState, ConstraintError> {
        let (plan, at) = Plan::new(format, prompt, &self.tokenizer);
        let what = grammar::name(constraint);
        let grammar = grammar::build(constraint, format, prompt, &self.tokenizer)?;
        let matcher = self.matcher(grammar).map_err(|reason| match constraint {
            Constraint::Lark(text) if text.contains("::=") => {
                let reason =
                    format!("{reason} (GBNF says `root ::= ...`; this is read as Lark: `start: ...`)");
                ConstraintError::Grammar { what, reason }
            }
            _ => ConstraintError::Grammar { what, reason },
        })?;
        Ok(ConstraintState {
            matcher,
            tokenizer: self.tokenizer.clone(),
            breaks: self.breaks.clone(),
            plan: Arc::new(plan),
            at,
            ahead: 0,
            mask: Vec::new(),
        })
    }

    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        // The engine is fed by strangers; should it panic over a grammar, that is the grammar's end and nobody else's.
        let compile = std::panic::AssertUnwindSafe(|| Matcher::new(self.factory.create_parser(grammar)));
        let mut matcher =
            std::panic::catch_unwind(compile).map_err(|_| "the grammar engine gave up on it".to_owned())?;
        if let Some(error) = matcher.get_error() {
            return Err(error);
        }
        // What cannot be followed from its first token on is better known now.
        if matcher.compute_mask_or_eos().map_err(|e| e.to_string())?.is_zero() {
            return Err("nothing satisfies it".into());
        }
        Ok(matcher)
    }
}

/// A constraint and how far an output has followed it. A clone goes on by itself.
#[derive(Clone)]
pub struct ConstraintState {
    matcher: Matcher,
    tokenizer: Arc<Tokenizer>,
    breaks: Arc<[u32]>,
    plan: Arc<Plan>,
    at: At,
    /// How many tokens the matcher has taken while it is still open whether they open reasoning.
    ahead: usize,
    mask: Vec<u32>,
}

impl fmt::Debug for ConstraintState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConstraintState").field("at", &self.at).finish_non_exhaustive()
    }
}

impl ConstraintState {
    /// The tokens that may come next: token `t` where bit `t % 32` of word `t / 32` is set, none beyond the last word. No mask:
    /// all of them, while the model reasons.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`]
    pub fn mask(&mut self) -> Result<Option<&[u32]>, ConstraintError> {
        self.mask.clear();
        let more: &[u32] = match &self.at {
            At::Reasoning { .. } => return Ok(None),
            At::Then(done) => &self.plan.then[*done..=*done],
            At::Lead { opened, .. } => &self.plan.open[*opened..=*opened],
            At::Breaks(left) if *left > 0 => &self.breaks,
            At::Breaks(_) | At::Passed => &[],
        };
        if !matches!(&self.at, At::Then(_) | At::Lead { direct: false, .. }) {
            let mask = self.matcher.compute_mask_or_eos().map_err(failed)?;
            self.mask.extend_from_slice(mask.as_slice());
        }
        self.mask.resize(self.tokenizer.vocab_size().div_ceil(32), 0);
        for id in more {
            self.mask[*id as usize / 32] |= 1 << (id % 32);
        }
        Ok(Some(&self.mask))
    }

    /// Whether the output may end here.
    pub fn is_accepting(&mut self) -> bool {
        match self.at {
            At::Passed | At::Breaks(_) | At::Lead { direct: true, .. } => {
                self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false)
            }
            _ => false,
        }
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`] if the mask did not have it.
    pub fn commit(&mut self, token: u32) -> Result<(), ConstraintError> {
        let bytes = self.tokenizer.token_bytes(token).unwrap_or_default();
        match std::mem::replace(&mut self.at, At::Passed) {
            At::Passed => self.matcher.consume_token(token).map_err(failed),
            At::Breaks(left) if left > 0 && is_break(Some(bytes)) => {
                self.at = At::Breaks(left - 1);
                Ok(())
            }
            At::Breaks(_) => self.matcher.consume_token(token).map_err(failed),
            At::Reasoning { tail } => {
                self.at = self.plan.reason(tail, bytes);
                Ok(())
            }
            At::Then(done) if self.plan.then[done] == token => {
                self.at = self.plan.after_then(done + 1);
                Ok(())
            }
            At::Then(_) => Err(refused()),
            At::Lead { opened, direct } => self.commit_lead(token, opened, direct),
        }
    }

    /// A token that may open reasoning, or begin the constrained part, or both.
    fn commit_lead(&mut self, token: u32, opened: usize, direct: bool) -> Result<(), ConstraintError> {
        let opens = self.plan.open[opened] == token;
        let direct = direct && self.matcher.validate_tokens(&[token]).map_err(failed)? == 1;
        if direct {
            self.matcher.consume_token(token).map_err(failed)?;
            self.ahead += 1;
        }
        if !opens {
            self.ahead = 0;
            return if direct { Ok(()) } else { Err(refused()) };
        }
        let opened = opened + 1;
        let whole = opened == self.plan.open.len();
        if self.ahead > 0 && (whole || !direct) {
            self.matcher.rollback(self.ahead).map_err(failed)?;
            self.ahead = 0;
        }
        self.at = if whole { At::Reasoning { tail: Vec::new() } } else { At::Lead { opened, direct } };
        Ok(())
    }

    /// How many of these tokens, from the first on, may come one after the other. Changes nothing.
    pub fn valid(&mut self, tokens: &[u32]) -> usize {
        let mut ahead = self.clone();
        for (n, &token) in tokens.iter().enumerate() {
            if ahead.at == At::Passed {
                return n + ahead.matcher.validate_tokens(&tokens[n..]).unwrap_or(0);
            }
            if !ahead.allows(token) || ahead.commit(token).is_err() {
                return n;
            }
        }
        tokens.len()
    }

    fn allows(&mut self, token: u32) -> bool {
        match self.mask() {
            Ok(Some(mask)) => mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1),
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

fn failed(error: impl fmt::Display) -> ConstraintError {
    ConstraintError::Failed { reason: error.to_string() }
}

fn refused() -> ConstraintError {
    failed("a token was chosen that the grammar does not allow")
}
