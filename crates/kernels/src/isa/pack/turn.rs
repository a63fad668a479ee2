//! Transposition of 16 x 16 words.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Transposes sixteen rows of sixteen words.
///
/// # Safety
/// The CPU must offer the implementor's instruction set.
pub(super) trait Turn {
    /// Word `r` of vector `k` becomes word `k` of row `r`. Rows are `stride` bytes apart. No alignment is needed.
    ///
    /// # Safety
    /// Sixteen words at each row's place may be read, and 1,024 bytes may be written.
    unsafe fn turn(from: *const u32, stride: usize, to: *mut u8);

    /// Asks for the cache line at an address, which need not be valid.
    ///
    /// # Safety
    /// As the trait.
    unsafe fn prefetch(_address: *const u8) {}
}

/// Plain Rust.
pub(super) struct Plain;

impl Turn for Plain {
    #[inline(always)]
    unsafe fn turn(from: *const u32, stride: usize, to: *mut u8) {
        for r in 0..16 {
            for k in 0..16 {
                // SAFETY: the caller's promise.
                unsafe {
                    let word = from.byte_add(r * stride).add(k).read_unaligned();
                    to.cast::<u32>().add(16 * k + r).write_unaligned(word);
                }
            }
        }
    }
}

/// 256-bit vectors: four squares of 8 x 8.
#[cfg(target_arch = "x86_64")]
pub(super) struct Ymm;

#[cfg(target_arch = "x86_64")]
impl Turn for Ymm {
    #[inline(always)]
    unsafe fn turn(from: *const u32, stride: usize, to: *mut u8) {
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            // SAFETY: the caller's promise.
            unsafe {
                let mut rows = [_mm256_setzero_si256(); 8];
                for (r, row) in rows.iter_mut().enumerate() {
                    *row = _mm256_loadu_si256(from.byte_add((8 * i + r) * stride).add(8 * j).cast());
                }
                let mut pairs = rows;
                for r in 0..4 {
                    pairs[2 * r] = _mm256_unpacklo_epi32(rows[2 * r], rows[2 * r + 1]);
                    pairs[2 * r + 1] = _mm256_unpackhi_epi32(rows[2 * r], rows[2 * r + 1]);
                }
                // Four rows of columns k and k + 4.
                let mut fours = pairs;
                for half in 0..2 {
                    for odd in 0..2 {
                        let (a, b) = (pairs[4 * half + odd], pairs[4 * half + odd + 2]);
                        fours[4 * half + 2 * odd] = _mm256_unpacklo_epi64(a, b);
                        fours[4 * half + 2 * odd + 1] = _mm256_unpackhi_epi64(a, b);
                    }
                }
                for k in 0..4 {
                    let (a, b) = (fours[k], fours[4 + k]);
                    let to = to.add(64 * (8 * j + k) + 32 * i);
                    _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(a, b));
                    _mm256_storeu_si256(to.add(64 * 4).cast(), _mm256_permute2x128_si256::<0x31>(a, b));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address does no harm.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
}

/// 512-bit vectors.
#[cfg(target_arch = "x86_64")]
pub(super) struct Zmm;

#[cfg(target_arch = "x86_64")]
impl Turn for Zmm {
    #[inline(always)]
    unsafe fn turn(from: *const u32, stride: usize, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); 16];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_si512(from.byte_add(r * stride).cast());
            }
            let mut pairs = rows;
            for r in 0..8 {
                pairs[2 * r] = _mm512_unpacklo_epi32(rows[2 * r], rows[2 * r + 1]);
                pairs[2 * r + 1] = _mm512_unpackhi_epi32(rows[2 * r], rows[2 * r + 1]);
            }
            // fours[4 q + k]: rows 4 q .. 4 q + 4 of columns k, k + 4, k + 8 and k + 12.
            let mut fours = pairs;
            for q in 0..4 {
                for odd in 0..2 {
                    let (a, b) = (pairs[4 * q + odd], pairs[4 * q + odd + 2]);
                    fours[4 * q + 2 * odd] = _mm512_unpacklo_epi64(a, b);
                    fours[4 * q + 2 * odd + 1] = _mm512_unpackhi_epi64(a, b);
                }
            }
            for k in 0..4 {
                let [a, b, c, d] = [fours[k], fours[4 + k], fours[8 + k], fours[12 + k]];
                let (ab_low, ab_high) =
                    (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
                let (cd_low, cd_high) =
                    (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
                let vectors = [
                    _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
                    _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
                    _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low),
                    _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
                ];
                for (i, vector) in vectors.into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(64 * (k + 4 * i)).cast(), vector);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address does no harm.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(turn: unsafe fn(*const u32, usize, *mut u8)) {
        // One byte off alignment, rows with a gap.
        let stride = 19 * 4 + 1;
        let bytes: Vec<u8> = (0..16 * stride + 1).map(|i| (i * 37 + i / 251) as u8).collect();
        let mut out = vec![0; 1025];
        // SAFETY: the buffers are large enough, and the caller has checked the CPU.
        unsafe { turn(bytes.as_ptr().add(1).cast(), stride, out.as_mut_ptr().add(1)) };
        for (k, r) in (0..256).map(|i| (i / 16, i % 16)) {
            assert_eq!(
                out[1 + 64 * k + 4 * r..][..4],
                bytes[1 + r * stride + 4 * k..][..4],
                "row {r}, word {k}"
            );
        }
    }

    #[test]
    fn words_change_places() {
        check(Plain::turn);
        #[cfg(target_arch = "x86_64")]
        {
            if crate::cpu::Avx2::detect().is_some() {
                check(Ymm::turn);
            }
            if crate::cpu::Avx512::detect().is_some() {
                check(Zmm::turn);
            }
        }
    }
}
