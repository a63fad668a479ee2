//! Products by AMX tiles: 16 activation rows times 16 weight rows per instruction.
//!
//! Per 256 columns, two panels are brought into the form of a tile's right side: for blocks of 256, code times
//! sub-scale (at most 14 bits) as two byte planes, so that the whole block is one integer sum; for blocks of 32,
//! the signed codes. The scales then go in by the same steps as everywhere (see `step`), so results are those of
//! the dot instructions, bit for bit. Products in bf16 have a rounding of their own: at this level all of them come
//! through here, whatever their number of rows.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::float::sub_scale;
use super::panels::Codes;
use super::quantise::{Line, Side32, Side256, TILE_ROWS};
use super::rows16::{Avx512Rows, Rows16};
use super::step::Rows;
use super::{Inputs, Output, Panel, SLAB_COLS, int::Form};
use crate::isa::level::Level;
use crate::layout::Scheme;

/// Activation rows from which tiles are faster than dots.
pub(super) const MIN_ROWS: usize = 12;

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

/// Scales of a panel's 256 columns.
#[repr(align(64))]
struct Scales {
    /// `d` and `m` per block.
    d: [[f32; 16]; 8],
    m: [[f32; 16]; 8],
    /// Minimums as the right side of a bf16 tile: pairs of sub-blocks of 16 columns, twice over.
    mins: [[u32; 16]; 16],
}

#[repr(align(64))]
struct Config([u8; 64]);

impl Config {
    /// Tiles 0..4 are results of `rows` rows; 4 and 5 left sides of `bytes` per row; 6 and 7 right sides. `lefts`
    /// says how many of 4..8 are left sides.
    fn new(rows: usize, bytes: usize, lefts: usize) -> Config {
        let mut config = [0; 64];
        config[0] = 1;
        for tile in 0..8 {
            let (tile_rows, tile_bytes) = match tile {
                0..4 => (rows, 64),
                _ if tile < 4 + lefts => (rows, bytes),
                _ => (bytes / 4, 64),
            };
            config[16 + 2 * tile] = tile_bytes as u8;
            config[48 + tile] = tile_rows as u8;
        }
        Config(config)
    }

    /// Runs `work` with this configuration.
    ///
    /// # Safety
    /// The CPU has AMX, and this process may use it.
    unsafe fn with(&self, work: impl FnOnce()) {
        // SAFETY: the caller's promise; the configuration is of palette 1, within its limits.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self.0.as_ptr(), options(nostack, readonly)) };
        work();
        // SAFETY: the caller's promise. Tiles left in use would be saved at every context switch.
        unsafe {
            asm!("tilerelease", out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                out("tmm5") _, out("tmm6") _, out("tmm7") _, options(nostack, nomem));
        }
    }
}

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

/// Asks for the activations of a tile's 256 columns: they come from the second-level cache at best.
#[inline(always)]
fn prefetch_lines(scheme: &Scheme, x: &Inputs<'_>, tile: usize, first: usize) {
    let rows = x.tiling.tile_rows();
    let ask = |start: *const u8, bytes: usize| {
        for at in (0..bytes).step_by(64) {
            // SAFETY: a prefetch may point anywhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast()) };
        }
    };
    let line = tile * x.tiling.tile_lines() + first / 64 * rows;
    if scheme.block == 256 {
        ask(x.lines256.as_ptr().wrapping_add(line).cast(), 4 * 64 * rows);
        let side = (tile * (x.tiling.cols / 256) + first / 256) * rows;
        ask(x.sides256.as_ptr().wrapping_add(side).cast(), size_of::<Side256>() * rows);
    } else {
        ask(x.lines32.as_ptr().wrapping_add(line).cast(), 4 * 64 * rows);
        let side = (tile * (x.tiling.cols / 32) + first / 32) * rows;
        ask(x.sides32.as_ptr().wrapping_add(side).cast(), 8 * size_of::<Side32>() * rows);
    }
}

