//! What every block struct shares: the view of file bytes as blocks, and the half-precision field.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::Format;

/// An IEEE half-precision number as it lies in a file: little endian, no alignment.
///
/// Every field of every block has alignment 1, so that any byte slice of the right length can be viewed as
/// blocks, wherever in a file it starts.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Half(pub [u8; 2]);

impl Half {
    /// The value; exact.
    #[inline]
    pub fn to_f32(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }

    /// The nearest half to `value`, saturating at the largest finite half: a scale must never become infinite.
    #[inline]
    pub fn saturating(value: f32) -> Half {
        let max = f16::MAX.to_f32();
        Half(f16::from_f32(value.clamp(-max, max)).to_le_bytes())
    }
}

/// One block of a format: plain bytes that decode to [`Block::LEN`] values.
pub trait Block: Pod {
    /// The format that this block belongs to.
    const FORMAT: Format;
    /// Values in a block.
    const LEN: usize;

    /// Decodes into `out`, which has [`Block::LEN`] places. Any bytes decode: scales may be infinite or NaN,
    /// and then so are the values.
    fn decode(&self, out: &mut [f32]);
}

/// File bytes as blocks.
///
/// # Panics
/// When `bytes` is not a whole number of blocks.
pub fn blocks<B: Block>(bytes: &[u8]) -> &[B] {
    bytemuck::cast_slice(bytes)
}

/// File bytes as blocks that can be written.
///
/// # Panics
/// When `bytes` is not a whole number of blocks.
pub fn blocks_mut<B: Block>(bytes: &mut [u8]) -> &mut [B] {
    bytemuck::cast_slice_mut(bytes)
}

pub(super) fn decode_blocks<B: Block>(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in blocks::<B>(bytes).iter().zip(out.chunks_exact_mut(B::LEN)) {
        block.decode(out);
    }
}
