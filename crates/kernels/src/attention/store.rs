//! Paged keys and values of one layer.
//!
//! A page holds [`PAGE`] tokens. Inside it every key/value head has its keys and then its values, each one
//! contiguous run, laid out for the attention kernels:
//!
//! | format          | keys                               | values                               |
//! |-----------------|------------------------------------|--------------------------------------|
//! | f32, f16        | `[key_dim][PAGE]`                  | `[PAGE][value_dim]`                  |
//! | bf16, i16, q8_0 | `[key_dim / 2][PAGE][2]` dim pairs | `[PAGE / 2][value_dim][2]` token pairs |
//!
//! Tokens are the fast axis of the keys, so one vector load holds one dimension of many tokens and a score
//! needs no horizontal sum. The pairs are what dot-product and tile instructions take. `key_dim` is rounded
//! up to an even number and `value_dim` to a multiple of 16, for pairs both to a multiple of 32; the padding is zero.
//! Integers are followed by their scales, `[dims / block][PAGE]`, where a block is [`KvFormat::block`] dims of a token.
//!
//! Latent pages have no values: a token's value is the start of its key, and attention turns a page of keys into
//! values as it goes. Pages of rows hold each key in one run, for reading by lists ([`Listed`](super::Listed)).

use crate::isa::buffer::Buffer;
use std::ops::Range;

/// Tokens per page.
pub const PAGE: usize = 32;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// 32-bit floats: exact.
    F32,
    /// IEEE half precision; values beyond 65,504 saturate.
    F16,
    /// bfloat16.
    Bf16,
    /// 16-bit integers with a scale (f32) for every 128 dims of a key or value: as large as f16, closer to f32 wherever
    /// sums are what counts, and multiplied as integers.
    I16,
    /// 8-bit integers with a scale (f16) for every 32 dims, as in GGUF's Q8_0.
    Q8_0,
}

impl KvFormat {
    /// Bytes per number, scales apart.
    pub fn size(self) -> usize {
        match self {
            KvFormat::F32 => 4,
            KvFormat::F16 | KvFormat::Bf16 | KvFormat::I16 => 2,
            KvFormat::Q8_0 => 1,
        }
    }

    /// How latent vectors are kept where keys and values are kept like this: integers are for keys and values alone.
    pub fn of_latent(self) -> KvFormat {
        if self.block().is_some() { KvFormat::F16 } else { self }
    }

    /// Dims that share a scale, for integers.
    pub fn block(self) -> Option<usize> {
        match self {
            KvFormat::F32 | KvFormat::F16 | KvFormat::Bf16 => None,
            KvFormat::I16 => Some(128),
            KvFormat::Q8_0 => Some(32),
        }
    }

    /// Bytes of the scales of `dims` dims of a page's tokens.
    fn scale_bytes(self, dims: usize) -> usize {
        let size = if self == KvFormat::I16 { 4 } else { 2 };
        self.block().map_or(0, |block| dims.div_ceil(block) * PAGE * size)
    }

    /// Whether neighbouring dims of keys and tokens of values lie in pairs.
    fn pairs(self) -> bool {
        self == KvFormat::Bf16 || self.block().is_some()
    }
}

/// How a page is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvLayout {
    /// Keys and values of [`PAGE`] tokens.
    KeysValues,
    /// Keys of [`PAGE`] tokens; a value is the first `value_dim` numbers of its key (multi-head latent attention,
    /// DeepSeek-AI, "DeepSeek-V2", 2024, in its absorbed form).
    Latent,
    /// Keys as in [`KvLayout::Latent`], this many to a page, each contiguous: read by lists only.
    Rows(usize),
}

/// What one layer stores per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Key/value heads.
    pub kv_heads: usize,
    /// Numbers per key.
    pub key_dim: usize,
    /// Numbers per value.
    pub value_dim: usize,
    /// How they are stored.
    pub format: KvFormat,
    /// How a page is arranged.
    pub layout: KvLayout,
}

impl KvShape {
    /// Keys and values of grouped heads.
    pub fn new(kv_heads: usize, key_dim: usize, value_dim: usize, format: KvFormat) -> KvShape {
        KvShape { kv_heads, key_dim, value_dim, format, layout: KvLayout::KeysValues }
    }

    /// One key per token whose first `value_dim` numbers are the value too.
    pub fn latent(key_dim: usize, value_dim: usize, format: KvFormat) -> KvShape {
        KvShape { kv_heads: 1, key_dim, value_dim, format, layout: KvLayout::Latent }
    }

    /// The same, `per_page` to a page, for reading by lists.
    pub fn rows(key_dim: usize, value_dim: usize, per_page: usize, format: KvFormat) -> KvShape {
        KvShape { kv_heads: 1, key_dim, value_dim, format, layout: KvLayout::Rows(per_page) }
    }

