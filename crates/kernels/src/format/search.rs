//! Choosing scales: weighted least squares over candidate scales.
//!
//! A block stores `x ≈ scale * q` or `x ≈ scale * q + offset` with few integers `q`. For fixed codes the best scale (and
//! offset) is a least-squares solution; for a fixed scale the best codes are the nearest ones. Neither step alone finds the
//! optimum, so every fit below tries a row of inverse scales around the one that just spans the values, solves for the scale that fits
//! the codes each of them gives, and keeps the smallest error `Σ w (x - x̂)²`. The K-quants store scales as small
//! integers of a common scale: there the integers are searched around the wanted ones, and the common scale is solved for again.
//!
//! Sub-blocks are searched side by side, one in each lane of a vector: sums then run along the values of a sub-block and
//! never across a vector, and every instruction set gives the same blocks.
//!
//! Inputs are brought to magnitude 1..2 before (see [`super::encode`]), so that squares stay in range in f32.

#![allow(clippy::needless_range_loop, reason = "a lane's number means the same sub-block in every array")]

use super::block::Half;

/// Nearest integer, ties to even, for |v| < 2^22. Unlike `round_ties_even` it needs no library call on the base
/// instruction set, so the loops around it vectorise.
#[inline(always)]
fn nearest(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23
    (v + SHIFT) - SHIFT
}

#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The code of `v` (already divided by the scale) among the integers `lo..=hi`.
#[inline(always)]
pub(super) fn code(v: f32, lo: f32, hi: f32) -> f32 {
    // Bounded before rounding: `nearest` only holds for moderate numbers, and a vanishing scale gives huge ones. Written as
    // vectors compare; what is no number becomes `lo`.
    let v = if v > lo { v } else { lo };
    nearest(if v < hi { v } else { hi })
}

/// One number for each of `L` sub-blocks.
pub(super) type Lanes<const L: usize> = [f32; L];

/// `f` of every lane.
#[inline(always)]
fn each<const L: usize>(f: impl Fn(usize) -> f32) -> Lanes<L> {
    let mut out = [0.0; L];
    for (l, out) in out.iter_mut().enumerate() {
        *out = f(l);
    }
    out
}

/// The values of `L` sub-blocks of `N` with their weights, value by value.
pub(super) struct Group<const N: usize, const L: usize> {
    x: [Lanes<L>; N],
    w: [Lanes<L>; N],
    /// `Σ w` and `Σ w x`.
    ww: Lanes<L>,
    wx: Lanes<L>,
}

impl<const N: usize, const L: usize> Group<N, L> {
    #[inline(always)]
    pub(super) fn new(x: &[[f32; N]; L], w: &[[f32; N]; L]) -> Self {
        let turned = |from: &[[f32; N]; L]| {
            let mut to = [[0.0; L]; N];
            for (i, to) in to.iter_mut().enumerate() {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = from[i];
                }
            }
            to
        };
        let (x, w) = (turned(x), turned(w));
        let (mut ww, mut wx) = ([0.0; L], [0.0; L]);
        for i in 0..N {
            for l in 0..L {
                ww[l] += w[i][l];
                wx[l] += w[i][l] * x[i][l];
            }
        }
        Group { x, w, ww, wx }
    }

    /// `Σ w (x - scale q - offset)²`, with the codes of `inverse`: what a fit leaves.
    #[inline(always)]
    fn error(&self, q: &[Lanes<L>; N], scale: &Lanes<L>, offset: &Lanes<L>) -> Lanes<L> {
        let mut error = [0.0; L];
        for i in 0..N {
            for l in 0..L {
                let residual = self.x[i][l] - scale[l] * q[i][l] - offset[l];
                error[l] += self.w[i][l] * residual * residual;
            }
        }
        error
    }

    /// The codes of `(x - offset) * inverse`, and their moments `Σ w q`, `Σ w q²` and `Σ w x q`.
    ///
    /// In one loop: sums in a fixed order keep the compiler from taking values instead of sub-blocks for its lanes.
    #[inline(always)]
    fn codes(&self, inverse: &Lanes<L>, offset: &Lanes<L>, range: Range) -> ([Lanes<L>; N], [Lanes<L>; 3]) {
        let mut q = [[0.0; L]; N];
        let [mut wq, mut qq, mut xq] = [[0.0; L]; 3];
        for i in 0..N {
            for l in 0..L {
                let code = code((self.x[i][l] - offset[l]) * inverse[l], range.lo, range.hi);
                let weighted = self.w[i][l] * code;
                q[i][l] = code;
                wq[l] += weighted;
                qq[l] += weighted * code;
                xq[l] += weighted * self.x[i][l];
            }
        }
        (q, [wq, qq, xq])
    }
}

