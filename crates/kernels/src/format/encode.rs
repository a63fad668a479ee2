//! Encoding: checking the values, bringing blocks to a common magnitude, and the errors.

use half::{bf16, f16};

use super::block::{Block, blocks_mut};
use super::{
    BlockIQ4_NL, BlockMXFP4, BlockQ2_K, BlockQ3_K, BlockQ4_0, BlockQ4_1, BlockQ4_K, BlockQ5_0, BlockQ5_1,
    BlockQ5_K, BlockQ6_K, BlockQ8_0, Format,
};
use crate::isa::widest;

/// Why values could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The format is only read, never written.
    #[error("{format} can be read but not written; choose another format")]
    NoEncoder {
        /// The format asked for.
        format: Format,
    },
    /// Values, bytes or weights do not fit together.
    #[error(
        "{format}: {values} values, {importance:?} importance weights and {bytes} bytes do not fit together"
    )]
    Length {
        /// The format asked for.
        format: Format,
        /// Values given.
        values: usize,
        /// Bytes of room given.
        bytes: usize,
        /// Importance weights given.
        importance: Option<usize>,
    },
    /// A value is infinite or NaN.
    #[error("value {index} is {value}; only finite numbers can be encoded")]
    NotFinite {
        /// Position among the values.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A value is finite but beyond what the format can hold.
    #[error("value {index} is {value}; {format} holds at most {limit} in magnitude")]
    TooLarge {
        /// The format asked for.
        format: Format,
        /// Position among the values.
        index: usize,
        /// The value.
        value: f32,
        /// The largest magnitude that the format surely holds.
        limit: f32,
    },
    /// An importance weight is negative, infinite or NaN.
    #[error("importance weight {index} is {weight}; weights are finite and not negative")]
    BadWeight {
        /// Position among the weights.
        index: usize,
        /// The weight.
        weight: f32,
    },
}

/// A block that can be written.
pub(super) trait EncodeBlock: Block {
    /// The largest magnitude that surely fits, given scales in half precision.
    const LIMIT: f32;

    /// Blocks that are encoded side by side.
    const GROUP: usize = 1;

    /// The [`EncodeBlock::GROUP`] blocks that minimise `Σ w (x - x̂)²`, each for itself. `x` and `w` have [`Block::LEN`] values
    /// for each, all checked; the weights of a block are scaled so that its largest is 1. Its values are divided by its unit (a power
    /// of two), so that their largest magnitude is in 1..2; or all are zero.
    fn encode(x: &[f32], w: &[f32], units: &[f32], out: &mut [Self]);
}

/// Blocks of 32 that are searched side by side: as many as the widest vectors have lanes.
pub(super) const SIDE_BY_SIDE: usize = 16;

/// The largest finite half.
pub(super) const MAX_HALF: f32 = 65_504.0;

/// Below this a whole block is zero in every format whose scale is a half: the smallest half is 6e-8.
const VANISHING: f32 = 1e-20;

impl Format {
    /// Whether [`Format::encode`] can write this format.
    pub fn can_encode(self) -> bool {
        self != Format::IQ4_XS
    }

    /// Encodes whole blocks: `values` to `out`, minimising the squared error of every block.
    ///
    /// Floating formats round to nearest, ties to even.
    ///
    /// # Errors
    /// The format has no encoder, the lengths do not fit, or a value is not finite or too large for the
    /// format. `out` is unspecified then.
    pub fn encode(self, values: &[f32], out: &mut [u8]) -> Result<(), EncodeError> {
        self.encode_weighted(values, None, out)
    }

