//! One block of 16 rows times `T` activation rows: the arithmetic that every path of a format shares.
//!
//! Sums of integer products are exact. What is rounded is, per block and in order of columns:
//! `y = fma(sum, d * scale_x, y)`, then for the offsets `y = fma(m, scaled_sum_x, y)` (blocks of 32) or
//! `y = fnma(sum_of_mins, dmin * scale_x, y)` (blocks of 256). Every path keeps to this, so a result does not
//! depend on the path.

use super::codes::{Codes, block_offset, block_scale, dot, min_pair, ready, sub_scale};
use super::quantise::{Line, Side32, Side256};
use super::rows16::Rows16;

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
    /// Adds block `block` of 16 rows times `T` activation rows to `y`. The codes at `codes` are packed, or (`PLAIN`)
    /// one ready vector per group; the scales are at `side`. `bias` is
    /// what the dots add to every code.
    ///
    /// # Safety
    /// As [`Rows16`]; codes, scales and activation rows of the block are there.
    unsafe fn step<C: Codes, V: Rows16, const T: usize, const PLAIN: bool>(
        y: &mut [V::Floats; T],
        codes: *const u8,
        side: *const u8,
        rows: &Rows<Self>,
        block: usize,
        bias: i32,
    );
}

/// # Safety
/// As [`Rows16`], and a unit is there.
#[inline(always)]
unsafe fn groups<C: Codes, V: Rows16, const PLAIN: bool>(
    unit: *const u8,
    mut each: impl FnMut(usize, V::Bytes),
) {
    // SAFETY: the caller's promise; a plain unit is eight vectors.
    unsafe {
        if PLAIN {
            (0..8).for_each(|g| each(g, V::bytes(unit.add(64 * g))));
        } else {
            ready::<C, V>(unit, each);
        }
    }
}

/// Bytes of a unit as [`groups`] reads it.
const fn unit_bytes<C: Codes, const PLAIN: bool>() -> usize {
    if PLAIN { 512 } else { C::SCHEME.unit_bytes() }
}

impl Step for Side32 {
    #[inline(always)]
    unsafe fn step<C: Codes, V: Rows16, const T: usize, const PLAIN: bool>(
        y: &mut [V::Floats; T],
        codes: *const u8,
        side: *const u8,
        rows: &Rows<Side32>,
        block: usize,
        bias: i32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums: [V::Ints; T] = std::array::from_fn(|t| V::splat(-bias * rows.side(t, block).sum));
            let x: [*const i8; T] = std::array::from_fn(|t| rows.x(t, 32 * block));
            groups::<C, V, PLAIN>(codes, |g, codes| {
                for t in 0..T {
                    sums[t] = dot::<C, V>(sums[t], codes, x[t].add(4 * g));
                }
            });
            let d = block_scale::<C, V>(side);
            for t in 0..T {
                let scale = V::mul(d, V::splat_float(rows.side(t, block).scale));
                y[t] = V::fma(V::to_floats(sums[t]), scale, y[t]);
            }
            if C::SCHEME.offset {
                let m = block_offset::<C, V>(side);
                for t in 0..T {
                    y[t] = V::fma(m, V::splat_float(rows.side(t, block).scaled_sum), y[t]);
                }
            }
        }
    }
}

impl Step for Side256 {
    #[inline(always)]
    unsafe fn step<C: Codes, V: Rows16, const T: usize, const PLAIN: bool>(
        y: &mut [V::Floats; T],
        codes: *const u8,
        side: *const u8,
        rows: &Rows<Side256>,
        block: usize,
        bias: i32,
    ) {
        let per_sub = C::SCHEME.sub / 4;
        // SAFETY: the caller's promise.
        unsafe {
            let mut totals = [V::splat(0); T];
            let mut sums = [V::splat(0); T];
            for unit in 0..8 {
                let x: [*const i8; T] = std::array::from_fn(|t| rows.x(t, 256 * block + 32 * unit));
                groups::<C, V, PLAIN>(codes.add(unit * unit_bytes::<C, PLAIN>()), |g, codes| {
                    let j = (8 * unit + g) / per_sub;
                    for t in 0..T {
                        if g % per_sub == 0 {
                            sums[t] = V::splat(-bias * sub_sum::<C>(rows.side(t, block), j));
                        }
                        sums[t] = dot::<C, V>(sums[t], codes, x[t].add(4 * g));
                    }
                    if (g + 1) % per_sub == 0 {
                        let scale = sub_scale::<C, V>(side, j);
                        for t in 0..T {
                            totals[t] = V::mul_add(totals[t], sums[t], scale);
                        }
                    }
                });
            }
            let d = block_scale::<C, V>(side);
            for t in 0..T {
                let scale = V::mul(d, V::splat_float(rows.side(t, block).scale));
                y[t] = V::fma(V::to_floats(totals[t]), scale, y[t]);
            }
            if C::SCHEME.offset {
                let dmin = block_offset::<C, V>(side);
                let mut mins = [V::splat(0); T];
                for pair in 0..C::SCHEME.subs() / 2 {
                    let min = min_pair::<C, V>(side, pair);
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
fn sub_sum<C: Codes>(side: &Side256, j: usize) -> i32 {
    i32::from(if C::SCHEME.sub == 16 { side.sums16[j] } else { side.sums32[j] })
}

#[inline(always)]
pub(super) fn sum_pair<C: Codes>(side: &Side256, pair: usize) -> *const i16 {
    if C::SCHEME.sub == 16 { &raw const side.sums16[2 * pair] } else { &raw const side.sums32[2 * pair] }
}
