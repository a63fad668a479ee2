//! Attention by bf16 tiles (Intel AMX).
//!
//! Keys and values are bf16 already. A query or a weight in f32 is cut into two bf16 numbers, the second of which
//! holds what rounding to the first left, and both are multiplied: the result is as exact as f32 arithmetic on the
//! stored numbers (2^-17 instead of 2^-9), for twice the products, of which tiles have plenty. Every tile has
//! sixteen rows, used or not, so that one row's sums run in the same order however many rows there are.

#![allow(unsafe_code)]

use super::generic::{intersect, mask};
use super::turn::turn;
use crate::attention::{MAX_ROWS, PAGE, PARTITION, QUERY_BLOCK, ROW, Scratch, Tile};
use crate::cpu::Amx;
use crate::isa::lanes::{Bf16x32, F32x16, Lanes, exp_down, sum};
use std::arch::asm;
use std::ops::Range;

/// Rows of a tile.
const ROWS: usize = 16;

/// Rows that go through all steps together: two tiles, whose queries stay in the first-level cache.
const PAIR: usize = 2 * ROWS;

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
    let origin = part * PARTITION;
    let borders = origin..origin + PARTITION;
    pack_queries(tile.rows, scratch);
    if tile.store.shape().shared() {
        turn_pages(tile, &intersect(&tile.seen_by_any(0..tile.rows), &borders), scratch);
    }
    for row in (0..tile.rows).step_by(PAIR) {
        let rows = row..(row + PAIR).min(tile.rows);
        let seen = intersect(&tile.seen_by_any(rows.clone()), &borders);
        if seen.is_empty() {
            continue;
        }
        let pages = seen.start / PAGE..seen.end.div_ceil(PAGE);
        scores(tile, &rows, &pages, scratch);
        let columns = pages.start * PAGE - origin..pages.end * PAGE - origin;
        for row in rows.clone() {
            let seen = intersect(&tile.seen(row), &borders);
            let scores = &mut scratch.scores[(row % PAIR) * ROW..][..ROW];
            // SAFETY: this function has the features of the vector type.
            scratch.part.max[row] = unsafe { mask::<F32x16>(scores, &columns, &seen, origin, tile.softcap) };
        }
        values(tile, &rows, &pages, &seen, scratch);
    }
}

/// Makes values of the keys of the pages that hold the positions `seen` of one partition.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn turn_pages(tile: &Tile<'_>, seen: &Range<usize>, scratch: &mut Scratch) {
    let shape = tile.store.shape();
    let words = shape.value_stride() * PAGE / 2;
    for page in seen.start / PAGE..seen.end.div_ceil(PAGE) {
        let (keys, _) = tile.store.head(tile.pages[page], tile.kv_head);
        turn(&shape, keys, &mut scratch.turned[page % (PARTITION / PAGE) * words..][..words]);
    }
}

/// Cuts 32 numbers into their bf16 rounding and the bf16 rounding of the rest.
///
/// # Safety
/// The CPU offers the level of the vector type; both targets have room for 32 numbers.
#[inline(always)]
unsafe fn split(first: F32x16, second: F32x16, high: *mut u16, low: *mut u16) {
    // SAFETY: the caller's promise.
    unsafe {
        Bf16x32::narrow(first, second).store(high);
        let first = first.sub(F32x16::load_bf16(high));
        let second = second.sub(F32x16::load_bf16(high.add(16)));
        Bf16x32::narrow(first, second).store(low);
    }
}

/// The queries as two planes of rows of bf16.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn pack_queries(rows: usize, scratch: &mut Scratch) {
    let stride = scratch.query_stride;
    let (high, low) = scratch.packed.split_at_mut(MAX_ROWS * stride / 2);
    let blocks = scratch.q[..rows * stride].chunks_exact(DEPTH);
    for ((from, high), low) in
        blocks.zip(high.chunks_exact_mut(QUERY_BLOCK)).zip(low.chunks_exact_mut(QUERY_BLOCK))
    {
        // SAFETY: all three are 32 numbers; this function has the features of the vector type.
        unsafe {
            let (first, second) = (F32x16::load(from.as_ptr()), F32x16::load(from.as_ptr().add(16)));
            split(first, second, high.as_mut_ptr().cast(), low.as_mut_ptr().cast());
        }
    }
}

/// Row tiles that hold `rows`.
fn tiles(rows: &Range<usize>) -> usize {
    rows.len().div_ceil(ROWS)
}

