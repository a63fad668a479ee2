//! Files: GGUF, safetensors and config.json as named tensors and metadata; writing them.
//!
//! [`Checkpoint::open`] takes a file or a folder and gives one view over all formats: tensors by name, metadata,
//! configuration, vocabulary, chat template. Opening reads the headers; a tensor's bytes are read from their place in
//! the file when they are asked for, so that a file which another program shortens meanwhile is an error.
//!
//! Model files come from strangers. Every declared size is compared with the real one before anything is allocated
//! for it; whatever contradicts itself is an [`Error`] that names the file, the field and the byte offset. Nothing
//! here panics on any input.

mod adapter;
mod checkpoint;
pub mod copy;
mod dtype;
mod error;
mod file;
mod folder;
pub mod gguf;
mod index;
mod json;
mod metadata;
mod output;
mod parts;
pub mod safetensors;
mod sniff;
mod split;
mod tensor;
mod tokenizer;

pub use adapter::{AdapterFiles, LowRank};
pub use checkpoint::{Checkpoint, Kind};
pub use dtype::Dtype;
pub use error::Error;
pub use metadata::{Array, Metadata, Value};
pub use tensor::{Tensor, TensorInfo};
pub use tokenizer::{ChatTemplateSource, GgufVocab, TokenizerFiles};
