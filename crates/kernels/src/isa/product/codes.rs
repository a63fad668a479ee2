//! From packed codes to byte vectors, for every width; and the scales beside them.

use super::quantise::OPENING_BIAS_256;
use super::rows16::Rows16;
use crate::Format;
use crate::layout::{Scheme, SubScales};

/// A quantised format at compile time.
pub(crate) trait Codes {
    /// Which it is.
    const FORMAT: Format;
    /// What the format is made of.
    const SCHEME: Scheme;
}

macro_rules! formats {
    ($($name:ident)*) => {
        $(
            #[allow(non_camel_case_types)]
            pub(crate) struct $name;
            impl Codes for $name {
                const FORMAT: Format = Format::$name;
                const SCHEME: Scheme = match Scheme::of(Format::$name) {
                    Some(scheme) => scheme,
                    None => panic!("a quantised format"),
                };
            }
        )*
    };
}

formats!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4);

/// Evaluates an expression with `$codes` naming the type of a quantised format.
macro_rules! by_format {
    ($format:expr, $codes:ident => $body:expr) => {{
        macro_rules! arm {
            ($name:ident) => {{
                type $codes = $crate::isa::product::codes::$name;
                $body
            }};
        }
        match $format {
            Format::Q8_0 => arm!(Q8_0),
            Format::Q4_0 => arm!(Q4_0),
            Format::Q4_1 => arm!(Q4_1),
            Format::Q5_0 => arm!(Q5_0),
            Format::Q5_1 => arm!(Q5_1),
            Format::Q2_K => arm!(Q2_K),
            Format::Q3_K => arm!(Q3_K),
            Format::Q4_K => arm!(Q4_K),
            Format::Q5_K => arm!(Q5_K),
            Format::Q6_K => arm!(Q6_K),
            Format::IQ4_NL => arm!(IQ4_NL),
            Format::IQ4_XS => arm!(IQ4_XS),
            Format::MXFP4 => arm!(MXFP4),
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("float formats have no codes"),
        }
    }};
}
pub(crate) use by_format;

/// The same, with one format for formats that differ in their codes alone: the one with the widest codes.
macro_rules! by_kind {
    ($format:expr, $codes:ident => $body:expr) => {{
        macro_rules! arm {
            ($name:ident) => {{
                type $codes = $crate::isa::product::codes::$name;
                $body
            }};
        }
        match $format {
            Format::Q8_0 | Format::IQ4_NL => arm!(Q8_0),
            Format::MXFP4 => arm!(MXFP4),
            Format::Q4_0 => arm!(Q4_0),
            Format::Q5_0 => arm!(Q5_0),
            Format::Q4_1 | Format::Q5_1 => arm!(Q5_1),
            Format::Q2_K => arm!(Q2_K),
            Format::Q3_K => arm!(Q3_K),
            Format::Q6_K => arm!(Q6_K),
            Format::Q4_K => arm!(Q4_K),
            Format::Q5_K => arm!(Q5_K),
            Format::IQ4_XS => arm!(IQ4_XS),
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("float formats have no codes"),
        }
    }};
}
pub(crate) use by_kind;

/// What happens to the groups of a unit. Not a closure: those are not always inlined, and a call between functions
/// of different instruction sets passes every vector through memory.
pub(super) trait Each<V: Rows16> {
    /// Takes group `g` (0..8).
    ///
    /// # Safety
    /// As [`Rows16`], and as the implementor says.
    unsafe fn take(&mut self, g: usize, codes: V::Bytes);
}