/// The scores of up to [`PAIR`] rows with the tokens of `pages`, from the first row of `scratch.scores` on.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn scores(tile: &Tile<'_>, rows: &Range<usize>, pages: &Range<usize>, scratch: &mut Scratch) {
    let stride = scratch.query_stride;
    for page in pages.clone() {
        let (keys, values) = tile.store.head(tile.pages[page], tile.kv_head);
        if tile.rows > ROWS && page + 1 < pages.end {
            fetch(tile.store.head(tile.pages[page + 1], tile.kv_head).0);
        }
        let mut blocks = [std::ptr::null(); MAX_STEPS];
        let steps = keys.len() / (QUERY_BLOCK * PAGE * 4);
        for (block, keys) in blocks.iter_mut().zip(keys.chunks_exact(QUERY_BLOCK * PAGE * 4)) {
            *block = keys.as_ptr();
        }
        let queries = scratch.packed[rows.start * stride / 2..].as_ptr();
        let next = (page + 1).min(pages.end - 1);
        let ahead = match tile.store.shape().shared() {
            true => tile.store.head(tile.pages[next], tile.kv_head).0,
            false => values,
        };
        let product = Product {
            left: queries.cast(),
            rest: queries.wrapping_add(MAX_ROWS * stride / 2).cast(),
            left_stride: stride * 2,
            right: &blocks[..steps],
            right_stride: PAGE * 4,
            to: scratch.scores[page * PAGE % PARTITION..].as_mut_ptr(),
            to_stride: ROW * 4,
            add: false,
            ahead: ahead.as_ptr(),
        };
        // SAFETY: a key tile is QUERY_BLOCK pairs of dims of sixteen of PAGE tokens; queries and scores have
        // MAX_ROWS rows, whole tiles.
        unsafe { product.run(tiles(rows)) };
    }
}

/// The weights of the tokens of a block of pages: two planes of [`PAIR`] rows, and their sums by lanes.
struct Weights {
    planes: [[u32; PAIR * WEIGHT_ROW / 4]; 2],
    sums: [[f32; 16]; PAIR],
}

/// Pages whose weights are made and used at a time, so that they stay in the first-level cache.
const BLOCK: usize = 4;

/// Bytes from one row of weights to the next: not a power of two, so that rows fall on different cache sets.
const WEIGHT_ROW: usize = BLOCK * PAGE * 2 + 64;

/// Turns the rows' scores into weights and adds the weighted values of `pages` to their results.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn values(
    tile: &Tile<'_>,
    rows: &Range<usize>,
    pages: &Range<usize>,
    seen: &Range<usize>,
    scratch: &mut Scratch,
) {
    let stride = tile.store.shape().value_stride();
    let mut weights = Weights { planes: [[0; PAIR * WEIGHT_ROW / 4]; 2], sums: [[0.0; 16]; PAIR] };
    let mut ahead = pages.end..tile.seen_by_any(0..tile.rows).end.div_ceil(PAGE);
    for start in pages.clone().step_by(BLOCK) {
        let block = start..(start + BLOCK).min(pages.end);
        weigh(rows, &block, &mut weights, scratch);
        let mut sources = [std::ptr::null(); BLOCK];
        let mut ragged = scratch.ragged.chunks_exact_mut(stride * PAGE / 2);
        for (source, page) in sources.iter_mut().zip(block.clone()) {
            let (_, mut values) = tile.store.head(tile.pages[page], tile.kv_head);
            if tile.store.shape().shared() {
                let words = stride * PAGE / 2;
                let turned = &scratch.turned[page % (PARTITION / PAGE) * words..][..words];
                values = bytemuck::cast_slice(turned);
            }
            let here = intersect(seen, &(page * PAGE..(page + 1) * PAGE));
            *source = values.as_ptr();
            if here.len() < PAGE {
                let copy = ragged.next().expect("only the first and the last page can be ragged");
                tile.store.copy_values(values, here.start % PAGE..here.start % PAGE + here.len(), copy);
                *source = copy.as_ptr().cast();
            }
        }
        // The keys of the partition that follows: one page with every block of dims, as many as there are pages.
        let mut next = ahead.by_ref().take(block.len());
        for dim in (0..stride).step_by(DEPTH) {
            let keys = |page: usize| tile.store.head(tile.pages[page], tile.kv_head).0.as_ptr();
            let product = Product {
                left: weights.planes[0].as_ptr().cast(),
                rest: weights.planes[1].as_ptr().cast(),
                left_stride: WEIGHT_ROW,
                right: &sources.map(|source: *const u8| source.wrapping_add(dim * 4))[..block.len()],
                right_stride: stride * 4,
                to: scratch.part.acc[rows.start * stride + dim..].as_mut_ptr(),
                to_stride: stride * 4,
                add: true,
                ahead: next.next().map_or(std::ptr::null(), keys),
            };
            // SAFETY: a value tile is the PAGE / 2 pairs of tokens of sixteen of `stride` dims; weights have PAIR
            // rows and results MAX_ROWS, whole tiles.
            unsafe { product.run(tiles(rows)) };
        }
    }
    for row in rows.clone() {
        // SAFETY: sixteen numbers; this function has the features of the vector type.
        scratch.part.sum[row] = unsafe { sum(F32x16::load(weights.sums[row % PAIR].as_ptr())) };
    }
}

