//! Plain Rust compiled for the widest vectors that this CPU has.

#![allow(unsafe_code)]

use super::level::Level;
use crate::Isa;

/// Does `work` with the instructions of the best level for vectors of f32. What it calls has to be `#[inline(always)]` for
/// that; multiplications and additions are not fused, so the result is the same on every level.
pub fn widest<R>(work: impl FnOnce() -> R) -> R {
    match Level::of(Isa::Avx512) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that the CPU has the features.
        Level::Avx512(_) => unsafe { avx512(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that the CPU has the features.
        Level::Avx2(_) => unsafe { avx2(work) },
        _ => work(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
