//! Plain arrays, which the compiler maps to whatever vectors the target has.

use half::f16;

use super::{Rows16, methods};
use crate::format::mxfp4::half_scale;

#[derive(Clone, Copy, Debug)]
pub(crate) struct PortableRows;

type B = [u8; 64];
type I = [i32; 16];
type F = [f32; 16];

#[inline(always)]
fn zip<T: Copy, U>(x: [T; 16], y: [T; 16], f: impl Fn(T, T) -> U) -> [U; 16] {
    std::array::from_fn(|r| f(x[r], y[r]))
}

#[inline(always)]
fn dot4(sum: I, x: [i8; 4], code: impl Fn(usize) -> i32) -> I {
    let x = x.map(i32::from);
    std::array::from_fn(|r| {
        let at = 4 * r;
        sum[r] + (code(at) * x[0] + code(at + 1) * x[1]) + (code(at + 2) * x[2] + code(at + 3) * x[3])
    })
}

impl Rows16 for PortableRows {
    type Bytes = B;
    type Ints = I;
    type Floats = F;
    type Sums = I;
    type Factors = I;

    const TILE: usize = 1;
    const ROOM: i32 = i32::MAX;
    const PRODUCTS: i32 = 4;
    const OPENS: bool = true;
    const CLOSES_NARROW: bool = false;
    const STREAM: usize = 0;
    const WIDE_BIAS: i32 = 0;

    methods! {
        fn bytes(from: *const u8) -> B { from.cast::<B>().read_unaligned() }
        fn store_bytes(bytes: B, to: *mut u8) { to.cast::<B>().write_unaligned(bytes) }
        fn bits<const SHIFT: u32>(bytes: B, mask: u8) -> B { bytes.map(|b| b >> SHIFT & mask) }
        fn join<const LEFT: u32>(low: B, high: B) -> B { std::array::from_fn(|i| low[i] | high[i] << LEFT) }
        fn sub_ints(x: I, y: I) -> I { zip(x, y, |x, y| x - y) }
        fn look_up(table: &[i8; 16], codes: B) -> B { codes.map(|c| table[usize::from(c & 15)] as u8) }
        fn wide(signed: B) -> B { signed }
        fn open(total: I) -> I { total }
        fn close(_total: I, sums: I) -> I { sums }
        fn close_scaled(total: I, sums: I, factors: I) -> I { Self::mul_add(total, sums, factors) }
        fn close_narrow(total: I, sums: I, factors: I) -> I { Self::close_scaled(total, sums, factors) }
        fn factors(x: I) -> I { x }
        fn narrow_factors(x: I) -> I { x }
        fn lift(bytes: B, lift: u8) -> B { bytes.map(|byte| byte.wrapping_add(lift)) }
        fn pairs(low: I, high: I) -> I { zip(low, high, |low, high| low & 0xffff | high << 16) }
        fn dot(sum: I, codes: B, x: *const i8) -> I {
            dot4(sum, x.cast::<[i8; 4]>().read_unaligned(), |i| i32::from(codes[i]))
        }
        fn dot_wide(sum: I, codes: B, x: *const i8) -> I {
            dot4(sum, x.cast::<[i8; 4]>().read_unaligned(), |i| i32::from(codes[i] as i8))
        }
        fn dot_pairs(sum: I, pairs: I, x: *const i16) -> I {
            let [x0, x1] = x.cast::<[i16; 2]>().read_unaligned().map(i32::from);
            zip(sum, pairs, |sum, pair| sum + i32::from(pair as i16) * x0 + (pair >> 16) * x1)
        }
        fn splat(x: i32) -> I { [x; 16] }
        fn unsigned(from: *const u8) -> I { from.cast::<[u8; 16]>().read_unaligned().map(i32::from) }
        fn signed(from: *const u8) -> I { from.cast::<[i8; 16]>().read_unaligned().map(i32::from) }
        fn unsigned_pairs(from: *const u8) -> I {
            let pairs = from.cast::<[[u8; 2]; 16]>().read_unaligned();
            pairs.map(|[first, second]| i32::from(first) | i32::from(second) << 16)
        }
        fn field<const RIGHT: u32>(x: I, mask: u32) -> I { x.map(|x| (x as u32 >> RIGHT & mask) as i32) }
        fn nibble_pairs(x: I) -> I { x.map(|x| x & 15 | (x & 0xf0) << 12) }
        fn mul_add(sum: I, x: I, y: I) -> I { std::array::from_fn(|r| sum[r].wrapping_add(x[r].wrapping_mul(y[r]))) }
        fn to_floats(x: I) -> F { x.map(|x| x as f32) }
        fn splat_float(x: f32) -> F { [x; 16] }
        fn floats(from: *const f32) -> F { from.cast::<F>().read_unaligned() }
        fn store(x: F, to: *mut f32) { to.cast::<F>().write_unaligned(x) }
        fn halves(from: *const u8) -> F {
            from.cast::<[[u8; 2]; 16]>().read_unaligned().map(|bytes| f16::from_le_bytes(bytes).to_f32())
        }
        fn powers(from: *const u8) -> F { from.cast::<[u8; 16]>().read_unaligned().map(half_scale) }
        fn bf16_pairs(from: *const u8) -> (F, F) {
            let pairs = from.cast::<[[u8; 4]; 16]>().read_unaligned().map(u32::from_le_bytes);
            (pairs.map(|pair| f32::from_bits(pair << 16)), pairs.map(|pair| f32::from_bits(pair & 0xffff_0000)))
        }
        fn mul(x: F, y: F) -> F { zip(x, y, |x, y| x * y) }
        fn add(x: F, y: F) -> F { zip(x, y, |x, y| x + y) }
        fn sub(x: F, y: F) -> F { zip(x, y, |x, y| x - y) }
        fn fma(x: F, y: F, sum: F) -> F { std::array::from_fn(|r| sum[r] + x[r] * y[r]) }
        fn fnma(x: F, y: F, sum: F) -> F { std::array::from_fn(|r| sum[r] - x[r] * y[r]) }
        fn quads(from: *const i8) -> [i32; 4] {
            from.cast::<[[i8; 4]; 4]>().read_unaligned().map(|quad| quad.map(i32::from).iter().sum())
        }
        fn prefetch(_at: *const u8) {}
        fn prefetch_far(_at: *const u8) {}
        fn prefetch_to_write(_at: *const u8) {}
    }

    #[inline(always)]
    unsafe fn byte_of<const BYTE: u32>(bytes: B, signed: bool) -> I {
        std::array::from_fn(|r| {
            let byte = bytes[4 * r + BYTE as usize];
            if signed { i32::from(byte as i8) } else { i32::from(byte) }
        })
    }
}