/// Hands the eight groups of the packed unit at `unit` to `each`, in order, ready for [`dot`].
///
/// # Safety
/// As [`Rows16`], a unit is there, and `each` may be called.
#[inline(always)]
pub(super) unsafe fn groups<C: Codes, V: Rows16>(unit: *const u8, each: &mut impl Each<V>) {
    macro_rules! eight {
        ($g:ident => $codes:expr) => {
            eight!(@ $g => $codes; 0 1 2 3 4 5 6 7)
        };
        (@ $g:ident => $codes:expr; $($i:literal)*) => {{
            $({
                const $g: u32 = $i;
                each.take($i, ready::<C, V>($codes));
            })*
        }};
    }
    // SAFETY: offsets stay within the unit's 64 * bits bytes.
    unsafe {
        macro_rules! at {
            ($vector:expr) => {
                V::bytes(unit.add(64 * ($vector) as usize))
            };
        }
        match C::SCHEME.bits {
            8 => eight!(G => at!(G)),
            4 => eight!(G => V::bits::<{ 4 * (G % 2) }>(at!(G / 2), 15)),
            2 => eight!(G => V::bits::<{ 2 * (G % 4) }>(at!(G / 4), 3)),
            // Loads are in the order of memory, as the hardware expects them.
            3 => {
                let (lows, top) = ([at!(0), at!(1)], at!(2));
                eight!(G => V::join::<2>(V::bits::<{ 2 * (G % 4) }>(lows[G as usize / 4], 3), V::bits::<G>(top, 1)));
            }
            5 => {
                let (lows, top) = ([at!(0), at!(1), at!(2), at!(3)], at!(4));
                eight!(G => V::join::<4>(V::bits::<{ 4 * (G % 2) }>(lows[G as usize / 2], 15), V::bits::<G>(top, 1)));
            }
            6 => {
                let (lows, tops) = ([at!(0), at!(1), at!(2), at!(3)], [at!(4), at!(5)]);
                eight!(G => V::join::<4>(
                    V::bits::<{ 4 * (G % 2) }>(lows[G as usize / 2], 15),
                    V::bits::<{ 2 * (G % 4) }>(tops[G as usize / 4], 3),
                ));
            }
            _ => unreachable!("a width that no format has"),
        }
    }
}

/// Stored codes, made ready for [`dot`].
///
/// # Safety
/// As [`Rows16`].
#[inline(always)]
unsafe fn ready<C: Codes, V: Rows16>(codes: V::Bytes) -> V::Bytes {
    // SAFETY: the caller's promise.
    unsafe {
        match const { biased_table(C::SCHEME.table, V::WIDE_BIAS) } {
            Some(table) => V::look_up(&table, codes),
            None if C::SCHEME.bits == 8 => V::wide(codes),
            None => codes,
        }
    }
}

const fn biased_table(table: Option<[i8; 16]>, bias: i32) -> Option<[i8; 16]> {
    let Some(mut table) = table else { return None };
    let mut i = 0;
    while i < 16 {
        table[i] = (table[i] as i32 + bias) as i8;
        i += 1;
    }
    Some(table)
}

/// `sums` plus the dot products of ready codes with four activations.
///
/// # Safety
/// As [`Rows16`].
#[inline(always)]
pub(super) unsafe fn dot<C: Codes, V: Rows16>(sums: V::Sums, codes: V::Bytes, x: *const i8) -> V::Sums {
    // SAFETY: the caller's promise.
    unsafe { if const { C::SCHEME.wide() } { V::dot_wide(sums, codes, x) } else { V::dot(sums, codes, x) } }
}

/// How many groups may be summed up before the sums are closed: all of a unit or of a sub-block, or a power of two.
pub(super) const fn run<C: Codes, V: Rows16>() -> usize {
    if const { narrow::<C, V>() } { run_within::<C, V>(i16::MAX as i32) } else { run_within::<C, V>(V::ROOM) }
}

/// Whether sums under sub-scales are closed while they fit 16 bits: where that is one instruction instead of three,
/// and does not have to happen three times as often.
pub(super) const fn narrow<C: Codes, V: Rows16>() -> bool {
    V::CLOSES_NARROW && {
        let most = i16::MAX as i32 / (top::<C, V>() * 127 * V::PRODUCTS);
        most > 0 && 3 * run_within::<C, V>(i16::MAX as i32) > run_within::<C, V>(V::ROOM)
    }
}

/// [`run`] when the sums under way may have magnitudes up to `room`.
const fn run_within<C: Codes, V: Rows16>(room: i32) -> usize {
    let most = room / (top::<C, V>() * 127 * V::PRODUCTS);
    let groups = if C::SCHEME.sub < 32 { C::SCHEME.sub / 4 } else { 8 };
    let mut run = 1;
    while 2 * run <= groups && 2 * run <= most as usize {
        run *= 2;
    }
    run
}

/// The largest magnitude of a code as [`dot`] takes it.
const fn top<C: Codes, V: Rows16>() -> i32 {
    if C::SCHEME.wide() { 128 + V::WIDE_BIAS } else { (1 << C::SCHEME.bits) - 1 }
}

