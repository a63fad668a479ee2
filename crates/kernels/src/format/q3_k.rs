//! Q3_K: 256 codes of three bits; 16 sub-blocks of 16 values, each with a signed 6-bit scale.
//! `value = d * (scale - 32) * (q - 4)`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, sub_blocks};
use super::q2_k::pack_two_bits;
use super::q2_k::two_bit_codes;
use super::search::{Range, Sweep, symmetric_super};

/// 256 values in 110 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ3_K {
    /// Bit `g` of byte `l` is the third bit of value `32 g + l`.
    pub hmask: [u8; 32],
    /// Byte `32 h + l` holds the low bits of values `128 h + 32 s + l` in bits `2 s`, for `s` in 0..4.
    pub qs: [u8; 64],
    /// 16 scales of six bits; see [`scale`].
    pub scales: [u8; 12],
    /// Scale of the scales.
    pub d: Half,
}

const _: () = assert!(size_of::<BlockQ3_K>() == 110 && align_of::<BlockQ3_K>() == 1);

/// Scale of sub-block `j` (0..16): -32..=31. The low four bits are nibbles of bytes 0..8 (sub-blocks 0..8 low,
/// 8..16 high), the upper two are bit pairs of bytes 8..12.
#[inline]
pub fn scale(scales: &[u8; 12], j: usize) -> i8 {
    let low = scales[j % 8] >> (4 * (j / 8)) & 15;
    let high = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
    (low | high << 4) as i8 - 32
}

impl BlockQ3_K {
    /// The codes in value order, 4 subtracted: -4..=3.
    #[inline]
    pub fn codes(&self) -> [i8; 256] {
        let mut codes = two_bit_codes(&self.qs).map(|q| q as i8);
        for (group, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (code, &mask) in codes.iter_mut().zip(&self.hmask) {
                *code += (mask >> group & 1) as i8 * 4 - 4;
            }
        }
        codes
    }
}

impl Block for BlockQ3_K {
    const FORMAT: Format = Format::Q3_K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        let codes = self.codes();
        for (j, (out, codes)) in out.chunks_exact_mut(16).zip(codes.chunks_exact(16)).enumerate() {
            let scale = d * f32::from(scale(&self.scales, j));
            for (out, &q) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(q);
            }
        }
    }
}

/// Packs 16 scales, 32 added to each, the way [`scale`] reads them.
fn pack_scales(scales: &[u8; 16]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (j, &scale) in scales.iter().enumerate() {
        packed[j % 8] |= (scale & 15) << (4 * (j / 8));
        packed[8 + j % 4] |= (scale >> 4) << (2 * (j / 4));
    }
    packed
}

impl EncodeBlock for BlockQ3_K {
    const LIMIT: f32 = 31.0 * 3.0 * MAX_HALF;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        let unit = units[0];
        let (range, scale_range) = (Range { lo: -4.0, hi: 3.0 }, Range { lo: -32.0, hi: 31.0 });
        let (x, w) = (sub_blocks::<16, 16>(x), sub_blocks(w));
        let fit = symmetric_super(x, w, range, scale_range, unit, Sweep { steps: 12, step: 0.1 });
        let codes: [u8; 256] = fit.codes(x, range, unit);
        let mut hmask = [0; 32];
        for (i, code) in codes.iter().enumerate() {
            hmask[i % 32] |= (code >> 2) << (i / 32);
        }
        out[0] = BlockQ3_K {
            hmask,
            qs: pack_two_bits(&codes),
            scales: pack_scales(&fit.scales.map(|scale| (scale + 32) as u8)),
            d: fit.as_large(x, w, &codes, range, unit),
        };
    }
}
