//! One piece of attention: some rows of one sequence, the query heads of one key/value head.

use super::store::{KvStore, PAGE};
use crate::isa::attention::partition;
use crate::isa::level::Level;
use std::ops::Range;

/// Keys per partition. A row's softmax is computed for each partition on its own and the partial results are
/// combined in order; borders are absolute positions, so that results do not depend on who computes which.
pub(crate) const PARTITION: usize = 512;

/// Rows of one tile at most: their scores for a partition stay in the second-level cache.
pub(crate) const MAX_ROWS: usize = 48;

/// The running maximum before any score; finite, so that differences from it are numbers.
pub(crate) const LOWEST: f32 = -3.0e38;

/// Where a tile reads, and what its rows may see.
#[derive(Debug)]
pub(crate) struct Tile<'a> {
    /// The layer's keys and values.
    pub(crate) store: &'a KvStore,
    /// The sequence's page table.
    pub(crate) pages: &'a [u32],
    /// Key/value head.
    pub(crate) kv_head: usize,
    /// Query heads of each token: row `r` belongs to token `r / heads`.
    pub(crate) heads: usize,
    /// Number of rows.
    pub(crate) rows: usize,
    /// Position of the first token.
    pub(crate) start: usize,
    /// Positions a row sees, itself included.
    pub(crate) window: usize,
    /// Bound of the scores, if there is one.
    pub(crate) softcap: Option<f32>,
}

impl Tile<'_> {
    /// The positions that row `row` sees.
    pub(crate) fn seen(&self, row: usize) -> Range<usize> {
        let end = self.start + row / self.heads + 1;
        end.saturating_sub(self.window)..end
    }

    /// The positions that any of the rows sees.
    pub(crate) fn seen_by_any(&self, rows: Range<usize>) -> Range<usize> {
        self.seen(rows.start).start..self.seen(rows.end - 1).end
    }

    /// The partitions that hold them.
    pub(crate) fn partitions(&self) -> Range<usize> {
        let seen = self.seen_by_any(0..self.rows);
        seen.start / PARTITION..seen.end.div_ceil(PARTITION)
    }
}

/// A thread's working memory.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Scaled queries, `rows x key_stride` (rounded up to whole vectors).
    pub(crate) q: Vec<f32>,
    /// The same as pairs of bf16, where scores are bf16 dot products.
    pub(crate) q_pairs: Vec<u32>,
    /// Scores, then weights, `rows x PARTITION`.
    pub(crate) scores: Vec<f32>,
    /// Weights as pairs of bf16, `rows x PARTITION / 2`.
    pub(crate) weights: Vec<u32>,
    /// One head of a page, widened to f32.
    pub(crate) wide: Vec<f32>,
    /// The values of a page of which only some tokens may be read, the others zero.
    pub(crate) ragged: Vec<u32>,
    /// This partition's result.
    pub(crate) part: Partial,
    /// The results of the partitions so far.
    pub(crate) total: Partial,
}

impl Scratch {
    /// Makes room for tiles of up to [`MAX_ROWS`] rows over `store`.
    pub(crate) fn for_store(store: &KvStore) -> Scratch {
        let shape = store.shape();
        let (keys, values) = (shape.key_stride(), shape.value_stride());
        let q = (MAX_ROWS * keys).next_multiple_of(32);
        Scratch {
            q: vec![0.0; q],
            q_pairs: vec![0; q / 2],
            scores: vec![0.0; MAX_ROWS * PARTITION],
            weights: vec![0; MAX_ROWS * PARTITION / 2],
            wide: vec![0.0; PAGE * keys.max(values)],
            ragged: vec![0; values * PAGE * shape.format.size() / 4],
            part: Partial::new(MAX_ROWS, values),
            total: Partial::new(MAX_ROWS, values),
        }
    }

    /// Copies the rows' queries, times `scale`: `row(r)` is the query of row `r`.
    pub(crate) fn load_queries<'q>(
        &mut self,
        rows: usize,
        stride: usize,
        scale: f32,
        row: impl Fn(usize) -> &'q [f32],
    ) {
        for (r, to) in self.q.chunks_exact_mut(stride).take(rows).enumerate() {
            let from = row(r);
            let (to, padding) = to.split_at_mut(from.len());
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from * scale);
            padding.fill(0.0);
        }
    }
}

/// Softmax over some of the keys, not yet divided: per row the largest score, the sum of weights relative to
/// it, and the weighted sum of values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partial {
    pub(crate) max: Vec<f32>,
    pub(crate) sum: Vec<f32>,
    /// `rows x value_stride`.
    pub(crate) acc: Vec<f32>,
}

impl Partial {
    /// The result over no keys.
    pub(crate) fn new(rows: usize, stride: usize) -> Partial {
        Partial { max: vec![LOWEST; rows], sum: vec![0.0; rows], acc: vec![0.0; rows * stride] }
    }

    /// Back to the result over no keys, for the first `rows` rows.
    pub(crate) fn clear(&mut self, rows: usize, stride: usize) {
        self.max[..rows].fill(LOWEST);
        self.sum[..rows].fill(0.0);
        self.acc[..rows * stride].fill(0.0);
    }

    /// Adds the result over the keys that follow. A row that saw none of them stays as it is, bit for bit.
    pub(crate) fn append(&mut self, next: &Partial, rows: usize, stride: usize) {
        for r in 0..rows {
            let max = self.max[r].max(next.max[r]);
            let (ours, theirs) = ((self.max[r] - max).exp(), (next.max[r] - max).exp());
            self.max[r] = max;
            self.sum[r] = self.sum[r] * ours + next.sum[r] * theirs;
            let to = &mut self.acc[r * stride..(r + 1) * stride];
            let from = &next.acc[r * stride..(r + 1) * stride];
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *to * ours + *from * theirs);
        }
    }

    /// Divides row `row` by its sum of weights (with the sink's) into `out`.
    pub(crate) fn finish(&self, row: usize, stride: usize, sink: Option<f32>, out: &mut [f32]) {
        let max = sink.map_or(self.max[row], |sink| self.max[row].max(sink));
        let ours = (self.max[row] - max).exp();
        let sum = self.sum[row] * ours + sink.map_or(0.0, |sink| (sink - max).exp());
        let factor = ours / sum;
        let acc = &self.acc[row * stride..][..out.len()];
        out.iter_mut().zip(acc).for_each(|(out, acc)| *out = acc * factor);
    }
}

/// Attention of `tile` over the partitions `parts`, in order; the result is `scratch.total`. The queries must
/// have been loaded.
pub(crate) fn run(level: Level, tile: &Tile<'_>, parts: Range<usize>, scratch: &mut Scratch) {
    let stride = tile.store.shape().value_stride();
    scratch.total.clear(tile.rows, stride);
    for part in parts {
        scratch.part.clear(tile.rows, stride);
        partition(level, tile, part, scratch);
        let Scratch { part, total, .. } = scratch;
        total.append(part, tile.rows, stride);
    }
}
