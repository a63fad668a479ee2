//! Products of quantised weights by dot instructions.
//!
//! In a *stream*, codes go from memory through registers into dots, once for every few activation rows. In *slabs*, the
//! codes of 256 columns are unpacked once, into memory that stays in the first-level cache, and all activation rows pass
//! over them.

// Rows of several arrays are walked in step. Not by iterators: those of vectors are not always inlined, and then have
// no instruction set.
#![allow(clippy::needless_range_loop)]

use super::codes::{Codes, Each, bias, groups, lift};
use super::quantise::{Side32, Side256, TILE_ROWS};
use super::rows16::Rows16;
use super::sides::{Sides, ready_bytes};
use super::step::{Rows, Step};
use super::{Inputs, Output, Panel};
use crate::layout::SPAN;

/// The activations that a format's products read.
pub(super) trait Form: Step {
    /// The rows of `tile`.
    ///
    /// # Safety
    /// The inputs have this form and this tile.
    unsafe fn tile(x: &Inputs<'_>, tile: usize) -> Rows<Self>;
}

impl Form for Side32 {
    #[inline(always)]
    unsafe fn tile(x: &Inputs<'_>, tile: usize) -> Rows<Side32> {
        let stride = x.tiling.tile_rows();
        // SAFETY: the caller's promise.
        unsafe {
            Rows {
                lines: x.lines32.as_ptr().add(tile * x.tiling.tile_lines()),
                sides: x.sides32.as_ptr().add(tile * (x.tiling.cols / 32) * stride),
                stride,
            }
        }
    }
}

impl Form for Side256 {
    #[inline(always)]
    unsafe fn tile(x: &Inputs<'_>, tile: usize) -> Rows<Side256> {
        let stride = x.tiling.tile_rows();
        // SAFETY: the caller's promise.
        unsafe {
            Rows {
                lines: x.lines256.as_ptr().add(tile * x.tiling.tile_lines()),
                sides: x.sides256.as_ptr().add(tile * (x.tiling.cols / 256) * stride),
                stride,
            }
        }
    }
}

/// The rows of tile `tile` times one panel, a few at a time. `ask`: even one row alone asks for what lies ahead.
///
/// # Safety
/// As [`Rows16`]; the panel, the inputs and the output have one shape.
#[inline(always)]
pub(super) unsafe fn stream<C: Codes, V: Rows16>(
    panel: &Panel<'_>,
    x: &Inputs<'_>,
    tile: usize,
    ask: bool,
    out: &Output<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if C::SCHEME.block == 32 {
            stream_form::<C, V, Side32>(panel, x, tile, ask, out);
        } else {
            stream_form::<C, V, Side256>(panel, x, tile, ask, out);
        }
    }
}

#[inline(always)]
unsafe fn stream_form<C: Codes, V: Rows16, S: Form>(
    panel: &Panel<'_>,
    x: &Inputs<'_>,
    tile: usize,
    ask: bool,
    out: &Output<'_>,
) {
    let (first, used) = (tile * TILE_ROWS, x.tiling.used(tile));
    let mut t = 0;
    // SAFETY: the caller's promise.
    unsafe {
        let rows = S::tile(x, tile);
        while t < used {
            let (left, rows, row) = (used - t, rows.from(t), first + t);
            t += if V::STREAM >= 8 && left >= 8 {
                stream_rows::<C, V, S, 8, true>(panel, &rows, row, out)
            } else if V::STREAM >= 8 && left >= 5 {
                // Rows that are not there would cost less than another pass over the codes, but more than this.
                stream_rows::<C, V, S, 5, true>(panel, &rows, row, out)
            } else if V::STREAM >= 4 && left >= 4 {
                stream_rows::<C, V, S, 4, true>(panel, &rows, row, out)
            } else if V::STREAM >= 4 && left >= 2 {
                stream_rows::<C, V, S, 2, true>(panel, &rows, row, out)
            } else if V::STREAM >= 8 && ask {
                stream_rows::<C, V, S, 1, true>(panel, &rows, row, out)
            } else {
                stream_rows::<C, V, S, 1, false>(panel, &rows, row, out)
            };
        }
    }
}

#[inline(always)]
unsafe fn stream_rows<C: Codes, V: Rows16, S: Step, const T: usize, const ASK: bool>(
    panel: &Panel<'_>,
    rows: &Rows<S>,
    t: usize,
    out: &Output<'_>,
) -> usize {
    let scheme = C::SCHEME;
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if T > 1 {
            out.prefetch(t..t + T, panel.first_row);
        }
        let mut y = [V::splat_float(0.0); T];
        for first in (0..panel.cols).step_by(SPAN) {
            let (mut codes, mut side) = panel.at(&C::SCHEME, first);
            for block in first / scheme.block..panel.cols.min(first + SPAN) / scheme.block {
                S::step::<C, V, T, false, ASK>(&mut y, codes, side, rows, block, bias::<C, V>());
                codes = codes.add(const { C::SCHEME.codes_bytes(C::SCHEME.block) });
                side = side.add(scheme.side_bytes());
            }
        }
        for i in 0..T {
            let mut values = [0.0; 16];
            V::store(y[i], values.as_mut_ptr());
            out.put(t + i, panel.first_row, values);
        }
    }
    T
}

