//! Activations as signed bytes with a scale per 32 or per 256 columns.
//!
//! Rows lie in tiles of up to 16: per 64 columns, 64 bytes of each row of the tile. One row alone is contiguous, and
//! 16 rows are what an AMX tile loads. Beside the bytes, each block has its scale and its sums.

use super::rows16::Rows16;

/// Rows of a full tile.
pub(crate) const TILE_ROWS: usize = 16;

/// 64 activations of a row.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line(pub(crate) [i8; 64]);

/// Beside 32 activations of a row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Side32 {
    pub(crate) scale: f32,
    pub(crate) sum: i32,
    /// `scale * sum`.
    pub(crate) scaled_sum: f32,
}

/// Beside 256 activations of a row.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Side256 {
    /// Sums of 16.
    pub(crate) sums16: [i16; 16],
    /// The same as two bf16 each, which add up to the sum: multiples of 32, then what is left.
    pub(crate) parts16: [[u16; 16]; 2],
    /// Sums of 32.
    pub(crate) sums32: [i16; 8],
    pub(crate) scale: f32,
}

/// Shape of a tiled batch of activations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    /// Rows in use.
    pub(crate) n: usize,
    pub(crate) cols: usize,
}

impl Tiling {
    /// Rows of every tile, the last of which may be partly unused.
    pub(crate) fn tile_rows(&self) -> usize {
        self.n.min(TILE_ROWS)
    }

    pub(crate) fn tiles(&self) -> usize {
        self.n.div_ceil(TILE_ROWS)
    }

    /// Lines of a tile.
    pub(crate) fn tile_lines(&self) -> usize {
        self.cols.div_ceil(64) * self.tile_rows()
    }

    /// Rows in use of tile `tile`.
    pub(crate) fn used(&self, tile: usize) -> usize {
        (self.n - tile * TILE_ROWS).min(TILE_ROWS)
    }
}

/// The scale and its inverse for numbers whose largest magnitude has the bits `max`. NaN and infinity give a scale
/// that shows in every product. Below the threshold the inverse would overflow; such numbers count as zero.
#[inline(always)]
fn scale_of(max: u32) -> (f32, f32) {
    let max = f32::from_bits(max);
    if max < 1e-30 { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) }
}

/// Quantises `x`, one block, into its lines; `lines` gives the line of every 64 columns.
///
/// Comparing magnitudes as integers lets NaN win. Adding 1.5 * 2^23 rounds to nearest even into the lowest byte.
#[inline(always)]
fn quantise_block(x: &[f32], lines: &mut [Line], first: usize, stride: usize) -> f32 {
    let max = x.iter().fold(0, |max, x| (x.to_bits() & 0x7fff_ffff).max(max));
    let (scale, inverse) = scale_of(max);
    for (i, x) in x.chunks(64).enumerate() {
        let line = &mut lines[i * stride].0;
        for (q, x) in line[first..].iter_mut().zip(x) {
            *q = (x * inverse + 12_582_912.0).to_bits() as i8;
        }
    }
    scale
}

/// Quantises one row of a tile with a scale per 32 columns. `sides[block * stride]` is the row's.
///
/// # Safety
/// As [`Rows16`].
#[inline(always)]
pub(super) unsafe fn row32<V: Rows16>(x: &[f32], lines: &mut [Line], sides: &mut [Side32], stride: usize) {
    for (block, x) in x.chunks_exact(32).enumerate() {
        let first = block % 2 * 32;
        let lines = &mut lines[block / 2 * stride..];
        let scale = quantise_block(x, lines, first, stride);
        let sum: i32 = lines[0].0[first..first + 32].iter().map(|&q| i32::from(q)).sum();
        sides[block * stride] = Side32 { scale, sum, scaled_sum: scale * sum as f32 };
    }
}

/// Quantises one row of a tile with a scale per 256 columns.
///
/// # Safety
/// As [`Rows16`].
#[inline(always)]
pub(super) unsafe fn row256<V: Rows16>(x: &[f32], lines: &mut [Line], sides: &mut [Side256], stride: usize) {
    for (block, x) in x.chunks_exact(256).enumerate() {
        let lines = &mut lines[block * 4 * stride..];
        let side = &mut sides[block * stride];
        side.scale = quantise_block(x, lines, 0, stride);
        for (i, sums) in side.sums16.chunks_exact_mut(4).enumerate() {
            for (sum, q) in sums.iter_mut().zip(lines[i * stride].0.chunks_exact(16)) {
                *sum = q.iter().map(|&q| i16::from(q)).sum();
            }
        }
        for (j, sum) in side.sums16.iter().enumerate() {
            // Both have at most seven significant bits.
            side.parts16[0][j] = (f32::from(sum & !31).to_bits() >> 16) as u16;
            side.parts16[1][j] = (f32::from(sum & 31).to_bits() >> 16) as u16;
        }
        for (sum, pair) in side.sums32.iter_mut().zip(side.sums16.chunks_exact(2)) {
            *sum = pair[0] + pair[1];
        }
    }
}
