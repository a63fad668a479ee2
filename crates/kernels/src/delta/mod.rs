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
//! The columns of `S` never meet, so a panel of [`PANEL`] columns stays in the nearest cache while a block of tokens
//! passes over it, once each: `S^T k` and `S^T q` of the next token are taken while `k ⊗ d` of this one is added, and the
//! decays are kept as one factor beside the panel, so a token costs three multiplications per number of `S`. The
//! chunked form by triangular solves has these three as well, and its work inside the chunk on top; and its roundings
//! depend on where chunks begin. Here they are the same for one token at a time, for a whole prompt, and for any cut
//! in between.

mod conv;
mod rule;
#[cfg(test)]
mod tests;

pub use conv::{ConvSpan, conv_state_len};
pub use rule::DeltaSpan;

/// Columns of the state that are kept together.
pub(crate) const PANEL: usize = 32;

/// Numbers before a panel's columns: its decay, and room to keep the columns aligned.
pub(crate) const HEADER: usize = 16;

/// Numbers of a few tokens' keys, queries and values that are gathered before they pass over a head.
pub(crate) const BLOCK: usize = 12_288;

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

    /// Numbers of one head's state: panels of columns, the last filled up with columns that stay zero.
    pub(crate) fn head_len(&self) -> usize {
        self.value_dim.div_ceil(PANEL) * (HEADER + self.key_dim * PANEL)
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
        assert!(self.key_dim > 0 && self.value_dim > 0, "heads of no width");
    }
}
