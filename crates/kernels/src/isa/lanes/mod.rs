//! Vectors of f32: what an instruction set must offer so that attention and row operations are written once.
//!
//! The generic code over [`Lanes`] is always inlined into one entry point per level that carries the
//! `#[target_feature]`; calling a method anywhere else would be slow or, on a CPU without the level, undefined.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::F32x8;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::{Bf16x32, F32x16, dot_words};
pub(super) use math::{exp, exp_down, largest, load_part, magnitude, map, store_part, sum, tanh};
pub(super) use portable::P32x8;

/// A vector of `N` f32.
///
/// # Safety
/// Every method needs the CPU to offer the implementor's instruction set; loads and stores need as many valid
/// elements behind the pointer as they touch (no alignment is needed).
pub(super) trait Lanes: Copy {
    /// Numbers in the vector: 8 or 16.
    const N: usize;
    /// Query rows of the largest register tile (each takes two vectors).
    const ROWS: usize;
    /// As many pairs of 16-bit integers, or sums of their products.
    type Pairs: Pairs<Self>;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Loads `N` half-precision numbers.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// Stores `N` half-precision numbers, rounded to nearest even; beyond 65,504 that number.
    unsafe fn store_f16(self, to: *mut u16);
    /// Stores `2 N` numbers, rounded to nearest even; all magnitudes below 2^15.
    unsafe fn store_two_i16(first: Self, second: Self, to: *mut i16);
    /// Loads the firsts (`side` 0) or the seconds (1) of `N` pairs of bf16.
    unsafe fn load_bf16_half(from: *const u32, side: usize) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + addend`.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;
    /// The larger; `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller; `other` where either is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// `yes` where `self < other`, else `no`.
    unsafe fn select_lt(self, other: Self, yes: Self, no: Self) -> Self;
    /// The nearest whole number, ties to even; |self| below 2^22.
    unsafe fn round(self) -> Self;
    /// Two to the power of a whole number in -126..=127.
    unsafe fn exp2_whole(self) -> Self;
    /// Asks for the cache line at an address, which need not be valid.
    unsafe fn prefetch(_address: *const u8) {}
    /// The same, into the second-level cache: more of these can be under way.
    #[inline(always)]
    unsafe fn prefetch_far(_address: *const u8) {}
}

/// A vector of `N` 32-bit words: pairs of 16-bit integers, or sums of products of such.
///
/// # Safety
/// As [`Lanes`].
pub(super) trait Pairs<L>: Copy {
    unsafe fn zero() -> Self;
    /// The same pair `N` times.
    unsafe fn splat(pair: u32) -> Self;
    /// Loads `N` pairs.
    unsafe fn load(from: *const i16) -> Self;
    /// Loads `N` pairs of bytes and widens them.
    unsafe fn load_bytes(from: *const i8) -> Self;
    /// `sum` plus the products of both halves of every pair; sums must stay inside 32 bits.
    unsafe fn dot(self, other: Self, sum: Self) -> Self;
    /// Sums as f32.
    unsafe fn to_floats(self) -> L;
}
