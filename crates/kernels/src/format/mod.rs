//! Block formats: how a row of weights lies in a file. Bit-compatible with GGUF.
//!
//! A *block* is the smallest unit a format can encode: [`Format::block_len`] values in
//! [`Format::block_bytes`] bytes. A row is a whole number of blocks.

mod block;
mod encode;
mod float;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod mxfp4;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
mod search;

pub use block::{Block, Half, blocks, blocks_mut};
pub use encode::EncodeError;
pub use iq4_nl::{BlockIQ4_NL, KVALUES_IQ4NL};
pub use iq4_xs::BlockIQ4_XS;
pub use mxfp4::{BlockMXFP4, KVALUES_MXFP4};
pub use q2_k::BlockQ2_K;
pub use q3_k::BlockQ3_K;
pub use q4_0::BlockQ4_0;
pub use q4_1::BlockQ4_1;
pub use q4_k::BlockQ4_K;
pub use q5_0::BlockQ5_0;
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5_K;
pub use q6_k::BlockQ6_K;
pub use q8_0::BlockQ8_0;

use block::decode_blocks;

/// A storage format of a weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    MXFP4,
}

impl Format {
    /// Every format, in a fixed order.
    pub const ALL: [Format; 16] = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q8_0,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::IQ4_NL,
        Format::IQ4_XS,
        Format::MXFP4,
    ];

    /// The name the GGUF world uses, for example `Q4_K`.
    pub fn name(self) -> &'static str {
        self.spec().0
    }

    /// Values per block.
    pub fn block_len(self) -> usize {
        self.spec().1
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.spec().2
    }

    /// Bytes of a row of `cols` values; `None` when `cols` is not a whole number of blocks or overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Decodes whole blocks: `bytes` to `out`, one value per place.
    ///
    /// Any bytes decode without a panic; a scale that is infinite or NaN gives values that are.
    ///
    /// # Panics
    /// When `bytes` is not exactly the blocks of `out.len()` values.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(Some(bytes.len()), self.row_bytes(out.len()), "{self}: bytes for {} values", out.len());
        match self {
            Format::F32 => float::decode_f32(bytes, out),
            Format::F16 => float::decode_f16(bytes, out),
            Format::BF16 => float::decode_bf16(bytes, out),
            Format::Q8_0 => decode_blocks::<BlockQ8_0>(bytes, out),
            Format::Q4_0 => decode_blocks::<BlockQ4_0>(bytes, out),
            Format::Q4_1 => decode_blocks::<BlockQ4_1>(bytes, out),
            Format::Q5_0 => decode_blocks::<BlockQ5_0>(bytes, out),
            Format::Q5_1 => decode_blocks::<BlockQ5_1>(bytes, out),
            Format::Q2_K => decode_blocks::<BlockQ2_K>(bytes, out),
            Format::Q3_K => decode_blocks::<BlockQ3_K>(bytes, out),
            Format::Q4_K => decode_blocks::<BlockQ4_K>(bytes, out),
            Format::Q5_K => decode_blocks::<BlockQ5_K>(bytes, out),
            Format::Q6_K => decode_blocks::<BlockQ6_K>(bytes, out),
            Format::IQ4_NL => decode_blocks::<BlockIQ4_NL>(bytes, out),
            Format::IQ4_XS => decode_blocks::<BlockIQ4_XS>(bytes, out),
            Format::MXFP4 => decode_blocks::<BlockMXFP4>(bytes, out),
        }
    }

    /// The tensor type number that GGUF files use.
    pub fn ggml_id(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q4_1 => 3,
            Format::Q5_0 => 6,
            Format::Q5_1 => 7,
            Format::Q8_0 => 8,
            Format::Q2_K => 10,
            Format::Q3_K => 11,
            Format::Q4_K => 12,
            Format::Q5_K => 13,
            Format::Q6_K => 14,
            Format::IQ4_NL => 20,
            Format::IQ4_XS => 23,
            Format::BF16 => 30,
            Format::MXFP4 => 39,
        }
    }

    /// The format with a GGUF tensor type number; `None` for the ones that are not supported.
    pub fn from_ggml(id: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.ggml_id() == id)
    }

    /// The format called `name`, in any mix of upper and lower case.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    fn spec(self) -> (&'static str, usize, usize) {
        match self {
            Format::F32 => ("F32", 1, 4),
            Format::F16 => ("F16", 1, 2),
            Format::BF16 => ("BF16", 1, 2),
            Format::Q8_0 => ("Q8_0", 32, 34),
            Format::Q4_0 => ("Q4_0", 32, 18),
            Format::Q4_1 => ("Q4_1", 32, 20),
            Format::Q5_0 => ("Q5_0", 32, 22),
            Format::Q5_1 => ("Q5_1", 32, 24),
            Format::Q2_K => ("Q2_K", 256, 84),
            Format::Q3_K => ("Q3_K", 256, 110),
            Format::Q4_K => ("Q4_K", 256, 144),
            Format::Q5_K => ("Q5_K", 256, 176),
            Format::Q6_K => ("Q6_K", 256, 210),
            Format::IQ4_NL => ("IQ4_NL", 32, 18),
            Format::IQ4_XS => ("IQ4_XS", 256, 136),
            Format::MXFP4 => ("MXFP4", 32, 17),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
