//! Products in f32: float formats, and every format where exactness is asked for.

// Rows of several arrays are walked in step, as in `int`.
#![allow(clippy::needless_range_loop)]

use super::int::Plain;
use super::rows16::Rows16;
use super::{Panel, SLAB_COLS};
use crate::Format;
use crate::layout::{Scheme, SubScales};

/// Decoded weights: 16 rows of each column. 16 KiB, which the first-level cache holds.
#[repr(align(64))]
pub(super) struct Decoded(pub(super) [[f32; 16]; SLAB_COLS]);

/// Decodes half-precision or bf16 weights of columns `first..first + cols`.
///
/// # Safety
/// As [`Rows16`]; the panel has these columns, and they are at most [`SLAB_COLS`].
#[inline(always)]
pub(super) unsafe fn widen<V: Rows16>(panel: &Panel<'_>, first: usize, cols: usize, to: &mut Decoded) {
    let out = to.0.as_mut_ptr().cast::<f32>();
    // Columns of bf16 come in pairs; a last one without its partner has zero beside it, and there is room for it:
    // the limit is even.
    for k in (0..cols).step_by(2) {
        // SAFETY: the caller's promise; a prefetch may point anywhere.
        unsafe {
            let from = panel.start.add(32 * (first + k));
            V::prefetch(from.wrapping_add(2048));
            if panel.format == Format::BF16 {
                let (even, odd) = V::bf16_pairs(from);
                V::store(even, out.add(16 * k));
                V::store(odd, out.add(16 * (k + 1)));
            } else {
                V::store(V::halves(from), out.add(16 * k));
                if k + 1 < cols {
                    V::store(V::halves(from.add(32)), out.add(16 * (k + 1)));
                }
            }
        }
    }
}

/// Decodes unpacked codes by the format's own arithmetic.
///
/// # Safety
/// As [`Rows16`]; the panel has the scales of these columns, and they are at most [`SLAB_COLS`].
#[inline(always)]
pub(super) unsafe fn decode<V: Rows16>(panel: &Panel<'_>, scheme: &Scheme, plain: &Plain, to: &mut Decoded) {
    let out = to.0.as_mut_ptr().cast::<f32>();
    for first in (0..plain.cols).step_by(scheme.sub) {
        let column = plain.first + first;
        let j = column % scheme.block / scheme.sub;
        // SAFETY: the caller's promise.
        unsafe {
            let (_, side) = panel.at(scheme, column / scheme.block * scheme.block);
            let d = if scheme.power { V::powers(side) } else { V::halves(side) };
            let m = if scheme.offset { V::halves(side.add(scheme.offset_at())) } else { d };
            let scale = match scheme.scales {
                SubScales::None => d,
                _ => V::mul(d, V::to_floats(sub_scale::<V>(scheme, side, j))),
            };
            let offset = match scheme.scales {
                SubScales::None => m,
                _ if scheme.offset => V::mul(m, V::to_floats(minimum::<V>(scheme, side, j))),
                _ => m,
            };
            let signed = scheme.wide() && V::WIDE_BIAS == 0;
            macro_rules! value {
                ($byte:literal, $codes:expr) => {{
                    let int = V::sub_ints(V::byte_of::<$byte>($codes, signed), V::splat(plain.bias));
                    let value = V::mul(scale, V::to_floats(int));
                    match (scheme.offset, scheme.block) {
                        (false, _) => value,
                        (true, 32) => V::add(value, offset),
                        (true, _) => V::sub(value, offset),
                    }
                }};
            }
            for k in (first..first + scheme.sub).step_by(4) {
                let codes = V::bytes(plain.codes.add(16 * k));
                V::store(value!(0, codes), out.add(16 * k));
                V::store(value!(1, codes), out.add(16 * (k + 1)));
                V::store(value!(2, codes), out.add(16 * (k + 2)));
                V::store(value!(3, codes), out.add(16 * (k + 3)));
            }
        }
    }
}

/// Scale of sub-block `j`, by a scheme known at run time.
///
/// # Safety
/// As [`Rows16`], and the scales of a block are at `side`.
#[inline(always)]
pub(super) unsafe fn sub_scale<V: Rows16>(scheme: &Scheme, side: *const u8, j: usize) -> V::Ints {
    // SAFETY: the scales of a block are at `side`.
    unsafe {
        let scales = side.add(scheme.scales_at());
        match scheme.scales {
            SubScales::Signed => V::signed(scales.add(16 * j)),
            SubScales::Nibbles => nibble::<V>(scales.add(16 * (j / 2)), j),
            _ => V::unsigned(scales.add(16 * j)),
        }
    }
}

#[inline(always)]
unsafe fn minimum<V: Rows16>(scheme: &Scheme, side: *const u8, j: usize) -> V::Ints {
    // SAFETY: the scales of a block are at `side`.
    unsafe {
        let mins = side.add(scheme.mins_at());
        match scheme.scales {
            SubScales::Nibbles => nibble::<V>(mins.add(16 * (j / 2)), j),
            _ if j.is_multiple_of(2) => V::field::<0>(V::unsigned_pairs(mins.add(16 * j)), 0xffff),
            _ => V::field::<16>(V::unsigned_pairs(mins.add(16 * (j - 1))), 0xffff),
        }
    }
}

#[inline(always)]
unsafe fn nibble<V: Rows16>(from: *const u8, j: usize) -> V::Ints {
    // SAFETY: sixteen bytes are at `from`.
    unsafe {
        if j.is_multiple_of(2) {
            V::field::<0>(V::unsigned(from), 15)
        } else {
            V::field::<4>(V::unsigned(from), 15)
        }
    }
}

/// Activation rows at `x`, `stride` apart, times `cols` columns of decoded weights, column by column:
/// `y = fma(w, x, y)`.
///
/// # Safety
/// As [`Rows16`]; weights and a row of `x` per row of `slab` are there.
#[inline(always)]
pub(super) unsafe fn slab<V: Rows16>(
    weights: *const f32,
    x: *const f32,
    stride: usize,
    cols: usize,
    slab: &mut [[f32; 16]],
) {
    let mut t = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while t < slab.len() {
            let left = slab.len() - t;
            let (x, slab) = (x.add(t * stride), &mut slab[t..]);
            t += if V::TILE >= 8 && left >= 8 {
                piece::<V, 8>(weights, x, stride, cols, slab)
            } else if left >= 4 {
                piece::<V, 4>(weights, x, stride, cols, slab)
            } else {
                piece::<V, 1>(weights, x, stride, cols, slab)
            };
        }
    }
}

#[inline(always)]
unsafe fn piece<V: Rows16, const T: usize>(
    weights: *const f32,
    x: *const f32,
    stride: usize,
    cols: usize,
    slab: &mut [[f32; 16]],
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = [V::splat_float(0.0); T];
        for t in 0..T {
            y[t] = V::floats(slab[t].as_ptr());
        }
        for k in 0..cols {
            let w = V::floats(weights.add(16 * k));
            for t in 0..T {
                y[t] = V::fma(w, V::splat_float(*x.add(t * stride + k)), y[t]);
            }
        }
        for t in 0..T {
            V::store(y[t], slab[t].as_mut_ptr());
        }
    }
    T
}
