//! Row operations, written once over [`Lanes`].

#![allow(unsafe_code)]

use super::level::levels;

levels! {
    /// `out = weight * x / rms(x)` for every row of `dim` numbers.
    fn rms_norm(x: &[f32], dim: usize, weight: Option<&[f32]>, eps: f32, out: &mut [f32]);
    /// The same, in place.
    fn rms_norm_inplace(x: &mut [f32], dim: usize, weight: Option<&[f32]>, eps: f32);
    /// `gate = silu(gate) * up`.
    fn silu_mul(gate: &mut [f32], up: &[f32]);
    /// `gate = gelu(gate) * up`, gelu by its tanh approximation.
    fn gelu_tanh_mul(gate: &mut [f32], up: &[f32]);
    /// `gate = silu(min(gate, limit)) * clamp(up)`, `up` clamped to `limit` either way.
    fn swiglu_clamped(gate: &mut [f32], up: &[f32], limit: f32);
    /// `gate = (clamp(up) + 1) * g * sigmoid(alpha * g)`, `g = min(gate, limit)`, `up` clamped to `limit` either way.
    fn swiglu_oai(gate: &mut [f32], up: &[f32], alpha: f32, limit: f32);
    /// `x *= sigmoid(gate)`.
    fn sigmoid_mul(x: &mut [f32], gate: &[f32]);
    /// `x += y`.
    fn add(x: &mut [f32], y: &[f32]);
    /// `x += s * y`.
    fn add_scaled(x: &mut [f32], y: &[f32], s: f32);
    /// `x *= s`.
    fn scale(x: &mut [f32], s: f32);
    /// `x = cap * tanh(x / cap)`.
    fn softcap(x: &mut [f32], cap: f32);
    /// `x = e^(x - shift)`; returns the sum.
    fn exp_sum(x: &mut [f32], shift: f32) -> f64;
    /// The sum of `e^(x - shift)`.
    fn sum_exp(x: &[f32], shift: f32) -> f64;
    /// The largest number that is not NaN; the lowest finite number if there is none.
    fn max(x: &[f32]) -> f32;
    /// Rotates pairs of dims that lie `half` apart, in every head of a row.
    fn rope_half(row: &mut [f32], head_dim: usize, offset: usize, cos: &[f32], sin: &[f32]);
    /// Rotates pairs of adjacent dims, in every head of a row.
    fn rope_pairs(row: &mut [f32], head_dim: usize, offset: usize, cos: &[f32], sin: &[f32]);
}

/// # Safety
/// As [`Lanes`](super::lanes::Lanes): callers have the instruction set.
mod generic {
    use crate::isa::lanes::{Lanes, exp, load_part, map, store_part, sum, tanh};

    /// Sum of squares: four running sums of lanes over the whole vectors, then the tail.
    ///
    /// # Safety
    /// As the module, and `x` points to `n` numbers.
    #[inline(always)]
    unsafe fn squares<L: Lanes>(x: *const f32, n: usize) -> f32 {
        // SAFETY: indices stay below n.
        unsafe {
            let mut sums = [L::splat(0.0); 4];
            let mut i = 0;
            while i + 4 * L::N <= n {
                for (c, s) in sums.iter_mut().enumerate() {
                    let v = L::load(x.add(i + c * L::N));
                    *s = v.fma(v, *s);
                }
                i += 4 * L::N;
            }
            while i < n {
                let left = (n - i).min(L::N);
                let v = if left == L::N { L::load(x.add(i)) } else { load_part::<L>(x.add(i), left, 0.0) };
                sums[0] = v.fma(v, sums[0]);
                i += left;
            }
            sum(sums[0].add(sums[1]).add(sums[2].add(sums[3])))
        }
    }

