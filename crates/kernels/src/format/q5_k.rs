//! Q5_K: 256 codes of five bits; scales and minimums as in Q4_K. `value = d * scale * q - dmin * min`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, sub_blocks};
use super::q4_k::{decode_affine, nibbles};
use super::q4_k::{pack_nibbles, pack_scales_mins};
use super::search::{Sweep, affine_super};

pub use super::q4_k::scale_min;

/// 256 values in 176 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5_K {
    /// Scale of the scales.
    pub d: Half,
    /// Scale of the minimums.
    pub dmin: Half,
    /// 8 scales and 8 minimums of six bits; see [`scale_min`].
    pub scales: [u8; 12],
    /// Bit `j` of byte `l` is the fifth bit of value `32 j + l`.
    pub qh: [u8; 32],
    /// Byte `32 p + l` holds the low nibbles of values `64 p + l` (low) and `64 p + 32 + l` (high).
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5_K>() == 176 && align_of::<BlockQ5_K>() == 1);

impl BlockQ5_K {
    /// The codes in value order: 0..=31.
    #[inline]
    pub fn codes(&self) -> [u8; 256] {
        let mut codes = nibbles(&self.qs);
        for (j, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (code, &high) in codes.iter_mut().zip(&self.qh) {
                *code |= (high >> j & 1) << 4;
            }
        }
        codes
    }
}

impl Block for BlockQ5_K {
    const FORMAT: Format = Format::Q5_K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        decode_affine(self.d, self.dmin, &self.scales, &self.codes(), out);
    }
}

impl EncodeBlock for BlockQ5_K {
    const LIMIT: f32 = 63.0 * MAX_HALF;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        let unit = units[0];
        let (x, w) = (sub_blocks::<8, 32>(x), sub_blocks(w));
        let fit = affine_super(x, w, 31.0, 63.0, unit, Sweep { steps: 8, step: 0.2 });
        let codes = fit.codes(x, 31.0, unit);
        let mut qh = [0; 32];
        for (i, code) in codes.iter().enumerate() {
            qh[i % 32] |= (code >> 4) << (i / 32);
        }
        let scales = pack_scales_mins(&fit.scales, &fit.mins);
        out[0] = BlockQ5_K { d: fit.d, dmin: fit.dmin, scales, qh, qs: pack_nibbles(&codes) };
    }
}
