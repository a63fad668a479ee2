//! IQ4_XS: 256 nibbles that index the table of IQ4_NL; 8 sub-blocks of 32 values with a signed 6-bit scale.
//! `value = d * (scale - 32) * KVALUES_IQ4NL[q]`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::iq4_nl::KVALUES_IQ4NL;

/// 256 values in 136 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIQ4_XS {
    /// Scale of the scales.
    pub d: Half,
    /// Little-endian: bits `2 j` hold the upper two bits of scale `j`.
    pub scales_h: [u8; 2],
    /// Nibble `j` holds the low four bits of scale `j`, low nibbles first.
    pub scales_l: [u8; 4],
    /// Byte `16 j + l` holds value `32 j + l` in its low nibble and value `32 j + 16 + l` in its high one.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockIQ4_XS>() == 136 && align_of::<BlockIQ4_XS>() == 1);

impl BlockIQ4_XS {
    /// Scale of sub-block `j` (0..8): -32..=31.
    #[inline]
    pub fn scale(&self, j: usize) -> i8 {
        let low = self.scales_l[j / 2] >> (4 * (j % 2)) & 15;
        let high = (u16::from_le_bytes(self.scales_h) >> (2 * j) & 3) as u8;
        (low | high << 4) as i8 - 32
    }

    /// The table values of the codes, in value order.
    #[inline]
    pub fn codes(&self) -> [i8; 256] {
        let mut codes = [0; 256];
        for (codes, qs) in codes.chunks_exact_mut(32).zip(self.qs.chunks_exact(16)) {
            for (l, &byte) in qs.iter().enumerate() {
                codes[l] = KVALUES_IQ4NL[usize::from(byte & 15)];
                codes[l + 16] = KVALUES_IQ4NL[usize::from(byte >> 4)];
            }
        }
        codes
    }
}

impl Block for BlockIQ4_XS {
    const FORMAT: Format = Format::IQ4_XS;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        let codes = self.codes();
        for (j, (out, codes)) in out.chunks_exact_mut(32).zip(codes.chunks_exact(32)).enumerate() {
            let scale = d * f32::from(self.scale(j));
            for (out, &q) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(q);
            }
        }
    }
}
