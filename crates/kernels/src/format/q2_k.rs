//! Q2_K: 256 codes of two bits; 16 sub-blocks of 16 values, each with a 4-bit scale and a 4-bit minimum.
//! `value = d * scale * q - dmin * min`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, sub_blocks};
use super::search::{Sweep, affine_super};

/// 256 values in 84 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ2_K {
    /// Per sub-block of 16 values: scale in the low nibble, minimum in the high one.
    pub scales: [u8; 16],
    /// Byte `32 h + l` holds values `128 h + 32 s + l` in bits `2 s`, for `s` in 0..4.
    pub qs: [u8; 64],
    /// Scale of the scales.
    pub d: Half,
    /// Scale of the minimums.
    pub dmin: Half,
}

const _: () = assert!(size_of::<BlockQ2_K>() == 84 && align_of::<BlockQ2_K>() == 1);

/// Scale and minimum of sub-block `j` (0..16): both 0..=15.
#[inline]
pub fn scale_min(scales: &[u8; 16], j: usize) -> (u8, u8) {
    (scales[j] & 15, scales[j] >> 4)
}

impl BlockQ2_K {
    /// The codes in value order: 0..=3.
    #[inline]
    pub fn codes(&self) -> [u8; 256] {
        two_bit_codes(&self.qs)
    }
}

/// The two-bit codes of Q2_K and Q3_K in value order.
#[inline]
pub(super) fn two_bit_codes(qs: &[u8; 64]) -> [u8; 256] {
    let mut codes = [0; 256];
    for (half, qs) in qs.chunks_exact(32).enumerate() {
        for shift in 0..4 {
            for (l, &byte) in qs.iter().enumerate() {
                codes[128 * half + 32 * shift + l] = byte >> (2 * shift) & 3;
            }
        }
    }
    codes
}

impl Block for BlockQ2_K {
    const FORMAT: Format = Format::Q2_K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let codes = self.codes();
        for (j, (out, codes)) in out.chunks_exact_mut(16).zip(codes.chunks_exact(16)).enumerate() {
            let (scale, min) = scale_min(&self.scales, j);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (out, &q) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(q) - min;
            }
        }
    }
}

/// Two-bit codes in value order as [`two_bit_codes`] reads them.
pub(super) fn pack_two_bits(codes: &[u8; 256]) -> [u8; 64] {
    std::array::from_fn(|i| {
        let first = 128 * (i / 32) + i % 32;
        (0..4).fold(0, |byte, shift| byte | (codes[first + 32 * shift] & 3) << (2 * shift))
    })
}

impl EncodeBlock for BlockQ2_K {
    const LIMIT: f32 = 15.0 * MAX_HALF;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        let unit = units[0];
        let sweep = Sweep { steps: 12, step: 0.1 };
        let (x, w) = (sub_blocks::<16, 16>(x), sub_blocks(w));
        let fit = affine_super(x, w, 3.0, 15.0, unit, sweep);
        let codes = fit.codes(x, 3.0, unit);
        out[0] = BlockQ2_K {
            scales: std::array::from_fn(|j| fit.scales[j] | fit.mins[j] << 4),
            qs: pack_two_bits(&codes),
            d: fit.d,
            dmin: fit.dmin,
        };
    }
}
