//! IQ4_NL: 32 nibbles that index a fixed uneven table, and one scale. `value = d * KVALUES_IQ4NL[q]`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::{Block, Half};
use super::encode::{EncodeBlock, MAX_HALF};
use super::q4_0::pack_nibbles;
use super::search::inverse;

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

/// Code of the level nearest to `v`.
fn nearest_level(v: f32) -> usize {
    let mut index = 0;
    for pair in KVALUES_IQ4NL.windows(2) {
        // The border between two levels is half way; doubled, it is an integer.
        index += usize::from(2.0 * v > f32::from(i16::from(pair[0]) + i16::from(pair[1])));
    }
    index
}

impl EncodeBlock for BlockIQ4_NL {
    const LIMIT: f32 = 113.0 * MAX_HALF;

    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        let unit = units[0];
        let max = x.iter().fold(0.0f32, |max, &v| if v.abs() > max.abs() { v } else { max });
        let fit = |inverse: f32| {
            let (mut xq, mut qq) = (0.0, 0.0);
            for (x, w) in x.iter().zip(w) {
                let q = f32::from(KVALUES_IQ4NL[nearest_level(x * inverse)]);
                xq += w * x * q;
                qq += w * q * q;
            }
            // With the best scale the error is Σ w x² - xq² / qq.
            if qq > 0.0 { (xq / qq, xq * xq / qq) } else { (0.0, 0.0) }
        };
        let (mut scale, mut most) = (0.0, -1.0);
        for end in [-127.0, 113.0] {
            for offset in -8..=8i16 {
                let (candidate, gain) = fit((end + 2.5 * f32::from(offset)) / max);
                if gain > most {
                    (scale, most) = (candidate, gain);
                }
            }
        }
        let (refined, gain) = fit(inverse(scale));
        let d = Half::saturating(unit * if gain > most { refined } else { scale });
        let inverse = inverse(d.to_f32() / unit);
        let codes = std::array::from_fn(|i| nearest_level(x[i] * inverse) as u8);
        out[0] = BlockIQ4_NL { d, qs: pack_nibbles(&codes) };
    }
}
