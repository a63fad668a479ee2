//! One block of 16 rows times `T` activation rows: the arithmetic that every path of a format shares.
//!
//! Sums of integer products are exact. What is rounded is, per block and in order of columns:
//! `y = fma(sum, d * scale_x, y)`, then for the offsets `y = fma(m, scaled_sum_x, y)` (blocks of 32) or
//! `y = fnma(sum_of_mins, dmin * scale_x, y)` (blocks of 256). Every path keeps to this, so a result does not
//! depend on the path.

// Rows of several arrays are walked in step.
#![allow(clippy::needless_range_loop)]

use super::codes::{self, Codes, Each, dot, lift, narrow, opens256, run, weighs_bias};
use super::quantise::{Line, OPENING_BIAS, Side32, Side256};
use super::rows16::Rows16;
use super::sides::{factors, min_pair, offset, scale, scale_pair};
use crate::isa::level::NEAR;
use std::marker::PhantomData;

/// Asks for what lies ahead of unit `unit` of a block and of its share of the scales, a few lines at a time. Where several
/// rows take longer for a line than memory does, into the second-level cache, because a core has few misses of the first
/// under way.
///
/// # Safety
/// As [`Rows16`]; the addresses need not be valid.
#[inline(always)]
unsafe fn ask<C: Codes, V: Rows16, const T: usize>(codes: *const u8, side: *const u8, unit: usize) {
    let ahead = const { if T == 1 { NEAR } else { 8192 } };
    // SAFETY: a prefetch may point anywhere.
    let ask = |at: *const u8| unsafe { if T == 1 { V::prefetch(at) } else { V::prefetch_far(at) } };
    let bytes = const { C::SCHEME.unit_bytes() };
    for line in 0..bytes / 64 {
        ask(codes.wrapping_add(ahead + bytes * unit + 64 * line));
    }
    let lines = const { C::SCHEME.side_bytes().div_ceil(64) };
    for line in (unit..lines).step_by(const { C::SCHEME.block / 32 }) {
        ask(side.wrapping_add(ahead + 64 * line));
    }
}

/// Consecutive rows of one tile of activations.
#[derive(Clone, Copy)]
pub(super) struct Rows<S> {
    /// The first row's first line.
    pub(super) lines: *const Line,
    /// The first row's first side.
    pub(super) sides: *const S,
    /// Rows of the tile: the distance from one 64-column chunk of a row to the next.
    pub(super) stride: usize,
}

impl<S> Rows<S> {
    /// The rows from the `t`-th on.
    ///
    /// # Safety
    /// There are that many.
    #[inline(always)]
    pub(super) unsafe fn from(&self, t: usize) -> Rows<S> {
        // SAFETY: the caller's promise.
        unsafe { Rows { lines: self.lines.add(t), sides: self.sides.add(t), stride: self.stride } }
    }

    /// # Safety
    /// There is a row `t` and a column `k`.
    #[inline(always)]
    unsafe fn x(&self, t: usize, k: usize) -> *const i8 {
        // SAFETY: the caller's promise.
        unsafe { self.lines.add(k / 64 * self.stride + t).cast::<i8>().add(k % 64) }
    }

    /// # Safety
    /// There is a row `t` and a block `block`.
    #[inline(always)]
    pub(super) unsafe fn side(&self, t: usize, block: usize) -> &S {
        // SAFETY: the caller's promise.
        unsafe { &*self.sides.add(block * self.stride + t) }
    }
}

/// What kind of side a scheme's activations have, and the step over one block.
pub(super) trait Step: Sized {
    /// Adds block `block` of 16 rows times `T` activation rows to `y`. The codes at `codes` and the scales
    /// at `side` are packed, or (`PLAIN`) ready vectors. `bias` is what the dots add to every code. `ASK`: what lies
    /// ahead of the codes is asked for.
    ///
    /// # Safety
    /// As [`Rows16`]; codes, scales and activation rows of the block are there.
    unsafe fn step<C: Codes, V: Rows16, const T: usize, const PLAIN: bool, const ASK: bool>(
        y: &mut [V::Floats; T],
        codes: *const u8,
        side: *const u8,
        rows: &Rows<Self>,
        block: usize,
        bias: i32,
    );
}

