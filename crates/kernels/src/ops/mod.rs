//! Operations on rows: norms, rope, gated activations, sums, softmax.
//!
//! Every number of a result depends on its own row only, in an order of operations that is fixed for the
//! instruction-set level: not on the other rows and not on the threads. Small work stays on the caller's
//! thread, because handing it out costs about two microseconds.

mod rope;
mod split;
#[cfg(test)]
mod tests;

pub use rope::{Pairing, RopeAngles};

use crate::Kernels;
use crate::isa::level::Level;
use crate::isa::ops;

impl Kernels {
    /// The vectors that row operations and attention use.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// `out = weight * x / sqrt(mean(x^2) + eps)` for every row of `dim` numbers; no weight means ones.
    ///
    /// # Panics
    /// If `x` and `out` differ in length, `dim` does not divide it, or `weight` is not `dim` numbers.
    pub fn rms_norm(&self, x: &[f32], dim: usize, weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "input and output of a norm");
        let level = self.level();
        self.split_rows(out, dim, 1, &|at, out| {
            ops::rms_norm(level, &x[at..at + out.len()], dim, weight, eps, out);
        });
    }

    /// [`Kernels::rms_norm`] in place; with rows of `head_dim` also the norm of queries and keys per head.
    ///
    /// # Panics
    /// If `dim` does not divide the length of `x`, or `weight` is not `dim` numbers.
    pub fn rms_norm_inplace(&self, x: &mut [f32], dim: usize, weight: Option<&[f32]>, eps: f32) {
        let level = self.level();
        self.split_rows(x, dim, 1, &|_, x| ops::rms_norm_inplace(level, x, dim, weight, eps));
    }

    /// `x = weight * (x - mean(x)) / sqrt(variance(x) + eps) + bias` for every row of `dim` numbers, in place (Ba et
    /// al., "Layer Normalization", 2016).
    ///
    /// # Panics
    /// If `dim` does not divide the length of `x`, or weight and bias are not `dim` numbers each.
    pub fn layer_norm_inplace(&self, x: &mut [f32], dim: usize, weight: &[f32], bias: &[f32], eps: f32) {
        assert_eq!((weight.len(), bias.len()), (dim, dim), "weight and bias of a norm");
        self.split_rows(x, dim, 8, &|_, x| {
            for row in x.chunks_exact_mut(dim) {
                let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / dim as f64;
                let squares: f64 = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
                let factor = 1.0 / (squares / dim as f64 + f64::from(eps)).sqrt();
                for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                    *x = ((f64::from(*x) - mean) * factor) as f32 * weight + bias;
                }
            }
        });
    }

    /// `gate = silu(gate) * up`, `silu(x) = x / (1 + e^-x)`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "gate and up");
        let level = self.level();
        self.split_rows(gate, 1, 8, &|at, gate| ops::silu_mul(level, gate, &up[at..at + gate.len()]));
    }

    /// `gate = gelu(gate) * up` with the tanh approximation of gelu.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gelu_tanh_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "gate and up");
        let level = self.level();
        self.split_rows(gate, 1, 8, &|at, gate| ops::gelu_tanh_mul(level, gate, &up[at..at + gate.len()]));
    }

    /// Gated activation with bounds (DeepSeek V4): `gate = silu(min(gate, limit)) * clamp(up, -limit, limit)`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn swiglu_clamped(&self, gate: &mut [f32], up: &[f32], limit: f32) {
        assert_eq!(gate.len(), up.len(), "gate and up");
        let level = self.level();
        self.split_rows(gate, 1, 8, &|at, gate| {
            ops::swiglu_clamped(level, gate, &up[at..at + gate.len()], limit);
        });
    }

    /// The gated activation of gpt-oss: with `g = min(gate, limit)` and `u = clamp(up, -limit, limit)`,
    /// `gate = (u + 1) * g * sigmoid(alpha * g)`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn swiglu_oai(&self, gate: &mut [f32], up: &[f32], alpha: f32, limit: f32) {
        assert_eq!(gate.len(), up.len(), "gate and up");
        let level = self.level();
        self.split_rows(gate, 1, 8, &|at, gate| {
            ops::swiglu_oai(level, gate, &up[at..at + gate.len()], alpha, limit);
        });
    }

    /// `x *= sigmoid(gate)`, number by number.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn sigmoid_mul(&self, x: &mut [f32], gate: &[f32]) {
        assert_eq!(x.len(), gate.len(), "numbers and gates");
        let level = self.level();
        self.split_rows(x, 1, 8, &|at, x| ops::sigmoid_mul(level, x, &gate[at..at + x.len()]));
    }

    /// `x += y`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "terms of a sum");
        let level = self.level();
        self.split_rows(x, 1, 1, &|at, x| ops::add(level, x, &y[at..at + x.len()]));
    }

    /// `x += s * y`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_scaled(&self, x: &mut [f32], y: &[f32], s: f32) {
        assert_eq!(x.len(), y.len(), "terms of a sum");
        let level = self.level();
        self.split_rows(x, 1, 1, &|at, x| ops::add_scaled(level, x, &y[at..at + x.len()], s));
    }

    /// `x *= s`.
    pub fn scale(&self, x: &mut [f32], s: f32) {
        let level = self.level();
        self.split_rows(x, 1, 1, &|_, x| ops::scale(level, x, s));
    }

    /// `x = cap * tanh(x / cap)`.
    pub fn softcap(&self, x: &mut [f32], cap: f32) {
        let level = self.level();
        self.split_rows(x, 1, 8, &|_, x| ops::softcap(level, x, cap));
    }

    /// Softmax of one row; negative infinity becomes 0. A row with nothing above it becomes zeros.
    pub fn softmax(&self, x: &mut [f32]) {
        let level = self.level();
        let shift = ops::max(level, x);
        let sum = ops::exp_sum(level, x, shift);
        if sum > 0.0 {
            ops::scale(level, x, (1.0 / sum) as f32);
        }
    }

    /// Logarithm of the softmax of one row.
    pub fn log_softmax(&self, x: &mut [f32]) {
        let level = self.level();
        let shift = ops::max(level, x);
        let log = ops::sum_exp(level, x, shift).ln() as f32;
        x.iter_mut().for_each(|x| *x = (*x - shift) - log);
    }

    /// Index of the largest number, the lowest among equals; NaN is never chosen unless everything is NaN.
    /// `None` for an empty row.
    pub fn argmax(&self, x: &[f32]) -> Option<usize> {
        if x.is_empty() {
            return None;
        }
        let max = ops::max(self.level(), x);
        x.iter().position(|x| *x == max).or_else(|| x.iter().position(|x| !x.is_nan())).or(Some(0))
    }
}