    /// # Safety
    /// As the module, and the pointers have `dim` numbers; `x` may equal `out`.
    #[inline(always)]
    unsafe fn norm_row<L: Lanes>(x: *const f32, dim: usize, weight: Option<&[f32]>, eps: f32, out: *mut f32) {
        // SAFETY: weight has dim numbers (checked by the entries), the others by the caller's promise.
        unsafe {
            let factor = L::splat(1.0 / (squares::<L>(x, dim) / dim as f32 + eps).sqrt());
            match weight {
                Some(weight) => map!(L, dim, x, weight.as_ptr(), out, |x, w| x.mul(factor).mul(w)),
                None => map!(L, dim, x, x, out, |x, _| x.mul(factor)),
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn rms_norm<L: Lanes>(
        x: &[f32],
        dim: usize,
        weight: Option<&[f32]>,
        eps: f32,
        out: &mut [f32],
    ) {
        assert!(weight.is_none_or(|w| w.len() == dim));
        for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            // SAFETY: both rows have dim numbers.
            unsafe { norm_row::<L>(x.as_ptr(), dim, weight, eps, out.as_mut_ptr()) };
        }
    }

    #[inline(always)]
    pub(super) unsafe fn rms_norm_inplace<L: Lanes>(
        x: &mut [f32],
        dim: usize,
        weight: Option<&[f32]>,
        eps: f32,
    ) {
        assert!(weight.is_none_or(|w| w.len() == dim));
        for row in x.chunks_exact_mut(dim) {
            let row = row.as_mut_ptr();
            // SAFETY: the row has dim numbers.
            unsafe { norm_row::<L>(row, dim, weight, eps, row) };
        }
    }

    #[inline(always)]
    pub(super) unsafe fn silu_mul<L: Lanes>(gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        let g = gate.as_mut_ptr();
        // SAFETY: both have as many numbers.
        unsafe {
            let (zero, one) = (L::splat(0.0), L::splat(1.0));
            map!(L, gate.len(), g, up.as_ptr(), g, |g, u| g.div(one.add(exp(zero.sub(g)))).mul(u));
        }
    }

    #[inline(always)]
    pub(super) unsafe fn gelu_tanh_mul<L: Lanes>(gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        let g = gate.as_mut_ptr();
        // 0.5 (1 + tanh(y)) = 1 / (1 + e^(-2 y)) with y = sqrt(2 / pi) (x + 0.044715 x^3)
        const LINEAR: f32 = -2.0 * 0.797_884_6;
        // SAFETY: both have as many numbers.
        unsafe {
            let (one, linear, cubic) = (L::splat(1.0), L::splat(LINEAR), L::splat(LINEAR * 0.044_715));
            map!(L, gate.len(), g, up.as_ptr(), g, |g, u| {
                let minus_2y = g.mul(g).fma(cubic, linear).mul(g);
                g.div(one.add(exp(minus_2y))).mul(u)
            });
        }
    }

    #[inline(always)]
    pub(super) unsafe fn swiglu_clamped<L: Lanes>(gate: &mut [f32], up: &[f32], limit: f32) {
        assert_eq!(gate.len(), up.len());
        let g = gate.as_mut_ptr();
        // SAFETY: both have as many numbers.
        unsafe {
            let (zero, one) = (L::splat(0.0), L::splat(1.0));
            let (most, least) = (L::splat(limit), L::splat(-limit));
            map!(L, gate.len(), g, up.as_ptr(), g, |g, u| {
                // The number comes second, so that NaN stays.
                let (g, u) = (most.min(g), least.max(most.min(u)));
                g.div(one.add(exp(zero.sub(g)))).mul(u)
            });
        }
    }

    #[inline(always)]
    pub(super) unsafe fn swiglu_oai<L: Lanes>(gate: &mut [f32], up: &[f32], alpha: f32, limit: f32) {
        assert_eq!(gate.len(), up.len());
        let g = gate.as_mut_ptr();
        // SAFETY: both have as many numbers.
        unsafe {
            let (one, minus_alpha) = (L::splat(1.0), L::splat(-alpha));
            let (most, least) = (L::splat(limit), L::splat(-limit));
            map!(L, gate.len(), g, up.as_ptr(), g, |g, u| {
                let (g, u) = (most.min(g), least.max(most.min(u)));
                g.div(one.add(exp(minus_alpha.mul(g)))).mul(u.add(one))
            });
        }
    }

    #[inline(always)]
    pub(super) unsafe fn sigmoid_mul<L: Lanes>(x: &mut [f32], gate: &[f32]) {
        assert_eq!(x.len(), gate.len());
        let to = x.as_mut_ptr();
        // SAFETY: both have as many numbers.
        unsafe {
            let (zero, one) = (L::splat(0.0), L::splat(1.0));
            map!(L, x.len(), to, gate.as_ptr(), to, |x, g| x.div(one.add(exp(zero.sub(g)))));
        }
    }

    #[inline(always)]
    pub(super) unsafe fn add<L: Lanes>(x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len());
        let to = x.as_mut_ptr();
        // SAFETY: both have as many numbers.
        unsafe { map!(L, x.len(), to, y.as_ptr(), to, |x, y| x.add(y)) };
    }

    #[inline(always)]
    pub(super) unsafe fn add_scaled<L: Lanes>(x: &mut [f32], y: &[f32], s: f32) {
        assert_eq!(x.len(), y.len());
        let to = x.as_mut_ptr();
        // SAFETY: both have as many numbers.
        unsafe {
            let s = L::splat(s);
            map!(L, x.len(), to, y.as_ptr(), to, |x, y| y.fma(s, x));
        }
    }

    #[inline(always)]
    pub(super) unsafe fn scale<L: Lanes>(x: &mut [f32], s: f32) {
        let to = x.as_mut_ptr();
        // SAFETY: one slice.
        unsafe {
            let s = L::splat(s);
            map!(L, x.len(), to, to, to, |x, _| x.mul(s));
        }
    }

    #[inline(always)]
    pub(super) unsafe fn softcap<L: Lanes>(x: &mut [f32], cap: f32) {
        let to = x.as_mut_ptr();
        // SAFETY: one slice.
        unsafe {
            let cap = L::splat(cap);
            map!(L, x.len(), to, to, to, |x, _| tanh(x.div(cap)).mul(cap));
        }
    }

    /// Numbers whose sum is taken in f32 before it goes to f64.
    const RUN: usize = 1024;

    /// The sum of `e^(x - shift)` of a run, whose numbers are replaced by these if `STORE`.
    #[inline(always)]
    unsafe fn exp_run<L: Lanes, const STORE: bool>(x: *mut f32, n: usize, shift: f32) -> f32 {
        // SAFETY: indices stay below n; the tail's other lanes are e^-inf = 0.
        unsafe {
            let shift = L::splat(shift);
            let mut total = L::splat(0.0);
            for i in (0..n).step_by(L::N) {
                let left = (n - i).min(L::N);
                let v = if left == L::N {
                    L::load(x.add(i))
                } else {
                    load_part(x.add(i), left, f32::NEG_INFINITY)
                };
                let e = exp(v.sub(shift));
                if STORE && left == L::N {
                    e.store(x.add(i));
                } else if STORE {
                    store_part(e, x.add(i), left);
                }
                total = total.add(e);
            }
            sum(total)
        }
    }

    #[inline(always)]
    pub(super) unsafe fn exp_sum<L: Lanes>(x: &mut [f32], shift: f32) -> f64 {
        let mut total = 0.0;
        for run in x.chunks_mut(RUN) {
            // SAFETY: a run has as many numbers as it says.
            total += f64::from(unsafe { exp_run::<L, true>(run.as_mut_ptr(), run.len(), shift) });
        }
        total
    }

    #[inline(always)]
    pub(super) unsafe fn sum_exp<L: Lanes>(x: &[f32], shift: f32) -> f64 {
        let mut total = 0.0;
        for run in x.chunks(RUN) {
            // SAFETY: a run has as many numbers as it says, and nothing is stored.
            total += f64::from(unsafe { exp_run::<L, false>(run.as_ptr().cast_mut(), run.len(), shift) });
        }
        total
    }

    #[inline(always)]
    pub(super) unsafe fn max<L: Lanes>(x: &[f32]) -> f32 {
        let (from, n) = (x.as_ptr(), x.len());
        let mut lanes = [f32::MIN; 16];
        // SAFETY: indices stay below n; N <= 16.
        unsafe {
            let mut most = L::splat(f32::MIN);
            let mut i = 0;
            while i < n {
                let left = (n - i).min(L::N);
                let v = if left == L::N {
                    L::load(from.add(i))
                } else {
                    load_part::<L>(from.add(i), left, f32::MIN)
                };
                most = v.max(most); // NaN in v keeps what is there
                i += left;
            }
            most.store(lanes.as_mut_ptr());
        }
        lanes.iter().copied().fold(f32::MIN, f32::max)
    }

    // The rotations vectorise by themselves once they are compiled for the level.
    #[inline(always)]
    pub(super) unsafe fn rope_half<L: Lanes>(
        row: &mut [f32],
        head_dim: usize,
        offset: usize,
        cos: &[f32],
        sin: &[f32],
    ) {
        let half = cos.len();
        for head in row.chunks_exact_mut(head_dim) {
            let (first, second) = head[offset..offset + 2 * half].split_at_mut(half);
            for (((x, y), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*x, *y) = (*x * c - *y * s, *y * c + *x * s);
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn rope_pairs<L: Lanes>(
        row: &mut [f32],
        head_dim: usize,
        offset: usize,
        cos: &[f32],
        sin: &[f32],
    ) {
        let half = cos.len();
        for head in row.chunks_exact_mut(head_dim) {
            let pairs = head[offset..offset + 2 * half].chunks_exact_mut(2);
            for ((pair, c), s) in pairs.zip(cos).zip(sin) {
                let (x, y) = (pair[0], pair[1]);
                (pair[0], pair[1]) = (x * c - y * s, y * c + x * s);
            }
        }
    }
}
