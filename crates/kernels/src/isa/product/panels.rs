//! From one panel and all activation rows to results: slabs of rows, and within them spans of columns.

use super::codes::{by_format, by_kind};
use super::float::Decoded;
use super::int::Plain;
use super::quantise::TILE_ROWS;
use super::{Inputs, Output, Panel, SLAB_COLS, SLAB_ROWS, entry};
use crate::Format;
use crate::isa::level::Level;

/// Rows of results that are asked for ahead of the one that is stored.
const AHEAD: usize = 12;

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

/// Quantised weights by dot instructions.
///
/// # Safety
/// The panel, the inputs and the output have one shape.
pub(super) unsafe fn int(level: Level, panel: &Panel<'_>, x: &Inputs<'_>, out: &Output<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        if x.tiling.n <= stream_rows(level) {
            by_format!(panel.format, C => entry::stream::<C>(level, panel, x, out));
            return;
        }
        let mut codes = Codes::default();
        slabs(panel, x, out, |first_row, slab, first, cols| {
            let plain = codes.unpack(level, panel, first, cols);
            let tiles = slab.len().div_ceil(TILE_ROWS);
            for (i, slab) in slab.chunks_mut(TILE_ROWS).enumerate() {
                let tile = first_row / TILE_ROWS + i;
                #[cfg(target_arch = "x86_64")]
                if let (Some(scheme), true) = (&panel.scheme, i + 1 < tiles) {
                    x.prefetch(scheme, tile + 1, first, cols);
                }
                by_kind!(panel.format, C => entry::int_slab::<C>(level, panel, &plain, x, tile, slab));
            }
        });
    }
}

/// Activation rows up to which a stream is the faster way.
fn stream_rows(level: Level) -> usize {
    match level {
        Level::Portable => 0,
        Level::Avx2(_) => 1,
        Level::Avx512(_) => 4,
    }
}

/// Any weights in f32.
///
/// # Safety
/// The panel, the inputs and the output have one shape.
pub(super) unsafe fn float(level: Level, panel: &Panel<'_>, x: &Inputs<'_>, out: &Output<'_>) {
    let mut codes = Codes::default();
    let mut decoded = Decoded([[0.0; 16]; SLAB_COLS]);
    // SAFETY: the caller's promise.
    unsafe {
        slabs(panel, x, out, |first_row, slab, first, cols| {
            let mut weights = decoded.0.as_ptr().cast::<f32>();
            match panel.scheme {
                Some(scheme) => {
                    let plain = codes.unpack(level, panel, first, cols);
                    entry::decode(level, panel, &scheme, &plain, &mut decoded);
                }
                None if panel.format == Format::F32 => weights = panel.codes.add(64 * first).cast(),
                None => entry::widen(level, panel, first, cols, &mut decoded),
            }
            let x = x.floats.as_ptr().add(first_row * panel.cols + first);
            entry::float_slab(level, weights, x, panel.cols, cols, slab);
        });
    }
}

/// Calls `add(first_row, slab, first, cols)` for spans of columns in order, slab after slab of activation rows, and
/// puts the sums that it leaves in the slab.
///
/// # Safety
/// The panel, the inputs and the output have one shape.
unsafe fn slabs(
    panel: &Panel<'_>,
    x: &Inputs<'_>,
    out: &Output<'_>,
    add: impl FnMut(usize, &mut [[f32; 16]], usize, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        // A small slab for few rows: clearing a large one would take longer than the product.
        if x.tiling.n <= TILE_ROWS {
            slabs_of(&mut [[0.0; 16]; TILE_ROWS], panel, x, out, add);
        } else {
            slabs_of(&mut [[0.0; 16]; SLAB_ROWS], panel, x, out, add);
        }
    }
}

unsafe fn slabs_of(
    slab: &mut [[f32; 16]],
    panel: &Panel<'_>,
    x: &Inputs<'_>,
    out: &Output<'_>,
    mut add: impl FnMut(usize, &mut [[f32; 16]], usize, usize),
) {
    let size = slab.len();
    for first_row in (0..x.tiling.n).step_by(size) {
        let slab = &mut slab[..size.min(x.tiling.n - first_row)];
        slab.fill([0.0; 16]);
        for first in (0..panel.cols).step_by(SLAB_COLS) {
            add(first_row, slab, first, SLAB_COLS.min(panel.cols - first));
        }
        for (t, y) in slab.iter().enumerate() {
            #[cfg(target_arch = "x86_64")]
            out.prefetch(first_row + t + AHEAD..first_row + t + AHEAD + 1, panel.first_row);
            // SAFETY: the caller's promise.
            unsafe { out.put(first_row + t, panel.first_row, *y) };
        }
    }
}
