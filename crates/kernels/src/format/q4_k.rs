//! Q4_K: 256 nibbles; 8 sub-blocks of 32 values, each with a 6-bit scale and a 6-bit minimum.
//! `value = d * scale * q - dmin * min`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, sub_blocks};
use super::search::{Sweep, affine_super};

/// 256 values in 144 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4_K {
    /// Scale of the scales.
    pub d: Half,
    /// Scale of the minimums.
    pub dmin: Half,
    /// 8 scales and 8 minimums of six bits; see [`scale_min`].
    pub scales: [u8; 12],
    /// Byte `32 p + l` holds value `64 p + l` in its low nibble and value `64 p + 32 + l` in its high one.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ4_K>() == 144 && align_of::<BlockQ4_K>() == 1);

/// Scale and minimum of sub-block `j` (0..8) of Q4_K and Q5_K: both 0..=63.
///
/// Sub-blocks 0..4 lie in the low six bits of bytes 0..4 (scales) and 4..8 (minimums). Of sub-blocks 4..8, the
/// low four bits are the nibbles of bytes 8..12 and the upper two are the top bits of bytes 0..8.
#[inline]
pub fn scale_min(scales: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        let low = scales[j + 4];
        ((low & 15) | (scales[j - 4] >> 6) << 4, (low >> 4) | (scales[j] >> 6) << 4)
    }
}

/// Packs 8 scales and 8 minimums (each below 64) the way [`scale_min`] reads them.
pub fn pack_scales_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        packed[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        packed[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] & 15) << 4;
    }
    packed
}

/// Low and high nibbles of Q4_K and Q5_K in value order: 0..=15.
#[inline]
pub(super) fn nibbles(qs: &[u8; 128]) -> [u8; 256] {
    let mut codes = [0; 256];
    for (codes, qs) in codes.chunks_exact_mut(64).zip(qs.chunks_exact(32)) {
        for (l, &byte) in qs.iter().enumerate() {
            codes[l] = byte & 15;
            codes[l + 32] = byte >> 4;
        }
    }
    codes
}

/// `d * scale * q - dmin * min` for 8 sub-blocks of 32.
pub(super) fn decode_affine(d: Half, dmin: Half, scales: &[u8; 12], codes: &[u8; 256], out: &mut [f32]) {
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    for (j, (out, codes)) in out.chunks_exact_mut(32).zip(codes.chunks_exact(32)).enumerate() {
        let (scale, min) = scale_min(scales, j);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for (out, &q) in out.iter_mut().zip(codes) {
            *out = scale * f32::from(q) - min;
        }
    }
}

impl BlockQ4_K {
    /// The codes in value order: 0..=15.
    #[inline]
    pub fn codes(&self) -> [u8; 256] {
        nibbles(&self.qs)
    }
}

impl Block for BlockQ4_K {
    const FORMAT: Format = Format::Q4_K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        decode_affine(self.d, self.dmin, &self.scales, &self.codes(), out);
    }
}

/// Low nibbles of codes in value order as [`nibbles`] reads them.
pub(super) fn pack_nibbles(codes: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|i| {
        let first = 64 * (i / 32) + i % 32;
        (codes[first] & 15) | codes[first + 32] << 4
    })
}

impl EncodeBlock for BlockQ4_K {
    const LIMIT: f32 = 63.0 * MAX_HALF;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        let unit = units[0];
        let (x, w) = (sub_blocks::<8, 32>(x), sub_blocks(w));
        let fit = affine_super(x, w, 15.0, 63.0, unit, Sweep { steps: 10, step: 0.15 });
        let codes = fit.codes(x, 15.0, unit);
        let scales = pack_scales_mins(&fit.scales, &fit.mins);
        out[0] = BlockQ4_K { d: fit.d, dmin: fit.dmin, scales, qs: pack_nibbles(&codes) };
    }
}
