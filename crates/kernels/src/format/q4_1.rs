//! Q4_1: 32 nibbles, a scale and an offset. `value = d * q + m`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, array};
use super::q4_0::pack_nibbles;
use super::search::{Sweep, affine, code, inverse};

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

/// Scale, offset and codes of one block of 32 with a single scale and offset.
pub(super) fn encode_affine(x: &[f32], w: &[f32], unit: f32, top: f32) -> (Half, Half, [u8; 32]) {
    let sweep = Sweep { steps: 10, step: 0.15 };
    let (scale, offset) = affine::<32>(array(x), array(w), top, f32::INFINITY, sweep);
    let d = Half::saturating(scale * unit);
    let m = Half::saturating(offset * unit);
    let (scale, offset) = (d.to_f32() / unit, m.to_f32() / unit);
    let codes: [u8; 32] = std::array::from_fn(|i| code((x[i] - offset) * inverse(scale), 0.0, top) as u8);
    let error = |value: &dyn Fn(usize) -> f32| (0..32).map(|i| w[i] * (x[i] - value(i)).powi(2)).sum::<f32>();
    if error(&|_| 0.0) < error(&|i| scale * f32::from(codes[i]) + offset) {
        // Numbers so small that halves cannot express the fit.
        return (Half::default(), Half::default(), [0; 32]);
    }
    (d, m, codes)
}

impl EncodeBlock for BlockQ4_1 {
    const LIMIT: f32 = MAX_HALF;

    fn encode(x: &[f32], w: &[f32], unit: f32) -> Self {
        let (d, m, codes) = encode_affine(x, w, unit, 15.0);
        BlockQ4_1 { d, m, qs: pack_nibbles(&codes) }
    }
}
