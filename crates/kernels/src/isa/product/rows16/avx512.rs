//! One 512-bit register per vector (AVX-512 F/BW/VL and VNNI).

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Rows16, methods};
use crate::isa::lanes::dot_words;

/// `NARROW`: sums are closed while they fit 16 bits. Intel's cores multiply 32-bit integers in two steps; AMD's in one,
/// on a unit that dots do not use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows512<const NARROW: bool>;

/// [`dot_words`] with the pair at `y` in every place.
///
/// # Safety
/// There is a pair.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dot_words_at(mut sum: __m512i, x: __m512i, y: *const i16) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "vpdpwssd {sum}, {x}, dword ptr [{y}]{{1to16}}",
            sum = inout(zmm_reg) sum, x = in(zmm_reg) x, y = in(reg) y,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    sum
}

impl<const NARROW: bool> Rows16 for Rows512<NARROW> {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;
    type Sums = __m512i;
    type Factors = __m512i;

    const TILE: usize = 8;
    const ROOM: i32 = i32::MAX;
    const PRODUCTS: i32 = 4;
    const OPENS: bool = true;
    const CLOSES_NARROW: bool = NARROW;
    const STREAM: usize = 8;
    const WIDE_BIAS: i32 = 128;

    methods! {
        fn bytes(from: *const u8) -> __m512i { _mm512_loadu_si512(from.cast()) }
        fn store_bytes(bytes: __m512i, to: *mut u8) { _mm512_storeu_si512(to.cast(), bytes) }
        fn bits<const SHIFT: u32>(bytes: __m512i, mask: u8) -> __m512i {
            let shifted = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(SHIFT as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask as i8))
        }
        fn lift(bytes: __m512i, lift: u8) -> __m512i { _mm512_add_epi8(bytes, _mm512_set1_epi8(lift as i8)) }
        fn join<const LEFT: u32>(low: __m512i, high: __m512i) -> __m512i {
            _mm512_or_si512(low, _mm512_sll_epi32(high, _mm_cvtsi32_si128(LEFT as i32)))
        }
        fn sub_ints(x: __m512i, y: __m512i) -> __m512i { _mm512_sub_epi32(x, y) }
        fn look_up(table: &[i8; 16], codes: __m512i) -> __m512i {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, codes)
        }
        fn wide(signed: __m512i) -> __m512i { _mm512_xor_si512(signed, _mm512_set1_epi8(-128)) }
        fn open(total: __m512i) -> __m512i { total }
        fn close(_total: __m512i, sums: __m512i) -> __m512i { sums }
        fn close_scaled(total: __m512i, sums: __m512i, factors: __m512i) -> __m512i {
            Self::mul_add(total, sums, factors)
        }
        fn close_narrow(total: __m512i, sums: __m512i, factors: __m512i) -> __m512i {
            dot_words(total, sums, factors)
        }
        fn factors(x: __m512i) -> __m512i { x }
        fn narrow_factors(x: __m512i) -> __m512i { _mm512_and_si512(x, _mm512_set1_epi32(0xffff)) }
        fn pairs(low: __m512i, high: __m512i) -> __m512i {
            _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32::<16>(high))
        }
        fn dot(sum: __m512i, codes: __m512i, x: *const i8) -> __m512i {
            _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(x.cast::<i32>().read_unaligned()))
        }
        fn dot_wide(sum: __m512i, codes: __m512i, x: *const i8) -> __m512i {
            _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(x.cast::<i32>().read_unaligned()))
        }
        fn dot_pairs(sum: __m512i, pairs: __m512i, x: *const i16) -> __m512i {
            dot_words_at(sum, pairs, x)
        }
        fn splat(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn unsigned(from: *const u8) -> __m512i { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
        fn signed(from: *const u8) -> __m512i { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) }
        fn unsigned_pairs(from: *const u8) -> __m512i { _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.cast())) }
        fn field<const RIGHT: u32>(x: __m512i, mask: u32) -> __m512i {
            let shifted = _mm512_srl_epi32(x, _mm_cvtsi32_si128(RIGHT as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi32(mask as i32))
        }
        fn nibble_pairs(x: __m512i) -> __m512i {
            let low = _mm512_and_si512(x, _mm512_set1_epi32(15));
            _mm512_or_si512(low, _mm512_slli_epi32::<12>(_mm512_and_si512(x, _mm512_set1_epi32(0xf0))))
        }
        fn mul_add(sum: __m512i, x: __m512i, y: __m512i) -> __m512i {
            _mm512_add_epi32(sum, _mm512_mullo_epi32(x, y))
        }
        fn to_floats(x: __m512i) -> __m512 { _mm512_cvtepi32_ps(x) }
        fn splat_float(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn floats(from: *const f32) -> __m512 { _mm512_loadu_ps(from) }
        fn store(x: __m512, to: *mut f32) { _mm512_storeu_ps(to, x) }
        fn halves(from: *const u8) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        fn powers(from: *const u8) -> __m512 {
            let e = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
            let tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), e);
            let small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
            _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, tiny))
        }
        fn bf16_pairs(from: *const u8) -> (__m512, __m512) {
            let pairs = _mm512_loadu_si512(from.cast());
            let seconds = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(seconds))
        }
        fn mul(x: __m512, y: __m512) -> __m512 { _mm512_mul_ps(x, y) }
        fn add(x: __m512, y: __m512) -> __m512 { _mm512_add_ps(x, y) }
        fn sub(x: __m512, y: __m512) -> __m512 { _mm512_sub_ps(x, y) }
        fn fma(x: __m512, y: __m512, sum: __m512) -> __m512 { _mm512_fmadd_ps(x, y, sum) }
        fn fnma(x: __m512, y: __m512, sum: __m512) -> __m512 { _mm512_fnmadd_ps(x, y, sum) }
        fn quads(from: *const i8) -> [i32; 4] {
            let sums = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), _mm_loadu_si128(from.cast()));
            std::mem::transmute::<__m128i, [i32; 4]>(sums)
        }
        fn prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        fn prefetch_far(at: *const u8) { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        fn prefetch_to_write(at: *const u8) { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn byte_of<const BYTE: u32>(bytes: __m512i, signed: bool) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe {
            let left = _mm_cvtsi32_si128(24 - 8 * BYTE as i32);
            let top = _mm512_sll_epi32(bytes, left);
            if signed { _mm512_srai_epi32::<24>(top) } else { _mm512_srli_epi32::<24>(top) }
        }
    }
}
