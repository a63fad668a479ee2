//! The scales beside codes: as a panel has them, or ready for many activation rows.
//!
//! Ready scales are whole vectors, made once for a span of columns: per block `d` and `m`, and for blocks of 256 then a
//! factor for each sub-block, a pair of minimums for each two, and a pair of scales for each two.

use super::SLAB_COLS;
use super::codes::{
    Codes, block_offset, block_scale, min_pair as packed_min_pair, narrow, scale_pair as packed_scale_pair,
    sub_scale, weighs_bias,
};
use super::rows16::Rows16;

/// Bytes of a vector, whichever the level.
const VECTOR: usize = 64;

/// Vectors beside a block of 256 with the most sub-blocks.
const MOST: usize = 2 + 2 * 16;

/// Ready scales of a span of columns.
#[repr(C, align(64))]
pub(super) struct Sides([u8; MOST * VECTOR]);

// As many blocks of 32 as a span has need less than the one block of 256.
const _: () = assert!(SLAB_COLS == 256 && SLAB_COLS / 32 * 2 <= MOST);

impl Default for Sides {
    fn default() -> Sides {
        Sides([0; MOST * VECTOR])
    }
}

impl Sides {
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

/// Bytes of a block's ready scales.
pub(super) const fn ready_bytes<C: Codes>() -> usize {
    if C::SCHEME.block == 32 { 2 * VECTOR } else { VECTOR * (2 + 2 * C::SCHEME.subs()) }
}

const D: usize = 0;
const M: usize = 1;
const FACTORS: usize = 2;

const fn mins<C: Codes>() -> usize {
    FACTORS + C::SCHEME.subs()
}

const fn pairs<C: Codes>() -> usize {
    mins::<C>() + C::SCHEME.subs() / 2
}

/// Makes the scales of `blocks` blocks at `side` ready.
///
/// # Safety
/// As [`Rows16`]; so many blocks of scales are there, and they are at most a span's.
#[inline(always)]
pub(super) unsafe fn ready<C: Codes, V: Rows16>(side: *const u8, blocks: usize, to: &mut Sides) {
    assert!(blocks * C::SCHEME.block <= SLAB_COLS && size_of::<V::Ints>() == VECTOR);
    let to = to.0.as_mut_ptr();
    for block in 0..blocks {
        // SAFETY: the caller's promise; the vectors of a span's blocks have room, and lie at 64-byte borders.
        unsafe {
            let side = side.add(block * C::SCHEME.side_bytes());
            let to = to.add(block * const { ready_bytes::<C>() });
            to.add(VECTOR * D).cast::<V::Floats>().write(block_scale::<C, V>(side));
            if C::SCHEME.offset {
                to.add(VECTOR * M).cast::<V::Floats>().write(block_offset::<C, V>(side));
            }
            if C::SCHEME.block == 32 {
                continue;
            }
            for j in 0..const { C::SCHEME.subs() } {
                to.add(VECTOR * (FACTORS + j)).cast::<V::Factors>().write(packed_factors::<C, V>(side, j));
            }
            for pair in 0..const { C::SCHEME.subs() / 2 } {
                if C::SCHEME.offset {
                    let to = to.add(VECTOR * (const { mins::<C>() } + pair));
                    to.cast::<V::Ints>().write(packed_min_pair::<C, V>(side, pair));
                }
                if const { weighs_bias::<C, V>() } {
                    let to = to.add(VECTOR * (const { pairs::<C>() } + pair));
                    to.cast::<V::Ints>().write(packed_scale_pair::<C, V>(side, pair));
                }
            }
        }
    }
}

/// # Safety
/// As [`Rows16`], and the scales of a block are at `side`.
#[inline(always)]
unsafe fn packed_factors<C: Codes, V: Rows16>(side: *const u8, j: usize) -> V::Factors {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = sub_scale::<C, V>(side, j);
        if const { narrow::<C, V>() } { V::narrow_factors(scale) } else { V::factors(scale) }
    }
}

/// The functions that read scales: `READY` ones, or those of a panel.
macro_rules! either {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident)?) -> $type:ident = $at:expr, $packed:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As [`Rows16`], and the scales of a block, which has such, are at `side`.
            #[inline(always)]
            pub(super) unsafe fn $name<C: Codes, V: Rows16, const READY: bool>(
                side: *const u8
                $(, $arg: usize)?
            ) -> V::$type {
                // SAFETY: the caller's promise.
                unsafe {
                    if READY {
                        side.add(VECTOR * ($at $(+ $arg)?)).cast::<V::$type>().read()
                    } else {
                        $packed(side $(, $arg)?)
                    }
                }
            }
        )*
    };
}

either! {
    /// `d` of the 16 rows.
    fn scale() -> Floats = D, block_scale::<C, V>;
    /// `m` or `dmin` of the 16 rows.
    fn offset() -> Floats = M, block_offset::<C, V>;
    /// The factor that sums of sub-block `j` are closed with.
    fn factors(j) -> Factors = FACTORS, packed_factors::<C, V>;
    /// Minimums of sub-blocks `2 pair` and `2 pair + 1`, as pairs of i16.
    fn min_pair(pair) -> Ints = const { mins::<C>() }, packed_min_pair::<C, V>;
    /// Scales of sub-blocks `2 pair` and `2 pair + 1`, as pairs of i16.
    fn scale_pair(pair) -> Ints = const { pairs::<C>() }, packed_scale_pair::<C, V>;
}