/// Asks for the codes and scales from column `next` on, or for those of the panels that follow in memory.
fn prefetch_weights(scheme: &Scheme, panels: &[Panel<'_>], next: usize) {
    let panel_bytes = panels.last().map_or(0, |last| last.codes.addr() - panels[0].codes.addr());
    for panel in panels {
        let (skip, next) = if next < panel.cols { (0, next) } else { (2 * panel_bytes, 0) };
        let codes = panel.codes.wrapping_add(skip + next / 32 * scheme.unit_bytes());
        let side = panel.side.wrapping_add(skip + next / scheme.block * scheme.side_bytes());
        let side_bytes = SLAB_COLS / scheme.block * scheme.side_bytes();
        for (start, bytes) in [(codes, 8 * scheme.unit_bytes()), (side, side_bytes)] {
            for at in (0..bytes).step_by(64) {
                // SAFETY: a prefetch may point anywhere.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at).cast()) };
            }
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
                    prefetch_lines(scheme, x, tile + 1, cols.start);
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
                let side = panel.side.add(cols.start / scheme.block * scheme.side_bytes());
                if scheme.block == 256 {
                    let plain = self.codes.unpack(level, panel, cols.start, cols.len());
                    split_planes(scheme, plain.codes, plain.bias, side, &mut self.planes[i]);
                    self.scales[i].read256(scheme, side);
                    continue;
                }
                self.scales[i].read32(scheme, side, cols.len() / 32);
                codes[i] = if scheme.bits == 8 {
                    panel.codes.add(16 * cols.start)
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

impl Scales {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    unsafe fn read256(&mut self, scheme: &Scheme, side: *const u8) {
        // SAFETY: the scales of a block are at `side`.
        unsafe {
            Avx512Rows::store(Avx512Rows::halves(side), self.d[0].as_mut_ptr());
            if !scheme.offset {
                return;
            }
            Avx512Rows::store(Avx512Rows::halves(side.add(scheme.offset_at())), self.m[0].as_mut_ptr());
            let mins = side.add(scheme.mins_at());
            for pair in 0..scheme.subs() / 2 {
                let ints = match scheme.sub {
                    16 => Avx512Rows::nibble_pairs(Avx512Rows::unsigned(mins.add(16 * pair))),
                    _ => Avx512Rows::unsigned_pairs(mins.add(32 * pair)),
                };
                // Small integers are exact in bf16: the upper half of their f32.
                let [first, second] =
                    [Avx512Rows::field::<0>(ints, 0xffff), Avx512Rows::field::<16>(ints, 0xffff)]
                        .map(|ints| _mm512_srli_epi32::<16>(_mm512_castps_si512(_mm512_cvtepi32_ps(ints))));
                let pair_of = |low, high| _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
                if scheme.sub == 16 {
                    self.put_mins(pair, pair_of(first, second));
                } else {
                    self.put_mins(2 * pair, pair_of(first, first));
                    self.put_mins(2 * pair + 1, pair_of(second, second));
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    fn put_mins(&mut self, row: usize, pairs: __m512i) {
        // SAFETY: a row of the tile has 64 bytes.
        unsafe {
            _mm512_storeu_si512(self.mins[row].as_mut_ptr().cast(), pairs);
            _mm512_storeu_si512(self.mins[row + 8].as_mut_ptr().cast(), pairs);
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    unsafe fn read32(&mut self, scheme: &Scheme, side: *const u8, blocks: usize) {
        for block in 0..blocks {
            // SAFETY: the scales of that many blocks are at `side`.
            unsafe {
                let side = side.add(block * scheme.side_bytes());
                let d = if scheme.power { Avx512Rows::powers(side) } else { Avx512Rows::halves(side) };
                Avx512Rows::store(d, self.d[block].as_mut_ptr());
                if scheme.offset {
                    let m = Avx512Rows::halves(side.add(scheme.offset_at()));
                    Avx512Rows::store(m, self.m[block].as_mut_ptr());
                }
            }
        }
    }
}

/// Code times sub-scale, 16 bits, as a plane of low bytes (unsigned) and one of high bytes (signed).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
unsafe fn split_planes(scheme: &Scheme, codes: *const u8, bias: i32, side: *const u8, planes: &mut Planes) {
    let [low, high] = &mut planes.0;
    let groups = scheme.sub / 4;
    let bias = _mm512_set1_epi16(bias as i16);
    let (low_byte, high_byte) = (_mm512_set1_epi16(0xff), _mm512_set1_epi16(0xff00_u16 as i16));
    for j in 0..scheme.subs() {
        // SAFETY: the scales of a block are at `side`, and codes and planes have 256 columns.
        unsafe {
            let scale = sub_scale::<Avx512Rows>(scheme, side, j);
            let scale = _mm512_mask_blend_epi16(0xaaaa_aaaa, scale, _mm512_slli_epi32::<16>(scale));
            for g in j * groups..(j + 1) * groups {
                let codes = _mm512_loadu_si512(codes.add(64 * g).cast());
                let even = _mm512_sub_epi16(_mm512_and_si512(codes, low_byte), bias);
                let odd = _mm512_sub_epi16(_mm512_srli_epi16::<8>(codes), bias);
                let (even, odd) = (_mm512_mullo_epi16(even, scale), _mm512_mullo_epi16(odd, scale));
                // Where the mask is set the first, else the second.
                let lows = _mm512_ternarylogic_epi32::<0xca>(low_byte, even, _mm512_slli_epi16::<8>(odd));
                let highs = _mm512_ternarylogic_epi32::<0xca>(high_byte, odd, _mm512_srli_epi16::<8>(even));
                _mm512_storeu_si512(low.as_mut_ptr().add(64 * g).cast(), lows);
                _mm512_storeu_si512(high.as_mut_ptr().add(64 * g).cast(), highs);
            }
        }
    }
}

/// Signed codes.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
unsafe fn subtract(codes: *const u8, bias: i32, cols: usize, to: &mut [u8; 16 * SLAB_COLS]) {
    let bias = _mm512_set1_epi8(bias as i8);
    for g in 0..cols / 4 {
        // SAFETY: codes and `to` have that many columns.
        unsafe {
            let signed = _mm512_sub_epi8(_mm512_loadu_si512(codes.add(64 * g).cast()), bias);
            _mm512_storeu_si512(to.as_mut_ptr().add(64 * g).cast(), signed);
        }
    }
}

/// A tile of the activations' sums times the minimums of two panels: exact, for everything is a small integer.
#[inline(always)]
unsafe fn products_mins(parts: *const u8, mins: [*const u8; 2], sums: *mut f32) {
    // SAFETY: the caller's promise: a tile of sides, two tiles of minimums, room for two tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tileloadd tmm4, [{a} + {side}*1]",
            "tileloadd tmm5, [{b0} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm5",
            "tileloadd tmm6, [{b1} + {row}*1]",
            "tdpbf16ps tmm1, tmm4, tmm6",
            "tilestored [{c} + {row}*1], tmm0",
            "tilestored [{c} + {row}*1 + 1024], tmm1",
            a = in(reg) parts,
            b0 = in(reg) mins[0],
            b1 = in(reg) mins[1],
            c = in(reg) sums,
            row = in(reg) 64usize,
            side = in(reg) size_of::<Side256>(),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}

/// A tile of activations times both planes of two panels over 256 columns: four sums.
#[inline(always)]
unsafe fn products256(lines: *const Line, stride: usize, planes: *const u8, sums: *mut i32) {
    // SAFETY: the caller's promise: four chunks of `stride` lines, four planes of four tiles, room for four tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tileloadd tmm5, [{b} + {row}*1]",
            "tdpbsud tmm0, tmm4, tmm5",
            "tileloadd tmm6, [{b} + {row}*1 + 4096]",
            "tdpbssd tmm1, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row}*1 + 8192]",
            "tdpbsud tmm2, tmm4, tmm7",
            "tileloadd tmm5, [{b} + {row}*1 + 12288]",
            "tdpbssd tmm3, tmm4, tmm5",
            "add {a}, {step}",
            "add {b}, 1024",
            "dec {left}",
            "jnz 2b",
            "tilestored [{c} + {row}*1], tmm0",
            "tilestored [{c} + {row}*1 + 1024], tmm1",
            "tilestored [{c} + {row}*1 + 2048], tmm2",
            "tilestored [{c} + {row}*1 + 3072], tmm3",
            a = inout(reg) lines => _,
            b = inout(reg) planes => _,
            c = in(reg) sums,
            row = in(reg) 64usize,
            step = in(reg) 64 * stride,
            left = inout(reg) 4usize => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        );
    }
}

/// A full tile of activations times signed codes of `blocks` blocks of 32 columns.
struct Tile32<'a> {
    lines: *const Line,
    codes: *const u8,
    blocks: usize,
    scales: &'a Scales,
    rows: &'a Rows<Side32>,
    /// The first block.
    block: usize,
}

impl Tile32<'_> {
    /// Adds the products to `slab`. While the scales of one block go in, the tiles of the next are multiplied.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    unsafe fn add<const OFFSET: bool>(&self, sums: &mut Sums, slab: &mut [[f32; 16]; TILE_ROWS]) {
        let stride = self.rows.stride;
        // SAFETY: the caller's promise: lines, codes, scales and sides of these blocks are there.
        unsafe {
            let mut y = [_mm512_setzero_ps(); TILE_ROWS];
            for (y, slab) in y.iter_mut().zip(&*slab) {
                *y = _mm512_loadu_ps(slab.as_ptr());
            }
            tile_product32::<0>(self.lines, stride, self.codes, 0, &mut sums.0[0]);
            for i in 0..self.blocks {
                let next = i + 1;
                if next < self.blocks {
                    match next % 2 {
                        0 => tile_product32::<0>(self.lines, stride, self.codes, next, &mut sums.0[0]),
                        _ => tile_product32::<1>(self.lines, stride, self.codes, next, &mut sums.0[1]),
                    }
                }
                let d = _mm512_loadu_ps(self.scales.d[i].as_ptr());
                let m = _mm512_loadu_ps(self.scales.m[i].as_ptr());
                let from = sums.0[i % 2].as_ptr();
                for (t, y) in y.iter_mut().enumerate() {
                    let side = self.rows.side(t, self.block + i);
                    let scale = _mm512_mul_ps(d, _mm512_set1_ps(side.scale));
                    let sum = _mm512_loadu_si512(from.add(16 * t).cast());
                    *y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, *y);
                    if OFFSET {
                        *y = _mm512_fmadd_ps(m, _mm512_set1_ps(side.scaled_sum), *y);
                    }
                }
            }
            for (y, slab) in y.into_iter().zip(slab) {
                _mm512_storeu_ps(slab.as_mut_ptr(), y);
            }
        }
    }
}

/// A tile of activations times the signed codes of block `i`, with one set of registers or the other.
#[inline(always)]
unsafe fn tile_product32<const SET: usize>(
    lines: *const Line,
    stride: usize,
    codes: *const u8,
    i: usize,
    sums: &mut [i32; 256],
) {
    macro_rules! product {
        ($c:tt, $a:tt, $b:tt, $from:expr) => {
            asm!(
                concat!("tilezero ", $c),
                concat!("tileloadd ", $a, ", [{a} + {row}*1]"),
                concat!("tileloadd ", $b, ", [{b} + {row}*1]"),
                concat!("tdpbssd ", $c, ", ", $a, ", ", $b),
                concat!("tilestored [{c} + {row}*1], ", $c),
                a = in(reg) $from,
                b = in(reg) codes.add(512 * i),
                c = in(reg) sums.as_mut_ptr(),
                row = in(reg) 64usize,
                out($c) _, out($a) _, out($b) _,
                options(nostack),
            )
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        let from = lines.add(i / 2 * stride).cast::<u8>().add(i % 2 * 32);
        if SET == 0 {
            product!("tmm0", "tmm4", "tmm6", from);
        } else {
            product!("tmm1", "tmm5", "tmm7", from);
        }
    }
}

/// Brings the sums of a block of 256 columns under their scales.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
unsafe fn add256(
    scheme: &Scheme,
    sums: [&[i32; 256]; 3],
    scales: &Scales,
    rows: &Rows<Side256>,
    block: usize,
    slab: &mut [[f32; 16]],
) {
    // SAFETY: there are as many rows as the slab has, and blocks.
    unsafe {
        let d = _mm512_loadu_ps(scales.d[0].as_ptr());
        let dmin = _mm512_loadu_ps(scales.m[0].as_ptr());
        for (t, y) in slab.iter_mut().enumerate() {
            let side = rows.side(t, block);
            let low = _mm512_loadu_si512(sums[0].as_ptr().add(16 * t).cast());
            let high = _mm512_loadu_si512(sums[1].as_ptr().add(16 * t).cast());
            let total = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low);
            let scale = _mm512_set1_ps(side.scale);
            let mut sum = _mm512_loadu_ps(y.as_ptr());
            sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(d, scale), sum);
            if scheme.offset {
                let mins = _mm512_loadu_ps(sums[2].as_ptr().add(16 * t).cast());
                sum = _mm512_fnmadd_ps(mins, _mm512_mul_ps(dmin, scale), sum);
            }
            _mm512_storeu_ps(y.as_mut_ptr(), sum);
        }
    }
}

/// Brings the sums of blocks of 32 columns under their scales.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
unsafe fn add32(
    scheme: &Scheme,
    sums: &[[i32; 256]],
    scales: &Scales,
    rows: &Rows<Side32>,
    first_block: usize,
    slab: &mut [[f32; 16]],
) {
    for (first, slab) in slab.chunks_mut(8).enumerate() {
        let first = 8 * first;
        // SAFETY: there are as many rows as the slab has, and blocks.
        unsafe {
            // A tile's last rows may be missing: their sums are computed from what lies there, and dropped.
            let mut y = [_mm512_setzero_ps(); 8];
            for (y, slab) in y.iter_mut().zip(&*slab) {
                *y = _mm512_loadu_ps(slab.as_ptr());
            }
            let last = slab.len() - 1;
            for (i, sums) in sums.iter().enumerate() {
                let d = _mm512_loadu_ps(scales.d[i].as_ptr());
                let m = _mm512_loadu_ps(scales.m[i].as_ptr());
                for (t, y) in y.iter_mut().enumerate() {
                    let side = rows.side(first + t.min(last), first_block + i);
                    let sum = _mm512_loadu_si512(sums.as_ptr().add(16 * (first + t)).cast());
                    let scale = _mm512_mul_ps(d, _mm512_set1_ps(side.scale));
                    *y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, *y);
                    if scheme.offset {
                        *y = _mm512_fmadd_ps(m, _mm512_set1_ps(side.scaled_sum), *y);
                    }
                }
            }
            for (y, slab) in y.into_iter().zip(slab) {
                _mm512_storeu_ps(slab.as_mut_ptr(), y);
            }
        }
    }
}

/// All activation rows times panels of one matrix of bf16 weights.
///
/// # Safety
/// The CPU has AMX, this process may use it, and panels, inputs and output have one shape.
pub(super) unsafe fn bf16(panels: &[Panel<'_>], x: &Inputs<'_>, out: &Output<'_>) {
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
                let weights = [panels[0].codes, panels[panels.len() - 1].codes];
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

/// Two tiles of activations times two panels over `chunks` of 32 columns, added to four tiles of sums.
#[inline(always)]
unsafe fn products16(a: [*const Line; 2], step: usize, b: [*const u8; 2], chunks: usize, c: [*mut f32; 4]) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{c0} + {row}*1]",
            "tileloadd tmm1, [{c1} + {row}*1]",
            "tileloadd tmm2, [{c2} + {row}*1]",
            "tileloadd tmm3, [{c3} + {row}*1]",
            "2:",
            "tileloadd tmm4, [{a0} + {row}*1]",
            "tileloadd tmm6, [{b0} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {row}*1]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {row}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "prefetcht0 [{b0} + 3072]",
            "prefetcht0 [{b1} + 3072]",
            "add {a0}, {step}",
            "add {a1}, {step}",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {left}",
            "jnz 2b",
            "tilestored [{c0} + {row}*1], tmm0",
            "tilestored [{c1} + {row}*1], tmm1",
            "tilestored [{c2} + {row}*1], tmm2",
            "tilestored [{c3} + {row}*1], tmm3",
            a0 = inout(reg) a[0] => _,
            a1 = inout(reg) a[1] => _,
            b0 = inout(reg) b[0] => _,
            b1 = inout(reg) b[1] => _,
            c0 = in(reg) c[0],
            c1 = in(reg) c[1],
            c2 = in(reg) c[2],
            c3 = in(reg) c[3],
            row = in(reg) 64usize,
            step = in(reg) step,
            left = inout(reg) chunks => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        );
    }
}