    /// Tokens in a page.
    pub fn per_page(&self) -> usize {
        match self.layout {
            KvLayout::Rows(tokens) => tokens,
            KvLayout::KeysValues | KvLayout::Latent => PAGE,
        }
    }

    /// Whether values are part of the keys.
    pub(crate) fn shared(&self) -> bool {
        self.layout != KvLayout::KeysValues
    }

    /// Bytes of one page (keys and values, all heads) of one layer.
    pub fn page_bytes(&self) -> usize {
        self.kv_heads * self.head_bytes()
    }

    /// `key_dim` as stored.
    pub(crate) fn key_stride(&self) -> usize {
        self.key_dim.next_multiple_of(if self.format.pairs() { 32 } else { 2 })
    }

    /// `value_dim` as stored.
    pub(crate) fn value_stride(&self) -> usize {
        self.value_dim.next_multiple_of(if self.format.pairs() { 32 } else { 16 })
    }

    /// Bytes of one head's keys in a page.
    pub(crate) fn key_bytes(&self) -> usize {
        let stride = self.key_stride();
        stride * self.per_page() * self.format.size() + self.format.scale_bytes(stride)
    }

    /// Bytes of one head's keys and values in a page.
    pub(crate) fn head_bytes(&self) -> usize {
        let stride = self.value_stride();
        let values = stride * PAGE * self.format.size() + self.format.scale_bytes(stride);
        self.key_bytes() + if self.shared() { 0 } else { values }
    }
}

/// One layer's pages of keys and values.
///
/// Memory is committed by the operating system when a page is first written. A page's contents are whatever
/// was last written there: attention only reads the positions that a span's rows may see.
pub struct KvStore {
    shape: KvShape,
    pages: usize,
    data: Buffer,
}

impl std::fmt::Debug for KvStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvStore")
            .field("shape", &self.shape)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

impl KvStore {
    /// A store of `pages` pages, zeroed.
    ///
    /// # Panics
    /// If values are to be part of the keys and are longer than these or integers, or a page has no tokens.
    pub fn new(shape: KvShape, pages: usize) -> KvStore {
        let KvShape { key_dim, value_dim, .. } = shape;
        assert!(!shape.shared() || value_dim <= key_dim, "{value_dim} of {key_dim} numbers");
        assert!(!shape.shared() || shape.format.block().is_none(), "latent vectors as integers");
        assert!(shape.per_page() > 0, "a page of no tokens");
        KvStore { shape, pages, data: Buffer::zeroed(pages * shape.page_bytes()) }
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// What is stored per token.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Bytes of all pages.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// All pages' bytes.
    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    /// All pages' bytes.
    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The keys and the values (none where they are part of the keys) of one head in one page.
    pub(crate) fn head(&self, page: u32, head: usize) -> (&[u8], &[u8]) {
        let bytes = self.shape.head_bytes();
        let at = page as usize * self.shape.page_bytes() + head * bytes;
        self.data()[at..at + bytes].split_at(self.shape.key_bytes())
    }

    /// Copies the values of the tokens `tokens` of one head and page to `to`, zeros in place of the others.
    pub(crate) fn copy_values(&self, values: &[u8], tokens: Range<usize>, to: &mut [u32]) {
        let row = self.shape.value_stride() * self.shape.format.size();
        let to: &mut [u8] = &mut bytemuck::cast_slice_mut(to)[..PAGE * row];
        if self.shape.format == KvFormat::Bf16 {
            // Tokens come in pairs: whole ones are copied, a half one is masked.
            let pairs = tokens.start / 2 * 2 * row..tokens.end.div_ceil(2) * 2 * row;
            to[..pairs.start].fill(0);
            to[pairs.clone()].copy_from_slice(&values[pairs.clone()]);
            to[pairs.end..].fill(0);
            let half = |token: usize| (token / 2 * 2 * row..(token / 2 + 1) * 2 * row, token % 2);
            let outside = [tokens.start.wrapping_sub(1), tokens.end];
            for token in outside.into_iter().filter(|token| *token < PAGE && pairs.contains(&(token * row))) {
                let (range, side) = half(token);
                for pair in to[range].chunks_exact_mut(4) {
                    pair[2 * side..2 * side + 2].fill(0);
                }
            }
        } else {
            let rows = tokens.start * row..tokens.end * row;
            to[..rows.start].fill(0);
            to[rows.clone()].copy_from_slice(&values[rows.clone()]);
            to[rows.end..].fill(0);
        }
    }

    /// Fills every byte of every page (tests poison pages so that reads of unwritten tokens show).
    #[doc(hidden)]
    pub fn fill(&mut self, byte: u8) {
        self.data_mut().fill(byte);
    }
}
