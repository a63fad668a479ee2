//! The rule itself, its gates, and the norm of its results.

use super::DeltaShape;
use crate::Kernels;
use crate::isa::delta;
use std::ops::Range;

/// One run of consecutive rows of one sequence.
#[derive(Debug)]
pub struct DeltaSpan<'a> {
    /// The rows in the batch.
    pub rows: Range<usize>,
    /// The state before the first row, [`DeltaShape::state_len`] numbers; becomes the state after the last.
    pub state: &'a mut [f32],
}

impl Kernels {
    /// What a token does to each value head: `a` becomes the decay `e^g`, `g = neg_exp_a * softplus(a + dt_bias)`, and
    /// `b` the step `β = sigmoid(b)`. Both are `n x value_heads`; softplus is the identity beyond 20.
    ///
    /// # Panics
    /// If `neg_exp_a` and `dt_bias` differ in length, or it does not divide that of `a`.
    pub fn delta_gates(&self, a: &mut [f32], b: &mut [f32], neg_exp_a: &[f32], dt_bias: &[f32]) {
        assert_eq!(neg_exp_a.len(), dt_bias.len(), "one decay and one bias per head");
        self.split_rows(a, dt_bias.len(), 32, &|_, a| {
            for row in a.chunks_exact_mut(dt_bias.len()) {
                for ((a, rate), bias) in row.iter_mut().zip(neg_exp_a).zip(dt_bias) {
                    let x = *a + bias;
                    let softplus = if x > 20.0 { x } else { x.exp().ln_1p() };
                    *a = (rate * softplus).exp();
                }
            }
        });
        self.split_rows(b, 1, 16, &|_, b| b.iter_mut().for_each(|b| *b = 1.0 / (1.0 + (-*b).exp())));
    }

    /// The gated delta rule over the rows of each span.
    ///
    /// `qkv` is `n x channels`: all queries, all keys, all values of a token, as the convolution leaves them. Each query
    /// and key enters the rule as `x / sqrt(Σ x² + 1e-6)`, queries also divided by the square root of their width.
    /// `decay` and `beta` are `n x value_heads` ([`Kernels::delta_gates`]), `out` is `n x value_heads * value_dim`. Rows
    /// outside every span are left alone.
    ///
    /// # Panics
    /// If the slices do not have these shapes, a state does not have its length, the spans' rows are not in order, or a
    /// token of a head is wider than 12,288 numbers.
    pub fn delta_rule(
        &self,
        shape: &DeltaShape,
        spans: &mut [DeltaSpan<'_>],
        qkv: &[f32],
        (decay, beta): (&[f32], &[f32]),
        out: &mut [f32],
    ) {
        shape.check();
        delta::rule(self.pool(), self.level(), shape, spans, &delta::Tokens { qkv, decay, beta }, out);
    }

    /// `z = weight * x / rms(x) * silu(z)` per head of `dim` numbers, no weight meaning ones; `x` is used up.
    ///
    /// # Panics
    /// If `x` and `z` differ in length, `dim` does not divide it, or `weight` is not `dim` numbers.
    pub fn gated_rms_norm(&self, x: &mut [f32], z: &mut [f32], dim: usize, weight: Option<&[f32]>, eps: f32) {
        self.rms_norm_inplace(x, dim, weight, eps);
        self.silu_mul(z, x);
    }
}
