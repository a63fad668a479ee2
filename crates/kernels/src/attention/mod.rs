//! Softmax attention with grouped heads over paged keys and values.
//!
//! A row's result is a function of its query, of the keys and values that it sees and of their positions, and of
//! nothing else: not of how a prompt was cut into chunks, of the other rows of the batch, of page numbers or of
//! the number of threads. Every reduction runs in an order fixed by absolute position.

mod attend;
mod store;
#[cfg(test)]
mod tests;
mod tile;

pub use store::{KvFormat, KvShape, KvStore, PAGE};
pub(crate) use tile::{LOWEST, MAX_ROWS, PARTITION, QUERY_BLOCK, ROW, Scratch, ScratchPool, Tile};

use crate::Kernels;
use std::ops::Range;
use store::put;

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

impl Kernels {
    /// Writes the keys (`n x kv_heads * key_dim`) and values (`n x kv_heads * value_dim`) of a batch's rows to
    /// their positions.
    ///
    /// # Panics
    /// If a span's page table does not cover its rows, or the slices are too short.
    pub fn kv_write(&self, store: &mut KvStore, spans: &[Span<'_>], k: &[f32], v: &[f32]) {
        let shape = store.shape();
        let (kd, vd) = (shape.key_dim, shape.value_dim);
        let (ks, vs) = (shape.key_stride(), shape.value_stride());
        let pairs = shape.format == KvFormat::Bf16;
        for span in spans {
            for (i, row) in span.rows.clone().enumerate() {
                let position = span.start + i;
                let (page, t) = (span.pages[position / PAGE] as usize, position % PAGE);
                for head in 0..shape.kv_heads {
                    let key = &k[(row * shape.kv_heads + head) * kd..][..kd];
                    let value = &v[(row * shape.kv_heads + head) * vd..][..vd];
                    let at = page * shape.page_bytes() + head * shape.head_bytes();
                    let bytes = &mut store.data_mut()[at..at + shape.head_bytes()];
                    let (keys, values) = bytes.split_at_mut(shape.key_bytes());
                    for d in 0..ks {
                        let index = if pairs { (d / 2 * PAGE + t) * 2 + d % 2 } else { d * PAGE + t };
                        put(shape.format, keys, index, key.get(d).copied().unwrap_or(0.0));
                    }
                    for d in 0..vs {
                        let index = if pairs { (t / 2 * vs + d) * 2 + t % 2 } else { t * vs + d };
                        put(shape.format, values, index, value.get(d).copied().unwrap_or(0.0));
                    }
                }
            }
        }
    }

    /// Copies a page, for a sequence that continues a shared page on its own.
    ///
    /// # Panics
    /// If a page number is beyond the store.
    pub fn kv_copy_page(&self, store: &mut KvStore, from: u32, to: u32) {
        let bytes = store.shape().page_bytes();
        let (from, to) = (from as usize * bytes, to as usize * bytes);
        store.data_mut().copy_within(from..from + bytes, to);
    }
}