/// What unpacking adds to codes of blocks of 32 so that all have the bias of the widest; 0 where it adds nothing.
pub(super) const fn lift<C: Codes, V: Rows16>() -> u8 {
    let scheme = C::SCHEME;
    let lifts = scheme.block == 32 && !scheme.wide() && !scheme.offset && V::WIDE_BIAS > 0;
    if lifts { (V::WIDE_BIAS - scheme.bias) as u8 } else { 0 }
}

/// Whether sums under the sub-scales of blocks of 256 begin with what takes the bias off.
pub(super) const fn opens256<C: Codes, V: Rows16>() -> bool {
    let whole = C::SCHEME.sub == 16 && run::<C, V>() == 4;
    V::OPENS && C::SCHEME.block == 256 && whole && C::SCHEME.bias == OPENING_BIAS_256
}

/// Whether the bias of blocks of 256 is taken off by products of their scales with sums of activations.
pub(super) const fn weighs_bias<C: Codes, V: Rows16>() -> bool {
    bias::<C, V>() != 0 && !opens256::<C, V>()
}

/// What [`dot`] has added to every code, so that as many times the sum of activations must be taken off.
#[inline(always)]
pub(super) const fn bias<C: Codes, V: Rows16>() -> i32 {
    if const { C::SCHEME.wide() } { V::WIDE_BIAS } else { C::SCHEME.bias }
}

/// `d` of the 16 rows.
///
/// # Safety
/// As [`Rows16`], and the scales of a block are at `side`.
#[inline(always)]
pub(super) unsafe fn block_scale<C: Codes, V: Rows16>(side: *const u8) -> V::Floats {
    // SAFETY: the caller's promise.
    unsafe { if C::SCHEME.power { V::powers(side) } else { V::halves(side) } }
}

/// `m` or `dmin` of the 16 rows.
///
/// # Safety
/// As [`block_scale`], and the format has offsets.
#[inline(always)]
pub(super) unsafe fn block_offset<C: Codes, V: Rows16>(side: *const u8) -> V::Floats {
    // SAFETY: the caller's promise.
    unsafe { V::halves(side.add(const { C::SCHEME.offset_at() })) }
}

/// Scale of sub-block `j` of the 16 rows.
///
/// # Safety
/// As [`block_scale`], and the format has sub-scales.
#[inline(always)]
pub(super) unsafe fn sub_scale<C: Codes, V: Rows16>(side: *const u8, j: usize) -> V::Ints {
    let scheme = C::SCHEME;
    // SAFETY: the caller's promise.
    unsafe {
        let scales = side.add(scheme.scales_at());
        match scheme.scales {
            SubScales::Unsigned => V::unsigned(scales.add(16 * j)),
            SubScales::Signed => V::signed(scales.add(16 * j)),
            SubScales::Nibbles if j.is_multiple_of(2) => V::field::<0>(V::unsigned(scales.add(8 * j)), 15),
            SubScales::Nibbles => V::field::<4>(V::unsigned(scales.add(8 * (j - 1))), 15),
            SubScales::None => unreachable!("no sub-scales"),
        }
    }
}

/// Scales of sub-blocks `2 pair` and `2 pair + 1` of the 16 rows, as pairs of i16.
///
/// # Safety
/// As [`sub_scale`].
#[inline(always)]
pub(super) unsafe fn scale_pair<C: Codes, V: Rows16>(side: *const u8, pair: usize) -> V::Ints {
    // SAFETY: the caller's promise.
    unsafe { V::pairs(sub_scale::<C, V>(side, 2 * pair), sub_scale::<C, V>(side, 2 * pair + 1)) }
}

/// Minimums of sub-blocks `2 pair` and `2 pair + 1` of the 16 rows, as pairs of i16.
///
/// # Safety
/// As [`block_scale`], and the format has minimums.
#[inline(always)]
pub(super) unsafe fn min_pair<C: Codes, V: Rows16>(side: *const u8, pair: usize) -> V::Ints {
    // SAFETY: the caller's promise.
    unsafe {
        let mins = side.add(const { C::SCHEME.mins_at() });
        match C::SCHEME.scales {
            SubScales::Nibbles => V::nibble_pairs(V::unsigned(mins.add(16 * pair))),
            _ => V::unsigned_pairs(mins.add(32 * pair)),
        }
    }
}
