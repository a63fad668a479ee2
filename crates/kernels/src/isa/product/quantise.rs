//! Activations as signed bytes with a scale per 32 or per 256 columns.
//!
//! Rows lie in tiles of up to 16: per 64 columns, 64 bytes of each row of the tile. One row alone is contiguous, and
//! 16 rows are what an AMX tile loads. Beside the bytes, each block has its scale and its sums.

// Loops over numbers of an array, not iterators: those are not always inlined, and then have no instruction set.
#![allow(clippy::needless_range_loop)]

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
    /// `-OPENING_BIAS * sum`.
    pub(crate) opening: i32,
}

/// The bias of codes that [`Side32::opening`] takes off.
pub(crate) const OPENING_BIAS: i32 = 128;

/// Beside 256 activations of a row: a cache line for all formats, one for those with [`OPENING_BIAS_256`], one for
/// tiles.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Side256 {
    /// Sums of 16.
    pub(crate) sums16: [i16; 16],
    /// Sums of 32.
    pub(crate) sums32: [i16; 8],
    pub(crate) scale: f32,
    _line: [u8; 12],
    /// `-OPENING_BIAS_256` times the sums of 16.
    pub(crate) openings: [i32; 16],
    /// The sums of 16 as two bf16 each, which add up to the sum: multiples of 32, then what is left.
    pub(crate) parts16: [[u16; 16]; 2],
}

/// The bias of codes that [`Side256::openings`] take off.
pub(crate) const OPENING_BIAS_256: i32 = 32;

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

/// What belongs to one row of a tile: of elements that lie side by side for all its rows, every so many-th one. Rows of a
/// tile may be in the hands of several threads.
#[derive(Clone, Copy)]
pub(super) struct Row<T> {
    pub(super) first: *mut T,
    /// Rows of the tile.
    pub(super) stride: usize,
}

impl<T> Row<T> {
    /// The row's element `i`.
    ///
    /// # Safety
    /// It is there, and nobody else uses it while the reference lives.
    #[inline(always)]
    pub(super) unsafe fn at<'a>(&self, i: usize) -> &'a mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.first.add(i * self.stride) }
    }
}

/// The scale and its inverse for numbers whose largest magnitude has the bits `max`. NaN and infinity give a scale
/// that shows in every product. Below the threshold the inverse would overflow; such numbers count as zero.
#[inline(always)]
fn scale_of(max: u32) -> (f32, f32) {
    let max = f32::from_bits(max);
    if max < 1e-30 { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) }
}

/// Numbers that are asked for ahead of the ones in use.
pub(super) const AHEAD: usize = 512;

/// Asks for what lies [`AHEAD`] of `x`.
///
/// # Safety
/// As [`Rows16`].
#[inline(always)]
unsafe fn ask<V: Rows16>(x: &[f32]) {
    for i in (0..x.len()).step_by(16) {
        // SAFETY: the caller's promise; a prefetch may point anywhere.
        unsafe { V::prefetch(x.as_ptr().wrapping_add(AHEAD + i).cast()) };
    }
}

/// Quantises `x`, one block, into the row's lines from column `first` on. Returns its scale.
///
/// Comparing magnitudes as integers lets NaN win. Adding 1.5 * 2^23 rounds to nearest even into the lowest byte.
///
/// # Safety
/// The lines are there, and nobody else uses them.
#[inline(always)]
unsafe fn quantise_block(x: &[f32], lines: &Row<Line>, first: usize) -> f32 {
    let mut max = 0;
    for i in 0..x.len() {
        max = (x[i].to_bits() & 0x7fff_ffff).max(max);
    }
    let (scale, inverse) = scale_of(max);
    let x = x.as_chunks::<16>().0;
    for c in 0..x.len() {
        let part = first / 16 + c;
        // SAFETY: the caller's promise.
        let line = unsafe { lines.at(part / 4) };
        let to = &mut line.0.as_chunks_mut::<16>().0[part % 4];
        for i in 0..16 {
            to[i] = (x[c][i] * inverse + 12_582_912.0).to_bits() as i8;
        }
    }
    scale
}

/// Quantises one row of a tile with a scale per 32 columns.
///
/// # Safety
/// As [`Rows16`]; the row's lines and sides are there, and nobody else uses them.
#[inline(always)]
pub(super) unsafe fn row32<V: Rows16>(x: &[f32], lines: Row<Line>, sides: Row<Side32>) {
    let blocks = x.as_chunks::<32>().0;
    for b in 0..blocks.len() {
        // SAFETY: the caller's promise.
        unsafe {
            ask::<V>(&blocks[b]);
            let scale = quantise_block(&blocks[b], &lines, 32 * b);
            let from = lines.at(b / 2).0.as_ptr().add(b % 2 * 32);
            let (low, high) = (V::quads(from), V::quads(from.add(16)));
            let mut sum = 0;
            for i in 0..4 {
                sum += low[i] + high[i];
            }
            let scaled_sum = scale * sum as f32;
            *sides.at(b) = Side32 { scale, sum, scaled_sum, opening: -OPENING_BIAS * sum };
        }
    }
}

/// Quantises one row of a tile with a scale per 256 columns.
///
/// # Safety
/// As [`Rows16`]; the row's lines and sides are there, and nobody else uses them.
#[inline(always)]
pub(super) unsafe fn row256<V: Rows16>(x: &[f32], lines: Row<Line>, sides: Row<Side256>) {
    let blocks = x.as_chunks::<256>().0;
    for b in 0..blocks.len() {
        let mut quads = [[0; 4]; 16];
        // SAFETY: the caller's promise.
        let side = unsafe {
            ask::<V>(&blocks[b]);
            let side = sides.at(b);
            side.scale = quantise_block(&blocks[b], &lines, 256 * b);
            for j in 0..16 {
                quads[j] = V::quads(lines.at(4 * b + j / 4).0.as_ptr().add(j % 4 * 16));
            }
            side
        };
        // Sums are kept until all that follows from them is made: reading them back piece by piece would wait for stores.
        let mut sums = [0; 16];
        for j in 0..16 {
            sums[j] = quads[j][0] + quads[j][1] + quads[j][2] + quads[j][3];
        }
        for j in 0..16 {
            side.sums16[j] = sums[j] as i16;
        }
        for j in 0..16 {
            side.openings[j] = -OPENING_BIAS_256 * sums[j];
        }
        for j in 0..16 {
            // Both have at most seven significant bits.
            side.parts16[0][j] = (((sums[j] & !31) as f32).to_bits() >> 16) as u16;
            side.parts16[1][j] = (((sums[j] & 31) as f32).to_bits() >> 16) as u16;
        }
        for j in 0..8 {
            side.sums32[j] = (sums[2 * j] + sums[2 * j + 1]) as i16;
        }
    }
}
