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

/// What tiles leave: up to eight of 16 x 16 numbers.
#[repr(align(64))]
struct Sums([[i32; 256]; 8]);

/// Scales of a panel's 256 columns.
#[repr(align(64))]
struct Scales {
    /// `d` and `m` per block.
    d: [[f32; 16]; 8],
    m: [[f32; 16]; 8],
    /// Pairs of minimums.
    mins: [[i32; 16]; 8],
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
    let config = Config::new(x.tiling.tile_rows(), if scheme.block == 256 { 64 } else { 32 }, 1);
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
                mins: [[0; 16]; 8],
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
            for (i, row) in (0..rows).step_by(TILE_ROWS).enumerate() {
                let tile = first_row / TILE_ROWS + i;
                let used = row..rows.min(row + TILE_ROWS);
                let last = cols.end == total;
                if last {
                    let places = first_row + used.start..first_row + used.end;
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
            products256(lines, rows.stride, self.planes.as_ptr().cast(), self.sums.0.as_mut_ptr().cast());
            for p in 0..panels.len() {
                let sums = [&self.sums.0[2 * p], &self.sums.0[2 * p + 1]];
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
                products32(lines, rows.stride, codes, blocks, self.sums.0.as_mut_ptr().cast());
                let slab = &mut self.slabs[p].0[used.clone()];
                add32(scheme, &self.sums.0[..blocks], &self.scales[p], &rows, block, slab);
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
            for (pair, to) in self.mins.iter_mut().enumerate().take(scheme.subs() / 2) {
                let mins = side.add(scheme.mins_at());
                let pairs = match scheme.sub {
                    16 => Avx512Rows::nibble_pairs(Avx512Rows::unsigned(mins.add(16 * pair))),
                    _ => Avx512Rows::unsigned_pairs(mins.add(32 * pair)),
                };
                _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs);
            }
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

/// A tile of activations times signed codes: a sum for each of `blocks` blocks of 32 columns.
#[inline(always)]
unsafe fn products32(lines: *const Line, stride: usize, codes: *const u8, blocks: usize, sums: *mut i32) {
    let mut block = 0;
    while block < blocks {
        // SAFETY: the caller's promise: lines, codes and sums of these blocks are there.
        unsafe {
            let a = lines.add(block / 2 * stride).cast::<u8>().add(block % 2 * 32);
            let (b, c) = (codes.add(512 * block), sums.add(256 * block));
            if blocks - block >= 4 {
                four32(a, 64 * stride, b, c);
                block += 4;
            } else {
                one32(a, b, c);
                block += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn four32(a: *const u8, step: usize, b: *const u8, c: *mut i32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tileloadd tmm5, [{b} + {row}*1]",
            "tdpbssd tmm0, tmm4, tmm5",
            "tileloadd tmm4, [{a} + {row}*1 + 32]",
            "tileloadd tmm6, [{b} + {row}*1 + 512]",
            "tdpbssd tmm1, tmm4, tmm6",
            "tileloadd tmm4, [{a2} + {row}*1]",
            "tileloadd tmm7, [{b} + {row}*1 + 1024]",
            "tdpbssd tmm2, tmm4, tmm7",
            "tileloadd tmm4, [{a2} + {row}*1 + 32]",
            "tileloadd tmm5, [{b} + {row}*1 + 1536]",
            "tdpbssd tmm3, tmm4, tmm5",
            "tilestored [{c} + {row}*1], tmm0",
            "tilestored [{c} + {row}*1 + 1024], tmm1",
            "tilestored [{c} + {row}*1 + 2048], tmm2",
            "tilestored [{c} + {row}*1 + 3072], tmm3",
            a = in(reg) a,
            a2 = in(reg) a.add(step),
            b = in(reg) b,
            c = in(reg) c,
            row = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        );
    }
}

#[inline(always)]
unsafe fn one32(a: *const u8, b: *const u8, c: *mut i32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tileloadd tmm5, [{b} + {row}*1]",
            "tdpbssd tmm0, tmm4, tmm5",
            "tilestored [{c} + {row}*1], tmm0",
            a = in(reg) a,
            b = in(reg) b,
            c = in(reg) c,
            row = in(reg) 64usize,
            out("tmm0") _, out("tmm4") _, out("tmm5") _,
            options(nostack),
        );
    }
}

/// Brings the sums of a block of 256 columns under their scales.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
unsafe fn add256(
    scheme: &Scheme,
    sums: [&[i32; 256]; 2],
    scales: &Scales,
    rows: &Rows<Side256>,
    block: usize,
    slab: &mut [[f32; 16]],
) {
    // SAFETY: there are as many rows as the slab has, and blocks.
    unsafe {
        let d = _mm512_loadu_ps(scales.d[0].as_ptr());
        let dmin = _mm512_loadu_ps(scales.m[0].as_ptr());
        let pairs = if scheme.offset { scheme.subs() / 2 } else { 0 };
        for (t, y) in slab.iter_mut().enumerate() {
            let side = rows.side(t, block);
            let low = _mm512_loadu_si512(sums[0].as_ptr().add(16 * t).cast());
            let high = _mm512_loadu_si512(sums[1].as_ptr().add(16 * t).cast());
            let total = _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low);
            let scale = _mm512_set1_ps(side.scale);
            let mut sum = _mm512_loadu_ps(y.as_ptr());
            sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(d, scale), sum);
            if pairs > 0 {
                let from = if pairs == 8 { side.sums16.as_ptr() } else { side.sums32.as_ptr() };
                let mut mins = _mm512_setzero_si512();
                for (pair, min) in scales.mins[..pairs].iter().enumerate() {
                    let min = _mm512_loadu_si512(min.as_ptr().cast());
                    mins = Avx512Rows::dot_pairs(mins, min, from.add(2 * pair));
                }
                sum = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(mins), _mm512_mul_ps(dmin, scale), sum);
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
