//! Q6_K: 256 codes of six bits; 16 sub-blocks of 16 values, each with a signed 8-bit scale.
//! `value = d * scale * (q - 32)`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, sub_blocks};
use super::search::{Range, Sweep, symmetric_super};

/// 256 values in 210 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ6_K {
    /// Byte `64 h + 32 s + l` holds the low nibbles of values `128 h + 32 s + l` (low) and
    /// `128 h + 64 + 32 s + l` (high), for `h` and `s` in 0..2.
    pub ql: [u8; 128],
    /// Byte `32 h + l` holds the upper two bits of values `128 h + 32 g + l` in bits `2 g`, for `g` in 0..4.
    pub qh: [u8; 64],
    /// Scales of the sub-blocks.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: Half,
}

const _: () = assert!(size_of::<BlockQ6_K>() == 210 && align_of::<BlockQ6_K>() == 1);

impl BlockQ6_K {
    /// The codes in value order, 32 subtracted: -32..=31.
    #[inline]
    pub fn codes(&self) -> [i8; 256] {
        let mut codes = [0; 256];
        let halves = self.ql.chunks_exact(64).zip(self.qh.chunks_exact(32));
        for (codes, (ql, qh)) in codes.chunks_exact_mut(128).zip(halves) {
            for l in 0..32 {
                let low = [ql[l] & 15, ql[l + 32] & 15, ql[l] >> 4, ql[l + 32] >> 4];
                for (g, low) in low.into_iter().enumerate() {
                    codes[32 * g + l] = (low | (qh[l] >> (2 * g) & 3) << 4) as i8 - 32;
                }
            }
        }
        codes
    }
}

impl Block for BlockQ6_K {
    const FORMAT: Format = Format::Q6_K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        let codes = self.codes();
        let sub_blocks = out.chunks_exact_mut(16).zip(codes.chunks_exact(16));
        for ((out, codes), &scale) in sub_blocks.zip(&self.scales) {
            let scale = d * f32::from(scale);
            for (out, &q) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(q);
            }
        }
    }
}

impl EncodeBlock for BlockQ6_K {
    const LIMIT: f32 = 127.0 * 31.0 * MAX_HALF;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        let unit = units[0];
        let (range, scale_range) = (Range { lo: -32.0, hi: 31.0 }, Range { lo: -128.0, hi: 127.0 });
        let (x, w) = (sub_blocks::<16, 16>(x), sub_blocks(w));
        let fit = symmetric_super(x, w, range, scale_range, unit, Sweep { steps: 8, step: 0.25 });
        let codes: [u8; 256] = fit.codes(x, range, unit);
        let (mut ql, mut qh) = ([0; 128], [0; 64]);
        for (i, code) in codes.iter().enumerate() {
            let (half, group, l) = (i / 128, i / 32 % 4, i % 32);
            ql[64 * half + 32 * (group % 2) + l] |= (code & 15) << (4 * (group / 2));
            qh[32 * half + l] |= (code >> 4) << (2 * group);
        }
        out[0] = BlockQ6_K { ql, qh, scales: fit.scales.map(|scale| scale as i8), d: fit.d };
    }
}
