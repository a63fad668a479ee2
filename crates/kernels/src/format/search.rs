//! Choosing scales: weighted least squares over candidate scales.
//!
//! A block stores `x ≈ scale * q` or `x ≈ scale * q + offset` with few integers `q`. For fixed codes the best scale (and
//! offset) is a least-squares solution; for a fixed scale the best codes are the nearest ones. Neither step alone finds the
//! optimum, so every fit below tries a row of inverse scales around the one that just spans the values, solves for the scale that fits
//! the codes each of them gives, and keeps the smallest error `Σ w (x - x̂)²`. The K-quants store scales as small
//! integers of a common scale: there the integers are searched around the wanted ones, and the common scale is solved for again.
//!
//! Inputs are brought to magnitude 1..2 before (see [`super::encode`]), so that squares stay in range in f32.

use super::block::Half;

/// Nearest integer, ties to even, for |v| < 2^22. Unlike `round_ties_even` it needs no library call on the base
/// instruction set, so the loops around it vectorise.
#[inline]
fn nearest(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23
    (v + SHIFT) - SHIFT
}

#[inline]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The code of `v` (already divided by the scale) among the integers `lo..=hi`.
#[inline]
pub(super) fn code(v: f32, lo: f32, hi: f32) -> f32 {
    // Bounded before rounding: `nearest` only holds for moderate numbers, and a vanishing scale gives huge ones.
    nearest(v.max(lo).min(hi))
}

/// Sums in eight interleaved lanes, so that the loop can vectorise in a fixed order.
#[inline]
fn sum<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    for start in (0..N).step_by(8) {
        for (lane, acc) in lanes.iter_mut().enumerate() {
            *acc += term(start + lane);
        }
    }
    lanes.iter().sum()
}

/// Distances of the tried spans from the full span of codes, in codes.
#[derive(Clone, Copy)]
pub(super) struct Sweep {
    /// Steps to either side.
    pub(super) steps: i16,
    /// Codes per step.
    pub(super) step: f32,
}

impl Sweep {
    fn offsets(self) -> impl Iterator<Item = f32> {
        (-self.steps..=self.steps).map(move |i| f32::from(i) * self.step)
    }
}

/// The integers that a symmetric code can take.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) lo: f32,
    pub(super) hi: f32,
}

/// The best `scale` for `x ≈ scale * q`, `q` in `range`.
pub(super) fn symmetric<const N: usize>(x: &[f32; N], w: &[f32; N], range: Range, sweep: Sweep) -> f32 {
    let max = x.iter().fold(0.0f32, |max, &v| if v.abs() > max.abs() { v } else { max });
    if max == 0.0 {
        return 0.0;
    }
    let (mut best, mut least) = (0.0, f32::INFINITY);
    let mut consider = |inverse: f32| {
        let (scale, error) = fit_scale(x, w, inverse, range);
        if error < least {
            (best, least) = (scale, error);
        }
        best
    };
    // The largest value may take the last code of either end: the ranges are not symmetric.
    for end in [range.lo, range.hi] {
        for offset in sweep.offsets() {
            consider((end + offset) / max);
        }
        if range.lo == -range.hi {
            break;
        }
    }
    let mut fit = consider(range.hi / max);
    for _ in 0..2 {
        fit = consider(inverse(fit));
    }
    fit
}

/// Codes by `inverse`, then the scale that fits them best, and the error it leaves.
#[inline]
fn fit_scale<const N: usize>(x: &[f32; N], w: &[f32; N], inverse: f32, range: Range) -> (f32, f32) {
    let mut q = [0.0f32; N];
    for (q, x) in q.iter_mut().zip(x) {
        *q = code(x * inverse, range.lo, range.hi);
    }
    let xq = sum::<N>(|i| w[i] * x[i] * q[i]);
    let qq = sum::<N>(|i| w[i] * q[i] * q[i]);
    let scale = if qq > 0.0 { xq / qq } else { 0.0 };
    (scale, sum::<N>(|i| w[i] * (x[i] - scale * q[i]) * (x[i] - scale * q[i])))
}

