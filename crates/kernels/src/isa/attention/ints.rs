//! Register tiles of attention over pages of integers.
//!
//! Queries and weights become 16-bit integers too, so that every product and every sum is exact and one instruction
//! multiplies pairs. What keeps sums inside 32 bits is how the two are scaled: by the sum of their magnitudes, since
//! `|sum q k| <= max |k| * sum |q|`.

#![allow(unsafe_code)]

use super::paths::{Ahead, PREFETCH_ROWS, Path, query_words};
use crate::attention::{PAGE, QUERY_BLOCK, ROW, Scratch, Tile};
use crate::isa::lanes::{Lanes, Pairs, largest, magnitude, sum};
use std::marker::PhantomData;
use std::ops::Range;

/// The sum of a page's weights as integers: a weight fits 16 bits, a sum of products with values 32. Rounding may
/// add a half per token.
const WEIGHTS: f32 = 32767.0 - PAGE as f32 / 2.0;

/// Pages with smaller sums of weighted scales count as nothing, where dividing by these would leave the range of f32.
const NOTHING: f32 = 1e-30;

/// How integers are stored; pages' sizes follow from [`KvFormat`](crate::attention::KvFormat).
///
/// # Safety
/// As [`Path`].
pub(super) trait Codes {
    /// Dims that share a scale.
    const BLOCK: usize;
    /// The largest sum of magnitudes of a query's integers over a block.
    const QUERY: f32;
    /// Bytes per pair.
    const PAIR: usize;
    /// Bytes per scale.
    const SCALE: usize;
    /// The `N` pairs from pair `at` on.
    unsafe fn pairs<L: Lanes>(from: *const u8, at: usize) -> L::Pairs;
    /// The `N` scales from scale `at` on.
    unsafe fn scales<L: Lanes>(from: *const u8, at: usize) -> L;
}

/// 16 bits, scales in f32.
pub(super) struct Words;
/// 8 bits, scales in f16.
pub(super) struct Bytes;

impl Codes for Words {
    const BLOCK: usize = 128;
    const QUERY: f32 = 65535.0 - Self::BLOCK as f32 / 2.0;
    const PAIR: usize = 4;
    const SCALE: usize = 4;

    #[inline(always)]
    unsafe fn pairs<L: Lanes>(from: *const u8, at: usize) -> L::Pairs {
        // SAFETY: the caller's promise.
        unsafe { L::Pairs::load(from.cast::<i16>().add(2 * at)) }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(from: *const u8, at: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(from.cast::<f32>().add(at)) }
    }
}

impl Codes for Bytes {
    const BLOCK: usize = 32;
    const QUERY: f32 = f32::INFINITY;
    const PAIR: usize = 2;
    const SCALE: usize = 2;

    #[inline(always)]
    unsafe fn pairs<L: Lanes>(from: *const u8, at: usize) -> L::Pairs {
        // SAFETY: the caller's promise.
        unsafe { L::Pairs::load_bytes(from.cast::<i8>().add(2 * at)) }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(from: *const u8, at: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(from.cast::<u16>().add(at)) }
    }
}

/// Asks for the scales of the keys or values at `next`, which lie behind their integers.
///
/// # Safety
/// As [`Lanes`]; the address need not be valid.
#[inline(always)]
unsafe fn ask_for_scales<L: Lanes, C: Codes>(next: *const u8, stride: usize) {
    let scales = next.wrapping_add(stride / 2 * PAGE * C::PAIR);
    for line in (0..stride.div_ceil(C::BLOCK) * PAGE * C::SCALE).step_by(64) {
        // SAFETY: a prefetch may point anywhere.
        unsafe { L::prefetch_far(scales.wrapping_add(line)) };
    }
}

