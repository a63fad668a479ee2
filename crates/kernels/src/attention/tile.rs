//! One piece of attention: some rows of one sequence, the query heads of one key/value head.

use super::store::{KvShape, KvStore, PAGE};
use crate::isa::attention::{Choice, blend, partition, scale_into};
use crate::isa::level::Level;
use std::ops::Range;
use std::sync::Mutex;

/// Keys per partition. A row's softmax is computed for each partition on its own and the partial results are
/// combined in order; borders are absolute positions, so that results do not depend on who computes which.
pub(crate) const PARTITION: usize = 512;

/// Scores from one row to the next: more than a partition, so that rows do not fall on the same cache sets.
pub(crate) const ROW: usize = PARTITION + 32;

/// Words of a query that lie together in [`Scratch::packed`].
pub(crate) const QUERY_BLOCK: usize = 16;

/// Rows of one tile at most.
pub(crate) const MAX_ROWS: usize = 128;

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

/// A thread's working memory; [`Kernels`](crate::Kernels) keeps it from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Scaled queries, `rows x query_stride`.
    pub(crate) q: Vec<f32>,
    /// Numbers from one query to the next in `q`.
    pub(crate) query_stride: usize,
    /// The same as the register tiles take them, f32 or pairs of bf16.
    pub(crate) packed: Vec<u32>,
    /// Scores, then weights, `rows x ROW`.
    pub(crate) scores: Vec<f32>,
    /// What the sums of each row of `packed` are multiplied by to be scores, where queries are integers.
    pub(crate) factors: Vec<f32>,
    /// Weights as pairs of bf16, `rows x ROW / 2` or as the path likes.
    pub(crate) weights: Vec<u32>,
    /// The scales of a page's values, `blocks x PAGE`, and of each token the largest.
    pub(crate) scales: Vec<f32>,
    /// What sums of integer weights and values of each row are multiplied by.
    pub(crate) shares: Vec<f32>,
    /// One head of a page, widened to f32.
    pub(crate) wide: Vec<f32>,
    /// The values of up to two pages of which only some tokens may be read, the others zero.
    pub(crate) ragged: Vec<u32>,
    /// The values of a partition's pages, where a store keeps only keys.
    pub(crate) turned: Vec<u32>,
    /// [`Level::asks_near`] of the level that the queries were loaded for.
    pub(crate) near: bool,
    /// This partition's result.
    pub(crate) part: Partial,
    /// The results of the partitions so far.
    pub(crate) total: Partial,
    /// Keys that were gathered for one row.
    pub(super) gathered: Option<KvStore>,
}

impl Scratch {
    /// Makes room for [`MAX_ROWS`] rows over pages of `shape`.
    fn fit(&mut self, shape: &KvShape) {
        let (keys, values) = (shape.key_stride(), shape.value_stride());
        self.query_stride = keys.next_multiple_of(2 * QUERY_BLOCK);
        grow(&mut self.q, MAX_ROWS * self.query_stride);
        grow(&mut self.packed, MAX_ROWS * self.query_stride);
        grow(&mut self.scores, MAX_ROWS * ROW);
        grow(&mut self.factors, MAX_ROWS);
        let blocks = shape.format.block().map_or(0, |block| values.div_ceil(block));
        grow(&mut self.weights, MAX_ROWS * (ROW / 2).max(blocks * PAGE / 2));
        grow(&mut self.scales, (blocks + 1) * PAGE);
        grow(&mut self.shares, MAX_ROWS);
        grow(&mut self.wide, PAGE * keys.max(values));
        grow(&mut self.ragged, 2 * values * PAGE);
        if shape.shared() {
            grow(&mut self.turned, PARTITION * values * shape.format.size() / 4);
        }
        for partial in [&mut self.part, &mut self.total] {
            grow(&mut partial.max, MAX_ROWS);
            grow(&mut partial.sum, MAX_ROWS);
            grow(&mut partial.acc, MAX_ROWS * values);
        }
    }

    /// Copies the rows' queries, times `scale`: `row(r)` is the query of row `r`.
    pub(crate) fn load_queries<'q>(
        &mut self,
        level: Level,
        shape: &KvShape,
        rows: usize,
        scale: f32,
        row: impl Fn(usize) -> &'q [f32],
    ) {
        self.fit(shape);
        self.near = level.asks_near();
        for (r, to) in self.q.chunks_exact_mut(self.query_stride).take(rows).enumerate() {
            let (to, padding) = to.split_at_mut(shape.key_dim);
            scale_into(level, row(r), scale, to);
            padding.fill(0.0);
        }
    }
}

/// The working memory of threads between calls: as many as ever worked at once.
#[derive(Debug, Default)]
pub(crate) struct ScratchPool {
    pub(super) idle: Mutex<Vec<Scratch>>,
}

fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
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

    /// A copy of the first `rows` rows.
    pub(crate) fn first(&self, rows: usize, stride: usize) -> Partial {
        Partial {
            max: self.max[..rows].to_vec(),
            sum: self.sum[..rows].to_vec(),
            acc: self.acc[..rows * stride].to_vec(),
        }
    }

    /// Back to the result over no keys, for the first `rows` rows.
    pub(crate) fn clear(&mut self, rows: usize, stride: usize) {
        self.max[..rows].fill(LOWEST);
        self.sum[..rows].fill(0.0);
        self.acc[..rows * stride].fill(0.0);
    }

    /// Adds the result over the keys that follow. A row that saw none of them stays as it is.
    pub(crate) fn append(&mut self, level: Level, next: &Partial, rows: usize, stride: usize) {
        for r in 0..rows {
            let max = self.max[r].max(next.max[r]);
            let (ours, theirs) = ((self.max[r] - max).exp(), (next.max[r] - max).exp());
            self.max[r] = max;
            self.sum[r] = self.sum[r] * ours + next.sum[r] * theirs;
            let at = r * stride..(r + 1) * stride;
            blend(level, &mut self.acc[at.clone()], ours, &next.acc[at], theirs);
        }
    }

    /// Divides row `row` by its sum of weights (with the sink's) into `out`.
    pub(crate) fn finish(&self, level: Level, row: usize, stride: usize, sink: Option<f32>, out: &mut [f32]) {
        let max = sink.map_or(self.max[row], |sink| self.max[row].max(sink));
        let ours = (self.max[row] - max).exp();
        let sum = self.sum[row] * ours + sink.map_or(0.0, |sink| (sink - max).exp());
        scale_into(level, &self.acc[row * stride..][..out.len()], ours / sum, out);
    }
}

/// Attention of `tile` over the partitions `parts`, in order; the result is `scratch.total`. The queries must
/// have been loaded.
pub(crate) fn run(choice: Choice, tile: &Tile<'_>, parts: Range<usize>, scratch: &mut Scratch) {
    let stride = tile.store.shape().value_stride();
    for (i, part) in parts.enumerate() {
        scratch.part.clear(tile.rows, stride);
        partition(choice, tile, part, scratch);
        let Scratch { part, total, .. } = scratch;
        if i == 0 {
            std::mem::swap(part, total); // as appending to nothing would, but for the sign of zeros
        } else {
            total.append(choice.level, part, tile.rows, stride);
        }
    }
}
