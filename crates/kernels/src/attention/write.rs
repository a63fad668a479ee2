//! Writing keys and values into pages.

use super::{KvFormat, KvLayout, KvShape, KvStore, PAGE, Span};
use crate::Kernels;
use crate::isa::attention::{narrow, whole};
use crate::isa::level::Level;
use crate::pool::lock;
use std::sync::Mutex;

/// Numbers below which handing work to other threads costs more than it saves.
const SMALL: usize = 1 << 15;

/// Consecutive tokens of one page.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) page: usize,
    /// First token in the page.
    pub(super) token: usize,
    /// First row in the batch.
    pub(super) row: usize,
    pub(super) tokens: usize,
}

impl Kernels {
    /// Writes the keys (`n x kv_heads * key_dim`) and values (`n x kv_heads * value_dim`) of a batch's rows to
    /// their positions. Where values are part of the keys, `v` is not read.
    ///
    /// # Panics
    /// If a span's page table does not cover its rows, a page number is beyond the store, or the slices are too
    /// short.
    pub fn kv_write(&self, store: &mut KvStore, spans: &[Span<'_>], k: &[f32], v: &[f32]) {
        let shape = store.shape();
        let mut runs: Vec<Run> = spans.iter().flat_map(|span| runs(span, shape.per_page())).collect();
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
            let next = lock(&queue).next();
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
pub(super) fn runs(span: &Span<'_>, per_page: usize) -> impl Iterator<Item = Run> {
    let (start, end) = (span.start, span.start + span.rows.len());
    (start / per_page..end.div_ceil(per_page)).filter(move |_| end > start).map(move |page| {
        let first = start.max(page * per_page);
        Run {
            page: span.pages[page] as usize,
            token: first % per_page,
            row: span.rows.start + first - start,
            tokens: end.min((page + 1) * per_page) - first,
        }
    })
}

/// Writes into pages of one shape.
pub(super) struct Page<'s> {
    shape: &'s KvShape,
    level: Level,
    /// Keys or values of one head, 16 bits each, `PAGE` rows of the padded dims.
    narrow: Vec<u16>,
    /// The same in 8 bits.
    bytes: Vec<u8>,
}

impl<'s> Page<'s> {
    pub(super) fn new(shape: &'s KvShape, level: Level) -> Page<'s> {
        let numbers = shape.per_page() * shape.key_stride().max(shape.value_stride());
        let bytes = if shape.format == KvFormat::Q8_0 { numbers } else { 0 };
        Page { shape, level, narrow: vec![0; numbers], bytes: vec![0; bytes] }
    }

    pub(super) fn write(&mut self, page: &mut [u8], run: Run, k: &[f32], v: &[f32]) {
        let shape = *self.shape;
        for (head, bytes) in page.chunks_exact_mut(shape.head_bytes()).enumerate() {
            let (keys, values) = bytes.split_at_mut(shape.key_bytes());
            let row =
                |x: &[f32], dim: usize, t: usize| ((run.row + t) * shape.kv_heads + head) * dim..x.len();
            self.keys(keys, run, |t| &k[row(k, shape.key_dim, t)][..shape.key_dim]);
            if !shape.shared() {
                self.values(values, run, |t| &v[row(v, shape.value_dim, t)][..shape.value_dim]);
            }
        }
    }

    fn keys<'x>(&mut self, keys: &mut [u8], run: Run, key: impl Fn(usize) -> &'x [f32]) {
        let (dim, stride) = (self.shape.key_dim, self.shape.key_stride());
        match self.shape.format {
            _ if matches!(self.shape.layout, KvLayout::Rows(_)) => self.rows(keys, run, dim, stride, key),
            KvFormat::F32 => {
                let keys = bytemuck::cast_slice_mut(keys);
                for t in 0..run.tokens {
                    scatter(key(t), stride, &mut keys[run.token + t..], PAGE);
                }
            }
            KvFormat::F16 => {
                self.halves(run, dim, stride, key);
                transpose(run, &self.narrow, stride, bytemuck::cast_slice_mut(keys));
            }
            KvFormat::Bf16 => {
                self.halves(run, dim, stride, key);
                let pairs: &[u32] = bytemuck::cast_slice(&self.narrow);
                transpose(run, pairs, stride / 2, bytemuck::cast_slice_mut(keys));
            }
            KvFormat::I16 => {
                let (keys, scales) = keys.split_at_mut(stride * PAGE * 2);
                self.integers(run, dim, stride, scales, key);
                let pairs: &[u32] = bytemuck::cast_slice(&self.narrow);
                transpose(run, pairs, stride / 2, bytemuck::cast_slice_mut(keys));
            }
            KvFormat::Q8_0 => {
                let (keys, scales) = keys.split_at_mut(stride * PAGE);
                self.integers(run, dim, stride, scales, key);
                let pairs: &[u16] = bytemuck::cast_slice(&self.bytes);
                transpose(run, pairs, stride / 2, bytemuck::cast_slice_mut(keys));
            }
        }
    }

    fn values<'x>(&mut self, values: &mut [u8], run: Run, value: impl Fn(usize) -> &'x [f32]) {
        let (dim, stride) = (self.shape.value_dim, self.shape.value_stride());
        match self.shape.format {
            KvFormat::F32 | KvFormat::F16 => self.rows(values, run, dim, stride, value),
            KvFormat::Bf16 => {
                self.halves(run, dim, stride, value);
                interleave(run, &self.narrow, stride, bytemuck::cast_slice_mut(values));
            }
            KvFormat::I16 => {
                let (values, scales) = values.split_at_mut(stride * PAGE * 2);
                self.integers(run, dim, stride, scales, value);
                interleave(run, &self.narrow, stride, bytemuck::cast_slice_mut(values));
            }
            KvFormat::Q8_0 => {
                let (values, scales) = values.split_at_mut(stride * PAGE);
                self.integers(run, dim, stride, scales, value);
                interleave(run, &self.bytes, stride, values);
            }
        }
    }

    /// Rounds the run's rows to integers in `narrow`, or in `bytes`, zeros after each, and stores their scales.
    fn integers<'x>(
        &mut self,
        run: Run,
        dim: usize,
        stride: usize,
        scales: &mut [u8],
        row: impl Fn(usize) -> &'x [f32],
    ) {
        let block = self.shape.format.block().expect("integers have blocks");
        let small = self.shape.format == KvFormat::Q8_0;
        for (t, to) in self.narrow.chunks_exact_mut(stride).take(run.tokens).enumerate() {
            let (codes, padding) = to.split_at_mut(dim);
            padding.fill(0);
            let codes = bytemuck::cast_slice_mut::<u16, i16>(codes);
            for (b, (from, to)) in row(t).chunks(block).zip(codes.chunks_mut(block)).enumerate() {
                let at = b * PAGE + run.token + t;
                if small {
                    let scale = whole(self.level, from, 127.0, true, to);
                    bytemuck::cast_slice_mut(scales)[at] = half::f16::from_f32(scale).to_bits();
                } else {
                    bytemuck::cast_slice_mut(scales)[at] = whole(self.level, from, 32767.0, false, to);
                }
            }
        }
        // Their low bytes: codes of 8 bits are small enough.
        let written = &self.narrow[..run.tokens * stride];
        self.bytes.iter_mut().zip(written).for_each(|(byte, code)| *byte = *code as u8);
    }

