//! Two 256-bit registers per vector (AVX2, FMA, F16C): rows 0..8 and rows 8..16.

use std::arch::x86_64::*;

use super::{Rows16, methods};

/// The same for both registers. Not `array::map`: closures are not always inlined where the instructions are.
macro_rules! both {
    ($i:ident => $body:expr) => {
        [
            {
                const $i: usize = 0;
                $body
            },
            {
                const $i: usize = 1;
                $body
            },
        ]
    };
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Rows;

type Is = [__m256i; 2];
type Fs = [__m256; 2];

/// A sum that never overflows, by the instruction that saturates: the compiler rearranges plain sums into trees,
/// which need more registers than there are.
#[inline(always)]
unsafe fn add_in_order(sums: __m256i, products: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_adds_epi16(sums, products) }
}

impl Rows16 for Avx2Rows {
    type Bytes = Is;
    type Ints = Is;
    type Floats = Fs;
    /// Two i16 of each row. `maddubs` saturates: codes of up to seven bits are safe as they are, and signed ones
    /// through their absolute values, for `128 * 127 * 2 < 2^15`.
    type Sums = Is;
    /// Every factor twice, as a pair of i16.
    type Factors = Is;

    const TILE: usize = 4;
    const ROOM: i32 = i16::MAX as i32;
    const PRODUCTS: i32 = 2;
    const OPENS: bool = false;
    const CLOSES_NARROW: bool = false;
    const STREAM: usize = 1;
    const WIDE_BIAS: i32 = 0;

