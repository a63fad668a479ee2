//! Operations on rows: norms, rope, gated activations, sums, softmax.

mod rope;

pub use rope::{Pairing, RopeAngles};

use crate::Kernels;

impl Kernels {
    /// `out = weight * x / sqrt(mean(x^2) + eps)` for every row of `dim` numbers; no weight means ones.
    ///
    /// # Panics
    /// If `x` and `out` differ in length, or `dim` does not divide it.
    pub fn rms_norm(&self, x: &[f32], dim: usize, weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        out.copy_from_slice(x);
        self.rms_norm_inplace(out, dim, weight, eps);
    }

    /// [`Kernels::rms_norm`] in place; with rows of `head_dim` also the norm of queries and keys per head.
    ///
    /// # Panics
    /// If `dim` does not divide the length of `x`.
    pub fn rms_norm_inplace(&self, x: &mut [f32], dim: usize, weight: Option<&[f32]>, eps: f32) {
        assert_eq!(x.len() % dim, 0, "rows of {dim} in {} numbers", x.len());
        for row in x.chunks_exact_mut(dim) {
            let sum: f32 = row.iter().map(|x| x * x).sum();
            let scale = 1.0 / (sum / dim as f32 + eps).sqrt();
            match weight {
                Some(weight) => row.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * scale * w),
                None => row.iter_mut().for_each(|x| *x *= scale),
            }
        }
    }

    /// `gate = silu(gate) * up`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        gate.iter_mut().zip(up).for_each(|(g, u)| *g = *g / (1.0 + (-*g).exp()) * u);
    }

    /// `gate = gelu(gate) * up` with the tanh approximation of gelu.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gelu_tanh_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        gate.iter_mut().zip(up).for_each(|(g, u)| {
            let x = *g;
            let y = 0.797_884_6 * (x + 0.044715 * x * x * x);
            *g = 0.5 * x * (1.0 + y.tanh()) * u;
        });
    }

    /// `x += y`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len());
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    }

    /// `x *= s`.
    pub fn scale(&self, x: &mut [f32], s: f32) {
        x.iter_mut().for_each(|x| *x *= s);
    }

    /// `x = cap * tanh(x / cap)`.
    pub fn softcap(&self, x: &mut [f32], cap: f32) {
        x.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
    }

    /// Softmax of one row. A row without a number above negative infinity becomes zeros.
    pub fn softmax(&self, x: &mut [f32]) {
        let max = x.iter().copied().fold(f32::MIN, f32::max);
        x.iter_mut().for_each(|x| *x = (*x - max).exp());
        let sum: f32 = x.iter().sum();
        if sum > 0.0 {
            x.iter_mut().for_each(|x| *x /= sum);
        }
    }

    /// Logarithm of the softmax of one row.
    pub fn log_softmax(&self, x: &mut [f32]) {
        let max = x.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = x.iter().map(|x| (*x - max).exp()).sum();
        let log = max + sum.ln();
        x.iter_mut().for_each(|x| *x -= log);
    }

    /// Index of the largest number, the lowest among equals; NaN is never chosen unless everything is NaN.
    /// `None` for an empty row.
    pub fn argmax(&self, x: &[f32]) -> Option<usize> {
        let max = x.iter().copied().reduce(f32::max)?;
        Some(x.iter().position(|x| *x == max).unwrap_or(0))
    }
}