/// The best `(scale, offset)` for `x ≈ scale * q + offset`, `q` in `0..=top`, `scale >= 0` and `offset <= highest`.
pub(super) fn affine<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    top: f32,
    highest: f32,
    sweep: Sweep,
) -> (f32, f32) {
    let low = x.iter().fold(f32::INFINITY, |low, &v| low.min(v)).min(highest);
    let high = x.iter().fold(f32::NEG_INFINITY, |high, &v| high.max(v));
    if high <= low {
        return (0.0, low);
    }
    let mut best = (0.0, low);
    let mut least = f32::INFINITY;
    let mut consider = |inverse: f32, offset: f32| {
        let (fit, error) = fit_line(x, w, inverse, offset, top, highest);
        if error < least {
            (best, least) = (fit, error);
        }
        best
    };
    for offset in sweep.offsets() {
        consider((top + offset) / (high - low), low);
    }
    let mut fit = consider(top / (high - low), low);
    for _ in 0..4 {
        let next = consider(inverse(fit.0), fit.1);
        if next == fit {
            break;
        }
        fit = next;
    }
    best
}

/// Codes by `inverse` and `offset`, then the line that fits them best, and the error it leaves.
#[inline]
fn fit_line<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    inverse: f32,
    offset: f32,
    top: f32,
    highest: f32,
) -> ((f32, f32), f32) {
    let mut q = [0.0f32; N];
    for (q, x) in q.iter_mut().zip(x) {
        *q = code((x - offset) * inverse, 0.0, top);
    }
    let ww = sum::<N>(|i| w[i]);
    let wx = sum::<N>(|i| w[i] * x[i]);
    let wq = sum::<N>(|i| w[i] * q[i]);
    let qq = sum::<N>(|i| w[i] * q[i] * q[i]);
    let xq = sum::<N>(|i| w[i] * x[i] * q[i]);
    let determinant = ww * qq - wq * wq;
    let mut fit = (0.0, if ww > 0.0 { wx / ww } else { offset });
    if determinant > 1e-6 * ww * qq {
        fit = ((ww * xq - wx * wq) / determinant, (qq * wx - wq * xq) / determinant);
    }
    if fit.1 > highest {
        fit = (if qq > 0.0 { (xq - highest * wq) / qq } else { 0.0 }, highest);
    }
    fit.0 = fit.0.max(0.0);
    let (scale, offset) = fit;
    let residual = |i: usize| x[i] - scale * q[i] - offset;
    (fit, sum::<N>(|i| w[i] * residual(i) * residual(i)))
}

/// Error of `x ≈ scale * q` with the nearest codes, and the sums `(Σ w x q, Σ w q²)`.
#[inline]
fn scale_error<const N: usize>(x: &[f32; N], w: &[f32; N], scale: f32, range: Range) -> (f32, [f32; 2]) {
    let inverse = inverse(scale);
    let mut q = [0.0f32; N];
    for (q, x) in q.iter_mut().zip(x) {
        *q = code(x * inverse, range.lo, range.hi);
    }
    let error = sum::<N>(|i| w[i] * (x[i] - scale * q[i]) * (x[i] - scale * q[i]));
    (error, [sum::<N>(|i| w[i] * x[i] * q[i]), sum::<N>(|i| w[i] * q[i] * q[i])])
}

/// Error of `x ≈ scale * q - min` with the nearest codes, and the sums `[Σ w x q, Σ w q², Σ w q, Σ w x, Σ w]`.
#[inline]
fn line_error<const N: usize>(x: &[f32; N], w: &[f32; N], scale: f32, min: f32, top: f32) -> (f32, [f32; 5]) {
    let inverse = inverse(scale);
    let mut q = [0.0f32; N];
    for (q, x) in q.iter_mut().zip(x) {
        *q = code((x + min) * inverse, 0.0, top);
    }
    let residual = |i: usize| x[i] - scale * q[i] + min;
    let sums = [
        sum::<N>(|i| w[i] * x[i] * q[i]),
        sum::<N>(|i| w[i] * q[i] * q[i]),
        sum::<N>(|i| w[i] * q[i]),
        sum::<N>(|i| w[i] * x[i]),
        sum::<N>(|i| w[i]),
    ];
    (sum::<N>(|i| w[i] * residual(i) * residual(i)), sums)
}

