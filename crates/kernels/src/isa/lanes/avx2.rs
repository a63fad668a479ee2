//! Eight f32 in a 256-bit register (AVX2, FMA, F16C).

#![allow(unsafe_code)]

use super::{Lanes, Pairs};
use std::arch::x86_64::*;

/// Eight f32.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(__m256);

/// Eight pairs of 16-bit integers, or sums.
#[derive(Clone, Copy)]
pub(crate) struct I16x16(__m256i);

impl Pairs<F32x8> for I16x16 {
    #[inline(always)]
    unsafe fn zero() -> I16x16 {
        // SAFETY: the caller has AVX2.
        I16x16(unsafe { _mm256_setzero_si256() })
    }

    #[inline(always)]
    unsafe fn splat(pair: u32) -> I16x16 {
        // SAFETY: the caller has AVX2.
        I16x16(unsafe { _mm256_set1_epi32(pair as i32) })
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> I16x16 {
        // SAFETY: the caller has AVX2 and eight pairs.
        I16x16(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> I16x16 {
        // SAFETY: the caller has AVX2 and eight pairs.
        I16x16(unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) })
    }

    #[inline(always)]
    unsafe fn dot(self, other: I16x16, sum: I16x16) -> I16x16 {
        // SAFETY: the caller has AVX2.
        I16x16(unsafe { _mm256_add_epi32(sum.0, _mm256_madd_epi16(self.0, other.0)) })
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_cvtepi32_ps(self.0) })
    }
}

impl Lanes for F32x8 {
    const N: usize = 8;
    const ROWS: usize = 6;
    type Pairs = I16x16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> F32x8 {
        // SAFETY: the caller has AVX2 and eight numbers.
        F32x8(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has AVX2 and room for eight numbers.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> F32x8 {
        // SAFETY: the caller has F16C and eight numbers.
        F32x8(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) })
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        // SAFETY: the caller has F16C and room for eight numbers. This order of operands lets NaN through.
        unsafe {
            let top = _mm256_set1_ps(65504.0);
            let x = _mm256_max_ps(_mm256_set1_ps(-65504.0), _mm256_min_ps(top, self.0));
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
        }
    }

    #[inline(always)]
    unsafe fn store_two_i16(first: F32x8, second: F32x8, to: *mut i16) {
        // SAFETY: the caller has AVX2 and room for sixteen numbers.
        unsafe {
            let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(first.0), _mm256_cvtps_epi32(second.0));
            _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_half(from: *const u32, side: usize) -> F32x8 {
        // SAFETY: the caller has the level and as many pairs.
        unsafe {
            let pairs = _mm256_loadu_si256(from.cast());
            F32x8(_mm256_castsi256_ps(match side {
                0 => _mm256_slli_epi32::<16>(pairs),
                _ => _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32)),
            }))
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: F32x8) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: F32x8) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: F32x8) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: F32x8) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn fma(self, factor: F32x8, addend: F32x8) -> F32x8 {
        // SAFETY: the caller has FMA.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: F32x8) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: F32x8) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn select_lt(self, other: F32x8, yes: F32x8, no: F32x8) -> F32x8 {
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0)) })
    }

    #[inline(always)]
    unsafe fn round(self) -> F32x8 {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: the caller has AVX2.
        F32x8(unsafe { _mm256_round_ps::<NEAREST>(self.0) })
    }

    #[inline(always)]
    unsafe fn exp2_whole(self) -> F32x8 {
        // SAFETY: the caller has AVX2.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            F32x8(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_far(address: *const u8) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
}