/// Hands the groups of a unit to `each`: unpacked here, or plain vectors.
///
/// # Safety
/// As [`Rows16`], a unit is there, and `each` may be called.
#[inline(always)]
unsafe fn groups<C: Codes, V: Rows16, const PLAIN: bool>(unit: *const u8, each: &mut impl Each<V>) {
    // SAFETY: the caller's promise; a plain unit is eight vectors.
    unsafe {
        if PLAIN {
            // Not a loop: what is done with a group depends on which it is.
            macro_rules! take {
                ($($g:literal)*) => { $(each.take($g, V::bytes(unit.add(64 * $g)));)* };
            }
            take!(0 1 2 3 4 5 6 7);
        } else {
            codes::groups::<C, V>(unit, each);
        }
    }
}

/// Bytes of a unit as [`groups`] reads it.
#[inline(always)]
const fn unit_bytes<C: Codes, const PLAIN: bool>() -> usize {
    if PLAIN { 512 } else { const { C::SCHEME.unit_bytes() } }
}

/// Dot products of 32 columns. Activation rows lie a line apart.
struct Dots32<C, V: Rows16, const T: usize> {
    sums: [V::Sums; T],
    totals: [V::Ints; T],
    x: *const i8,
    codes: PhantomData<C>,
}

impl<C: Codes, V: Rows16, const T: usize> Each<V> for Dots32<C, V, T> {
    #[inline(always)]
    unsafe fn take(&mut self, g: usize, codes: V::Bytes) {
        let run = const { run::<C, V>() };
        for t in 0..T {
            // SAFETY: there are `T` rows of 32 columns at `x`.
            unsafe {
                if g.is_multiple_of(run) {
                    self.sums[t] = V::open(self.totals[t]);
                }
                self.sums[t] = dot::<C, V>(self.sums[t], codes, self.x.add(64 * t + 4 * g));
                if (g + 1).is_multiple_of(run) {
                    self.totals[t] = V::close(self.totals[t], self.sums[t]);
                }
            }
        }
    }
}

/// Dot products of sub-blocks, and their sum under the sub-scales.
struct Dots256<C, V: Rows16, const T: usize, const PLAIN: bool> {
    sums: [V::Sums; T],
    totals: [V::Ints; T],
    x: *const i8,
    /// What is beside the activations of the block.
    beside: *const Side256,
    side: *const u8,
    unit: usize,
    codes: PhantomData<C>,
}

impl<C: Codes, V: Rows16, const T: usize, const PLAIN: bool> Each<V> for Dots256<C, V, T, PLAIN> {
    #[inline(always)]
    unsafe fn take(&mut self, g: usize, codes: V::Bytes) {
        let run = const { run::<C, V>() };
        let j = (8 * self.unit + g) / (C::SCHEME.sub / 4);
        // SAFETY: there are `T` rows of 32 columns at `x`, and the scales of the block at `side`.
        unsafe {
            for t in 0..T {
                if g.is_multiple_of(run) {
                    let opening =
                        if const { opens256::<C, V>() } { (*self.beside.add(t)).openings[j] } else { 0 };
                    self.sums[t] = V::open(V::splat(opening));
                }
                self.sums[t] = dot::<C, V>(self.sums[t], codes, self.x.add(64 * t + 4 * g));
            }
            if (g + 1).is_multiple_of(run) {
                let factors = factors::<C, V, PLAIN>(self.side, j);
                for t in 0..T {
                    self.totals[t] = if const { narrow::<C, V>() } {
                        V::close_narrow(self.totals[t], self.sums[t], factors)
                    } else {
                        V::close_scaled(self.totals[t], self.sums[t], factors)
                    };
                }
            }
        }
    }
}

/// Whether the sums of a block of 32 begin with what takes the bias off: where all plain codes have one bias.
const fn opens<C: Codes, V: Rows16>(plain: bool) -> bool {
    let lifted = plain && lift::<C, V>() > 0;
    (C::SCHEME.wide() || lifted) && !C::SCHEME.offset && V::WIDE_BIAS == OPENING_BIAS
}

