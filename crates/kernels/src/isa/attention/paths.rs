//! Register tiles of attention, by how a page stores its numbers.
//!
//! Both sides come in pairs, because bf16 pages do: two dims of a vector of tokens, or two tokens of a vector
//! of dims. f32 and f16 pages simply load two neighbours.

#![allow(unsafe_code)]

use crate::attention::{PAGE, QUERY_BLOCK, ROW, Scratch, Tile};
use crate::isa::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use crate::isa::lanes::{Bf16x32, F32x16, sum};
use crate::isa::level::NEAR;
use std::marker::PhantomData;
use std::ops::Range;

/// Register tiles up to this many rows, which wait for memory, ask for the page that follows.
pub(super) const PREFETCH_ROWS: usize = 4;

/// What few rows ask for while they read a head's keys or values.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// What is read after these.
    pub(super) next: *const u8,
    /// As [`Level::asks_near`](crate::isa::level::Level::asks_near); if not, a page ahead into the second-level cache.
    pub(super) near: bool,
}

impl Ahead {
    /// Asks for as much as the `len` bytes at `at` of the `bytes` at `from`.
    ///
    /// # Safety
    /// As [`Lanes`]; the addresses need not be valid.
    #[inline(always)]
    pub(super) unsafe fn ask<L: Lanes>(self, from: *const u8, bytes: usize, at: usize, len: usize) {
        let to = at + NEAR.min(bytes);
        let start = match self.near {
            true if to < bytes => from.wrapping_add(to),
            true => self.next.wrapping_add(to - bytes),
            false => self.next.wrapping_add(at),
        };
        for line in (0..len).step_by(64) {
            let line = start.wrapping_add(line);
            // SAFETY: a prefetch may point anywhere.
            unsafe { if self.near { L::prefetch(line) } else { L::prefetch_far(line) } };
        }
    }
}

/// What one storage format does at one level.
///
/// # Safety
/// All functions need the level of `L`. `keys` is `[stride / 2]` pairs of dims of `PAGE` tokens, `values`
/// `[PAGE / 2]` pairs of tokens of `stride` dims, both in the page layout of the path's format; the scratch
/// holds the rows that are named.
pub(super) trait Path<L: Lanes> {
    /// Whether widening pages to f32 first gives the same numbers, faster for many rows.
    const WIDENS: bool = false;

    /// Numbers per word of a packed query.
    const PER_WORD: usize;

    /// Whether weights of zero make whatever a page holds in their places count as nothing.
    const MASKS: bool = false;

    /// Packs one query for `scores`: block `b` of [`QUERY_BLOCK`] words goes to `to + b * step`. Returns what the
    /// sums of its products are then to be multiplied by.
    unsafe fn pack_query(from: *const f32, to: *mut u32, step: usize, blocks: usize) -> f32;
    /// The keys as `Plain<F32>` takes them.
    unsafe fn widen_keys(_keys: *const u8, _stride: usize, _to: *mut f32) {
        unreachable!("only a path that widens");
    }
    /// The values as `Plain<F32>` takes them.
    unsafe fn widen_values(_values: *const u8, _stride: usize, _to: *mut f32) {
        unreachable!("only a path that widens");
    }
    /// Dot products of `R` queries from `row` on with the tokens of a page, `to[r * ROW + token]`.
    unsafe fn scores<const R: usize>(
        row: usize,
        keys: *const u8,
        ahead: Ahead,
        stride: usize,
        scratch: &Scratch,
        to: *mut f32,
    );
    /// Brings a row's weights into the form that `values` takes; their sum if that changed them.
    unsafe fn finish_weights(_row: usize, _columns: &Range<usize>, _scratch: &mut Scratch) -> Option<f32> {
        None
    }
    /// Brings the weights of a page, whose first is at `column`, into the form that `values` takes, for all rows.
    /// Something is to be seen only of the positions `here`.
    unsafe fn weigh(
        _tile: &Tile<'_>,
        _values: *const u8,
        _stride: usize,
        _column: usize,
        _here: &Range<usize>,
        _scratch: &mut Scratch,
    ) {
    }
    /// Adds a page's values, weighted, to `C` vectors from `dim` on of `R` rows of `acc`. `from` is the index of
    /// the first row's weight of the page's first token.
    unsafe fn values<const R: usize, const C: usize>(
        from: usize,
        values: *const u8,
        ahead: Ahead,
        dim: usize,
        stride: usize,
        scratch: &Scratch,
        acc: *mut f32,
    );
}

