//! Q5_0: 32 codes of five bits and one scale. `value = d * (q - 16)`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, SIDE_BY_SIDE};
use super::q4_0::{encode_symmetric, pack_nibbles};

/// 32 values in 22 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ5_0 {
    /// Scale; may be negative.
    pub d: Half,
    /// Little-endian bit set: bit `i` is the fifth bit of value `i`.
    pub qh: [u8; 4],
    /// Byte `j` holds the low nibble of value `j` and, above it, the low nibble of value `j + 16`.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22 && align_of::<BlockQ5_0>() == 1);

impl BlockQ5_0 {
    /// The codes in value order, 16 subtracted: -16..=15.
    #[inline]
    pub fn codes(&self) -> [i8; 32] {
        five_bit_codes(self.qh, &self.qs).map(|q| q as i8 - 16)
    }
}

/// Joins the nibbles and fifth bits of Q5_0 and Q5_1: 0..=31, in value order.
#[inline]
pub(super) fn five_bit_codes(qh: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let high = u32::from_le_bytes(qh);
    let mut codes = [0; 32];
    for (j, &byte) in qs.iter().enumerate() {
        codes[j] = (byte & 15) | ((high >> j & 1) as u8) << 4;
        codes[j + 16] = (byte >> 4) | ((high >> (j + 16) & 1) as u8) << 4;
    }
    codes
}

impl Block for BlockQ5_0 {
    const FORMAT: Format = Format::Q5_0;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(self.codes()) {
            *out = f32::from(q) * d;
        }
    }
}

/// The fifth bits of 32 codes.
pub(super) fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let mut bits = 0u32;
    for (i, &code) in codes.iter().enumerate() {
        bits |= u32::from(code >> 4 & 1) << i;
    }
    bits.to_le_bytes()
}

impl EncodeBlock for BlockQ5_0 {
    const LIMIT: f32 = 15.0 * MAX_HALF;
    const GROUP: usize = SIDE_BY_SIDE;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        encode_symmetric((x, w), units, -16.0, out, |d, codes| BlockQ5_0 {
            d,
            qh: fifth_bits(codes),
            qs: pack_nibbles(codes),
        });
    }
}