/// The scales of the tokens from `token` on, zero for those outside of `here`: what was never written is no number that
/// a weight of zero would make zero.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn seen_of<L: Lanes>(scales: L, token: usize, here: &Range<usize>) -> L {
    if here.len() == PAGE {
        return scales;
    }
    let mut numbers = [0.0; 16];
    // SAFETY: the caller's promise; a vector has up to sixteen numbers.
    unsafe {
        scales.store(numbers.as_mut_ptr());
        let first = here.start % PAGE;
        for (i, number) in numbers.iter_mut().enumerate() {
            if !(first..first + here.len()).contains(&(token + i)) {
                *number = 0.0;
            }
        }
        L::load(numbers.as_ptr())
    }
}

/// Integer arithmetic on pages of `C`.
pub(super) struct Integers<C>(PhantomData<C>);

impl<L: Lanes, C: Codes> Path<L> for Integers<C> {
    const PER_WORD: usize = 2;
    const MASKS: bool = true;

    #[inline(always)]
    unsafe fn pack_query(from: *const f32, to: *mut u32, step: usize, blocks: usize) -> f32 {
        // SAFETY: the caller's promise: `blocks` blocks of pairs.
        unsafe {
            let (mut most, mut sums) = (0.0_f32, 0.0_f32);
            let numbers = std::slice::from_raw_parts(from, blocks * 2 * QUERY_BLOCK);
            for block in numbers.chunks(C::BLOCK) {
                let (mut high, mut total) = (L::splat(0.0), L::splat(0.0));
                for x in block.chunks_exact(L::N) {
                    let x = magnitude(L::load(x.as_ptr()));
                    (high, total) = (high.max(x), total.add(x));
                }
                most = most.max(largest(high));
                sums = sums.max(sum(total));
            }
            let scale = (most / 32767.0).max(sums / C::QUERY);
            let inverse = L::splat(if scale > 0.0 { 1.0 / scale } else { 0.0 });
            for block in 0..blocks {
                for i in (0..2 * QUERY_BLOCK).step_by(2 * L::N) {
                    let x = |i: usize| L::load(from.add(block * 2 * QUERY_BLOCK + i)).mul(inverse);
                    L::store_two_i16(x(i), x(i + L::N), to.add(block * step).cast::<i16>().add(i));
                }
            }
            scale
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
            let q = scratch.packed.as_ptr().add(row * query_words::<L, Self>(stride));
            let scales = keys.add(stride / 2 * PAGE * C::PAIR);
            if R <= PREFETCH_ROWS {
                ask_for_scales::<L, C>(ahead.next, stride);
            }
            for (block, first) in (0..stride).step_by(C::BLOCK).enumerate() {
                for token in (0..PAGE).step_by(2 * L::N) {
                    let mut sums = [[L::Pairs::zero(); 2]; R];
                    for pair in first / 2..(first + C::BLOCK).min(stride) / 2 {
                        if R <= PREFETCH_ROWS {
                            let at = (pair * PAGE + token) * C::PAIR;
                            ahead.ask::<L>(keys, stride / 2 * PAGE * C::PAIR, at, 2 * L::N * C::PAIR);
                        }
                        let low = C::pairs::<L>(keys, pair * PAGE + token);
                        let high = C::pairs::<L>(keys, pair * PAGE + token + L::N);
                        let q = q.add(pair / QUERY_BLOCK * QUERY_BLOCK * R + pair % QUERY_BLOCK);
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = L::Pairs::splat(*q.add(r * QUERY_BLOCK));
                            sums[0] = low.dot(x, sums[0]);
                            sums[1] = high.dot(x, sums[1]);
                        }
                    }
                    for (half, token) in [token, token + L::N].into_iter().enumerate() {
                        let scale: L = C::scales(scales, block * PAGE + token);
                        for (r, sums) in sums.iter().enumerate() {
                            let (to, sum) = (to.add(r * ROW + token), sums[half].to_floats().mul(scale));
                            let factor = L::splat(*scratch.factors.as_ptr().add(row + r));
                            let before = if block == 0 { L::splat(0.0) } else { L::load(to) };
                            sum.fma(factor, before).store(to);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn weigh(
        tile: &Tile<'_>,
        values: *const u8,
        stride: usize,
        column: usize,
        here: &Range<usize>,
        scratch: &mut Scratch,
    ) {
        let blocks = stride.div_ceil(C::BLOCK);
        // SAFETY: the caller's promise; the scratch has room for the weights of MAX_ROWS rows and all blocks.
        unsafe {
            let from = values.add(stride / 2 * PAGE * C::PAIR);
            let scales = scratch.scales.as_mut_ptr();
            let largest = scales.add(blocks * PAGE);
            for token in (0..PAGE).step_by(L::N) {
                let mut most = L::splat(0.0);
                for at in (token..blocks * PAGE).step_by(PAGE) {
                    let scale = seen_of::<L>(C::scales(from, at), token, here);
                    scale.store(scales.add(at));
                    most = scale.max(most);
                }
                most.store(largest.add(token));
            }
            for row in 0..tile.rows {
                // One factor for all blocks: of a token's scales the largest counts.
                let weights = scratch.scores.as_ptr().add(row * ROW + column);
                let mut total = L::splat(0.0);
                for i in (0..PAGE).step_by(L::N) {
                    total = L::load(weights.add(i)).fma(L::load(largest.add(i)), total);
                }
                let total = sum(total);
                let (factor, share) =
                    if total > NOTHING { (WEIGHTS / total, total / WEIGHTS) } else { (0.0, 0.0) };
                *scratch.shares.as_mut_ptr().add(row) = share;
                let to = scratch.weights.as_mut_ptr().add(row * blocks * PAGE / 2).cast::<i16>();
                for i in (0..PAGE).step_by(2 * L::N) {
                    let factor = L::splat(factor);
                    let low = L::load(weights.add(i)).mul(factor);
                    let high = L::load(weights.add(i + L::N)).mul(factor);
                    for at in (i..blocks * PAGE).step_by(PAGE) {
                        let scale = |i| L::load(scales.add(at + i));
                        L::store_two_i16(low.mul(scale(0)), high.mul(scale(L::N)), to.add(at));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn values<const R: usize, const V: usize>(
        from: usize,
        values: *const u8,
        ahead: Ahead,
        dim: usize,
        stride: usize,
        scratch: &Scratch,
        acc: *mut f32,
    ) {
        let (row, blocks) = (from / ROW, stride.div_ceil(C::BLOCK));
        // Tiles begin at multiples of their widths, which are powers of two.
        let block = |v: usize| (dim + if V * L::N > C::BLOCK { v * L::N } else { 0 }) / C::BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            let weights = scratch.weights.as_ptr().add(row * blocks * PAGE / 2);
            if R <= PREFETCH_ROWS && dim == 0 {
                ask_for_scales::<L, C>(ahead.next, stride);
            }
            let mut sums = [[L::Pairs::zero(); V]; R];
            for pair in 0..PAGE / 2 {
                let mut vectors = [L::Pairs::zero(); V];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    let at = pair * stride + dim + v * L::N;
                    *vector = C::pairs::<L>(values, at);
                    if R <= PREFETCH_ROWS && (v * L::N * C::PAIR).is_multiple_of(64) {
                        ahead.ask::<L>(values, PAGE / 2 * stride * C::PAIR, at * C::PAIR, 64);
                    }
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (v, (sum, vector)) in sums.iter_mut().zip(vectors).enumerate() {
                        let at = (r * blocks + block(v)) * PAGE / 2 + pair;
                        *sum = vector.dot(L::Pairs::splat(*weights.add(at)), *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    let to = acc.add(r * stride + dim + v * L::N);
                    let share = L::splat(*scratch.shares.as_ptr().add(row + r));
                    sum.to_floats().fma(share, L::load(to)).store(to);
                }
            }
        }
    }
}