/// The best fits so far, and the errors that they leave.
struct Best<const L: usize> {
    scale: Lanes<L>,
    offset: Lanes<L>,
    error: Lanes<L>,
}

impl<const L: usize> Best<L> {
    #[inline(always)]
    fn consider(&mut self, scale: &Lanes<L>, offset: &Lanes<L>, error: &Lanes<L>) {
        for l in 0..L {
            let better = error[l] < self.error[l];
            self.scale[l] = if better { scale[l] } else { self.scale[l] };
            self.offset[l] = if better { offset[l] } else { self.offset[l] };
            self.error[l] = if better { error[l] } else { self.error[l] };
        }
    }

    /// Considers the scales that fit the codes of `inverse` best.
    #[inline(always)]
    fn try_scale<const N: usize>(&mut self, group: &Group<N, L>, inverse: &Lanes<L>, range: Range) {
        let (q, [_, qq, xq]) = group.codes(inverse, &[0.0; L], range);
        let scale = each(|l| if qq[l] > 0.0 { xq[l] / qq[l] } else { 0.0 });
        self.consider(&scale, &[0.0; L], &group.error(&q, &scale, &[0.0; L]));
    }

    /// Considers the lines that fit the codes of `inverse` and `offset` best.
    #[inline(always)]
    fn try_line<const N: usize>(
        &mut self,
        group: &Group<N, L>,
        inverse: &Lanes<L>,
        offset: &Lanes<L>,
        (top, highest): (f32, f32),
    ) {
        let (q, moments) = group.codes(inverse, offset, Range { lo: 0.0, hi: top });
        let (scale, offset) = line(group, &moments, offset, highest);
        self.consider(&scale, &offset, &group.error(&q, &scale, &offset));
    }
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
    #[inline(always)]
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
#[inline(always)]
pub(super) fn symmetric<const N: usize, const L: usize>(
    group: &Group<N, L>,
    range: Range,
    sweep: Sweep,
) -> Lanes<L> {
    let mut max = [0.0f32; L];
    for x in &group.x {
        for l in 0..L {
            max[l] = if x[l].abs() > max[l].abs() { x[l] } else { max[l] };
        }
    }
    let spanning: Lanes<L> = each(|l| inverse(max[l]));
    let mut best = Best { scale: [0.0; L], offset: [0.0; L], error: [f32::INFINITY; L] };
    // The largest value may take the last code of either end: the ranges are not symmetric.
    for end in [range.lo, range.hi] {
        for offset in sweep.offsets() {
            best.try_scale(group, &each(|l| (end + offset) * spanning[l]), range);
        }
        if range.lo == -range.hi {
            break;
        }
    }
    best.try_scale(group, &each(|l| range.hi * spanning[l]), range);
    for _ in 0..2 {
        best.try_scale(group, &each(|l| inverse(best.scale[l])), range);
    }
    best.scale
}

/// The best scales and offsets for `x ≈ scale * q + offset`, `q` in `0..=top`, `scale >= 0` and `offset <= highest`.
#[inline(always)]
pub(super) fn affine<const N: usize, const L: usize>(
    group: &Group<N, L>,
    top: f32,
    highest: f32,
    sweep: Sweep,
) -> (Lanes<L>, Lanes<L>) {
    let (mut low, mut high) = ([highest; L], [f32::NEG_INFINITY; L]);
    for x in &group.x {
        for l in 0..L {
            low[l] = low[l].min(x[l]);
            high[l] = high[l].max(x[l]);
        }
    }
    let spanning: Lanes<L> = each(|l| inverse((high[l] - low[l]).max(0.0)));
    let mut best = Best { scale: [0.0; L], offset: low, error: [f32::INFINITY; L] };
    for offset in sweep.offsets() {
        best.try_line(group, &each(|l| (top + offset) * spanning[l]), &low, (top, highest));
    }
    best.try_line(group, &each(|l| top * spanning[l]), &low, (top, highest));
    for _ in 0..4 {
        let before = best.error;
        best.try_line(group, &each(|l| inverse(best.scale[l])), &{ best.offset }, (top, highest));
        if best.error == before {
            break;
        }
    }
    // What spans nothing is its offset.
    for l in 0..L {
        let flat = high[l] <= low[l];
        best.scale[l] = if flat { 0.0 } else { best.scale[l] };
        best.offset[l] = if flat { low[l] } else { best.offset[l] };
    }
    (best.scale, best.offset)
}

/// The lines that fit codes with these moments best. `offset`: where nothing is known.
#[inline(always)]
fn line<const N: usize, const L: usize>(
    group: &Group<N, L>,
    [wq, qq, xq]: &[Lanes<L>; 3],
    offset: &Lanes<L>,
    highest: f32,
) -> (Lanes<L>, Lanes<L>) {
    let (ww, wx) = (&group.ww, &group.wx);
    let (mut scale, mut shift) = ([0.0; L], [0.0; L]);
    for l in 0..L {
        let determinant = ww[l] * qq[l] - wq[l] * wq[l];
        let solved = determinant > 1e-6 * ww[l] * qq[l];
        let mean = if ww[l] > 0.0 { wx[l] / ww[l] } else { offset[l] };
        let a = if solved { (ww[l] * xq[l] - wx[l] * wq[l]) / determinant } else { 0.0 };
        let b = if solved { (qq[l] * wx[l] - wq[l] * xq[l]) / determinant } else { mean };
        let above = b > highest;
        let bound = if qq[l] > 0.0 { (xq[l] - highest * wq[l]) / qq[l] } else { 0.0 };
        scale[l] = if above { bound } else { a }.max(0.0);
        shift[l] = if above { highest } else { b };
    }
    (scale, shift)
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
    #[inline(always)]
    pub(super) fn codes<const N: usize>(&self, x: &[[f32; N]; SUBS], range: Range, unit: f32) -> [u8; 256] {
        let d = self.d.to_f32() / unit;
        let mut codes = [0; 256];
        for (j, codes) in codes.chunks_exact_mut(N).enumerate() {
            let inverse = inverse(d * f32::from(self.scales[j]));
            for (out, x) in codes.iter_mut().zip(&x[j]) {
                *out = (code(x * inverse, range.lo, range.hi) - range.lo) as u8;
            }
        }
        codes
    }

    /// The common scale with which the block is as large, in its own direction, as it was: `Σ w x x̂ = Σ w x²`. The one of least
    /// squares makes it smaller by the share of the error's square, in three bits by 2 %, and the same way in every block, so that what
    /// a model computes shrinks from layer to layer. Correcting this costs less than a hundredth of the error.
    #[inline(always)]
    pub(super) fn as_large<const N: usize>(
        &self,
        x: &[[f32; N]; SUBS],
        w: &[[f32; N]; SUBS],
        codes: &[u8; 256],
        range: Range,
        unit: f32,
    ) -> Half {
        let d = self.d.to_f32() / unit;
        let (mut own, mut kept) = (0.0f32, 0.0f32);
        for (j, codes) in codes.as_chunks::<N>().0.iter().enumerate() {
            let scale = d * f32::from(self.scales[j]);
            for i in 0..N {
                own += w[j][i] * x[j][i] * x[j][i];
                kept += w[j][i] * x[j][i] * scale * (f32::from(codes[i]) + range.lo);
            }
        }
        if kept > 0.0 { Half::saturating(d * unit * (own / kept).clamp(1.0, MOST_GROWTH)) } else { self.d }
    }
}

/// How much larger than the scale of least squares one is at most.
const MOST_GROWTH: f32 = 1.25;

/// Integer scales in `scale_range` and their common scale for `SUBS` sub-blocks of `N` values. `unit` is the magnitude that `x`
/// was divided by: the common scale is rounded as it will be stored.
#[inline(always)]
pub(super) fn symmetric_super<const SUBS: usize, const N: usize>(
    x: &[[f32; N]; SUBS],
    w: &[[f32; N]; SUBS],
    range: Range,
    scale_range: Range,
    unit: f32,
    sweep: Sweep,
) -> Symmetric<SUBS> {
    let group = Group::new(x, w);
    let wanted = symmetric(&group, range, sweep);
    let max = wanted.iter().fold(0.0f32, |max, &s| if s.abs() > max.abs() { s } else { max });
    let mut best = Symmetric { d: Half::default(), scales: [0; SUBS] };
    let mut least = f32::INFINITY;
    let mut d = max / scale_range.lo;
    let mut last = None;
    for _ in 0..=REFITS {
        let stored = Half::saturating(d * unit);
        if last.replace(stored) == Some(stored) {
            break; // it would be found again
        }
        d = stored.to_f32() / unit;
        if d == 0.0 {
            break;
        }
        let around: Lanes<SUBS> = each(|l| code(wanted[l] / d, scale_range.lo, scale_range.hi));
        let mut found = Best { scale: [0.0; SUBS], offset: [0.0; SUBS], error: [f32::INFINITY; SUBS] };
        let (mut xq, mut qq) = ([0.0; SUBS], [0.0; SUBS]);
        for step in [0.0, -1.0, 1.0] {
            let tried: Lanes<SUBS> = each(|l| around[l] + step);
            let scale = each(|l| d * tried[l]);
            let (q, [_, q2, x2]) = group.codes(&each(|l| inverse(scale[l])), &[0.0; SUBS], range);
            let mut error = group.error(&q, &scale, &[0.0; SUBS]);
            for l in 0..SUBS {
                let known = tried[l] >= scale_range.lo && tried[l] <= scale_range.hi;
                error[l] = if known { error[l] } else { f32::INFINITY };
                let better = error[l] < found.error[l];
                xq[l] = if better { x2[l] } else { xq[l] };
                qq[l] = if better { q2[l] } else { qq[l] };
            }
            found.consider(&tried, &[0.0; SUBS], &error);
        }
        let (mut total, mut xs, mut ss) = (0.0, 0.0, 0.0);
        for l in 0..SUBS {
            total += found.error[l];
            xs += found.scale[l] * xq[l];
            ss += found.scale[l] * found.scale[l] * qq[l];
        }
        if total < least {
            (least, best) = (total, Symmetric { d: stored, scales: found.scale.map(|scale| scale as i16) });
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
    #[inline(always)]
    pub(super) fn codes<const N: usize>(&self, x: &[[f32; N]; SUBS], top: f32, unit: f32) -> [u8; 256] {
        let (d, dmin) = (self.d.to_f32() / unit, self.dmin.to_f32() / unit);
        let mut codes = [0; 256];
        for (j, codes) in codes.chunks_exact_mut(N).enumerate() {
            let (inverse, min) = (inverse(d * f32::from(self.scales[j])), dmin * f32::from(self.mins[j]));
            for (out, x) in codes.iter_mut().zip(&x[j]) {
                *out = code((x + min) * inverse, 0.0, top) as u8;
            }
        }
        codes
    }
}

/// Integer scales and minimums up to `scale_top`, and their common scales, for `SUBS` sub-blocks of `N` values
/// with codes `0..=top`. `unit` as in [`symmetric_super`].
#[inline(always)]
pub(super) fn affine_super<const SUBS: usize, const N: usize>(
    x: &[[f32; N]; SUBS],
    w: &[[f32; N]; SUBS],
    top: f32,
    scale_top: f32,
    unit: f32,
    sweep: Sweep,
) -> Affine<SUBS> {
    let group = Group::new(x, w);
    let (scales, offsets) = affine(&group, top, 0.0, sweep);
    let wanted = (scales, offsets.map(|offset| -offset));
    let mut best = Affine { d: Half::default(), dmin: Half::default(), scales: [0; SUBS], mins: [0; SUBS] };
    let mut least = f32::INFINITY;
    let mut d = wanted.0.iter().fold(0.0f32, |max, &s| max.max(s)) / scale_top;
    let mut dmin = wanted.1.iter().fold(0.0f32, |max, &m| max.max(m)) / scale_top;
    let mut last = None;
    for _ in 0..=REFITS {
        let stored = (Half::saturating(d * unit), Half::saturating(dmin * unit));
        if last.replace(stored) == Some(stored) {
            break; // it would be found again
        }
        (d, dmin) = (stored.0.to_f32() / unit, stored.1.to_f32() / unit);
        let (found, [wq, qq, xq]) = nearby(&group, top, scale_top, &wanted, (d, dmin));
        // Normal equations of x ≈ d * (scale q) - dmin * min over the whole super-block.
        let (mut aa, mut ab, mut bb, mut ax, mut bx, mut total) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        for l in 0..SUBS {
            let (s, m) = (found.scale[l], found.offset[l]);
            total += found.error[l];
            aa += s * s * qq[l];
            ab -= s * m * wq[l];
            bb += m * m * group.ww[l];
            ax += s * xq[l];
            bx -= m * group.wx[l];
        }
        if total < least {
            let (scales, mins) = (found.scale.map(|s| s as u8), found.offset.map(|m| m as u8));
            (least, best) = (total, Affine { d: stored.0, dmin: stored.1, scales, mins });
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

/// The integers (as scale and offset) with the least errors among the nine pairs around the wanted ones, and the moments of
/// their codes.
#[inline(always)]
fn nearby<const N: usize, const L: usize>(
    group: &Group<N, L>,
    top: f32,
    scale_top: f32,
    wanted: &(Lanes<L>, Lanes<L>),
    (d, dmin): (f32, f32),
) -> (Best<L>, [Lanes<L>; 3]) {
    let (by_d, by_dmin) = (inverse(d), inverse(dmin));
    let around: (Lanes<L>, Lanes<L>) = (
        each(|l| code(wanted.0[l] * by_d, 0.0, scale_top)),
        each(|l| code(wanted.1[l] * by_dmin, 0.0, scale_top)),
    );
    let mut found = Best { scale: [0.0; L], offset: [0.0; L], error: [f32::INFINITY; L] };
    let mut kept = [[0.0; L]; 3];
    for scale_step in [0.0, -1.0, 1.0] {
        let scales: Lanes<L> = each(|l| around.0[l] + scale_step);
        let scale: Lanes<L> = each(|l| d * scales[l]);
        let inverses = each(|l| inverse(scale[l]));
        for min_step in [0.0, -1.0, 1.0] {
            let mins: Lanes<L> = each(|l| around.1[l] + min_step);
            let offset = each(|l| -dmin * mins[l]);
            let (q, moments) = group.codes(&inverses, &offset, Range { lo: 0.0, hi: top });
            let mut error = group.error(&q, &scale, &offset);
            for l in 0..L {
                let known = scales[l].min(mins[l]) >= 0.0 && scales[l].max(mins[l]) <= scale_top;
                error[l] = if known { error[l] } else { f32::INFINITY };
                let better = error[l] < found.error[l];
                for (kept, moment) in kept.iter_mut().zip(&moments) {
                    kept[l] = if better { moment[l] } else { kept[l] };
                }
            }
            found.consider(&scales, &mins, &error);
        }
    }
    (found, kept)
}