/// Unpacks units at `from` to eight vectors of ready codes each. Returns what the dots then add to every code.
///
/// # Safety
/// As [`Rows16`]; `units` units are at `from` and 512 times as many bytes at `to`.
#[inline(always)]
pub(super) unsafe fn unpack<C: Codes, V: Rows16>(from: *const u8, units: usize, to: *mut u8) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        for unit in 0..units {
            let to = to.add(512 * unit);
            let lift = const { lift::<C, V>() };
            groups::<C, V>(from.add(unit * const { C::SCHEME.unit_bytes() }), &mut StoreTo { to, lift });
        }
    }
    bias::<C, V>() + i32::from(const { lift::<C, V>() })
}

/// Where the eight vectors of a unit go.
struct StoreTo {
    to: *mut u8,
    /// What is added to every code.
    lift: u8,
}

impl<V: Rows16> Each<V> for StoreTo {
    #[inline(always)]
    unsafe fn take(&mut self, g: usize, codes: V::Bytes) {
        // SAFETY: there is room for eight vectors.
        unsafe { V::store_bytes(V::lift(codes, self.lift), self.to.add(64 * g)) }
    }
}

/// Unpacked columns of a panel.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// Vectors of ready codes, eight per 32 columns.
    pub(super) codes: *const u8,
    /// What dots add to every code.
    pub(super) bias: i32,
    /// The first column and how many: whole blocks.
    pub(super) first: usize,
    pub(super) cols: usize,
}

/// The rows of tile `tile` times unpacked columns, added to `slab`. `C` stands for every format of its kind.
///
/// # Safety
/// As [`Rows16`]; the codes, the scales, the inputs and the slab have one shape.
#[inline(always)]
pub(super) unsafe fn slab<C: Codes, V: Rows16>(
    plain: &Plain,
    sides: &Sides,
    x: &Inputs<'_>,
    tile: usize,
    slab: &mut [[f32; 16]],
) {
    // SAFETY: the caller's promise.
    unsafe {
        if C::SCHEME.block == 32 {
            slab_form::<C, V, Side32>(plain, sides, &Side32::tile(x, tile), slab);
        } else {
            slab_form::<C, V, Side256>(plain, sides, &Side256::tile(x, tile), slab);
        }
    }
}

#[inline(always)]
unsafe fn slab_form<C: Codes, V: Rows16, S: Step>(
    plain: &Plain,
    sides: &Sides,
    rows: &Rows<S>,
    slab: &mut [[f32; 16]],
) {
    let mut t = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while t < slab.len() {
            let (left, rows, slab) = (slab.len() - t, rows.from(t), &mut slab[t..]);
            t += if V::TILE == 8 && left >= 8 {
                piece::<C, V, S, 8>(plain, sides, &rows, slab)
            } else if V::TILE == 8 && left >= 3 {
                piece::<C, V, S, 3>(plain, sides, &rows, slab)
            } else if V::TILE == 4 && left >= 4 {
                piece::<C, V, S, 4>(plain, sides, &rows, slab)
            } else if V::TILE == 4 && left >= 2 {
                piece::<C, V, S, 2>(plain, sides, &rows, slab)
            } else {
                piece::<C, V, S, 1>(plain, sides, &rows, slab)
            };
        }
    }
}

#[inline(always)]
unsafe fn piece<C: Codes, V: Rows16, S: Step, const T: usize>(
    plain: &Plain,
    sides: &Sides,
    rows: &Rows<S>,
    slab: &mut [[f32; 16]],
) -> usize {
    let scheme = C::SCHEME;
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = [V::splat_float(0.0); T];
        for t in 0..T {
            y[t] = V::floats(slab[t].as_ptr());
        }
        for i in 0..plain.cols / scheme.block {
            let block = plain.first / scheme.block + i;
            let codes = plain.codes.add(16 * scheme.block * i);
            let side = sides.as_ptr().add(i * const { ready_bytes::<C>() });
            S::step::<C, V, T, true, false>(&mut y, codes, side, rows, block, plain.bias);
        }
        for t in 0..T {
            V::store(y[t], slab[t].as_mut_ptr());
        }
    }
    T
}

/// Rows of results that are asked for ahead of the one that is stored: they lie pages apart, so no hardware foresees
/// them.
const STORES_AHEAD: usize = 12;

/// Stores the slabs of consecutive panels: results of the activation rows from `first_row` on, from output row `first`
/// on. Activation row by activation row, so that what lies together is written together.
///
/// # Safety
/// As [`Rows16`]; the output has these rows, and nobody else uses these places now.
#[inline(always)]
pub(super) unsafe fn put<V: Rows16>(
    slabs: &[&[[f32; 16]]],
    first_row: usize,
    first: usize,
    out: &Output<'_>,
) {
    // SAFETY: the caller's promise: sixteen numbers of a row are there, where so many rows are left.
    unsafe {
        for t in 0..slabs[0].len() {
            for i in 0..slabs.len() {
                let (sums, first) = (&slabs[i][t], first + 16 * i);
                if out.rows - first < 16 {
                    out.put(first_row + t, first, *sums);
                    continue;
                }
                let to = out.start.add((first_row + t) * out.rows + first);
                V::prefetch_to_write(to.wrapping_add(STORES_AHEAD * out.rows).cast());
                let mut y = V::floats(sums.as_ptr());
                if let Some(bias) = out.bias {
                    y = V::add(y, V::floats(bias.as_ptr().add(first)));
                }
                if out.accumulate {
                    y = V::add(V::floats(to), y);
                }
                V::store(y, to);
            }
        }
    }
}
