//! Eight f32 as a plain array, which compilers turn into whatever vectors the target has.

#![allow(unsafe_code)]

use super::{Lanes, Pairs};

/// Eight f32.
#[derive(Clone, Copy)]
pub(crate) struct P32x8([f32; 8]);

/// Adding it rounds |x| < 2^22 to a whole number that then stands in the low bits (1.5 * 2^23).
const MAGIC: f32 = 12_582_912.0;

impl P32x8 {
    #[inline(always)]
    fn zip(self, other: P32x8, f: impl Fn(f32, f32) -> f32) -> P32x8 {
        let mut out = self.0;
        for (x, y) in out.iter_mut().zip(other.0) {
            *x = f(*x, y);
        }
        P32x8(out)
    }

    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> P32x8 {
        P32x8(self.0.map(f))
    }
}

/// Half precision to single by shifting the fields and correcting the exponent's bias.
#[inline(always)]
fn widen(half: u16) -> f32 {
    let fields = u32::from(half & 0x7fff) << 13;
    let bits = (f32::from_bits(fields) * f32::from_bits(0x7780_0000)).to_bits(); // 2^112
    let special = if fields >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
    f32::from_bits(bits | special | (u32::from(half & 0x8000) << 16))
}

/// Eight pairs of 16-bit integers, or sums.
#[derive(Clone, Copy)]
pub(crate) struct PairsX8([i32; 8]);

/// A pair's halves.
#[inline(always)]
fn halves(pair: i32) -> (i32, i32) {
    (i32::from(pair as i16), pair >> 16)
}

impl Pairs<P32x8> for PairsX8 {
    #[inline(always)]
    unsafe fn zero() -> PairsX8 {
        PairsX8([0; 8])
    }

    #[inline(always)]
    unsafe fn splat(pair: u32) -> PairsX8 {
        PairsX8([pair as i32; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> PairsX8 {
        // SAFETY: the caller vouches for eight pairs.
        PairsX8(unsafe { from.cast::<[i32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> PairsX8 {
        // SAFETY: the caller vouches for eight pairs.
        let pairs = unsafe { from.cast::<[[i8; 2]; 8]>().read_unaligned() };
        PairsX8(pairs.map(|[first, second]| i32::from(first) & 0xffff | i32::from(second) << 16))
    }

    #[inline(always)]
    unsafe fn dot(self, other: PairsX8, sum: PairsX8) -> PairsX8 {
        let mut out = sum.0;
        for ((sum, x), y) in out.iter_mut().zip(self.0).zip(other.0) {
            let (x, y) = (halves(x), halves(y));
            *sum += x.0 * y.0 + x.1 * y.1;
        }
        PairsX8(out)
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> P32x8 {
        P32x8(self.0.map(|x| x as f32))
    }
}

impl Lanes for P32x8 {
    const N: usize = 8;
    const ROWS: usize = 2;
    type Pairs = PairsX8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> P32x8 {
        P32x8([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> P32x8 {
        // SAFETY: the caller vouches for eight numbers.
        P32x8(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for eight numbers.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> P32x8 {
        // SAFETY: the caller vouches for eight numbers.
        P32x8(unsafe { from.cast::<[u16; 8]>().read_unaligned() }.map(widen))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        let halves = self.0.map(|x| half::f16::from_f32_const(x.clamp(-65504.0, 65504.0)).to_bits());
        // SAFETY: the caller vouches for room for eight numbers.
        unsafe { to.cast::<[u16; 8]>().write_unaligned(halves) }
    }

    #[inline(always)]
    unsafe fn store_two_i16(first: P32x8, second: P32x8, to: *mut i16) {
        let words = [first, second].map(|x| x.map(|x| x + MAGIC - MAGIC).0.map(|x| x as i16));
        // SAFETY: the caller vouches for room for sixteen numbers.
        unsafe { to.cast::<[[i16; 8]; 2]>().write_unaligned(words) }
    }

    #[inline(always)]
    unsafe fn load_bf16_half(from: *const u32, side: usize) -> P32x8 {
        // SAFETY: the caller vouches for eight pairs.
        let pairs = unsafe { from.cast::<[u32; 8]>().read_unaligned() };
        P32x8(pairs.map(|pair| f32::from_bits(if side == 0 { pair << 16 } else { pair & 0xffff_0000 })))
    }

    #[inline(always)]
    unsafe fn add(self, other: P32x8) -> P32x8 {
        self.zip(other, |x, y| x + y)
    }

    #[inline(always)]
    unsafe fn sub(self, other: P32x8) -> P32x8 {
        self.zip(other, |x, y| x - y)
    }

    #[inline(always)]
    unsafe fn mul(self, other: P32x8) -> P32x8 {
        self.zip(other, |x, y| x * y)
    }

    #[inline(always)]
    unsafe fn div(self, other: P32x8) -> P32x8 {
        self.zip(other, |x, y| x / y)
    }

    // Two roundings: without the instruction a fused one is a function call per number.
    #[inline(always)]
    unsafe fn fma(self, factor: P32x8, addend: P32x8) -> P32x8 {
        self.zip(factor, |x, y| x * y).zip(addend, |x, y| x + y)
    }

    #[inline(always)]
    unsafe fn max(self, other: P32x8) -> P32x8 {
        self.zip(other, |x, y| if x > y { x } else { y })
    }

    #[inline(always)]
    unsafe fn min(self, other: P32x8) -> P32x8 {
        self.zip(other, |x, y| if x < y { x } else { y })
    }

    #[inline(always)]
    unsafe fn select_lt(self, other: P32x8, yes: P32x8, no: P32x8) -> P32x8 {
        P32x8(std::array::from_fn(|i| if self.0[i] < other.0[i] { yes.0[i] } else { no.0[i] }))
    }

    #[inline(always)]
    unsafe fn round(self) -> P32x8 {
        self.map(|x| (x + MAGIC) - MAGIC)
    }

    #[inline(always)]
    unsafe fn exp2_whole(self) -> P32x8 {
        self.map(|x| {
            let whole = (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits());
            f32::from_bits(whole.wrapping_add(127) << 23)
        })
    }
}
