//! Products of bf16 weights by tiles.

use super::super::quantise::TILE_ROWS;
use super::super::{Inputs, Output, Panel};
use super::tiles::{Config, products16};
use super::{ROWS, Slab};

/// All activation rows times panels of one matrix of bf16 weights.
///
/// # Safety
/// The CPU has AMX, this process may use it, and panels, inputs and output have one shape.
pub(in super::super) unsafe fn bf16(panels: &[Panel<'_>], x: &Inputs<'_>, out: &Output<'_>) {
    let stride = x.tiling.tile_rows();
    let config = Config::new(stride, 64, 2);
    let mut slabs: [Slab; 2] = std::array::from_fn(|_| Slab([[0.0; 16]; ROWS]));
    let mut spare = Slab([[0.0; 16]; ROWS]);
    // SAFETY: the caller's promise.
    unsafe {
        config.with(|| {
            let pairs =
                panels.chunks(2).flat_map(|pair| (0..x.tiling.n).step_by(ROWS).map(move |row| (pair, row)));
            for (panels, first_row) in pairs {
                let weights = [panels[0].start, panels[panels.len() - 1].start];
                let chunks = panels[0].cols.div_ceil(32);
                let rows = ROWS.min(x.tiling.n - first_row);
                slabs.iter_mut().for_each(|slab| slab.0[..rows.next_multiple_of(16)].fill([0.0; 16]));
                let tiles = rows.div_ceil(TILE_ROWS);
                let lines =
                    |tile: usize| x.lines16.as_ptr().add((first_row / TILE_ROWS + tile) * x.tile_lines16());
                for first in (0..chunks).step_by(8) {
                    let count = 8.min(chunks - first);
                    for tile in (0..tiles).step_by(2) {
                        // Where there is no second tile, the first is computed twice.
                        let second = (tile + 1).min(tiles - 1);
                        let a = [tile, second].map(|tile| lines(tile).add(first * stride));
                        let b = weights.map(|codes| codes.add(1024 * first));
                        let mut c = [std::ptr::null_mut::<f32>(); 4];
                        for (i, c) in c.iter_mut().enumerate() {
                            let missing = i % 2 >= panels.len() || (i >= 2 && second == tile);
                            let slab = if missing { &mut spare } else { &mut slabs[i % 2] };
                            let tile = if i >= 2 && !missing { second } else { tile };
                            *c = slab.0[16 * tile..].as_mut_ptr().cast();
                        }
                        products16(a, 64 * stride, b, count, c);
                    }
                }
                for (panel, slab) in panels.iter().zip(&slabs) {
                    for (t, y) in slab.0[..rows].iter().enumerate() {
                        out.put(first_row + t, panel.first_row, *y);
                    }
                }
            }
        });
    }
}
