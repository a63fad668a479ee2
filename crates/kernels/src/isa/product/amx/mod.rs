//! Products by AMX tiles: 16 activation rows times 16 weight rows per instruction.
//!
//! Per 256 columns, two panels are brought into the form of a tile's right side: for blocks of 256, code times
//! sub-scale (at most 14 bits) as two byte planes, so that the whole block is one integer sum; for blocks of 32,
//! the signed codes. The scales then go in by the same steps as everywhere (see `step`), so results are those of
//! the dot instructions, bit for bit. Products in bf16 have a rounding of their own: at this level all of them come
//! through here, whatever their number of rows.

mod bf16;
mod scale;
mod tiles;

use std::arch::x86_64::*;
use std::ops::Range;

use super::int::Form;
use super::panels::Codes;
use super::quantise::{Side32, Side256, TILE_ROWS};
use super::{Inputs, Output, Panel, SLAB_COLS};
use crate::isa::level::Level;
use crate::layout::Scheme;
pub(super) use bf16::bf16;
use scale::{Scales, Tile32, add32, add256, split_planes, subtract};
use tiles::{Config, products_mins, products256, tile_product32};

/// Activation rows from which tiles are faster than dots.
pub(super) const MIN_ROWS: usize = 8;

/// Activation rows whose sums a pair of panels keeps at a time.
const ROWS: usize = 512;

/// Sums of a panel: 16 weight rows of each activation row.
#[repr(align(64))]
struct Slab([[f32; 16]; ROWS]);

/// The right side of tiles for one panel: two byte planes of 256 columns.
#[repr(align(64))]
struct Planes([[u8; 16 * SLAB_COLS]; 2]);

/// What tiles leave: 16 x 16 numbers each; the last two are f32.
#[repr(align(64))]
struct Sums([[i32; 256]; 8]);