/// Words of one packed query: whole blocks.
#[inline(always)]
pub(super) fn query_words<L: Lanes, P: Path<L>>(stride: usize) -> usize {
    stride.div_ceil(P::PER_WORD).next_multiple_of(QUERY_BLOCK)
}

/// A number format that widens to f32 as it is loaded.
///
/// # Safety
/// As [`Path`].
pub(super) trait Element {
    /// Whether it is f32 already.
    const IS_F32: bool;
    /// Bytes per pair of numbers.
    const PAIR: usize;
    /// Dim `2 pair + side` of the tokens from `token` on.
    unsafe fn keys<L: Lanes>(keys: *const u8, pair: usize, side: usize, token: usize) -> L;
    /// Token `2 pair + side`, the dims from `dim` on of `stride`.
    unsafe fn values<L: Lanes>(values: *const u8, stride: usize, pair: usize, side: usize, dim: usize) -> L;
}

/// 32-bit floats.
pub(super) struct F32;
/// Half precision.
pub(super) struct F16;
/// bf16 in pairs.
pub(super) struct Bf16;

impl Element for F32 {
    const IS_F32: bool = true;
    const PAIR: usize = 8;

    #[inline(always)]
    unsafe fn keys<L: Lanes>(keys: *const u8, pair: usize, side: usize, token: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(keys.cast::<f32>().add((2 * pair + side) * PAGE + token)) }
    }

    #[inline(always)]
    unsafe fn values<L: Lanes>(values: *const u8, stride: usize, pair: usize, side: usize, dim: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(values.cast::<f32>().add((2 * pair + side) * stride + dim)) }
    }
}

impl Element for F16 {
    const IS_F32: bool = false;
    const PAIR: usize = 4;

    #[inline(always)]
    unsafe fn keys<L: Lanes>(keys: *const u8, pair: usize, side: usize, token: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(keys.cast::<u16>().add((2 * pair + side) * PAGE + token)) }
    }

    #[inline(always)]
    unsafe fn values<L: Lanes>(values: *const u8, stride: usize, pair: usize, side: usize, dim: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(values.cast::<u16>().add((2 * pair + side) * stride + dim)) }
    }
}

impl Element for Bf16 {
    const IS_F32: bool = false;
    const PAIR: usize = 4;

    #[inline(always)]
    unsafe fn keys<L: Lanes>(keys: *const u8, pair: usize, side: usize, token: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_bf16_half(keys.cast::<u32>().add(pair * PAGE + token), side) }
    }

    #[inline(always)]
    unsafe fn values<L: Lanes>(values: *const u8, stride: usize, pair: usize, side: usize, dim: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_bf16_half(values.cast::<u32>().add(pair * stride + dim), side) }
    }
}

/// f32 arithmetic on whatever the pages hold.
pub(super) struct Plain<E>(PhantomData<E>);