    /// As [`Format::encode`], minimising `Σ importance * error²`.
    ///
    /// `importance` has one weight per column; `values` holds whole rows of that many columns. A column's mean squared activation is the
    /// usual choice. Where all weights of a block are zero they count as equal. Floating formats ignore the weights.
    ///
    /// # Errors
    /// As [`Format::encode`]; also a weight that is negative or not finite.
    pub fn encode_weighted(
        self,
        values: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        if !self.can_encode() {
            return Err(EncodeError::NoEncoder { format: self });
        }
        let columns = importance.map_or(values.len(), <[f32]>::len);
        let whole_rows = values.is_empty() || columns > 0 && values.len().is_multiple_of(columns);
        let whole_blocks = columns.is_multiple_of(self.block_len());
        if !whole_rows || !whole_blocks || self.row_bytes(values.len()) != Some(out.len()) {
            return Err(EncodeError::Length {
                format: self,
                values: values.len(),
                bytes: out.len(),
                importance: importance.map(<[f32]>::len),
            });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(EncodeError::NotFinite { index, value: values[index] });
        }
        let bad = |weight: &f32| !(weight.is_finite() && *weight >= 0.0);
        if let Some((index, &weight)) =
            importance.and_then(|all| all.iter().enumerate().find(|(_, w)| bad(w)))
        {
            return Err(EncodeError::BadWeight { index, weight });
        }
        match self {
            Format::F32 => encode_floats(self, f32::MAX, f32::to_le_bytes, values, out),
            Format::F16 => encode_floats(self, MAX_HALF, |v| f16::from_f32(v).to_le_bytes(), values, out),
            Format::BF16 => {
                encode_floats(self, bf16::MAX.to_f32(), |v| bf16::from_f32(v).to_le_bytes(), values, out)
            }
            Format::Q8_0 => encode_blocks::<BlockQ8_0>(values, importance, out),
            Format::Q4_0 => encode_blocks::<BlockQ4_0>(values, importance, out),
            Format::Q4_1 => encode_blocks::<BlockQ4_1>(values, importance, out),
            Format::Q5_0 => encode_blocks::<BlockQ5_0>(values, importance, out),
            Format::Q5_1 => encode_blocks::<BlockQ5_1>(values, importance, out),
            Format::Q2_K => encode_blocks::<BlockQ2_K>(values, importance, out),
            Format::Q3_K => encode_blocks::<BlockQ3_K>(values, importance, out),
            Format::Q4_K => encode_blocks::<BlockQ4_K>(values, importance, out),
            Format::Q5_K => encode_blocks::<BlockQ5_K>(values, importance, out),
            Format::Q6_K => encode_blocks::<BlockQ6_K>(values, importance, out),
            Format::IQ4_NL => encode_blocks::<BlockIQ4_NL>(values, importance, out),
            Format::MXFP4 => encode_blocks::<BlockMXFP4>(values, importance, out),
            Format::IQ4_XS => Err(EncodeError::NoEncoder { format: self }),
        }
    }
}

fn check_range(format: Format, limit: f32, values: &[f32]) -> Result<(), EncodeError> {
    match values.iter().position(|value| value.abs() > limit) {
        Some(index) => Err(EncodeError::TooLarge { format, index, value: values[index], limit }),
        None => Ok(()),
    }
}

fn encode_floats<const N: usize>(
    format: Format,
    limit: f32,
    bytes: impl Fn(f32) -> [u8; N],
    values: &[f32],
    out: &mut [u8],
) -> Result<(), EncodeError> {
    check_range(format, limit, values)?;
    for (out, &value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *out = bytes(value);
    }
    Ok(())
}

fn encode_blocks<B: EncodeBlock>(
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    check_range(B::FORMAT, B::LIMIT, values)?;
    widest(
        #[inline(always)]
        || encode_checked::<B>(values, importance, out),
    );
    Ok(())
}

#[inline(always)]
fn encode_checked<B: EncodeBlock>(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let (group, len) = (B::GROUP, B::GROUP * B::LEN);
    let (mut x, mut w, mut units) = (vec![0.0; len], vec![1.0; len], vec![1.0; group]);
    let mut made = vec![B::zeroed(); group];
    let groups = blocks_mut::<B>(out).chunks_mut(group).zip(values.chunks(len)).enumerate();
    for (number, (blocks, values)) in groups {
        x.fill(0.0);
        for (at, values) in values.chunks_exact(B::LEN).enumerate() {
            let largest = values.iter().fold(0.0f32, |max, value| max.max(value.abs()));
            if largest < VANISHING && B::FORMAT != Format::MXFP4 || largest == 0.0 {
                units[at] = 1.0;
                continue;
            }
            units[at] = power_of_two_below(largest);
            for (x, value) in x[at * B::LEN..].iter_mut().zip(values) {
                *x = value / units[at];
            }
            if let Some(importance) = importance {
                let start = (number * group + at) * B::LEN % importance.len();
                scale_weights(&importance[start..start + B::LEN], &mut w[at * B::LEN..][..B::LEN]);
            }
        }
        B::encode(&x, &w, &units, &mut made);
        for (at, block) in blocks.iter_mut().enumerate() {
            let zero = x[at * B::LEN..][..B::LEN].iter().all(|x| *x == 0.0);
            *block = if zero { B::zeroed() } else { made[at] };
        }
    }
}

/// The power of two at or below a positive finite number; the smallest normal number for subnormal ones.
fn power_of_two_below(value: f32) -> f32 {
    f32::from_bits(value.to_bits() & 0x7F80_0000).max(f32::MIN_POSITIVE)
}

/// Weights divided by their largest, or all one when they are all zero.
fn scale_weights(importance: &[f32], w: &mut [f32]) {
    let largest = importance.iter().fold(0.0f32, |max, &weight| max.max(weight));
    for (w, weight) in w.iter_mut().zip(importance) {
        *w = if largest > 0.0 { weight / largest } else { 1.0 };
    }
}

/// A slice as sub-blocks.
pub(super) fn sub_blocks<const SUBS: usize, const N: usize>(values: &[f32]) -> &[[f32; N]; SUBS] {
    values.as_chunks().0.try_into().expect("blocks are handed over whole")
}