/// How often the common scale of a super-block is solved for again.
const REFITS: usize = 3;

/// A super-block `x ≈ d * scale[j] * q`.
pub(super) struct Symmetric<const SUBS: usize> {
    /// Common scale.
    pub(super) d: Half,
    /// Scale of each sub-block.
    pub(super) scales: [i16; SUBS],
}

impl<const SUBS: usize> Symmetric<SUBS> {
    /// The codes of `x`, `range.lo` subtracted, in value order.
    pub(super) fn codes<const N: usize>(&self, x: &[[f32; N]; SUBS], range: Range, unit: f32) -> [u8; 256] {
        let d = self.d.to_f32() / unit;
        std::array::from_fn(|i| {
            let (j, l) = (i / N, i % N);
            let inverse = inverse(d * f32::from(self.scales[j]));
            (code(x[j][l] * inverse, range.lo, range.hi) - range.lo) as u8
        })
    }
}

/// Integer scales in `scale_range` and their common scale for `SUBS` sub-blocks of `N` values. `unit` is the magnitude that `x`
/// was divided by: the common scale is rounded as it will be stored.
pub(super) fn symmetric_super<const SUBS: usize, const N: usize>(
    x: &[[f32; N]; SUBS],
    w: &[[f32; N]; SUBS],
    range: Range,
    scale_range: Range,
    unit: f32,
    sweep: Sweep,
) -> Symmetric<SUBS> {
    let mut wanted = [0.0; SUBS];
    for (wanted, (x, w)) in wanted.iter_mut().zip(x.iter().zip(w)) {
        *wanted = symmetric(x, w, range, sweep);
    }
    let max = wanted.iter().fold(0.0f32, |max, &s| if s.abs() > max.abs() { s } else { max });
    let mut best = Symmetric { d: Half::default(), scales: [0; SUBS] };
    let mut least = f32::INFINITY;
    let mut d = max / scale_range.lo;
    for _ in 0..=REFITS {
        let stored = Half::saturating(d * unit);
        d = stored.to_f32() / unit;
        if d == 0.0 {
            break;
        }
        let mut scales = [0; SUBS];
        let (mut total, mut xs, mut ss) = (0.0, 0.0, 0.0);
        for j in 0..SUBS {
            let around = code(wanted[j] / d, scale_range.lo, scale_range.hi);
            let mut found = (f32::INFINITY, 0.0, [0.0; 2]);
            for step in [0.0, -1.0, 1.0] {
                let scale = around + step;
                if scale < scale_range.lo || scale > scale_range.hi {
                    continue;
                }
                let (error, sums) = scale_error(&x[j], &w[j], d * scale, range);
                if error < found.0 {
                    found = (error, scale, sums);
                }
            }
            let (error, scale, [xq, qq]) = found;
            scales[j] = scale as i16;
            total += error;
            xs += scale * xq;
            ss += scale * scale * qq;
        }
        if total < least {
            (least, best) = (total, Symmetric { d: stored, scales });
        }
        if ss <= 0.0 {
            break;
        }
        d = xs / ss;
    }
    best
}

/// A super-block `x ≈ d * scale[j] * q - dmin * min[j]`.
pub(super) struct Affine<const SUBS: usize> {
    /// Common scale of the scales.
    pub(super) d: Half,
    /// Common scale of the minimums.
    pub(super) dmin: Half,
    /// Scale of each sub-block.
    pub(super) scales: [u8; SUBS],
    /// Minimum of each sub-block.
    pub(super) mins: [u8; SUBS],
}

