//! The gated delta rule (Yang, Kautz and Hatamizadeh, "Gated Delta Networks", 2024), the short convolution before it
//! and the gates around it.
//!
//! A head keeps a matrix `S`, `key_dim x value_dim`, instead of keys and values. Per token, with a decay `e^g`, a
//! step `β`, and query, key and value `q, k, v`:
//!
//! ```text
//! S <- e^g S;   u = S^T k;   S <- S + k ⊗ β(v - u);   o = S^T q
//! ```
//!
//! Tokens are taken in chunks of [`CHUNK`], as in the chunked forms of the delta rule: `S` is read for all tokens of a
//! chunk at once and written once, and what tokens of a chunk do to each other is worked out beside it. But chunks begin
//! where a multiple of [`CHUNK`] tokens has passed since the start of the sequence, and a state holds the tokens of an
//! unfinished chunk apart from `S`: so a token's arithmetic is the same to the last bit for one token at a time, for a
//! whole prompt, and for any cut in between. Per number of `S` a token costs a little more than the three
//! multiplications that any chunked form needs, on a panel of [`PANEL`] columns that stays in the nearest cache.

mod conv;
mod rule;
#[cfg(test)]
mod tests;

pub use conv::{ConvSpan, MAX_TAPS, conv_state_len};
pub use rule::DeltaSpan;

/// Columns of `S` that lie together.
pub(crate) const PANEL: usize = 32;

/// Tokens between two writes of the state.
pub(crate) const CHUNK: usize = 4;

/// Most tokens of an unfinished chunk.
pub(crate) const WAITING: usize = CHUNK - 1;

/// Numbers at the start of a head's state: how many tokens wait, the product of their decays, and room that keeps the
/// rest aligned.
pub(crate) const HEADER: usize = 16;

/// Numbers of a few tokens' keys, queries and values that are gathered before they pass over a head.
pub(crate) const BLOCK: usize = 16_384;

/// Which key head a value head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeads {
    /// Value head `h` reads key head `h / (value_heads / key_heads)`.
    Grouped,
    /// Value head `h` reads key head `h % key_heads`.
    Tiled,
}

/// Heads and widths of a gated delta rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaShape {
    /// Query and key heads.
    pub key_heads: usize,
    /// Value heads, a multiple of the key heads.
    pub value_heads: usize,
    /// Width of a query or key head.
    pub key_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// Which key head a value head reads.
    pub order: KeyHeads,
}

impl DeltaShape {
    /// Numbers of one token that the convolution carries: all queries, all keys, all values.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }

    /// Numbers of one token's result.
    pub fn outputs(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// f32 numbers of one sequence's state. All zeros is the start of a sequence; what the numbers mean otherwise is
    /// the kernels' own business, but a copy of them is a copy of the state.
    pub fn state_len(&self) -> usize {
        self.value_heads * self.head_len()
    }

    /// Whether a head is narrow enough for the kernels: two keys and the values, filled up to a multiple of 32, of up to
    /// 4,096 numbers.
    pub fn fits(&self) -> bool {
        BLOCK / (2 * self.key_dim + self.value_dim.next_multiple_of(PANEL)) > WAITING
    }

    /// Numbers of one head's state: the header, keys and steps of the tokens that wait, and `S` in panels of columns,
    /// the last filled up with columns that stay zero.
    pub(crate) fn head_len(&self) -> usize {
        let columns = self.value_dim.next_multiple_of(PANEL);
        HEADER + WAITING * (self.key_dim + columns) + self.key_dim * columns
    }

    pub(crate) fn key_head(&self, value_head: usize) -> usize {
        match self.order {
            KeyHeads::Grouped => value_head / (self.value_heads / self.key_heads),
            KeyHeads::Tiled => value_head % self.key_heads,
        }
    }

    fn check(&self) {
        let whole = self.key_heads > 0 && self.value_heads.is_multiple_of(self.key_heads);
        assert!(whole, "{} value heads over {} key heads", self.value_heads, self.key_heads);
        assert!(self.key_dim > 0 && self.value_dim > 0 && self.fits(), "heads of {self:?}");
    }
}
