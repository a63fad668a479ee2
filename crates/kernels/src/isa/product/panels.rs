//! From one panel and all activation rows to results: slabs of rows, and within them spans of columns.

use super::codes::{Codes as _, by_format, by_kind};
use super::float::Decoded;
use super::int::Plain;
use super::quantise::TILE_ROWS;
use super::sides::Sides;
use super::{Inputs, Output, Panel, SLAB_COLS, SLAB_ROWS, entry};
use crate::Format;
use crate::cpu::Units;
use crate::isa::level::Level;

/// Unpacked codes of a span of columns and 16 rows.
#[repr(align(64))]
pub(super) struct Codes([u8; 16 * SLAB_COLS]);

impl Default for Codes {
    fn default() -> Codes {
        Codes([0; 16 * SLAB_COLS])
    }
}

impl Codes {
    /// # Safety
    /// The panel has these columns, which are whole blocks and at most [`SLAB_COLS`].
    pub(super) unsafe fn unpack(
        &mut self,
        level: Level,
        panel: &Panel<'_>,
        first: usize,
        cols: usize,
    ) -> Plain {
        // SAFETY: the caller's promise.
        unsafe {
            let bias =
                by_format!(panel.format, C => entry::unpack::<C>(level, panel, first, cols, &mut self.0));
            Plain { codes: self.0.as_ptr(), bias, first, cols }
        }
    }
}

/// Panels that one pass over the activations is for: these come from the second-level cache, whose speed would
/// otherwise be the limit.
const GROUP: usize = 4;

/// Quantised weights by dot instructions.
///
/// # Safety
/// The panels, the inputs and the output have one shape.
pub(super) unsafe fn int(level: Level, panels: &[Panel<'_>], x: &Inputs<'_>, out: &Output<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        if x.tiling.n <= stream_rows(level) {
            let ask = x.tiling.n == 1 && level.asks_near();
            for first in (0..x.tiling.tiles()).step_by(BLOCK_TILES) {
                let tiles = first..x.tiling.tiles().min(first + BLOCK_TILES);
                for panel in panels {
                    for tile in tiles.clone() {
                        by_format!(panel.format, C => entry::stream::<C>(level, panel, x, tile, ask, out));
                    }
                }
            }
        } else if x.tiling.n <= TILE_ROWS {
            int_slabs(&mut [[[0.0; 16]; TILE_ROWS]; GROUP], level, panels, x, out);
        } else {
            int_slabs(&mut [[[0.0; 16]; SLAB_ROWS]; GROUP], level, panels, x, out);
        }
    }
}

/// # Safety
/// As [`int`].
unsafe fn int_slabs<const ROWS: usize>(
    slabs: &mut [[[f32; 16]; ROWS]; GROUP],
    level: Level,
    panels: &[Panel<'_>],
    x: &Inputs<'_>,
    out: &Output<'_>,
) {
    let mut ready: [(Codes, Sides); GROUP] = Default::default();
    for panels in panels.chunks(GROUP) {
        let add = |first_row: usize, slabs: &mut [&mut [[f32; 16]]], first: usize, cols: usize| {
            let plain: [Option<Plain>; GROUP] = std::array::from_fn(|p| {
                let (panel, (codes, sides)) = (panels.get(p)?, &mut ready[p]);
                #[cfg(target_arch = "x86_64")]
                if let Some(scheme) = &panel.scheme {
                    panel.prefetch_after(scheme, first, cols, GROUP);
                }
                // SAFETY: the caller's promise: the panel has these columns.
                unsafe {
                    by_format!(panel.format, C => {
                        let (_, side) = panel.at(&C::SCHEME, first);
                        entry::sides::<C>(level, side, cols / C::SCHEME.block, sides);
                    });
                    Some(codes.unpack(level, panel, first, cols))
                }
            });
            let rows = slabs[0].len();
            for row in (0..rows).step_by(TILE_ROWS) {
                let tile = (first_row + row) / TILE_ROWS;
                #[cfg(target_arch = "x86_64")]
                if let (Some(scheme), true) = (&panels[0].scheme, row + TILE_ROWS < rows) {
                    x.prefetch(scheme, tile + 1, first, cols);
                }
                for ((slab, plain), (_, sides)) in slabs.iter_mut().zip(plain.iter().flatten()).zip(&ready) {
                    let slab = &mut slab[row..rows.min(row + TILE_ROWS)];
                    // SAFETY: the caller's promise; codes and scales of these columns are ready.
                    unsafe {
                        by_kind!(panels[0].format, C => {
                            entry::int_slab::<C>(level, plain, sides, x, tile, slab);
                        });
                    }
                }
            }
        };
        // SAFETY: the caller's promise.
        unsafe { each_span(level, slabs, panels, x, out, add) };
    }
}

/// Tiles of activations that all panels of a chunk pass over before the next ones: these stay in the second-level cache.
const BLOCK_TILES: usize = 16;

/// Activation rows up to which a stream is the faster way. AMD's cores unpack on units that dots do not use. Where dots are
/// as fast as loads, keeping sums in registers for a whole row is worth more than loading ready codes.
fn stream_rows(level: Level) -> usize {
    match level {
        Level::Portable => 0,
        Level::Avx2(_) => 1,
        Level::Avx512(token) => match token.units() {
            Units::Shared => 16,
            Units::Halves => TILE_ROWS * BLOCK_TILES,
            Units::Whole => usize::MAX,
        },
    }
}

/// Any weights in f32.
///
/// # Safety
/// The panel, the inputs and the output have one shape.
pub(super) unsafe fn float(level: Level, panel: &Panel<'_>, x: &Inputs<'_>, out: &Output<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        // A small slab for few rows: clearing a large one would take longer than the product.
        if x.tiling.n <= TILE_ROWS {
            float_slabs(&mut [[[0.0; 16]; TILE_ROWS]], level, panel, x, out);
        } else {
            float_slabs(&mut [[[0.0; 16]; SLAB_ROWS]], level, panel, x, out);
        }
    }
}