impl<const SUBS: usize> Affine<SUBS> {
    /// The codes of `x`, in value order.
    pub(super) fn codes<const N: usize>(&self, x: &[[f32; N]; SUBS], top: f32, unit: f32) -> [u8; 256] {
        let (d, dmin) = (self.d.to_f32() / unit, self.dmin.to_f32() / unit);
        std::array::from_fn(|i| {
            let (j, l) = (i / N, i % N);
            let inverse = inverse(d * f32::from(self.scales[j]));
            code((x[j][l] + dmin * f32::from(self.mins[j])) * inverse, 0.0, top) as u8
        })
    }
}

/// Integer scales and minimums up to `scale_top`, and their common scales, for `SUBS` sub-blocks of `N` values
/// with codes `0..=top`. `unit` as in [`symmetric_super`].
pub(super) fn affine_super<const SUBS: usize, const N: usize>(
    x: &[[f32; N]; SUBS],
    w: &[[f32; N]; SUBS],
    top: f32,
    scale_top: f32,
    unit: f32,
    sweep: Sweep,
) -> Affine<SUBS> {
    let mut wanted = [(0.0, 0.0); SUBS];
    for (wanted, (x, w)) in wanted.iter_mut().zip(x.iter().zip(w)) {
        let (scale, offset) = affine(x, w, top, 0.0, sweep);
        *wanted = (scale, -offset);
    }
    let mut best = Affine { d: Half::default(), dmin: Half::default(), scales: [0; SUBS], mins: [0; SUBS] };
    let mut least = f32::INFINITY;
    let mut d = wanted.iter().fold(0.0f32, |max, s| max.max(s.0)) / scale_top;
    let mut dmin = wanted.iter().fold(0.0f32, |max, s| max.max(s.1)) / scale_top;
    for _ in 0..=REFITS {
        let stored = (Half::saturating(d * unit), Half::saturating(dmin * unit));
        (d, dmin) = (stored.0.to_f32() / unit, stored.1.to_f32() / unit);
        let mut tried = Affine { d: stored.0, dmin: stored.1, ..best };
        let mut total = 0.0;
        // Normal equations of x ≈ d * (scale q) - dmin * min over the whole super-block.
        let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for j in 0..SUBS {
            let (error, s, m, [xq, qq, q, wx, ww]) =
                nearby(&x[j], &w[j], top, scale_top, wanted[j], (d, dmin));
            (tried.scales[j], tried.mins[j]) = (s as u8, m as u8);
            total += error;
            aa += s * s * qq;
            ab -= s * m * q;
            bb += m * m * ww;
            ax += s * xq;
            bx -= m * wx;
        }
        if total < least {
            (least, best) = (total, tried);
        }
        let determinant = aa * bb - ab * ab;
        if determinant > 1e-6 * aa * bb {
            (d, dmin) = ((ax * bb - bx * ab) / determinant, (aa * bx - ab * ax) / determinant);
        } else if aa > 0.0 && bb == 0.0 {
            d = ax / aa;
        } else if bb > 0.0 && aa == 0.0 {
            dmin = bx / bb;
        } else {
            break;
        }
        // A negative scale never fits better once the signs of the sub-blocks are settled.
        (d, dmin) = (d.max(0.0), dmin.max(0.0));
    }
    best
}

/// The integer `(scale, min)` with the least error among the nine around the wanted ones:
/// `(error, scale, min, sums)`.
fn nearby<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    top: f32,
    scale_top: f32,
    wanted: (f32, f32),
    (d, dmin): (f32, f32),
) -> (f32, f32, f32, [f32; 5]) {
    let around =
        (code(wanted.0 * inverse(d), 0.0, scale_top), code(wanted.1 * inverse(dmin), 0.0, scale_top));
    let mut found = (f32::INFINITY, 0.0, 0.0, [0.0; 5]);
    for scale_step in [0.0, -1.0, 1.0] {
        for min_step in [0.0, -1.0, 1.0] {
            let (scale, min) = (around.0 + scale_step, around.1 + min_step);
            if scale.min(min) < 0.0 || scale.max(min) > scale_top {
                continue;
            }
            let (error, sums) = line_error(x, w, d * scale, dmin * min, top);
            if error < found.0 {
                found = (error, scale, min, sums);
            }
        }
    }
    found
}
