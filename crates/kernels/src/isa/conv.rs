//! Causal depthwise convolution, one row at a time.

#![allow(unsafe_code)]

use super::level::levels;

levels! {
    /// `out = silu(Σ_j taps[j] * rows[j])`.
    fn conv_silu(rows: &[&[f32]], taps: &[&[f32]], out: &mut [f32]);
}

/// # Safety
/// As [`Lanes`](super::lanes::Lanes): callers have the instruction set.
mod generic {
    use crate::isa::lanes::{Lanes, exp, load_part, store_part};

    #[inline(always)]
    pub(super) unsafe fn conv_silu<L: Lanes>(rows: &[&[f32]], taps: &[&[f32]], out: &mut [f32]) {
        let n = out.len();
        assert!(taps.len() == rows.len() && rows.iter().chain(taps).all(|row| row.len() == n));
        let out = out.as_mut_ptr();
        // SAFETY: all rows have n numbers, and indices stay below n.
        unsafe {
            let (zero, one) = (L::splat(0.0), L::splat(1.0));
            for i in (0..n).step_by(L::N) {
                let left = (n - i).min(L::N);
                let load = |from: *const f32| {
                    if left == L::N { L::load(from.add(i)) } else { load_part(from.add(i), left, 0.0) }
                };
                let mut y = zero;
                for (row, tap) in rows.iter().zip(taps) {
                    y = load(row.as_ptr()).fma(load(tap.as_ptr()), y);
                }
                let y = y.div(one.add(exp(zero.sub(y))));
                if left == L::N { y.store(out.add(i)) } else { store_part(y, out.add(i), left) }
            }
        }
    }
}
