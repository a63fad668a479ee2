//! Q8_0: 32 signed bytes and one scale. `value = d * q`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF, SIDE_BY_SIDE, sub_blocks};
use super::search::{Group, Range, Sweep, code, inverse, symmetric};

/// 32 values in 34 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: Half,
    /// Codes, in order.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34 && align_of::<BlockQ8_0>() == 1);

impl Block for BlockQ8_0 {
    const FORMAT: Format = Format::Q8_0;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (out, &q) in out.iter_mut().zip(&self.qs) {
            *out = f32::from(q) * d;
        }
    }
}

impl EncodeBlock for BlockQ8_0 {
    const LIMIT: f32 = 127.0 * MAX_HALF;
    const GROUP: usize = SIDE_BY_SIDE;

    /// Codes stay in -127..=127: kernels take absolute values of them.
    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        let range = Range { lo: -127.0, hi: 127.0 };
        let (x, w) = (sub_blocks::<SIDE_BY_SIDE, 32>(x), sub_blocks(w));
        let scales = symmetric(&Group::new(x, w), range, Sweep { steps: 4, step: 0.5 });
        for (l, (out, x)) in out.iter_mut().zip(x).enumerate() {
            let d = Half::saturating(units[l] * scales[l]);
            let inverse = inverse(d.to_f32() / units[l]);
            *out = BlockQ8_0 { d, qs: x.map(|x| code(x * inverse, range.lo, range.hi) as i8) };
        }
    }
}
