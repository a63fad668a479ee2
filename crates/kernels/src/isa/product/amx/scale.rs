//! Between codes and tiles, and between tiles and results: planes, and the scales that sums go under.

use std::arch::x86_64::*;

use super::super::SLAB_COLS;
use super::super::float::sub_scale;
use super::super::quantise::{Line, Side32, Side256, TILE_ROWS};
use super::super::rows16::{Rows16, Rows512};
use super::super::step::Rows;
use super::tiles::tile_product32;
use super::{Planes, Sums};
use crate::layout::Scheme;

/// How sums are closed does not matter to what is used of it here.
type Wide = Rows512<true>;

/// Scales of a panel's 256 columns.
#[repr(align(64))]
pub(super) struct Scales {
    /// `d` and `m` per block.
    pub(super) d: [[f32; 16]; 8],
    pub(super) m: [[f32; 16]; 8],
    /// Minimums as the right side of a bf16 tile: pairs of sub-blocks of 16 columns, twice over.
    pub(super) mins: [[u32; 16]; 16],
}

impl Scales {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    pub(super) unsafe fn read256(&mut self, scheme: &Scheme, side: *const u8) {
        // SAFETY: the scales of a block are at `side`.
        unsafe {
            Wide::store(Wide::halves(side), self.d[0].as_mut_ptr());
            if !scheme.offset {
                return;
            }
            Wide::store(Wide::halves(side.add(scheme.offset_at())), self.m[0].as_mut_ptr());
            let mins = side.add(scheme.mins_at());
            for pair in 0..scheme.subs() / 2 {
                let ints = match scheme.sub {
                    16 => Wide::nibble_pairs(Wide::unsigned(mins.add(16 * pair))),
                    _ => Wide::unsigned_pairs(mins.add(32 * pair)),
                };
                // Small integers are exact in bf16: the upper half of their f32.
                let [first, second] = [Wide::field::<0>(ints, 0xffff), Wide::field::<16>(ints, 0xffff)]
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
    pub(super) unsafe fn read32(&mut self, scheme: &Scheme, side: *const u8, blocks: usize) {
        for block in 0..blocks {
            // SAFETY: the scales of that many blocks are at `side`.
            unsafe {
                let side = side.add(block * scheme.side_bytes());
                let d = if scheme.power { Wide::powers(side) } else { Wide::halves(side) };
                Wide::store(d, self.d[block].as_mut_ptr());
                if scheme.offset {
                    let m = Wide::halves(side.add(scheme.offset_at()));
                    Wide::store(m, self.m[block].as_mut_ptr());
                }
            }
        }
    }
}

/// Code times sub-scale, 16 bits, as a plane of low bytes (unsigned) and one of high bytes (signed).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
pub(super) unsafe fn split_planes(
    scheme: &Scheme,
    codes: *const u8,
    bias: i32,
    side: *const u8,
    planes: &mut Planes,
) {
    let [low, high] = &mut planes.0;
    let groups = scheme.sub / 4;
    let bias = _mm512_set1_epi16(bias as i16);
    let (low_byte, high_byte) = (_mm512_set1_epi16(0xff), _mm512_set1_epi16(0xff00_u16 as i16));
    for j in 0..scheme.subs() {
        // SAFETY: the scales of a block are at `side`, and codes and planes have 256 columns.
        unsafe {
            let scale = sub_scale::<Wide>(scheme, side, j);
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
pub(super) unsafe fn subtract(codes: *const u8, bias: i32, cols: usize, to: &mut [u8; 16 * SLAB_COLS]) {
    let bias = _mm512_set1_epi8(bias as i8);
    for g in 0..cols / 4 {
        // SAFETY: codes and `to` have that many columns.
        unsafe {
            let signed = _mm512_sub_epi8(_mm512_loadu_si512(codes.add(64 * g).cast()), bias);
            _mm512_storeu_si512(to.as_mut_ptr().add(64 * g).cast(), signed);
        }
    }
}

/// A full tile of activations times signed codes of `blocks` blocks of 32 columns.
pub(super) struct Tile32<'a> {
    pub(super) lines: *const Line,
    pub(super) codes: *const u8,
    pub(super) blocks: usize,
    pub(super) scales: &'a Scales,
    pub(super) rows: &'a Rows<Side32>,
    /// The first block.
    pub(super) block: usize,
}

impl Tile32<'_> {
    /// Adds the products to `slab`. While the scales of one block go in, the tiles of the next are multiplied.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    pub(super) unsafe fn add<const OFFSET: bool>(&self, sums: &mut Sums, slab: &mut [[f32; 16]; TILE_ROWS]) {
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

/// Brings the sums of a block of 256 columns under their scales.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
pub(super) unsafe fn add256(
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
pub(super) unsafe fn add32(
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
