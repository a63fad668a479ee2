//! Cutting a batch into tiles and handing them to threads.

use super::tile::{Partial, Tile, run};
use super::{AttentionSpec, KvLayout, KvStore, Span};
use super::{Scratch, ScratchPool};
use crate::Kernels;
use crate::isa::attention::{Choice, tile_rows};
use crate::pool::lock;
use std::ops::Range;
use std::sync::Mutex;

/// Multiplications below which handing work to other threads costs more than it saves.
const SMALL: usize = 1 << 17;

/// A tile and where its results go: one slice per token, the tile's heads in order.
struct Work<'a, 'o> {
    tile: Tile<'a>,
    /// First row in the batch.
    row: usize,
    /// First query head.
    head: usize,
    out: Vec<&'o mut [f32]>,
}

/// One call's constants.
struct Call<'a> {
    kernels: &'a Kernels,
    spec: &'a AttentionSpec<'a>,
    store: &'a KvStore,
    q: &'a [f32],
}

impl Kernels {
    pub(super) fn attention_choice(&self) -> Choice {
        Choice { level: self.level, bf16: self.bf16 }
    }

    /// Causal attention of a batch: the row at position `p` sees `max(0, p - window + 1)..=p`.
    ///
    /// `q` is `n x heads * key_dim`, `out` is `n x heads * value_dim`; keys and values of the batch's own rows
    /// must have been written before. Only the positions that a row sees are read, so page table entries that lie
    /// wholly before every row's window may be anything.
    ///
    /// # Panics
    /// If a span's page table does not cover its rows, a page number is beyond the store, the key/value heads do
    /// not divide the heads, or the slices are too short.
    pub fn attend(
        &self,
        spec: &AttentionSpec<'_>,
        store: &KvStore,
        spans: &[Span<'_>],
        q: &[f32],
        out: &mut [f32],
    ) {
        let shape = store.shape();
        assert!(!matches!(shape.layout, KvLayout::Rows(_)), "pages of rows are read by lists only");
        assert!(spec.heads.is_multiple_of(shape.kv_heads), "{} heads over {}", spec.heads, shape.kv_heads);
        assert!(spec.window != Some(0), "a row sees at least itself");
        assert!(spec.sinks.is_none_or(|sinks| sinks.len() == spec.heads), "one sink per head");
        let rows = tile_rows(self.attention_choice(), shape.format);
        let work = cut(spec, store, spans, rows, out);
        let call = Call { kernels: self, spec, store, q };
        let keys: usize = work.iter().map(|w| w.tile.rows * w.tile.seen_by_any(0..w.tile.rows).len()).sum();
        let threads = self.pool().threads();
        if threads == 1 || keys * (shape.key_dim + shape.value_dim) < SMALL {
            self.attention.with(|scratch| work.into_iter().for_each(|work| call.whole(work, scratch)));
        } else if work.len() >= 4 * threads || work.iter().all(|w| w.tile.partitions().len() == 1) {
            let (count, queue) = (work.len(), Mutex::new(work.into_iter()));
            self.pool().run(count, &|_| {
                let next = lock(&queue).next();
                if let Some(work) = next {
                    self.attention.with(|scratch| call.whole(work, scratch));
                }
            });
        } else {
            call.by_partition(work);
        }
    }
}

impl ScratchPool {
    /// Calls `work` with a thread's working memory.
    pub(super) fn with(&self, work: impl FnOnce(&mut Scratch)) {
        let idle = lock(&self.idle).pop();
        let mut scratch = idle.unwrap_or_default();
        work(&mut scratch);
        lock(&self.idle).push(scratch);
    }
}

impl Call<'_> {
    fn load(&self, work: &Work<'_, '_>, scratch: &mut Scratch) {
        let (shape, heads) = (self.store.shape(), work.tile.heads);
        scratch.load_queries(self.kernels.level, &shape, work.tile.rows, self.spec.scale, |r| {
            let at = (work.row + r / heads) * self.spec.heads + work.head + r % heads;
            &self.q[at * shape.key_dim..][..shape.key_dim]
        });
    }

