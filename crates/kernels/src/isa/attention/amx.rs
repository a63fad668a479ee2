//! Attention by bf16 tiles (Intel AMX).
//!
//! Keys and values are bf16 already. A query or a weight in f32 is cut into two bf16 numbers, the second of which
//! holds what rounding to the first left, and both are multiplied: the result is as exact as f32 arithmetic on the
//! stored numbers (2^-17 instead of 2^-9), for twice the products, of which tiles have plenty. Every tile has
//! sixteen rows, used or not, so that one row's sums run in the same order however many rows there are.

#![allow(unsafe_code)]

use super::generic::{intersect, softmax};
use crate::attention::{MAX_ROWS, PAGE, PARTITION, QUERY_BLOCK, ROW, Scratch, Tile};
use crate::cpu::Amx;
use crate::isa::lanes::{Bf16x32, F32x16, Lanes};
use std::arch::asm;
use std::ops::Range;

/// Rows of a tile.
const ROWS: usize = 16;

/// Pages of a partition.
const PAGES: usize = PARTITION / PAGE;

/// Steps of one product at most; see [`fits`].
const MAX_STEPS: usize = 64;

/// Whether queries are short enough for this path (2,048 dims).
pub(super) fn fits(tile: &Tile<'_>) -> bool {
    tile.store.shape().key_stride() <= MAX_STEPS * DEPTH
}

/// Dims per product: the depth of a tile, [`QUERY_BLOCK`] pairs.
const DEPTH: usize = 2 * QUERY_BLOCK;

/// Softmax attention of the tile over one partition, as [`super::partition`].
pub(super) fn partition(_proof: Amx, tile: &Tile<'_>, part: usize, scratch: &mut Scratch) {
    // SAFETY: the token proves that the CPU has the features and that the process may use tiles.
    unsafe {
        configure();
        run(tile, part, scratch);
        release();
    }
}

/// Eight tiles of sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// # Safety
/// The CPU has AMX and the process may use it.
unsafe fn configure() {
    // SAFETY: the configuration is valid and 64 bytes long; tiles are this thread's own.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
}

/// # Safety
/// The CPU has AMX.
unsafe fn release() {
    // SAFETY: gives back the tile state of this thread.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn run(tile: &Tile<'_>, part: usize, scratch: &mut Scratch) {
    let borders = part * PARTITION..(part + 1) * PARTITION;
    let seen = intersect(&tile.seen_by_any(0..tile.rows), &borders);
    if seen.is_empty() {
        return;
    }
    let pages = seen.start / PAGE..seen.end.div_ceil(PAGE);
    pack_queries(tile.rows, scratch);
    all_scores(tile, &pages, scratch);
    let columns = pages.start * PAGE - borders.start..pages.end * PAGE - borders.start;
    for row in 0..tile.rows {
        let seen = intersect(&tile.seen(row), &borders);
        // SAFETY: this function has the features of the vector type.
        unsafe { softmax::<F32x16>(row, &columns, seen, borders.start, tile.softcap, scratch) };
        let weights = &scratch.scores[row * ROW..][columns.clone()];
        let (high, low) = scratch.weights.split_at_mut(MAX_ROWS * ROW / 2);
        let at = (row * ROW + columns.start) / 2;
        split(weights, &mut high[at..][..columns.len() / 2], &mut low[at..][..columns.len() / 2]);
    }
    all_values(tile, &pages, &seen, scratch);
}

/// Cuts numbers into their bf16 rounding and the bf16 rounding of the rest, both as pairs.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn split(from: &[f32], high: &mut [u32], low: &mut [u32]) {
    let chunks = from.chunks_exact(DEPTH).zip(high.chunks_exact_mut(ROWS)).zip(low.chunks_exact_mut(ROWS));
    for ((from, high), low) in chunks {
        let mut rest = [0.0_f32; DEPTH];
        // SAFETY: all three are 32 numbers; this function has the features of the vector type.
        unsafe {
            Bf16x32::narrow(from.as_ptr(), high.as_mut_ptr().cast());
            // The pairs' halves are the even and the odd numbers: widen in order instead.
            for half in [0, 16] {
                let wide = F32x16::load_bf16(high.as_ptr().cast::<u16>().add(half));
                F32x16::load(from.as_ptr().add(half)).sub(wide).store(rest.as_mut_ptr().add(half));
            }
            Bf16x32::narrow(rest.as_ptr(), low.as_mut_ptr().cast());
        }
    }
}

/// The queries as two planes of rows of bf16.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn pack_queries(rows: usize, scratch: &mut Scratch) {
    let stride = scratch.query_stride;
    let (high, low) = scratch.packed.split_at_mut(MAX_ROWS * stride / 2);
    for row in 0..rows {
        let words = row * stride / 2..(row + 1) * stride / 2;
        split(&scratch.q[row * stride..][..stride], &mut high[words.clone()], &mut low[words]);
    }
}