/// The weights of `rows` for the tokens of the pages `block`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn weigh(rows: &Range<usize>, block: &Range<usize>, weights: &mut Weights, scratch: &Scratch) {
    let column = block.start * PAGE % PARTITION;
    let [high, low] = &mut weights.planes;
    for row in rows.clone() {
        let r = row % PAIR;
        let scores = &scratch.scores[r * ROW + column..][..block.len() * PAGE];
        let at = r * WEIGHT_ROW / 4;
        let (high, low) = (&mut high[at..at + BLOCK * PAGE / 2], &mut low[at..at + BLOCK * PAGE / 2]);
        // SAFETY: this function has the features of the vector type; a page's scores are 32 numbers, its weights 16
        // pairs.
        unsafe {
            let shift = F32x16::splat(scratch.part.max[row]);
            let mut sums = F32x16::load(weights.sums[r].as_ptr());
            for (i, page) in scores.chunks_exact(PAGE).enumerate() {
                let first = exp_down(F32x16::load(page.as_ptr()).sub(shift));
                let second = exp_down(F32x16::load(page.as_ptr().add(16)).sub(shift));
                sums = sums.add(first).add(second);
                let at = i * PAGE / 2;
                split(first, second, high[at..].as_mut_ptr().cast(), low[at..].as_mut_ptr().cast());
            }
            sums.store(weights.sums[r].as_mut_ptr());
        }
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
    /// `tiles * 16` rows of 32 numbers.
    to: *mut f32,
    /// Bytes from one of those rows to the next.
    to_stride: usize,
    /// Whether the product is added to them, or overwrites them.
    add: bool,
    /// What will be needed soon: sixteen rows wait for memory, so that each of their steps asks for 2 KiB of it,
    /// as much as it uses up. Null if nothing is known.
    ahead: *const u8,
}

impl Product<'_> {
    /// # Safety
    /// Tiles are configured; there is at least one step; the pointers have 16 (right) or `tiles` times 16 (the others) rows; `tiles` is 1 or 2.
    #[inline(always)]
    unsafe fn run(&self, tiles: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match tiles {
                1 if self.ahead.is_null() => self.one::<0>(),
                1 => self.one::<1>(),
                _ => self.two(),
            }
        }
    }

    /// Sixteen rows; with `AHEAD` 1 it also asks for what comes.
    ///
    /// # Safety
    /// As [`Product::run`].
    #[inline(always)]
    unsafe fn one<const AHEAD: usize>(&self) {
        // SAFETY: loads and stores stay in the rows that the caller vouches for.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "test {b}, {b}",
                "jz 2f",
                "tileloadd tmm0, [{to} + {out}*1]",
                "tileloadd tmm1, [{to} + {out}*1 + 64]",
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
                ".if {AHEAD}",
                ".irp line, 0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960, 1024, 1088, \
                 1152, 1216, 1280, 1344, 1408, 1472, 1536, 1600, 1664, 1728, 1792, 1856, 1920, 1984",
                "prefetcht1 [{p} + \\line]",
                ".endr",
                "add {p}, 2048",
                ".endif",
                "add {a}, 64",
                "add {r}, 64",
                "add {bs}, 8",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{to} + {out}*1], tmm0",
                "tilestored [{to} + {out}*1 + 64], tmm1",
                b = inout(reg) usize::from(self.add) => _,
                bs = inout(reg) self.right.as_ptr() => _,
                steps = inout(reg) self.right.len() => _,
                right = in(reg) self.right_stride,
                a = inout(reg) self.left => _,
                r = inout(reg) self.rest => _,
                left = in(reg) self.left_stride,
                to = in(reg) self.to,
                out = in(reg) self.to_stride,
                p = inout(reg) self.ahead => _,
                AHEAD = const AHEAD,
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
                "test {b}, {b}",
                "jz 2f",
                "tileloadd tmm0, [{to} + {out}*1]",
                "tileloadd tmm1, [{to} + {out}*1 + 64]",
                "mov {b}, {out}",
                "shl {b}, 4",
                "add {b}, {to}",
                "tileloadd tmm2, [{b} + {out}*1]",
                "tileloadd tmm3, [{b} + {out}*1 + 64]",
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
                "tilestored [{to} + {out}*1], tmm0",
                "tilestored [{to} + {out}*1 + 64], tmm1",
                "mov {b}, {out}",
                "shl {b}, 4",
                "add {b}, {to}",
                "tilestored [{b} + {out}*1], tmm2",
                "tilestored [{b} + {out}*1 + 64], tmm3",
                b = inout(reg) usize::from(self.add) => _,
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
