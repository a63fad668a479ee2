//! What an instruction set must offer so that products are written once: vectors with a place for each of the 16
//! rows of a panel.
//!
//! The generic code over [`Rows16`] is always inlined into one entry point per level that carries the
//! `#[target_feature]`; calling a method anywhere else would be slow or, on a CPU without the level, undefined.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2Rows;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Rows512;
pub(crate) use portable::PortableRows;

/// Vectors over the 16 rows of a panel.
///
/// # Safety
/// Every method needs the CPU to offer the implementor's instruction set; loads and stores need as many valid
/// elements behind the pointer as they touch (no alignment is needed).
pub(crate) trait Rows16: Copy {
    /// Four bytes of each row.
    type Bytes: Copy;
    /// One i32 of each row.
    type Ints: Copy;
    /// A sum under way of each row, which may be narrower than an i32.
    type Sums: Copy;
    /// A factor of each row, as [`Rows16::close_scaled`] and [`Rows16::close_narrow`] take it.
    type Factors: Copy;
    /// One f32 of each row.
    type Floats: Copy;

    /// Activation rows of the largest register tile.
    const TILE: usize;
    /// The largest magnitude that a sum under way can have.
    const ROOM: i32;
    /// Products that a lane of a sum under way takes from each group.
    const PRODUCTS: i32;
    /// Whether [`Rows16::open`] begins at the number that it is given, and not at zero.
    const OPENS: bool;
    /// Whether [`Rows16::close_narrow`] is faster than [`Rows16::close_scaled`].
    const CLOSES_NARROW: bool;
    /// Activation rows that a stream takes at once; more than these take slabs. 0: all take slabs.
    const STREAM: usize;
    /// What [`Rows16::dot_wide`] has added to every code that [`Rows16::wide`] or a table gave it.
    const WIDE_BIAS: i32;

    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    unsafe fn store_bytes(bytes: Self::Bytes, to: *mut u8);
    /// `(bytes >> SHIFT) & mask` in every byte; the mask has no more than `8 - SHIFT` low bits.
    unsafe fn bits<const SHIFT: u32>(bytes: Self::Bytes, mask: u8) -> Self::Bytes;
    /// `bytes + lift` in every byte, where that overflows nowhere.
    unsafe fn lift(bytes: Self::Bytes, lift: u8) -> Self::Bytes;
    /// `low | bits(bytes) << LEFT`.
    unsafe fn join<const LEFT: u32>(low: Self::Bytes, high: Self::Bytes) -> Self::Bytes;
    /// Table values of 4-bit codes, as signed bytes.
    unsafe fn look_up(table: &[i8; 16], codes: Self::Bytes) -> Self::Bytes;
    /// Signed bytes made ready for [`Rows16::dot_wide`].
    unsafe fn wide(signed: Self::Bytes) -> Self::Bytes;

    /// Begins sums, at `total` ([`Rows16::OPENS`]) or at zero; before [`Rows16::close`], what `total` is.
    unsafe fn open(total: Self::Ints) -> Self::Sums;
    /// `sums` plus the dot product of each row's four codes (0..=63) with the four signed bytes at `x`.
    unsafe fn dot(sums: Self::Sums, codes: Self::Bytes, x: *const i8) -> Self::Sums;
    /// The same for codes from [`Rows16::wide`].
    unsafe fn dot_wide(sums: Self::Sums, codes: Self::Bytes, x: *const i8) -> Self::Sums;
    /// `total` plus sums that were opened with it.
    unsafe fn close(total: Self::Ints, sums: Self::Sums) -> Self::Ints;
    /// `total` plus `factors` times sums.
    unsafe fn close_scaled(total: Self::Ints, sums: Self::Sums, factors: Self::Factors) -> Self::Ints;
    /// The same for sums that fit an i16.
    unsafe fn close_narrow(total: Self::Ints, sums: Self::Sums, factors: Self::Factors) -> Self::Ints;
    /// Numbers of at most 15 bits and a sign, as factors for [`Rows16::close_scaled`].
    unsafe fn factors(x: Self::Ints) -> Self::Factors;
    /// The same for [`Rows16::close_narrow`].
    unsafe fn narrow_factors(x: Self::Ints) -> Self::Factors;
    /// `sum` plus the product of each row's pair of i16 with the pair at `x`.
    unsafe fn dot_pairs(sum: Self::Ints, pairs: Self::Ints, x: *const i16) -> Self::Ints;

