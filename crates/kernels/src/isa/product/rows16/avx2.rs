//! Two 256-bit registers per vector (AVX2, FMA, F16C): rows 0..8 and rows 8..16.

use std::arch::x86_64::*;

use super::{Rows16, methods};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Rows;

type I = [__m256i; 2];
type F = [__m256; 2];

/// `maddubs` saturates sums of two products at 16 bits: below it, codes of up to seven bits are safe as they are, and
/// signed ones through their absolute values, for `128 * 127 * 2 < 2^15`.
#[inline(always)]
unsafe fn dot4(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let pairs = _mm256_maddubs_epi16(unsigned, signed);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

impl Rows16 for Avx2Rows {
    type Bytes = I;
    type Ints = I;
    type Floats = F;

    const TILE: usize = 2;
    const STREAM: usize = 1;
    const WIDE_BIAS: i32 = 0;

    methods! {
        fn bytes(from: *const u8) -> I {
            [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())]
        }
        fn store_bytes(bytes: I, to: *mut u8) {
            _mm256_storeu_si256(to.cast(), bytes[0]);
            _mm256_storeu_si256(to.add(32).cast(), bytes[1]);
        }
        fn bits<const SHIFT: u32>(bytes: I, mask: u8) -> I {
            let mask = _mm256_set1_epi8(mask as i8);
            bytes.map(|b| unsafe { _mm256_and_si256(_mm256_srl_epi32(b, _mm_cvtsi32_si128(SHIFT as i32)), mask) })
        }
        fn join<const LEFT: u32>(low: I, high: I) -> I {
            let left = _mm_cvtsi32_si128(LEFT as i32);
            [0, 1].map(|i| unsafe { _mm256_or_si256(low[i], _mm256_sll_epi32(high[i], left)) })
        }
        fn sub_ints(x: I, y: I) -> I { [0, 1].map(|i| unsafe { _mm256_sub_epi32(x[i], y[i]) }) }
        fn look_up(table: &[i8; 16], codes: I) -> I {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            codes.map(|c| unsafe { _mm256_shuffle_epi8(table, c) })
        }
        fn wide(signed: I) -> I { signed }
        fn dot(sum: I, codes: I, x: *const i8) -> I {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            [0, 1].map(|i| unsafe { dot4(sum[i], codes[i], x) })
        }
        fn dot_wide(sum: I, codes: I, x: *const i8) -> I {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            [0, 1].map(|i| unsafe { dot4(sum[i], _mm256_abs_epi8(codes[i]), _mm256_sign_epi8(x, codes[i])) })
        }
        fn dot_pairs(sum: I, pairs: I, x: *const i16) -> I {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            [0, 1].map(|i| unsafe { _mm256_add_epi32(sum[i], _mm256_madd_epi16(pairs[i], x)) })
        }
        fn splat(x: i32) -> I { [_mm256_set1_epi32(x); 2] }
        fn unsigned(from: *const u8) -> I {
            [0, 8].map(|i| unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(i).cast())) })
        }
        fn signed(from: *const u8) -> I {
            [0, 8].map(|i| unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(i).cast())) })
        }
        fn unsigned_pairs(from: *const u8) -> I {
            [0, 16].map(|i| unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(i).cast())) })
        }
        fn field<const RIGHT: u32>(x: I, mask: u32) -> I {
            let mask = _mm256_set1_epi32(mask as i32);
            x.map(|x| unsafe { _mm256_and_si256(_mm256_srl_epi32(x, _mm_cvtsi32_si128(RIGHT as i32)), mask) })
        }
        fn nibble_pairs(x: I) -> I {
            x.map(|x| unsafe {
                let low = _mm256_and_si256(x, _mm256_set1_epi32(15));
                _mm256_or_si256(low, _mm256_slli_epi32::<12>(_mm256_and_si256(x, _mm256_set1_epi32(0xf0))))
            })
        }
        fn mul_add(sum: I, x: I, y: I) -> I {
            [0, 1].map(|i| unsafe { _mm256_add_epi32(sum[i], _mm256_mullo_epi32(x[i], y[i])) })
        }
        fn to_floats(x: I) -> F { x.map(|x| unsafe { _mm256_cvtepi32_ps(x) }) }
        fn splat_float(x: f32) -> F { [_mm256_set1_ps(x); 2] }
        fn floats(from: *const f32) -> F { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        fn store(x: F, to: *mut f32) {
            _mm256_storeu_ps(to, x[0]);
            _mm256_storeu_ps(to.add(8), x[1]);
        }
        fn halves(from: *const u8) -> F {
            [0, 16].map(|i| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.add(i).cast())) })
        }
        fn powers(from: *const u8) -> F {
            Self::unsigned(from).map(|e| unsafe {
                let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
                let tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
                let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
                _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, small))
            })
        }
        fn bf16_pairs(from: *const u8) -> (F, F) {
            let pairs = Self::bytes(from);
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let firsts = pairs.map(|p| unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(p)) });
            (firsts, pairs.map(|p| unsafe { _mm256_castsi256_ps(_mm256_and_si256(p, mask)) }))
        }
        fn mul(x: F, y: F) -> F { [0, 1].map(|i| unsafe { _mm256_mul_ps(x[i], y[i]) }) }
        fn add(x: F, y: F) -> F { [0, 1].map(|i| unsafe { _mm256_add_ps(x[i], y[i]) }) }
        fn sub(x: F, y: F) -> F { [0, 1].map(|i| unsafe { _mm256_sub_ps(x[i], y[i]) }) }
        fn fma(x: F, y: F, sum: F) -> F { [0, 1].map(|i| unsafe { _mm256_fmadd_ps(x[i], y[i], sum[i]) }) }
        fn fnma(x: F, y: F, sum: F) -> F { [0, 1].map(|i| unsafe { _mm256_fnmadd_ps(x[i], y[i], sum[i]) }) }
        fn prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn byte_of<const BYTE: u32>(bytes: I, signed: bool) -> I {
        // SAFETY: the trait's contract.
        bytes.map(|b| unsafe {
            let top = _mm256_sll_epi32(b, _mm_cvtsi32_si128(24 - 8 * BYTE as i32));
            if signed { _mm256_srai_epi32::<24>(top) } else { _mm256_srli_epi32::<24>(top) }
        })
    }
}
