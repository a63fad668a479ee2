//! Tokens and words: tokenizer, chat template, reasoning, tool calls. Pure: no IO, no clock, no environment.
//!
//! - [`Tokenizer`]: text to ids and back, from a `tokenizer.json` or from the metadata of a GGUF file.
//! - [`Detokenizer`]: ids to text while they are generated; never half a character.
//! - [`ChatTemplate`]: messages to a [`Prompt`], rendered as Jinja2 does it, that remembers which characters a user typed.
//! - [`Constraints`]: which tokens may come next so that output satisfies a grammar, a schema, or is a call of a tool.
//! - [`OutputParser`]: sorts what a model writes into reasoning, content and tool calls while it streams.
#![forbid(unsafe_code)]

mod constraint;
mod error;
mod output;
mod prompt;
mod reasoning;
mod template;
mod tokenizer;

pub use constraint::{Beside, Constraint, ConstraintError, ConstraintState, Constraints, ReasoningLimit};
pub use error::Error;
pub use output::{OutputEvent, OutputFormat, OutputParser, OutputWarning, Tool, ToolFormat, Tools};
pub use prompt::Prompt;
pub use reasoning::{ReasoningTags, Start};
pub use template::{ChatTemplate, TemplateError, TemplateOptions, strftime, with_parsed_arguments};
pub use tokenizer::{
    Detokenizer, GgufVocab, Special, SpelledOut, Tokenizer, spelled_out, supported_pre_tokenizers,
};