    unsafe fn splat(x: i32) -> Self::Ints;
    /// 16 unsigned bytes, one per row.
    unsafe fn unsigned(from: *const u8) -> Self::Ints;
    /// 16 signed bytes, one per row.
    unsafe fn signed(from: *const u8) -> Self::Ints;
    /// 16 pairs of unsigned bytes, as pairs of i16.
    unsafe fn unsigned_pairs(from: *const u8) -> Self::Ints;
    /// `(x >> RIGHT) & mask`, without sign.
    unsafe fn field<const RIGHT: u32>(x: Self::Ints, mask: u32) -> Self::Ints;
    /// Nibbles of a byte (low first) as a pair of i16.
    unsafe fn nibble_pairs(x: Self::Ints) -> Self::Ints;
    unsafe fn sub_ints(x: Self::Ints, y: Self::Ints) -> Self::Ints;
    /// Pairs of i16: of `low` and of `high`, both within 16 bits with their sign.
    unsafe fn pairs(low: Self::Ints, high: Self::Ints) -> Self::Ints;
    /// `sum + x * y`.
    unsafe fn mul_add(sum: Self::Ints, x: Self::Ints, y: Self::Ints) -> Self::Ints;

    unsafe fn to_floats(x: Self::Ints) -> Self::Floats;
    unsafe fn splat_float(x: f32) -> Self::Floats;
    unsafe fn floats(from: *const f32) -> Self::Floats;
    unsafe fn store(x: Self::Floats, to: *mut f32);
    /// 16 half-precision numbers.
    unsafe fn halves(from: *const u8) -> Self::Floats;
    /// 16 powers of two, `2^(e - 128)`.
    unsafe fn powers(from: *const u8) -> Self::Floats;
    /// 16 pairs of bf16: the firsts and the seconds.
    unsafe fn bf16_pairs(from: *const u8) -> (Self::Floats, Self::Floats);
    unsafe fn mul(x: Self::Floats, y: Self::Floats) -> Self::Floats;
    unsafe fn add(x: Self::Floats, y: Self::Floats) -> Self::Floats;
    unsafe fn sub(x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// `sum + x * y`, rounded once.
    unsafe fn fma(x: Self::Floats, y: Self::Floats, sum: Self::Floats) -> Self::Floats;
    /// `sum - x * y`, rounded once.
    unsafe fn fnma(x: Self::Floats, y: Self::Floats, sum: Self::Floats) -> Self::Floats;
    /// Sums of four consecutive of the 16 signed bytes at `from`.
    unsafe fn quads(from: *const i8) -> [i32; 4];
    /// Bytes as ints, a byte of each row: byte `BYTE` of its four, sign-extended or not.
    unsafe fn byte_of<const BYTE: u32>(bytes: Self::Bytes, signed: bool) -> Self::Ints;

    /// Asks for the cache line at `at`, which need not be valid memory.
    unsafe fn prefetch(at: *const u8);
    /// The same, into the second-level cache: more of these can be under way.
    unsafe fn prefetch_far(at: *const u8);
    /// The same for a line that will be written.
    unsafe fn prefetch_to_write(at: *const u8);
}

/// Defines the methods of an implementation: always inlined, their bodies unsafe by the trait's contract.
macro_rules! methods {
    ($(fn $name:ident $(<const $N:ident: u32>)? ($($arg:ident: $type:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            #[inline(always)]
            unsafe fn $name $(<const $N: u32>)? ($($arg: $type),*) $(-> $ret)? {
                // SAFETY: the trait's contract: the caller has the instruction set and valid pointers.
                #[allow(unused_unsafe)]
                unsafe { $body }
            }
        )*
    };
}
use methods;
