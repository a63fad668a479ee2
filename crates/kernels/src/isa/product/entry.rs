//! The entry points: code that is generic over [`Rows16`], compiled once per level.

use super::codes::Codes;
use super::float::{self, Decoded};
use super::int::{self, Plain};
use super::quantise::{self, Line, Row, Side32, Side256};
#[cfg(target_arch = "x86_64")]
use super::rows16::{Avx2Rows, Rows512};
use super::rows16::{PortableRows, Rows16};
use super::sides::{self, Sides};
use super::{Inputs, Output, Panel};
use crate::isa::level::Level;
use crate::layout::Scheme;

/// Safe or not beyond the instruction set, which the level proves, is as the generic function of the same name says.
macro_rules! per_level {
    ($(fn $name:ident $(<$C:ident>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:path;)*) => {
        $(
            /// # Safety
            /// As the function that it calls, without the instruction set, which the level proves.
            pub(super) unsafe fn $name $(<$C: Codes>)? (level: Level, $($arg: $type),*) $(-> $ret)? {
                use $generic as generic;
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn avx2 $(<$C: Codes>)? ($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: the caller's promise; this function has the features.
                    unsafe { generic::<$($C,)? Avx2Rows>($($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
                unsafe fn avx512<$($C: Codes,)? const NARROW: bool>($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: the caller's promise; this function has the features.
                    unsafe { generic::<$($C,)? Rows512<NARROW>>($($arg),*) }
                }
                // SAFETY: the caller's promise; the level proves the features, and arrays need none.
                unsafe {
                    match level {
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx512(token) if token.amd() => avx512::<$($C,)? false>($($arg),*),
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx512(_) => avx512::<$($C,)? true>($($arg),*),
                        #[cfg(target_arch = "x86_64")]
                        Level::Avx2(_) => avx2 $(::<$C>)? ($($arg),*),
                        _ => generic::<$($C,)? PortableRows>($($arg),*),
                    }
                }
            }
        )*
    };
}

per_level! {
    fn stream<C>(panel: &Panel<'_>, x: &Inputs<'_>, tile: usize, ask: bool, out: &Output<'_>) = streamed;
    fn unpack<C>(panel: &Panel<'_>, first: usize, cols: usize, to: &mut [u8]) -> i32 = unpacked;
    fn sides<C>(side: *const u8, blocks: usize, to: &mut Sides) = sides::ready;
    fn int_slab<C>(
        plain: &Plain,
        sides: &Sides,
        x: &Inputs<'_>,
        tile: usize,
        slab: &mut [[f32; 16]],
    ) = int::slab;
    fn put(slabs: &[&[[f32; 16]]], first_row: usize, first: usize, out: &Output<'_>) = int::put;
    fn widen(panel: &Panel<'_>, first: usize, cols: usize, to: &mut Decoded) = float::widen;
    fn decode(panel: &Panel<'_>, scheme: &Scheme, plain: &Plain, to: &mut Decoded) = float::decode;
    fn float_slab(
        weights: *const f32,
        x: *const f32,
        stride: usize,
        cols: usize,
        slab: &mut [[f32; 16]],
    ) = float::slab;
    fn row32(x: &[f32], lines: Row<Line>, sides: Row<Side32>) = quantise::row32;
    fn row256(x: &[f32], lines: Row<Line>, sides: Row<Side256>) = quantise::row256;
}

/// [`int::stream`], where the level has one: nothing is compiled for the others.
#[inline(always)]
unsafe fn streamed<C: Codes, V: Rows16>(
    panel: &Panel<'_>,
    x: &Inputs<'_>,
    tile: usize,
    ask: bool,
    out: &Output<'_>,
) {
    if V::STREAM > 0 {
        // SAFETY: the caller's promise.
        unsafe { int::stream::<C, V>(panel, x, tile, ask, out) }
    } else {
        unreachable!("this level streams nothing")
    }
}

#[inline(always)]
unsafe fn unpacked<C: Codes, V: Rows16>(panel: &Panel<'_>, first: usize, cols: usize, to: &mut [u8]) -> i32 {
    assert!(to.len() >= 16 * cols, "room for {cols} columns");
    // SAFETY: the caller's promise: the panel has these columns, all in one span; the room is checked.
    unsafe {
        let (from, _) = panel.at(&C::SCHEME, first);
        int::unpack::<C, V>(from, cols / 32, to.as_mut_ptr())
    }
}