    methods! {
        fn bytes(from: *const u8) -> Is {
            [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())]
        }
        fn store_bytes(bytes: Is, to: *mut u8) {
            _mm256_storeu_si256(to.cast(), bytes[0]);
            _mm256_storeu_si256(to.add(32).cast(), bytes[1]);
        }
        fn bits<const SHIFT: u32>(bytes: Is, mask: u8) -> Is {
            let mask = _mm256_set1_epi8(mask as i8);
            both!(I => _mm256_and_si256(_mm256_srl_epi32(bytes[I], _mm_cvtsi32_si128(SHIFT as i32)), mask))
        }
        fn join<const LEFT: u32>(low: Is, high: Is) -> Is {
            let left = _mm_cvtsi32_si128(LEFT as i32);
            both!(I => _mm256_or_si256(low[I], _mm256_sll_epi32(high[I], left)))
        }
        fn sub_ints(x: Is, y: Is) -> Is { both!(I => _mm256_sub_epi32(x[I], y[I])) }
        fn look_up(table: &[i8; 16], codes: Is) -> Is {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            both!(I => _mm256_shuffle_epi8(table, codes[I]))
        }
        fn wide(signed: Is) -> Is { signed }
        fn open(_total: Is) -> Is { [_mm256_setzero_si256(); 2] }
        fn close(total: Is, sums: Is) -> Is { Self::close_scaled(total, sums, [_mm256_set1_epi16(1); 2]) }
        fn close_scaled(total: Is, sums: Is, factors: Is) -> Is {
            both!(I => _mm256_add_epi32(total[I], _mm256_madd_epi16(sums[I], factors[I])))
        }
        fn close_narrow(total: Is, sums: Is, factors: Is) -> Is { Self::close_scaled(total, sums, factors) }
        fn factors(x: Is) -> Is { Self::pairs(x, x) }
        fn narrow_factors(x: Is) -> Is { Self::factors(x) }
        fn lift(bytes: Is, lift: u8) -> Is { both!(I => _mm256_add_epi8(bytes[I], _mm256_set1_epi8(lift as i8))) }
        fn pairs(low: Is, high: Is) -> Is {
            both!(I => _mm256_blend_epi16::<0b1010_1010>(low[I], _mm256_slli_epi32::<16>(high[I])))
        }
        fn dot(sums: Is, codes: Is, x: *const i8) -> Is {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            both!(I => add_in_order(sums[I], _mm256_maddubs_epi16(codes[I], x)))
        }
        fn dot_wide(sums: Is, codes: Is, x: *const i8) -> Is {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            both!(I => {
                let products = _mm256_maddubs_epi16(_mm256_abs_epi8(codes[I]), _mm256_sign_epi8(x, codes[I]));
                add_in_order(sums[I], products)
            })
        }
        fn dot_pairs(sum: Is, pairs: Is, x: *const i16) -> Is {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            both!(I => _mm256_add_epi32(sum[I], _mm256_madd_epi16(pairs[I], x)))
        }
        fn splat(x: i32) -> Is { [_mm256_set1_epi32(x); 2] }
        fn unsigned(from: *const u8) -> Is {
            both!(I => _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(8 * I).cast())))
        }
        fn signed(from: *const u8) -> Is {
            both!(I => _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8 * I).cast())))
        }
        fn unsigned_pairs(from: *const u8) -> Is {
            both!(I => _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(16 * I).cast())))
        }
        fn field<const RIGHT: u32>(x: Is, mask: u32) -> Is {
            let mask = _mm256_set1_epi32(mask as i32);
            both!(I => _mm256_and_si256(_mm256_srl_epi32(x[I], _mm_cvtsi32_si128(RIGHT as i32)), mask))
        }
        fn nibble_pairs(x: Is) -> Is {
            both!(I => {
                let low = _mm256_and_si256(x[I], _mm256_set1_epi32(15));
                _mm256_or_si256(low, _mm256_slli_epi32::<12>(_mm256_and_si256(x[I], _mm256_set1_epi32(0xf0))))
            })
        }
        fn mul_add(sum: Is, x: Is, y: Is) -> Is {
            both!(I => _mm256_add_epi32(sum[I], _mm256_mullo_epi32(x[I], y[I])))
        }
        fn to_floats(x: Is) -> Fs { both!(I => _mm256_cvtepi32_ps(x[I])) }
        fn splat_float(x: f32) -> Fs { [_mm256_set1_ps(x); 2] }
        fn floats(from: *const f32) -> Fs { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        fn store(x: Fs, to: *mut f32) {
            _mm256_storeu_ps(to, x[0]);
            _mm256_storeu_ps(to.add(8), x[1]);
        }
        fn halves(from: *const u8) -> Fs {
            both!(I => _mm256_cvtph_ps(_mm_loadu_si128(from.add(16 * I).cast())))
        }
        fn powers(from: *const u8) -> Fs {
            let e = Self::unsigned(from);
            both!(I => {
                let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e[I], _mm256_set1_epi32(1)));
                let tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e[I]);
                let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e[I]);
                _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, small))
            })
        }
        fn bf16_pairs(from: *const u8) -> (Fs, Fs) {
            let pairs = Self::bytes(from);
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let firsts = both!(I => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs[I])));
            (firsts, both!(I => _mm256_castsi256_ps(_mm256_and_si256(pairs[I], mask))))
        }
        fn mul(x: Fs, y: Fs) -> Fs { both!(I => _mm256_mul_ps(x[I], y[I])) }
        fn add(x: Fs, y: Fs) -> Fs { both!(I => _mm256_add_ps(x[I], y[I])) }
        fn sub(x: Fs, y: Fs) -> Fs { both!(I => _mm256_sub_ps(x[I], y[I])) }
        fn fma(x: Fs, y: Fs, sum: Fs) -> Fs { both!(I => _mm256_fmadd_ps(x[I], y[I], sum[I])) }
        fn fnma(x: Fs, y: Fs, sum: Fs) -> Fs { both!(I => _mm256_fnmadd_ps(x[I], y[I], sum[I])) }
        fn quads(from: *const i8) -> [i32; 4] {
            let pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), _mm_loadu_si128(from.cast()));
            std::mem::transmute::<__m128i, [i32; 4]>(_mm_madd_epi16(pairs, _mm_set1_epi16(1)))
        }
        fn prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        fn prefetch_far(at: *const u8) { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        fn prefetch_to_write(at: *const u8) { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn byte_of<const BYTE: u32>(bytes: Is, signed: bool) -> Is {
        // SAFETY: the trait's contract.
        unsafe {
            both!(I => {
                let top = _mm256_sll_epi32(bytes[I], _mm_cvtsi32_si128(24 - 8 * BYTE as i32));
                if signed { _mm256_srai_epi32::<24>(top) } else { _mm256_srli_epi32::<24>(top) }
            })
        }
    }
}
