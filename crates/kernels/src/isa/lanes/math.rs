//! Functions of vectors, the same sequence of operations at every level.

#![allow(unsafe_code)]

use super::Lanes;

/// Smallest argument whose exponential is a normal number.
const EXP_LOW: f32 = -87.336_54;
/// 127.5 ln 2: beyond it the exponent would round to 128.
const EXP_HIGH: f32 = 88.376_26;

/// `e^x` with an error below 2 ulp; 0 below -87.336 (no denormal results), infinity above 88.376, NaN for NaN.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: the caller has the instruction set; no memory is touched.
    unsafe {
        let high = L::splat(EXP_HIGH);
        high.select_lt(x, L::splat(f32::INFINITY), exp_down(high.min(x))) // this order lets NaN through
    }
}

/// [`exp`] of numbers up to 88.376, the same bits for less work.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn exp_down<L: Lanes>(x: L) -> L {
    // SAFETY: the caller has the instruction set; no memory is touched.
    unsafe {
        let low = L::splat(EXP_LOW);
        let t = low.max(x); // this order lets NaN through
        let n = t.mul(L::splat(std::f32::consts::LOG2_E)).round();
        // ln 2 in two parts: the first has few enough bits that n times it is exact.
        let r = n.fma(L::splat(-0.693_359_4), t);
        let r = n.fma(L::splat(2.121_944_4e-4), r);
        // Minimax polynomial of (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2 (the coefficients of Cephes' expf).
        let p = L::splat(1.987_569_1e-4);
        let p = p.fma(r, L::splat(1.398_199_9e-3));
        let p = p.fma(r, L::splat(8.333_452e-3));
        let p = p.fma(r, L::splat(4.166_579_6e-2));
        let p = p.fma(r, L::splat(1.666_666_5e-1));
        let p = p.fma(r, L::splat(0.5));
        let y = p.fma(r.mul(r), r).add(L::splat(1.0)).mul(n.exp2_whole());
        x.select_lt(low, L::splat(0.0), y)
    }
}

/// `|x|`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn magnitude<L: Lanes>(x: L) -> L {
    // SAFETY: the caller has the instruction set; no memory is touched.
    unsafe { x.max(L::splat(0.0).sub(x)) }
}

/// The largest number of a vector without NaN.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn largest<L: Lanes>(x: L) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    // SAFETY: the caller has the instruction set; a vector has up to sixteen numbers.
    unsafe { x.store(lanes.as_mut_ptr()) };
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// `tanh(x)` with an absolute error below 2e-7.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn tanh<L: Lanes>(x: L) -> L {
    // SAFETY: the caller has the instruction set; no memory is touched.
    unsafe {
        let one = L::splat(1.0);
        let e = exp(x.add(x));
        one.sub(L::splat(2.0).div(e.add(one)))
    }
}

/// Loads `n < N` numbers; the other lanes are `rest`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn load_part<L: Lanes>(from: *const f32, n: usize, rest: f32) -> L {
    let mut lanes = [rest; 16];
    // SAFETY: the caller vouches for n numbers; n < N <= 16.
    unsafe {
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
        L::load(lanes.as_ptr())
    }
}

/// Stores the first `n < N` lanes.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn store_part<L: Lanes>(x: L, to: *mut f32, n: usize) {
    let mut lanes = [0.0; 16];
    // SAFETY: the caller vouches for n numbers; n < N <= 16.
    unsafe {
        x.store(lanes.as_mut_ptr());
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n);
    }
}

/// `to[i] = f(x[i], y[i])` for `i` in `0..n`, all three pointers to `n` numbers; `to` may be `x` or `y` itself. A
/// macro, because a closure that is not inlined has no instruction set: all its vectors would go through memory.
macro_rules! map {
    ($L:ident, $n:expr, $x:expr, $y:expr, $to:expr, |$a:ident, $b:pat_param| $f:expr) => {{
        let (n, x, y, to): (usize, *const f32, *const f32, *mut f32) = ($n, $x, $y, $to);
        let whole = n - n % $L::N;
        for i in (0..whole).step_by($L::N) {
            let ($a, $b) = ($L::load(x.add(i)), $L::load(y.add(i)));
            $f.store(to.add(i));
        }
        if whole < n {
            let ($a, $b): ($L, $L) = (
                $crate::isa::lanes::load_part(x.add(whole), n - whole, 0.0),
                $crate::isa::lanes::load_part(y.add(whole), n - whole, 0.0),
            );
            $crate::isa::lanes::store_part::<$L>($f, to.add(whole), n - whole);
        }
    }};
}
pub(crate) use map;

/// The sum of the lanes: halves added pairwise, a fixed order.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn sum<L: Lanes>(x: L) -> f32 {
    let mut lanes = [0.0; 16];
    // SAFETY: N <= 16.
    unsafe { x.store(lanes.as_mut_ptr()) };
    let mut half = L::N / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
