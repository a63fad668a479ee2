//! GGUF, versions 2 and 3, little endian: header, key-values, tensor table, data.
//!
//! Layout after the ggml project's `docs/gguf.md`. Reading trusts nothing: each count and length is compared
//! with the bytes that are left before anything is allocated for it.

mod cursor;
mod read;
mod write;

pub(crate) use read::header;
pub use read::{Header, parse};
pub use write::{TensorWriter, Writer};

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Alignment of tensor data when the file does not say.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// Most dimensions a tensor can have.
pub const MAX_DIMS: usize = 4;

/// How deep arrays may nest in arrays. Files in use do not nest at all.
const MAX_NESTING: usize = 4;

/// The type numbers of key-values.
mod kind {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const STR: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}