/// # Safety
/// As [`float`].
unsafe fn float_slabs<const ROWS: usize>(
    slabs: &mut [[[f32; 16]; ROWS]; 1],
    level: Level,
    panel: &Panel<'_>,
    x: &Inputs<'_>,
    out: &Output<'_>,
) {
    let mut codes = Codes::default();
    let mut decoded = Decoded([[0.0; 16]; SLAB_COLS]);
    let add = |first_row: usize, slabs: &mut [&mut [[f32; 16]]], first: usize, cols: usize| {
        let mut weights = decoded.0.as_ptr().cast::<f32>();
        // SAFETY: the caller's promise: the panel and the inputs have these columns.
        unsafe {
            match panel.scheme {
                Some(scheme) => {
                    let plain = codes.unpack(level, panel, first, cols);
                    entry::decode(level, panel, &scheme, &plain, &mut decoded);
                }
                None if panel.format == Format::F32 => weights = panel.start.add(64 * first).cast(),
                None => entry::widen(level, panel, first, cols, &mut decoded),
            }
            let x = x.floats.as_ptr().add(first_row * panel.cols + first);
            entry::float_slab(level, weights, x, panel.cols, cols, slabs[0]);
        }
    };
    // SAFETY: the caller's promise.
    unsafe { each_span(level, slabs, std::slice::from_ref(panel), x, out, add) }
}

/// Calls `add(first_row, slabs, first, cols)` for spans of columns in order, slab after slab of activation rows, and
/// puts the sums that it leaves in the slabs, one for each panel.
///
/// # Safety
/// The panels, the inputs and the output have one shape.
unsafe fn each_span<const ROWS: usize, const PANELS: usize>(
    level: Level,
    slabs: &mut [[[f32; 16]; ROWS]; PANELS],
    panels: &[Panel<'_>],
    x: &Inputs<'_>,
    out: &Output<'_>,
    mut add: impl FnMut(usize, &mut [&mut [[f32; 16]]], usize, usize),
) {
    let total = panels[0].cols;
    for first_row in (0..x.tiling.n).step_by(ROWS) {
        let rows = ROWS.min(x.tiling.n - first_row);
        let mut sums = slabs.each_mut().map(|slab| &mut slab[..rows]);
        let sums = &mut sums[..panels.len()];
        sums.iter_mut().for_each(|slab| slab.fill([0.0; 16]));
        for first in (0..total).step_by(SLAB_COLS) {
            add(first_row, sums, first, SLAB_COLS.min(total - first));
        }
        let slabs: [&[[f32; 16]]; PANELS] = slabs.each_ref().map(|slab| &slab[..rows]);
        // SAFETY: the caller's promise.
        unsafe { entry::put(level, &slabs[..panels.len()], first_row, panels[0].first_row, out) };
    }
}
