//! Softmax attention with grouped heads over paged keys and values.
//!
//! A row's result is a function of its query, of the keys and values that it sees and of their positions, and of
//! nothing else: not of how a prompt was cut into chunks, of the other rows of the batch, of page numbers or of
//! the number of threads. Every reduction runs in an order fixed by absolute position.

mod attend;
mod index;
mod listed;
mod store;
#[cfg(test)]
mod tests;
mod tile;
mod write;

pub use index::Indexed;
pub use listed::Listed;
pub use store::{KvFormat, KvLayout, KvShape, KvStore, PAGE};
pub(crate) use tile::{LOWEST, MAX_ROWS, PARTITION, QUERY_BLOCK, ROW, Scratch, ScratchPool, Tile};

use std::ops::Range;

/// One run of consecutive query rows of one sequence.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// The sequence's pages in order: position `p` is in page `pages[p / PAGE]`.
    pub pages: &'a [u32],
    /// The rows in the batch.
    pub rows: Range<usize>,
    /// Position of the first row in the sequence.
    pub start: usize,
}

/// One layer's attention, apart from its cache.
#[derive(Clone, Debug)]
pub struct AttentionSpec<'a> {
    /// Query heads; head `h` reads key/value head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A row sees itself and `window - 1` positions before.
    pub window: Option<usize>,
    /// One learned logit per head that takes part in the softmax and brings no value.
    pub sinks: Option<&'a [f32]>,
}
