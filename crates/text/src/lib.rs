//! Tokens and words: tokenizer, chat template, reasoning. Pure: no IO, no clock, no environment.
//!
//! - [`Tokenizer`]: text to ids and back, from a `tokenizer.json` or from the metadata of a GGUF file.
//! - [`Detokenizer`]: ids to text while they are generated; never half a character.
//! - [`ChatTemplate`]: messages to a [`Prompt`], rendered as Jinja2 does it, that remembers which characters a user typed.
//! - [`ReasoningSplitter`]: separates `<think>…</think>` from the answer while it streams.
#![forbid(unsafe_code)]

mod error;
mod prompt;
mod reasoning;
mod template;
mod tokenizer;

pub use error::Error;
pub use prompt::Prompt;
pub use reasoning::{Kind, Piece, ReasoningSplitter, ReasoningTags, Start};
pub use template::{ChatTemplate, TemplateError, TemplateOptions, with_parsed_arguments};
pub use tokenizer::{Detokenizer, GgufVocab, Special, Tokenizer, supported_pre_tokenizers};
