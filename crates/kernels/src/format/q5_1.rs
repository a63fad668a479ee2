//! Q5_1: 32 codes of five bits, a scale and an offset. `value = d * q + m`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, SIDE_BY_SIDE};
use super::q4_0::pack_nibbles;
use super::q4_1::encode_affine;
use super::q5_0::fifth_bits;
use super::q5_0::five_bit_codes;

/// 32 values in 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: Half,
    /// Offset, added.
    pub m: Half,
    /// Little-endian bit set: bit `i` is the fifth bit of value `i`.
    pub qh: [u8; 4],
    /// Byte `j` holds the low nibble of value `j` and, above it, the low nibble of value `j + 16`.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24 && align_of::<BlockQ5_1>() == 1);

impl BlockQ5_1 {
    /// The codes in value order: 0..=31.
    #[inline]
    pub fn codes(&self) -> [u8; 32] {
        five_bit_codes(self.qh, &self.qs)
    }
}

impl Block for BlockQ5_1 {
    const FORMAT: Format = Format::Q5_1;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (out, q) in out.iter_mut().zip(self.codes()) {
            *out = f32::from(q) * d + m;
        }
    }
}

impl EncodeBlock for BlockQ5_1 {
    const LIMIT: f32 = MAX_HALF;
    const GROUP: usize = SIDE_BY_SIDE;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        encode_affine((x, w), units, 31.0, out, |d, m, codes| BlockQ5_1 {
            d,
            m,
            qh: fifth_bits(codes),
            qs: pack_nibbles(codes),
        });
    }
}
