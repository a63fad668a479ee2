//! MXFP4: 32 numbers of E2M1 under one power-of-two scale (OCP Microscaling formats, version 1.0).
//! `value = 2^(e - 127) * e2m1(q)`.

use bytemuck::{Pod, Zeroable};

use super::Format;
use super::block::Block;
use super::encode::EncodeBlock;
use super::iq4_nl::table_codes;
use super::q4_0::pack_nibbles;

/// Twice the value of each E2M1 code, so that every entry is an integer; the sign is bit 3.
pub const KVALUES_MXFP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 values in 17 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockMXFP4 {
    /// Exponent of the scale `2^(e - 127)` (E8M0). See [`half_scale`].
    pub e: u8,
    /// Byte `j` holds value `j` in its low nibble and value `j + 16` in its high nibble.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockMXFP4>() == 17 && align_of::<BlockMXFP4>() == 1);

/// Half the scale, `2^(e - 128)`, exactly; it goes with the doubled table [`KVALUES_MXFP4`].
///
/// For `e` of 0 and 1 it is subnormal. 255, which the specification calls NaN, continues the
/// powers of two, as in ggml: no encoder writes it.
#[inline]
pub fn half_scale(e: u8) -> f32 {
    let bits = if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 };
    f32::from_bits(bits)
}

impl BlockMXFP4 {
    /// The doubled table values of the codes, in value order.
    #[inline]
    pub fn codes(&self) -> [i8; 32] {
        table_codes(&self.qs, &KVALUES_MXFP4)
    }

    /// Half the scale of this block; see [`half_scale`].
    #[inline]
    pub fn half_scale(&self) -> f32 {
        half_scale(self.e)
    }
}

impl Block for BlockMXFP4 {
    const FORMAT: Format = Format::MXFP4;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = self.half_scale();
        for (out, q) in out.iter_mut().zip(self.codes()) {
            *out = f32::from(q) * d;
        }
    }
}

/// Code of the E2M1 number nearest to `v / 2`; the table is in halves.
fn nearest_code(v: f32) -> u8 {
    let mut index = 0;
    for pair in KVALUES_MXFP4[..8].windows(2) {
        index += u8::from(2.0 * v.abs() > f32::from(pair[0] + pair[1]));
    }
    // No negative zero: its code decodes to the same value and compresses worse.
    if v < 0.0 && index > 0 { index + 8 } else { index }
}

impl EncodeBlock for BlockMXFP4 {
    const LIMIT: f32 = f32::MAX;

    /// The scale is a power of two: the one that just holds the largest value, or a neighbour with less error.
    #[inline(always)]
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]) {
        let unit = units[0];
        let exponent = i32::from((unit.to_bits() >> 23) as u8);
        let mut best = (f64::INFINITY, BlockMXFP4 { e: 0, qs: [0; 16] });
        // The largest magnitude is 1..2 units; 6 is the largest number, so that the scale is near a quarter unit.
        for e in exponent - 4..=exponent {
            let e = e.clamp(0, 254) as u8;
            // In f64: with subnormal scales the quotients leave the range of f32.
            let scale = f64::from(half_scale(e)) / f64::from(unit);
            let mut codes = [0; 32];
            let mut error = 0.0;
            for ((code, &x), &w) in codes.iter_mut().zip(x).zip(w) {
                *code = nearest_code((f64::from(x) / scale).clamp(-32.0, 32.0) as f32);
                let decoded = f64::from(KVALUES_MXFP4[usize::from(*code)]) * scale;
                error += f64::from(w) * (f64::from(x) - decoded) * (f64::from(x) - decoded);
            }
            if error < best.0 {
                best = (error, BlockMXFP4 { e, qs: pack_nibbles(&codes) });
            }
        }
        out[0] = best.1;
    }
}