/// The row tiles of the next product out of `rows` from `row` on: two if there are that many.
fn step(rows: usize, row: usize) -> usize {
    if rows - row > ROWS { 2 } else { 1 }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn all_scores(tile: &Tile<'_>, pages: &Range<usize>, scratch: &mut Scratch) {
    let stride = scratch.query_stride;
    for page in pages.clone() {
        let (keys, values) = tile.store.head(tile.pages[page], tile.kv_head);
        if tile.rows <= ROWS {
            // Few rows wait for memory: this page's values will be needed, and the keys that follow.
            fetch(values);
            if page + 1 < pages.end {
                fetch(tile.store.head(tile.pages[page + 1], tile.kv_head).0);
            }
        }
        let mut blocks = [std::ptr::null(); MAX_STEPS];
        let steps = keys.len() / (QUERY_BLOCK * PAGE * 4);
        for (block, keys) in blocks.iter_mut().zip(keys.chunks_exact(QUERY_BLOCK * PAGE * 4)) {
            *block = keys.as_ptr();
        }
        let mut row = 0;
        while row < tile.rows {
            let tiles = step(tile.rows, row);
            let rows = row..(row + tiles * ROWS).min(tile.rows);
            if !intersect(&tile.seen_by_any(rows), &(page * PAGE..(page + 1) * PAGE)).is_empty() {
                let queries = scratch.packed[row * stride / 2..].as_ptr();
                let product = Product {
                    left: queries.cast(),
                    rest: queries.wrapping_add(MAX_ROWS * stride / 2).cast(),
                    left_stride: stride * 2,
                    right: &blocks[..steps],
                    right_stride: PAGE * 4,
                    to: scratch.scores[row * ROW + page * PAGE % PARTITION..].as_mut_ptr(),
                    to_stride: ROW * 4,
                };
                // SAFETY: a key tile is QUERY_BLOCK pairs of dims of sixteen of PAGE tokens; queries and scores have
                // MAX_ROWS rows, whole tiles.
                unsafe { product.run(tiles) };
            }
            row += tiles * ROWS;
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn all_values(tile: &Tile<'_>, pages: &Range<usize>, seen: &Range<usize>, scratch: &mut Scratch) {
    let stride = tile.store.shape().value_stride();
    let mut sources = [std::ptr::null(); PAGES];
    let mut ragged = scratch.ragged.chunks_exact_mut(stride * PAGE / 2);
    for (source, page) in sources.iter_mut().zip(pages.clone()) {
        let (_, values) = tile.store.head(tile.pages[page], tile.kv_head);
        let here = intersect(seen, &(page * PAGE..(page + 1) * PAGE));
        *source = values.as_ptr();
        if here.len() < PAGE {
            let copy = ragged.next().expect("only the first and the last page can be ragged");
            tile.store.copy_values(values, here.start % PAGE..here.start % PAGE + here.len(), copy);
            *source = copy.as_ptr().cast();
        }
    }
    let column = pages.start * PAGE % PARTITION;
    let mut ahead = pages.end..tile.seen_by_any(0..tile.rows).end.div_ceil(PAGE);
    let mut row = 0;
    while row < tile.rows {
        let tiles = step(tile.rows, row);
        let end =
            tile.seen_by_any(row..(row + tiles * ROWS).min(tile.rows)).end.div_ceil(PAGE).min(pages.end);
        let steps = end.saturating_sub(pages.start);
        for dim in (0..stride).step_by(DEPTH) {
            if tile.rows <= ROWS {
                // Few rows wait for memory: the next partition's keys, a share of them with every block of dims.
                for page in ahead.by_ref().take((PAGES * DEPTH).div_ceil(stride)) {
                    fetch(tile.store.head(tile.pages[page], tile.kv_head).0);
                }
            }
            let weights = scratch.weights[(row * ROW + column) / 2..].as_ptr();
            let product = Product {
                left: weights.cast(),
                rest: weights.wrapping_add(MAX_ROWS * ROW / 2).cast(),
                left_stride: ROW * 2,
                right: &sources.map(|source: *const u8| source.wrapping_add(dim * 4))[..steps],
                right_stride: stride * 4,
                to: scratch.part.acc[row * stride + dim..].as_mut_ptr(),
                to_stride: stride * 4,
            };
            // SAFETY: a value tile is the PAGE / 2 pairs of tokens of sixteen of `stride` dims; weights and results
            // have MAX_ROWS rows, whole tiles.
            unsafe { product.run(tiles) };
        }
        row += tiles * ROWS;
    }
}

/// Asks for every line of a run of bytes.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn fetch(bytes: &[u8]) {
    for line in (0..bytes.len()).step_by(64) {
        // SAFETY: a prefetch changes nothing.
        unsafe { F32x16::prefetch(bytes.as_ptr().wrapping_add(line)) };
    }
}

/// A product of rows of bf16 with two tiles side by side per step, into rows of f32.
struct Product<'a> {
    /// Rows of bf16; every step takes the next [`DEPTH`] numbers.
    left: *const u8,
    /// What rounding left of them, laid out alike.
    rest: *const u8,
    /// Bytes from one of those rows to the next.
    left_stride: usize,
    /// Where each step's two tiles start, sixteen pairs side by side each.
    right: &'a [*const u8],
    /// Bytes from one of their rows to the next.
    right_stride: usize,
    /// `tiles * 16` rows of 32 numbers, overwritten.
    to: *mut f32,
    /// Bytes from one of those rows to the next.
    to_stride: usize,
}

impl Product<'_> {
    /// # Safety
    /// Tiles are configured; the pointers have 16 (right) or `tiles` times 16 (the others) rows; `tiles` is 1 or 2.
    #[inline(always)]
    unsafe fn run(&self, tiles: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match tiles {
                1 => self.one(),
                _ => self.two(),
            }
        }
    }

    /// Sixteen rows.
    ///
    /// # Safety
    /// As [`Product::run`].
    #[inline(always)]
    unsafe fn one(&self) {
        // SAFETY: loads and stores stay in the rows that the caller vouches for.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "test {steps}, {steps}",
                "jz 3f",
                "2:",
                "mov {b}, [{bs}]",
                "tileloadd tmm4, [{b} + {right}*1]",
                "tileloadd tmm5, [{b} + {right}*1 + 64]",
                "tileloadd tmm6, [{a} + {left}*1]",
                "tileloadd tmm7, [{r} + {left}*1]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tdpbf16ps tmm0, tmm7, tmm4",
                "tdpbf16ps tmm1, tmm7, tmm5",
                "add {a}, 64",
                "add {r}, 64",
                "add {bs}, 8",
                "dec {steps}",
                "jnz 2b",
                "3:",
                "tilestored [{to} + {out}*1], tmm0",
                "tilestored [{to} + {out}*1 + 64], tmm1",
                b = out(reg) _,
                bs = inout(reg) self.right.as_ptr() => _,
                steps = inout(reg) self.right.len() => _,
                right = in(reg) self.right_stride,
                a = inout(reg) self.left => _,
                r = inout(reg) self.rest => _,
                left = in(reg) self.left_stride,
                to = in(reg) self.to,
                out = in(reg) self.to_stride,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// Thirty-two rows: the sums of each in the order of [`Product::one`].
    ///
    /// # Safety
    /// As [`Product::run`].
    #[inline(always)]
    unsafe fn two(&self) {
        // SAFETY: loads and stores stay in the rows that the caller vouches for.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "test {steps}, {steps}",
                "jz 3f",
                "2:",
                "mov {b}, [{bs}]",
                "tileloadd tmm4, [{b} + {right}*1]",
                "tileloadd tmm5, [{b} + {right}*1 + 64]",
                "tileloadd tmm6, [{a} + {left}*1]",
                "tileloadd tmm7, [{a2} + {left}*1]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                "tileloadd tmm6, [{r} + {left}*1]",
                "tileloadd tmm7, [{r2} + {left}*1]",
                "tdpbf16ps tmm0, tmm6, tmm4",
                "tdpbf16ps tmm1, tmm6, tmm5",
                "tdpbf16ps tmm2, tmm7, tmm4",
                "tdpbf16ps tmm3, tmm7, tmm5",
                "add {a}, 64",
                "add {a2}, 64",
                "add {r}, 64",
                "add {r2}, 64",
                "add {bs}, 8",
                "dec {steps}",
                "jnz 2b",
                "3:",
                "tilestored [{to} + {out}*1], tmm0",
                "tilestored [{to} + {out}*1 + 64], tmm1",
                "mov {b}, {out}",
                "shl {b}, 4",
                "add {b}, {to}",
                "tilestored [{b} + {out}*1], tmm2",
                "tilestored [{b} + {out}*1 + 64], tmm3",
                b = out(reg) _,
                bs = inout(reg) self.right.as_ptr() => _,
                steps = inout(reg) self.right.len() => _,
                right = in(reg) self.right_stride,
                a = inout(reg) self.left => _,
                a2 = inout(reg) self.left.wrapping_add(ROWS * self.left_stride) => _,
                r = inout(reg) self.rest => _,
                r2 = inout(reg) self.rest.wrapping_add(ROWS * self.left_stride) => _,
                left = in(reg) self.left_stride,
                to = in(reg) self.to,
                out = in(reg) self.to_stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
