//! Q4_0: 32 nibbles and one scale. `value = d * (q - 8)`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};

/// 32 values in 18 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4_0 {
    /// Scale; may be negative.
    pub d: Half,
    /// Byte `j` holds value `j` in its low nibble and value `j + 16` in its high nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && align_of::<BlockQ4_0>() == 1);

impl BlockQ4_0 {
    /// The codes in value order, 8 subtracted: -8..=7.
    #[inline]
    pub fn codes(&self) -> [i8; 32] {
        let mut codes = [0; 32];
        for (j, &byte) in self.qs.iter().enumerate() {
            codes[j] = (byte & 15) as i8 - 8;
            codes[j + 16] = (byte >> 4) as i8 - 8;
        }
        codes
    }
}

impl Block for BlockQ4_0 {
    const FORMAT: Format = Format::Q4_0;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(self.codes()) {
            *out = f32::from(q) * d;
        }
    }
}
