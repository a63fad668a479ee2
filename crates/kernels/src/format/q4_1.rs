//! Q4_1: 32 nibbles, a scale and an offset. `value = d * q + m`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, SIDE_BY_SIDE, sub_blocks};
use super::q4_0::pack_nibbles;
use super::search::{Group, Sweep, affine, code, inverse};

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

/// Scales, offsets and codes of blocks of 32 with a scale and an offset each, as `block` makes a block of them.
#[inline(always)]
pub(super) fn encode_affine<B>(
    (x, w): (&[f32], &[f32]),
    units: &[f32],
    top: f32,
    out: &mut [B],
    block: impl Fn(Half, Half, &[u8; 32]) -> B,
) {
    let (x, w) = (sub_blocks::<SIDE_BY_SIDE, 32>(x), sub_blocks::<SIDE_BY_SIDE, 32>(w));
    let sweep = Sweep { steps: 10, step: 0.15 };
    let (scales, offsets) = affine(&Group::new(x, w), top, f32::INFINITY, sweep);
    for (l, out) in out.iter_mut().enumerate() {
        let (x, w, unit) = (&x[l], &w[l], units[l]);
        let (d, m) = (Half::saturating(scales[l] * unit), Half::saturating(offsets[l] * unit));
        let (scale, offset) = (d.to_f32() / unit, m.to_f32() / unit);
        let codes = x.map(|x| code((x - offset) * inverse(scale), 0.0, top) as u8);
        let error = |value: &dyn Fn(usize) -> f32| -> f32 {
            (0..32).map(|i| w[i] * (x[i] - value(i)) * (x[i] - value(i))).sum()
        };
        // Numbers so small that halves cannot express the fit are zero.
        let lost = error(&|_| 0.0) < error(&|i| scale * f32::from(codes[i]) + offset);
        *out = if lost { block(Half::default(), Half::default(), &[0; 32]) } else { block(d, m, &codes) };
    }
}

impl EncodeBlock for BlockQ4_1 {
    const LIMIT: f32 = MAX_HALF;
    const GROUP: usize = SIDE_BY_SIDE;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        encode_affine((x, w), units, 15.0, out, |d, m, codes| BlockQ4_1 { d, m, qs: pack_nibbles(codes) });
    }
}