impl Step for Side32 {
    #[inline(always)]
    unsafe fn step<C: Codes, V: Rows16, const T: usize, const PLAIN: bool, const ASK: bool>(
        y: &mut [V::Floats; T],
        codes: *const u8,
        side: *const u8,
        rows: &Rows<Side32>,
        block: usize,
        bias: i32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut totals = [V::splat(0); T];
            if const { opens::<C, V>(PLAIN) } {
                for t in 0..T {
                    totals[t] = V::splat(rows.side(t, block).opening);
                }
            } else if bias != 0 {
                for t in 0..T {
                    // 32 bytes add up to 16 bits: the number's first half is the sum, the second only its sign.
                    let sum = (&raw const rows.side(t, block).sum).cast();
                    totals[t] = V::dot_pairs(totals[t], V::splat(-bias & 0xffff), sum);
                }
            }
            if ASK {
                ask::<C, V, T>(codes, side, 0);
            }
            let sums = [V::open(V::splat(0)); T];
            let mut dots = Dots32::<C, V, T> { sums, totals, x: rows.x(0, 32 * block), codes: PhantomData };
            groups::<C, V, PLAIN>(codes, &mut dots);
            let totals = dots.totals;
            let d = scale::<C, V, PLAIN>(side);
            for t in 0..T {
                let scale = V::mul(d, V::splat_float(rows.side(t, block).scale));
                y[t] = V::fma(V::to_floats(totals[t]), scale, y[t]);
            }
            if C::SCHEME.offset {
                let m = offset::<C, V, PLAIN>(side);
                for t in 0..T {
                    y[t] = V::fma(m, V::splat_float(rows.side(t, block).scaled_sum), y[t]);
                }
            }
        }
    }
}

impl Step for Side256 {
    #[inline(always)]
    unsafe fn step<C: Codes, V: Rows16, const T: usize, const PLAIN: bool, const ASK: bool>(
        y: &mut [V::Floats; T],
        codes: *const u8,
        side: *const u8,
        rows: &Rows<Side256>,
        block: usize,
        bias: i32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = [V::splat(0); T];
            let mut dots = Dots256::<C, V, T, PLAIN> {
                sums: [V::open(V::splat(0)); T],
                totals: zero,
                x: rows.x(0, 256 * block),
                beside: rows.side(0, block),
                side,
                unit: 0,
                codes: PhantomData,
            };
            if const { weighs_bias::<C, V>() } {
                // What the bias adds: itself times the sums of activations under the sub-scales.
                let mut sums = zero;
                for pair in 0..const { C::SCHEME.subs() } / 2 {
                    let scales = scale_pair::<C, V, PLAIN>(side, pair);
                    for t in 0..T {
                        sums[t] = V::dot_pairs(sums[t], scales, sum_pair::<C>(rows.side(t, block), pair));
                    }
                }
                for t in 0..T {
                    dots.totals[t] = V::mul_add(zero[t], sums[t], V::splat(-bias));
                }
            }
            for unit in 0..8 {
                if ASK {
                    ask::<C, V, T>(codes, side, unit);
                }
                dots.unit = unit;
                dots.x = rows.x(0, 256 * block + 32 * unit);
                groups::<C, V, PLAIN>(codes.add(unit * unit_bytes::<C, PLAIN>()), &mut dots);
            }
            let totals = dots.totals;
            let d = scale::<C, V, PLAIN>(side);
            for t in 0..T {
                let scale = V::mul(d, V::splat_float(rows.side(t, block).scale));
                y[t] = V::fma(V::to_floats(totals[t]), scale, y[t]);
            }
            if C::SCHEME.offset {
                let dmin = offset::<C, V, PLAIN>(side);
                let mut mins = [V::splat(0); T];
                for pair in 0..const { C::SCHEME.subs() } / 2 {
                    let min = min_pair::<C, V, PLAIN>(side, pair);
                    for t in 0..T {
                        mins[t] = V::dot_pairs(mins[t], min, sum_pair::<C>(rows.side(t, block), pair));
                    }
                }
                for t in 0..T {
                    let scale = V::mul(dmin, V::splat_float(rows.side(t, block).scale));
                    y[t] = V::fnma(V::to_floats(mins[t]), scale, y[t]);
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn sum_pair<C: Codes>(side: &Side256, pair: usize) -> *const i16 {
    if C::SCHEME.sub == 16 { &raw const side.sums16[2 * pair] } else { &raw const side.sums32[2 * pair] }
}
