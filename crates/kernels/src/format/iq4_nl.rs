//! IQ4_NL: 32 nibbles that index a fixed uneven table, and one scale. `value = d * KVALUES_IQ4NL[q]`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};

/// The sixteen levels of IQ4_NL and IQ4_XS: denser around zero, as weights are.
pub const KVALUES_IQ4NL: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 values in 18 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockIQ4_NL {
    /// Scale; may be negative.
    pub d: Half,
    /// Byte `j` holds value `j` in its low nibble and value `j + 16` in its high nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4_NL>() == 18 && align_of::<BlockIQ4_NL>() == 1);

impl BlockIQ4_NL {
    /// The table values of the codes, in value order.
    #[inline]
    pub fn codes(&self) -> [i8; 32] {
        table_codes(&self.qs, &KVALUES_IQ4NL)
    }
}

/// Table values of 16 bytes of nibbles, low nibbles first.
#[inline]
pub(super) fn table_codes(qs: &[u8; 16], table: &[i8; 16]) -> [i8; 32] {
    let mut codes = [0; 32];
    for (j, &byte) in qs.iter().enumerate() {
        codes[j] = table[usize::from(byte & 15)];
        codes[j + 16] = table[usize::from(byte >> 4)];
    }
    codes
}

impl Block for BlockIQ4_NL {
    const FORMAT: Format = Format::IQ4_NL;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(self.codes()) {
            *out = d * f32::from(q);
        }
    }
}
