//! safetensors: a JSON header, then tensors back to back. Reading, and writing for exports.
//!
//! Layout after the safetensors project's README. The header is parsed here rather than by that project's crate
//! because it must be refused with the tensor and byte named, and because JSON objects with repeated keys
//! must not pass; tests compare both.

mod read;
mod write;

pub(crate) use read::header;
pub use read::{Header, parse};
pub use write::{FolderWriter, TensorWriter, Writer};

/// The longest header that is read: that of the reference implementation.
pub const MAX_HEADER: usize = 100_000_000;
