//! What can go wrong with a vocabulary, with advice.

/// An error about a tokenizer: what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `tokenizer.json` could not be read.
    #[error("tokenizer.json: {message}")]
    Json {
        /// What the parser said.
        message: String,
    },
    /// A GGUF tokenizer key is missing or contradicts another one.
    #[error("GGUF key {key}: {message}")]
    Gguf {
        /// The metadata key, for example `tokenizer.ggml.merges`.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// `tokenizer.ggml.model` names an algorithm that is not built in.
    #[error("tokenizer model {name:?} is not supported; supported: {known}")]
    UnknownModel {
        /// The name in the file.
        name: String,
        /// The names that work.
        known: String,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not built in.
    #[error("pre-tokenizer {name:?} is not known, and guessing would give wrong ids; known: {known}")]
    UnknownPreTokenizer {
        /// The name in the file.
        name: String,
        /// The names that work.
        known: String,
    },
    /// The text could not be encoded.
    #[error("cannot encode the text: {message}")]
    Encode {
        /// What the model or a regular expression said.
        message: String,
    },
}
