//! Q4_0: 32 nibbles and one scale. `value = d * (q - 8)`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, SIDE_BY_SIDE, sub_blocks};
use super::search::{Group, Range, Sweep, code, inverse, symmetric};

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

/// Two lists of 16 nibbles as 16 bytes: the first list in the low nibbles.
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| (codes[j] & 15) | codes[j + 16] << 4)
}

/// Scales of blocks of 32 with codes from `lo` to `-lo - 1`, and the codes less `lo`, as `block` makes a block of them.
#[inline(always)]
pub(super) fn encode_symmetric<B>(
    (x, w): (&[f32], &[f32]),
    units: &[f32],
    lo: f32,
    out: &mut [B],
    block: impl Fn(Half, &[u8; 32]) -> B,
) {
    let range = Range { lo, hi: -lo - 1.0 };
    let (x, w) = (sub_blocks::<SIDE_BY_SIDE, 32>(x), sub_blocks(w));
    let scales = symmetric(&Group::new(x, w), range, Sweep { steps: 10, step: 0.15 });
    for (l, (out, x)) in out.iter_mut().zip(x).enumerate() {
        let d = Half::saturating(units[l] * scales[l]);
        let inverse = inverse(d.to_f32() / units[l]);
        *out = block(d, &x.map(|x| (code(x * inverse, range.lo, range.hi) - lo) as u8));
    }
}

impl EncodeBlock for BlockQ4_0 {
    const LIMIT: f32 = 7.0 * MAX_HALF;
    const GROUP: usize = SIDE_BY_SIDE;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        encode_symmetric((x, w), units, -8.0, out, |d, codes| BlockQ4_0 { d, qs: pack_nibbles(codes) });
    }
}
