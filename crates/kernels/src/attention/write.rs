//! Writing keys and values into pages.

use super::{KvFormat, KvShape, KvStore, PAGE, Span};
use crate::Kernels;
use crate::isa::attention::narrow;
use crate::isa::level::Level;
use std::sync::Mutex;

/// Numbers below which handing work to other threads costs more than it saves.
const SMALL: usize = 1 << 16;

/// Consecutive tokens of one page.
#[derive(Clone, Copy)]
struct Run {
    page: usize,
    /// First token in the page.
    token: usize,
    /// First row in the batch.
    row: usize,
    tokens: usize,
}

impl Kernels {
    /// Writes the keys (`n x kv_heads * key_dim`) and values (`n x kv_heads * value_dim`) of a batch's rows to
    /// their positions.
    ///
    /// # Panics
    /// If a span's page table does not cover its rows, a page number is beyond the store, or the slices are too
    /// short.
    pub fn kv_write(&self, store: &mut KvStore, spans: &[Span<'_>], k: &[f32], v: &[f32]) {
        let shape = store.shape();
        let mut runs: Vec<Run> = spans.iter().flat_map(runs).collect();
        let rows: usize = runs.iter().map(|run| run.tokens).sum();
        let bytes = shape.page_bytes();
        let level = self.level();
        runs.sort_unstable_by_key(|run| run.page);
        let small = rows * shape.kv_heads * (shape.key_dim + shape.value_dim) < SMALL;
        if small || self.pool().threads() == 1 || runs.windows(2).any(|pair| pair[0].page == pair[1].page) {
            let mut page = Page::new(&shape, level);
            for run in runs {
                page.write(&mut store.data_mut()[run.page * bytes..][..bytes], run, k, v);
            }
            return;
        }
        // One job per page, each with the page's bytes to itself.
        let mut jobs = Vec::with_capacity(runs.len());
        let (mut rest, mut at) = (store.data_mut(), 0);
        for run in runs {
            let (_, from) = rest.split_at_mut((run.page - at) * bytes);
            let (page, after) = from.split_at_mut(bytes);
            jobs.push((run, page));
            (rest, at) = (after, run.page + 1);
        }
        let (count, queue) = (jobs.len(), Mutex::new(jobs.into_iter()));
        self.pool().run(count, &|_| {
            let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
            if let Some((run, bytes)) = next {
                Page::new(&shape, level).write(bytes, run, k, v);
            }
        });
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

/// The pages that a span's rows fall into.
fn runs(span: &Span<'_>) -> impl Iterator<Item = Run> {
    let (start, end) = (span.start, span.start + span.rows.len());
    (start / PAGE..end.div_ceil(PAGE)).filter(move |_| end > start).map(move |page| {
        let first = start.max(page * PAGE);
        Run {
            page: span.pages[page] as usize,
            token: first % PAGE,
            row: span.rows.start + first - start,
            tokens: end.min((page + 1) * PAGE) - first,
        }
    })
}

/// Writes into pages of one shape.
struct Page<'s> {
    shape: &'s KvShape,
    level: Level,
    /// Keys or values of one head, 16 bits each, `PAGE` rows of the padded dims.
    narrow: Vec<u16>,
}

impl<'s> Page<'s> {
    fn new(shape: &'s KvShape, level: Level) -> Page<'s> {
        Page { shape, level, narrow: vec![0; PAGE * shape.key_stride().max(shape.value_stride())] }
    }

    fn write(&mut self, page: &mut [u8], run: Run, k: &[f32], v: &[f32]) {
        let shape = *self.shape;
        for (head, bytes) in page.chunks_exact_mut(shape.head_bytes()).enumerate() {
            let (keys, values) = bytes.split_at_mut(shape.key_bytes());
            let row =
                |x: &[f32], dim: usize, t: usize| ((run.row + t) * shape.kv_heads + head) * dim..x.len();
            let key = |t: usize| &k[row(k, shape.key_dim, t)][..shape.key_dim];
            let value = |t: usize| &v[row(v, shape.value_dim, t)][..shape.value_dim];
            match shape.format {
                KvFormat::F32 => {
                    let (keys, values) = (bytemuck::cast_slice_mut(keys), bytemuck::cast_slice_mut(values));
                    let stride = shape.value_stride();
                    for t in 0..run.tokens {
                        let token = run.token + t;
                        scatter(key(t), shape.key_stride(), &mut keys[token..], PAGE);
                        scatter(value(t), stride, &mut values[token * stride..], 1);
                    }
                }
                KvFormat::F16 => {
                    self.halves(run, shape.key_dim, shape.key_stride(), key);
                    transpose(run, &self.narrow, shape.key_stride(), bytemuck::cast_slice_mut(keys));
                    self.halves(run, shape.value_dim, shape.value_stride(), value);
                    let at = run.token * shape.value_stride() * 2;
                    let from = bytemuck::cast_slice(&self.narrow[..run.tokens * shape.value_stride()]);
                    values[at..at + from.len()].copy_from_slice(from);
                }
                KvFormat::Bf16 => {
                    self.halves(run, shape.key_dim, shape.key_stride(), key);
                    let pairs: &[u32] = bytemuck::cast_slice(&self.narrow);
                    transpose(run, pairs, shape.key_stride() / 2, bytemuck::cast_slice_mut(keys));
                    self.halves(run, shape.value_dim, shape.value_stride(), value);
                    interleave(run, &self.narrow, shape.value_stride(), bytemuck::cast_slice_mut(values));
                }
            }
        }
    }

    /// Rounds the run's rows to 16 bits, zeros after each.
    fn halves<'x>(&mut self, run: Run, dim: usize, stride: usize, row: impl Fn(usize) -> &'x [f32]) {
        for (t, to) in self.narrow.chunks_exact_mut(stride).take(run.tokens).enumerate() {
            let (to, padding) = to.split_at_mut(dim);
            narrow(self.level, self.shape.format, row(t), to);
            padding.fill(0);
        }
    }
}

/// Writes `from`, then zeros up to `len` numbers, `step` apart.
fn scatter(from: &[f32], len: usize, to: &mut [f32], step: usize) {
    for (i, to) in to.iter_mut().step_by(step).take(len).enumerate() {
        *to = from.get(i).copied().unwrap_or(0.0);
    }
}

/// Writes rows of `width` as columns of a page, whose rows are `PAGE` tokens.
fn transpose<T: Copy>(run: Run, from: &[T], width: usize, to: &mut [T]) {
    for (i, to) in to.chunks_exact_mut(PAGE).take(width).enumerate() {
        for (t, to) in to[run.token..run.token + run.tokens].iter_mut().enumerate() {
            *to = from[t * width + i];
        }
    }
}

/// Writes rows of `width` as halves of pairs of tokens.
fn interleave(run: Run, from: &[u16], width: usize, to: &mut [u16]) {
    for (t, from) in from.chunks_exact(width).take(run.tokens).enumerate() {
        let token = run.token + t;
        let to = &mut to[token / 2 * 2 * width..][..2 * width];
        for (pair, x) in to.chunks_exact_mut(2).zip(from) {
            pair[token % 2] = *x;
        }
    }
}
