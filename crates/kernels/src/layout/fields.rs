//! The fields of one block, whatever order its format stores them in.

use crate::Format;
use crate::format::*;

use super::scheme::{Scheme, SubScales};

/// The fields of a block as its format stores them, in value order.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    /// Codes before bias or table; two's complement for 8-bit codes. 32 or 256 are in use.
    pub(crate) codes: [u8; 256],
    /// Bits of `d`: half precision, or the exponent.
    pub(crate) d: [u8; 2],
    /// Bits of `m` or `dmin`.
    pub(crate) m: [u8; 2],
    /// Sub-scales, with any bias already taken off.
    pub(crate) scales: [u8; 16],
    /// Minimums.
    pub(crate) mins: [u8; 16],
}

impl Default for Fields {
    fn default() -> Fields {
        Fields { codes: [0; 256], d: [0; 2], m: [0; 2], scales: [0; 16], mins: [0; 16] }
    }
}

impl Fields {
    /// Reads block `index` of `bytes`.
    ///
    /// # Panics
    /// If `format` is a float format or there is no such block.
    #[inline(always)]
    pub(crate) fn read(&mut self, format: Format, bytes: &[u8], index: usize) {
        let biased = |codes: &mut [u8], from: &[i8], bias: u8| {
            codes.iter_mut().zip(from).for_each(|(code, &q)| *code = (q as u8).wrapping_add(bias));
        };
        match format {
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("{format} has no blocks"),
            Format::Q8_0 => {
                let block = &blocks::<BlockQ8_0>(bytes)[index];
                biased(&mut self.codes, &block.qs, 0);
                self.d = block.d.0;
            }
            Format::Q4_0 => {
                let block = &blocks::<BlockQ4_0>(bytes)[index];
                self.halves(&block.qs);
                self.d = block.d.0;
            }
            Format::Q4_1 => {
                let block = &blocks::<BlockQ4_1>(bytes)[index];
                self.halves(&block.qs);
                (self.d, self.m) = (block.d.0, block.m.0);
            }
            Format::Q5_0 => {
                let block = &blocks::<BlockQ5_0>(bytes)[index];
                biased(&mut self.codes, &block.codes(), 16);
                self.d = block.d.0;
            }
            Format::Q5_1 => {
                let block = &blocks::<BlockQ5_1>(bytes)[index];
                self.codes[..32].copy_from_slice(&block.codes());
                (self.d, self.m) = (block.d.0, block.m.0);
            }
            Format::IQ4_NL => {
                let block = &blocks::<BlockIQ4_NL>(bytes)[index];
                self.halves(&block.qs);
                self.d = block.d.0;
            }
            Format::MXFP4 => {
                let block = &blocks::<BlockMXFP4>(bytes)[index];
                self.halves(&block.qs);
                self.d = [block.e, 0];
            }
            Format::Q2_K => {
                let block = &blocks::<BlockQ2_K>(bytes)[index];
                self.codes = block.codes();
                (self.d, self.m) = (block.d.0, block.dmin.0);
                self.scales = block.scales.map(|byte| byte & 15);
                self.mins = block.scales.map(|byte| byte >> 4);
            }
            Format::Q3_K => {
                let block = &blocks::<BlockQ3_K>(bytes)[index];
                biased(&mut self.codes, &block.codes(), 4);
                self.d = block.d.0;
                self.scales = std::array::from_fn(|j| q3_k::scale(&block.scales, j) as u8);
            }
            Format::Q4_K => {
                let block = &blocks::<BlockQ4_K>(bytes)[index];
                self.codes = block.codes();
                (self.d, self.m) = (block.d.0, block.dmin.0);
                self.six_bits(&block.scales);
            }
            Format::Q5_K => {
                let block = &blocks::<BlockQ5_K>(bytes)[index];
                self.codes = block.codes();
                (self.d, self.m) = (block.d.0, block.dmin.0);
                self.six_bits(&block.scales);
            }
            Format::Q6_K => {
                let block = &blocks::<BlockQ6_K>(bytes)[index];
                biased(&mut self.codes, &block.codes(), 32);
                self.d = block.d.0;
                self.scales = block.scales.map(|scale| scale as u8);
            }
            Format::IQ4_XS => {
                let block = &blocks::<BlockIQ4_XS>(bytes)[index];
                for (codes, qs) in self.codes.chunks_exact_mut(32).zip(block.qs.chunks_exact(16)) {
                    nibbles(codes, qs);
                }
                self.d = block.d.0;
                (0..8).for_each(|j| self.scales[j] = block.scale(j) as u8);
            }
        }
    }

    #[inline(always)]
    fn halves(&mut self, qs: &[u8; 16]) {
        nibbles(&mut self.codes[..32], qs);
    }

    #[inline(always)]
    fn six_bits(&mut self, scales: &[u8; 12]) {
        for j in 0..8 {
            (self.scales[j], self.mins[j]) = q4_k::scale_min(scales, j);
        }
    }

    /// The values, by the format's own arithmetic: every step rounds as it does in [`Format::decode`].
    pub(crate) fn values(&self, scheme: &Scheme, out: &mut [f32]) {
        let d = if scheme.power { mxfp4::half_scale(self.d[0]) } else { Half(self.d).to_f32() };
        let m = Half(self.m).to_f32();
        for (j, (out, codes)) in
            out.chunks_exact_mut(scheme.sub).zip(self.codes.chunks(scheme.sub)).enumerate()
        {
            let scale = match scheme.scales {
                SubScales::None => d,
                SubScales::Signed => d * f32::from(self.scales[j] as i8),
                SubScales::Unsigned | SubScales::Nibbles => d * f32::from(self.scales[j]),
            };
            for (out, &code) in out.iter_mut().zip(codes) {
                let code = match scheme.table {
                    Some(table) => i32::from(table[usize::from(code)]),
                    None if scheme.bits == 8 => i32::from(code as i8),
                    None => i32::from(code) - scheme.bias,
                };
                *out = scale * code as f32;
                if scheme.offset {
                    let min = m * f32::from(self.mins[j]);
                    *out = if scheme.block == 32 { *out + m } else { *out - min };
                }
            }
        }
    }
}

#[inline(always)]
fn nibbles(codes: &mut [u8], qs: &[u8]) {
    let (low, high) = codes.split_at_mut(16);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(qs) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}