    /// Writes rows one after the other.
    fn rows<'x>(
        &mut self,
        to: &mut [u8],
        run: Run,
        dim: usize,
        stride: usize,
        row: impl Fn(usize) -> &'x [f32],
    ) {
        if self.shape.format == KvFormat::F32 {
            let to = bytemuck::cast_slice_mut(to);
            for t in 0..run.tokens {
                scatter(row(t), stride, &mut to[(run.token + t) * stride..], 1);
            }
        } else {
            self.halves(run, dim, stride, row);
            let from = bytemuck::cast_slice(&self.narrow[..run.tokens * stride]);
            to[run.token * stride * 2..][..from.len()].copy_from_slice(from);
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
fn interleave<T: Copy>(run: Run, from: &[T], width: usize, to: &mut [T]) {
    let row = |t: usize| &from[t * width..][..width];
    let mut t = 0;
    while t < run.tokens {
        let token = run.token + t;
        let pairs = to[token / 2 * 2 * width..][..2 * width].as_chunks_mut::<2>().0;
        if token.is_multiple_of(2) && t + 1 < run.tokens {
            let rows = row(t).iter().zip(row(t + 1));
            pairs.iter_mut().zip(rows).for_each(|(pair, (first, second))| *pair = [*first, *second]);
            t += 2;
        } else {
            pairs.iter_mut().zip(row(t)).for_each(|(pair, x)| pair[token % 2] = *x);
            t += 1;
        }
    }
}