    /// All partitions of a tile, one after the other.
    fn whole(&self, work: Work<'_, '_>, scratch: &mut Scratch) {
        self.load(&work, scratch);
        run(self.kernels.attention_choice(), &work.tile, work.tile.partitions(), scratch);
        self.finish(work, &scratch.total);
    }

    /// Every partition of every tile on its own, then the partial results in the order of the positions: the same
    /// sums as [`Call::whole`], for when there are fewer tiles than threads could use.
    fn by_partition(&self, work: Vec<Work<'_, '_>>) {
        let pieces: Vec<(usize, usize)> = work
            .iter()
            .enumerate()
            .flat_map(|(w, work)| work.tile.partitions().map(move |part| (w, part)))
            .collect();
        let partials: Vec<Mutex<Partial>> = pieces.iter().map(|_| Mutex::default()).collect();
        self.kernels.pool().run(pieces.len(), &|i| {
            let (work, part) = (&work[pieces[i].0], pieces[i].1);
            self.kernels.attention.with(|scratch| {
                self.load(work, scratch);
                run(self.kernels.attention_choice(), &work.tile, part..part + 1, scratch);
                *lock(&partials[i]) = scratch.total.first(work.tile.rows, self.store.shape().value_stride());
            });
        });
        let stride = self.store.shape().value_stride();
        let mut partials = partials.into_iter();
        for work in work {
            let mut total = Partial::new(work.tile.rows, stride);
            for partial in partials.by_ref().take(work.tile.partitions().len()) {
                total.append(self.kernels.level, &lock(&partial), work.tile.rows, stride);
            }
            self.finish(work, &total);
        }
    }

    fn finish(&self, work: Work<'_, '_>, total: &Partial) {
        let shape = self.store.shape();
        for (token, out) in work.out.into_iter().enumerate() {
            for (h, out) in out.chunks_exact_mut(shape.value_dim).enumerate() {
                let sink = self.spec.sinks.map(|sinks| sinks[work.head + h]);
                total.finish(
                    self.kernels.level,
                    token * work.tile.heads + h,
                    shape.value_stride(),
                    sink,
                    out,
                );
            }
        }
    }
}

/// Cuts a batch into tiles of up to `rows` rows.
fn cut<'a, 'o>(
    spec: &AttentionSpec<'_>,
    store: &'a KvStore,
    spans: &[Span<'a>],
    rows: usize,
    out: &'o mut [f32],
) -> Vec<Work<'a, 'o>> {
    let shape = store.shape();
    let heads = heads_per_tile(spec.heads / shape.kv_heads, rows);
    let blocks = spec.heads / heads;
    let mut slices: Vec<&mut [f32]> = out.chunks_exact_mut(heads * shape.value_dim).collect();
    let mut work = Vec::new();
    for span in spans {
        // All rows over one head's keys in turn, so that those stay in the cache; the longest rows first.
        for block in 0..blocks {
            let chunks: Vec<_> = chunks(span.rows.clone(), rows / heads).collect();
            for rows in chunks.into_iter().rev() {
                let out = rows.clone().map(|row| std::mem::take(&mut slices[row * blocks + block])).collect();
                let tile = Tile {
                    store,
                    pages: span.pages,
                    kv_head: block * heads / (spec.heads / shape.kv_heads),
                    heads,
                    rows: rows.len() * heads,
                    start: span.start + rows.start - span.rows.start,
                    window: spec.window.unwrap_or(usize::MAX),
                    softcap: spec.softcap,
                };
                work.push(Work { tile, row: rows.start, head: block * heads, out });
            }
        }
    }
    work
}

/// The largest number of heads up to `rows` that divides a group.
pub(super) fn heads_per_tile(group: usize, rows: usize) -> usize {
    (1..=group.min(rows)).rev().find(|heads| group.is_multiple_of(*heads)).unwrap_or(1)
}

fn chunks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(size).map(move |start| start..(start + size).min(range.end))
}