/// All activation rows times panels of one matrix of quantised weights.
///
/// # Safety
/// The CPU has AMX, this process may use it, and panels, inputs and output have one shape.
pub(super) unsafe fn int(level: Level, panels: &[Panel<'_>], x: &Inputs<'_>, out: &Output<'_>) {
    let Some(scheme) = panels.first().and_then(|panel| panel.scheme) else { return };
    let config = match scheme.block {
        256 => Config::new(x.tiling.tile_rows(), 64, 1),
        _ => Config::new(x.tiling.tile_rows(), 32, 2),
    };
    let mut state = State::default();
    // SAFETY: the caller's promise.
    unsafe {
        config.with(|| {
            for pair in panels.chunks(2) {
                for first_row in (0..x.tiling.n).step_by(ROWS) {
                    state.slab(level, &scheme, pair, x, first_row, out);
                }
            }
        });
    }
}

/// Asks for the span from column `next` on, or for the first of the panels that follow in memory.
fn prefetch_weights(scheme: &Scheme, panels: &[Panel<'_>], next: usize) {
    let panel_bytes = panels.last().map_or(0, |last| last.start.addr() - panels[0].start.addr());
    for panel in panels {
        let skip =
            if next < panel.cols { next / SLAB_COLS * scheme.span_bytes(SLAB_COLS) } else { 2 * panel_bytes };
        for at in (0..scheme.span_bytes(SLAB_COLS)).step_by(64) {
            // SAFETY: a prefetch may point anywhere.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(panel.start.wrapping_add(skip + at).cast()) };
        }
    }
}

struct State {
    slabs: [Slab; 2],
    codes: Codes,
    planes: [Planes; 2],
    scales: [Scales; 2],
    sums: Sums,
}

impl Default for State {
    fn default() -> State {
        State {
            slabs: std::array::from_fn(|_| Slab([[0.0; 16]; ROWS])),
            codes: Codes::default(),
            planes: std::array::from_fn(|_| Planes([[0; 16 * SLAB_COLS]; 2])),
            scales: std::array::from_fn(|_| Scales {
                d: [[0.0; 16]; 8],
                m: [[0.0; 16]; 8],
                mins: [[0; 16]; 16],
            }),
            sums: Sums([[0; 256]; 8]),
        }
    }
}

impl State {
    /// Up to [`ROWS`] activation rows from `first_row` on.
    unsafe fn slab(
        &mut self,
        level: Level,
        scheme: &Scheme,
        panels: &[Panel<'_>],
        x: &Inputs<'_>,
        first_row: usize,
        out: &Output<'_>,
    ) {
        let rows = ROWS.min(x.tiling.n - first_row);
        let total = panels[0].cols;
        self.slabs.iter_mut().for_each(|slab| slab.0[..rows].fill([0.0; 16]));
        for first in (0..total).step_by(SLAB_COLS) {
            let cols = first..total.min(first + SLAB_COLS);
            // SAFETY: the caller's promise.
            let codes = unsafe { self.prepare(level, scheme, panels, cols.clone()) };
            prefetch_weights(scheme, panels, cols.end);
            for (i, row) in (0..rows).step_by(TILE_ROWS).enumerate() {
                let tile = first_row / TILE_ROWS + i;
                let used = row..rows.min(row + TILE_ROWS);
                let last = cols.end == total;
                if row + TILE_ROWS < rows {
                    x.prefetch(scheme, tile + 1, cols.start, cols.len());
                }
                if last {
                    let ahead =
                        if i == 0 { 0..3 * TILE_ROWS } else { row + 2 * TILE_ROWS..row + 3 * TILE_ROWS };
                    let places = first_row + ahead.start.min(rows)..first_row + ahead.end.min(rows);
                    panels.iter().for_each(|panel| out.prefetch(places.clone(), panel.first_row));
                }
                // SAFETY: the caller's promise.
                unsafe {
                    match scheme.block {
                        256 => self.block256(scheme, panels, x, tile, used.clone(), first / 256),
                        _ => self.blocks32(scheme, panels, &codes, x, tile, used.clone(), cols.clone()),
                    }
                    if last {
                        self.put(panels, first_row, used, out);
                    }
                }
            }
        }
        if total == 0 {
            // SAFETY: the caller's promise.
            unsafe { self.put(panels, first_row, 0..rows, out) };
        }
    }

    unsafe fn put(&self, panels: &[Panel<'_>], first_row: usize, rows: Range<usize>, out: &Output<'_>) {
        for t in rows {
            for (panel, slab) in panels.iter().zip(&self.slabs) {
                // SAFETY: the caller's promise.
                unsafe { out.put(first_row + t, panel.first_row, slab.0[t]) };
            }
        }
    }

    /// Brings columns of the panels into the form that tiles take; returns where the codes of blocks of 32 then lie.
    unsafe fn prepare(
        &mut self,
        level: Level,
        scheme: &Scheme,
        panels: &[Panel<'_>],
        cols: Range<usize>,
    ) -> [*const u8; 2] {
        let mut codes = [std::ptr::null::<u8>(); 2];
        for (i, panel) in panels.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let (packed, side) = panel.at(scheme, cols.start);
                if scheme.block == 256 {
                    let plain = self.codes.unpack(level, panel, cols.start, cols.len());
                    split_planes(scheme, plain.codes, plain.bias, side, &mut self.planes[i]);
                    self.scales[i].read256(scheme, side);
                    continue;
                }
                self.scales[i].read32(scheme, side, cols.len() / 32);
                codes[i] = if scheme.bits == 8 {
                    packed
                } else {
                    let plain = self.codes.unpack(level, panel, cols.start, cols.len());
                    subtract(plain.codes, plain.bias, cols.len(), &mut self.planes[i].0[0]);
                    self.planes[i].0[0].as_ptr()
                };
            }
        }
        codes
    }

    /// One block of 256 columns of a tile.
    unsafe fn block256(
        &mut self,
        scheme: &Scheme,
        panels: &[Panel<'_>],
        x: &Inputs<'_>,
        tile: usize,
        used: Range<usize>,
        block: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = Side256::tile(x, tile);
            let lines = rows.lines.add(4 * block * rows.stride);
            let sums: *mut i32 = self.sums.0.as_mut_ptr().cast();
            if scheme.offset {
                let mins = [0, 1].map(|p| self.scales[p].mins.as_ptr().cast());
                products_mins(rows.side(0, block).parts16.as_ptr().cast(), mins, sums.add(6 * 256).cast());
            }
            products256(lines, rows.stride, self.planes.as_ptr().cast(), sums);
            for p in 0..panels.len() {
                let sums = [&self.sums.0[2 * p], &self.sums.0[2 * p + 1], &self.sums.0[6 + p]];
                add256(scheme, sums, &self.scales[p], &rows, block, &mut self.slabs[p].0[used.clone()]);
            }
        }
    }

    /// Up to eight blocks of 32 columns of a tile.
    #[allow(clippy::too_many_arguments)]
    unsafe fn blocks32(
        &mut self,
        scheme: &Scheme,
        panels: &[Panel<'_>],
        codes: &[*const u8; 2],
        x: &Inputs<'_>,
        tile: usize,
        used: Range<usize>,
        cols: Range<usize>,
    ) {
        let (block, blocks) = (cols.start / 32, cols.len() / 32);
        // SAFETY: the caller's promise.
        unsafe {
            let rows = Side32::tile(x, tile);
            let lines = rows.lines.add(block / 2 * rows.stride);
            for (p, &codes) in codes.iter().enumerate().take(panels.len()) {
                let slab = &mut self.slabs[p].0[used.clone()];
                if let Ok(slab) = <&mut [[f32; 16]; TILE_ROWS]>::try_from(&mut *slab) {
                    let tile = Tile32 { lines, codes, blocks, scales: &self.scales[p], rows: &rows, block };
                    match scheme.offset {
                        true => tile.add::<true>(&mut self.sums, slab),
                        false => tile.add::<false>(&mut self.sums, slab),
                    }
                } else {
                    for i in 0..blocks {
                        tile_product32::<0>(lines, rows.stride, codes, i, &mut self.sums.0[i]);
                    }
                    add32(scheme, &self.sums.0[..blocks], &self.scales[p], &rows, block, slab);
                }
            }
        }
    }
}
