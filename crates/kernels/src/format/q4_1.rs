//! Q4_1: 32 nibbles, a scale and an offset. `value = d * q + m`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};

/// 32 values in 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: Half,
    /// Offset, added.
    pub m: Half,
    /// Byte `j` holds value `j` in its low nibble and value `j + 16` in its high nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20 && align_of::<BlockQ4_1>() == 1);

impl BlockQ4_1 {
    /// The codes in value order: 0..=15.
    #[inline]
    pub fn codes(&self) -> [u8; 32] {
        let mut codes = [0; 32];
        for (j, &byte) in self.qs.iter().enumerate() {
            codes[j] = byte & 15;
            codes[j + 16] = byte >> 4;
        }
        codes
    }
}

impl Block for BlockQ4_1 {
    const FORMAT: Format = Format::Q4_1;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (out, q) in out.iter_mut().zip(self.codes()) {
            *out = f32::from(q) * d + m;
        }
    }
}