impl<L: Lanes, E: Element> Path<L> for Plain<E> {
    const WIDENS: bool = !E::IS_F32;
    const PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn pack_query(from: *const f32, to: *mut u32, step: usize, blocks: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            for block in 0..blocks {
                for half in (0..QUERY_BLOCK).step_by(L::N) {
                    let to = to.add(block * step + half).cast::<f32>();
                    L::load(from.add(block * QUERY_BLOCK + half)).store(to);
                }
            }
        }
        1.0
    }

    #[inline(always)]
    unsafe fn widen_keys(keys: *const u8, stride: usize, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            for pair in 0..stride / 2 {
                for token in (0..PAGE).step_by(L::N) {
                    E::keys::<L>(keys, pair, 0, token).store(to.add(2 * pair * PAGE + token));
                    E::keys::<L>(keys, pair, 1, token).store(to.add((2 * pair + 1) * PAGE + token));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn widen_values(values: *const u8, stride: usize, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            for pair in 0..PAGE / 2 {
                for dim in (0..stride).step_by(L::N) {
                    E::values::<L>(values, stride, pair, 0, dim).store(to.add(2 * pair * stride + dim));
                    E::values::<L>(values, stride, pair, 1, dim).store(to.add((2 * pair + 1) * stride + dim));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn scores<const R: usize>(
        row: usize,
        keys: *const u8,
        ahead: Ahead,
        stride: usize,
        scratch: &Scratch,
        to: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let q = scratch.packed.as_ptr().add(row * query_words::<L, Self>(stride)).cast::<f32>();
            for token in (0..PAGE).step_by(2 * L::N) {
                let mut sums = [[L::splat(0.0); 2]; R];
                for pair in 0..stride / 2 {
                    if R <= PREFETCH_ROWS {
                        let at = (pair * PAGE + token) * E::PAIR;
                        ahead.ask::<L>(keys, stride / 2 * PAGE * E::PAIR, at, 2 * L::N * E::PAIR);
                    }
                    let q = q.add(2 * pair / QUERY_BLOCK * QUERY_BLOCK * R + 2 * pair % QUERY_BLOCK);
                    for side in 0..2 {
                        let low: L = E::keys(keys, pair, side, token);
                        let high: L = E::keys(keys, pair, side, token + L::N);
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = L::splat(*q.add(r * QUERY_BLOCK + side));
                            sums[0] = low.fma(x, sums[0]);
                            sums[1] = high.fma(x, sums[1]);
                        }
                    }
                }
                for (r, sums) in sums.into_iter().enumerate() {
                    sums[0].store(to.add(r * ROW + token));
                    sums[1].store(to.add(r * ROW + token + L::N));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn values<const R: usize, const C: usize>(
        from: usize,
        values: *const u8,
        ahead: Ahead,
        dim: usize,
        stride: usize,
        scratch: &Scratch,
        acc: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let weights = scratch.scores.as_ptr().add(from);
            let mut sums = [[L::splat(0.0); C]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (c, sum) in sums.iter_mut().enumerate() {
                    *sum = L::load(acc.add(r * stride + dim + c * L::N));
                }
            }
            for pair in 0..PAGE / 2 {
                for side in 0..2 {
                    let mut vectors = [L::splat(0.0); C];
                    for (c, vector) in vectors.iter_mut().enumerate() {
                        let at = dim + c * L::N;
                        *vector = E::values(values, stride, pair, side, at);
                        if R <= PREFETCH_ROWS && side == 0 {
                            let at = (pair * stride + at) * E::PAIR;
                            ahead.ask::<L>(values, PAGE / 2 * stride * E::PAIR, at, 64);
                        }
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let weight = L::splat(*weights.add(r * ROW + 2 * pair + side));
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            *sum = vector.fma(weight, *sum);
                        }
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (c, sum) in sums.into_iter().enumerate() {
                    sum.store(acc.add(r * stride + dim + c * L::N));
                }
            }
        }
    }
}

/// bf16 dot products: queries and weights are rounded to bf16 too.
#[cfg(target_arch = "x86_64")]
pub(super) struct Dot;

#[cfg(target_arch = "x86_64")]
impl Path<F32x16> for Dot {
    const PER_WORD: usize = 2;

    #[inline(always)]
    unsafe fn pack_query(from: *const f32, to: *mut u32, step: usize, blocks: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            for block in 0..blocks {
                let from = from.add(block * 2 * QUERY_BLOCK);
                let words = Bf16x32::narrow(F32x16::load(from), F32x16::load(from.add(16)));
                words.store(to.add(block * step).cast());
            }
        }
        1.0
    }

    #[inline(always)]
    unsafe fn scores<const R: usize>(
        row: usize,
        keys: *const u8,
        ahead: Ahead,
        stride: usize,
        scratch: &Scratch,
        to: *mut f32,
    ) {
        let keys = keys.cast::<u32>();
        // SAFETY: the caller's promise.
        unsafe {
            let q = scratch.packed.as_ptr().add(row * query_words::<F32x16, Dot>(stride));
            let mut sums = [[F32x16::splat(0.0); 2]; R];
            for pair in 0..stride / 2 {
                let at = keys.add(pair * PAGE);
                let (low, high) = (Bf16x32::load(at), Bf16x32::load(at.add(16)));
                if R <= PREFETCH_ROWS {
                    ahead.ask::<F32x16>(keys.cast(), stride / 2 * PAGE * 4, pair * PAGE * 4, 128);
                }
                let q = q.add(pair / QUERY_BLOCK * QUERY_BLOCK * R + pair % QUERY_BLOCK);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = Bf16x32::splat(*q.add(r * QUERY_BLOCK));
                    sums[0] = low.dot(x, sums[0]);
                    sums[1] = high.dot(x, sums[1]);
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                sums[0].store(to.add(r * ROW));
                sums[1].store(to.add(r * ROW + 16));
            }
        }
    }

    #[inline(always)]
    unsafe fn finish_weights(row: usize, columns: &Range<usize>, scratch: &mut Scratch) -> Option<f32> {
        let weights = &mut scratch.weights[row * ROW / 2..(row + 1) * ROW / 2];
        let from = scratch.scores[row * ROW..].as_ptr();
        // SAFETY: the caller's promise; columns are inside the row and a multiple of 32 wide.
        unsafe {
            let mut total = F32x16::splat(0.0);
            for i in columns.clone().step_by(32) {
                let to = weights.as_mut_ptr().add(i / 2);
                Bf16x32::narrow(F32x16::load(from.add(i)), F32x16::load(from.add(i + 16))).store(to.cast());
                total = total.add(F32x16::load_bf16_half(to, 0).add(F32x16::load_bf16_half(to, 1)));
            }
            Some(sum(total))
        }
    }

    #[inline(always)]
    unsafe fn values<const R: usize, const C: usize>(
        from: usize,
        values: *const u8,
        ahead: Ahead,
        dim: usize,
        stride: usize,
        scratch: &Scratch,
        acc: *mut f32,
    ) {
        let values = values.cast::<u32>();
        // SAFETY: the caller's promise.
        unsafe {
            let weights = scratch.weights.as_ptr().add(from / 2);
            let mut sums = [[F32x16::splat(0.0); C]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (c, sum) in sums.iter_mut().enumerate() {
                    *sum = F32x16::load(acc.add(r * stride + dim + c * 16));
                }
            }
            for pair in 0..PAGE / 2 {
                let mut pairs = [Bf16x32::splat(0); C];
                for (c, pairs) in pairs.iter_mut().enumerate() {
                    let at = pair * stride + dim + c * 16;
                    *pairs = Bf16x32::load(values.add(at));
                    if R <= PREFETCH_ROWS {
                        ahead.ask::<F32x16>(values.cast(), PAGE / 2 * stride * 4, at * 4, 64);
                    }
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = Bf16x32::splat(*weights.add(r * ROW / 2 + pair));
                    for (sum, value) in sums.iter_mut().zip(pairs) {
                        *sum = value.dot(weight, *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (c, sum) in sums.into_iter().enumerate() {
                    sum.store(acc.add(r * stride + dim + c * 16));
                }
            }
        }
    }
}
