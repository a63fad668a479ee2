//! Sixteen f32, or thirty-two bf16, in a 512-bit register (AVX-512 F/BW/DQ/VL and BF16).

#![allow(unsafe_code)]

use super::{Lanes, Pairs};
use std::arch::asm;
use std::arch::x86_64::*;

/// Sixteen f32.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(__m512);

/// Sixteen pairs of bf16.
#[derive(Clone, Copy)]
pub(crate) struct Bf16x32(__m512bh);

/// Sixteen pairs of 16-bit integers, or sums.
#[derive(Clone, Copy)]
pub(crate) struct I16x32(__m512i);

/// `_mm512_dpwssd_epi32`. As assembly, because the compiler makes a product and a sum of it where it thinks these to be
/// the faster way, and the multipliers are what every loop here waits for.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(crate) fn dot_words(mut sum: __m512i, x: __m512i, y: __m512i) -> __m512i {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "vpdpwssd {sum}, {x}, {y}",
            sum = inout(zmm_reg) sum, x = in(zmm_reg) x, y = in(zmm_reg) y,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

impl Pairs<F32x16> for I16x32 {
    #[inline(always)]
    unsafe fn zero() -> I16x32 {
        // SAFETY: the caller has AVX-512.
        I16x32(unsafe { _mm512_setzero_si512() })
    }

    #[inline(always)]
    unsafe fn splat(pair: u32) -> I16x32 {
        // SAFETY: the caller has AVX-512.
        I16x32(unsafe { _mm512_set1_epi32(pair as i32) })
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> I16x32 {
        // SAFETY: the caller has AVX-512 and sixteen pairs.
        I16x32(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> I16x32 {
        // SAFETY: the caller has AVX-512 and sixteen pairs.
        I16x32(unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn dot(self, other: I16x32, sum: I16x32) -> I16x32 {
        // SAFETY: the caller has AVX-512 VNNI.
        I16x32(unsafe { dot_words(sum.0, self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_cvtepi32_ps(self.0) })
    }
}

impl F32x16 {
    /// Widens sixteen consecutive bf16 numbers.
    ///
    /// # Safety
    /// The CPU offers the level, and the pointer sixteen numbers.
    #[inline(always)]
    pub(crate) unsafe fn load_bf16(from: *const u16) -> F32x16 {
        // SAFETY: the caller's promise.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            F32x16(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
}

impl Bf16x32 {
    /// Sixteen pairs.
    ///
    /// # Safety
    /// The CPU offers the level, and the pointer sixteen pairs.
    #[inline(always)]
    pub(crate) unsafe fn load(from: *const u32) -> Bf16x32 {
        // SAFETY: the caller's promise; the two types are both 512 bits without invalid values.
        Bf16x32(unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(from.cast())) })
    }

    /// The same pair sixteen times.
    ///
    /// # Safety
    /// The CPU offers the level.
    #[inline(always)]
    pub(crate) unsafe fn splat(pair: u32) -> Bf16x32 {
        // SAFETY: the caller's promise; the two types are both 512 bits without invalid values.
        Bf16x32(unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair as i32)) })
    }

    /// `sum` plus the products of both halves of every pair.
    ///
    /// # Safety
    /// The CPU offers the level.
    #[inline(always)]
    pub(crate) unsafe fn dot(self, other: Bf16x32, sum: F32x16) -> F32x16 {
        // SAFETY: the caller's promise.
        F32x16(unsafe { _mm512_dpbf16_ps(sum.0, self.0, other.0) })
    }

    /// Rounds thirty-two numbers to nearest even.
    ///
    /// # Safety
    /// The CPU offers the level.
    #[inline(always)]
    pub(crate) unsafe fn narrow(first: F32x16, second: F32x16) -> Bf16x32 {
        // SAFETY: the caller's promise.
        Bf16x32(unsafe { _mm512_cvtne2ps_pbh(second.0, first.0) })
    }

    /// Stores all thirty-two.
    ///
    /// # Safety
    /// The CPU offers the level, and the pointer room for them.
    #[inline(always)]
    pub(crate) unsafe fn store(self, to: *mut u16) {
        // SAFETY: the caller's promise; the two types are both 512 bits without invalid values.
        unsafe { _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(self.0)) }
    }
}

impl Lanes for F32x16 {
    const N: usize = 16;
    const ROWS: usize = 12;
    type Pairs = I16x32;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> F32x16 {
        // SAFETY: the caller has AVX-512 and sixteen numbers.
        F32x16(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has AVX-512 and room for sixteen numbers.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> F32x16 {
        // SAFETY: the caller has AVX-512 and sixteen numbers.
        F32x16(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        // SAFETY: the caller has AVX-512 and room for sixteen numbers. This order of operands lets NaN through.
        unsafe {
            let top = _mm512_set1_ps(65504.0);
            let x = _mm512_max_ps(_mm512_set1_ps(-65504.0), _mm512_min_ps(top, self.0));
            _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
        }
    }

    #[inline(always)]
    unsafe fn store_two_i16(first: F32x16, second: F32x16, to: *mut i16) {
        // SAFETY: the caller has AVX-512 and room for thirty-two numbers.
        unsafe {
            let packed = _mm512_packs_epi32(_mm512_cvtps_epi32(first.0), _mm512_cvtps_epi32(second.0));
            let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi64(order, packed));
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_half(from: *const u32, side: usize) -> F32x16 {
        // SAFETY: the caller has the level and as many pairs.
        unsafe {
            let pairs = _mm512_loadu_si512(from.cast());
            F32x16(_mm512_castsi512_ps(match side {
                0 => _mm512_slli_epi32::<16>(pairs),
                _ => _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32)),
            }))
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: F32x16) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: F32x16) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: F32x16) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: F32x16) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn fma(self, factor: F32x16, addend: F32x16) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: F32x16) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: F32x16) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn select_lt(self, other: F32x16, yes: F32x16, no: F32x16) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0);
            F32x16(_mm512_mask_blend_ps(less, no.0, yes.0))
        }
    }

    #[inline(always)]
    unsafe fn round(self) -> F32x16 {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: the caller has AVX-512.
        F32x16(unsafe { _mm512_roundscale_ps::<NEAREST>(self.0) })
    }

    #[inline(always)]
    unsafe fn exp2_whole(self) -> F32x16 {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            F32x16(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
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
