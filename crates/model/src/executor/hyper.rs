//! Hyper-connections: several residual streams, mixed anew around every sublayer.

use super::product::Products;
use crate::load::Model;
use crate::plan::{Hyper, HyperMix};
use sampan_kernels::Floats;

/// Tokens that a thread takes at a time.
const PIECE: usize = 8;

/// Activations of hyper-connections, kept between calls.
#[derive(Debug, Default)]
pub(super) struct HyperScratch {
    flat: Floats,    // [n, streams * hidden], normed
    weights: Floats, // [n, (2 + streams) * streams]: into the sublayer, out of it, from stream to stream
}

impl HyperScratch {
    /// Numbers per token.
    pub(super) fn numbers(hyper: &Hyper, hidden: usize) -> usize {
        hyper.streams * hidden + hyper.weights()
    }
}

impl Model {
    /// What a sublayer reads: `sum_j pre_j X_j` for the streams `X` (`[n, streams * hidden]`) of every token. Keeps
    /// the weights for [`Model::leave`].
    pub(super) fn enter(
        &self,
        hyper: &Hyper,
        mix: &HyperMix,
        streams: &[f32],
        scratch: &mut HyperScratch,
        matmul: &mut Products,
        out: &mut [f32],
    ) {
        let (base, scale) = (self.vector(mix.base), self.vector(mix.scale));
        self.project(hyper, mix, streams, scratch, matmul);
        for weights in scratch.weights.chunks_exact_mut(mix.linear.rows) {
            hyper.weigh(weights, base, scale);
        }
        self.collapse(hyper, mix.linear.rows, streams, &scratch.weights, out);
    }

    /// `X_k = post_k y + sum_j mix[j, k] X_j`, the result `y` (`[n, hidden]`) of the sublayer that was entered.
    pub(super) fn leave(&self, hyper: &Hyper, y: &[f32], scratch: &HyperScratch, streams: &mut [f32]) {
        let (n, hidden) = (hyper.streams, self.plan().hidden);
        self.kernels().pool().run_slices(streams, PIECE * n * hidden, |piece, tokens| {
            let first = piece * PIECE;
            let inputs = y[first * hidden..].chunks_exact(hidden);
            let weights = scratch.weights[first * hyper.weights()..].chunks_exact(hyper.weights());
            let mut mixed = vec![0.0; n * hidden];
            for ((streams, y), weights) in tokens.chunks_exact_mut(n * hidden).zip(inputs).zip(weights) {
                let (post, mix) = weights[n..].split_at(n);
                for (k, to) in mixed.chunks_exact_mut(hidden).enumerate() {
                    to.iter_mut().zip(y).for_each(|(to, y)| *to = post[k] * y);
                    for (j, from) in streams.chunks_exact(hidden).enumerate() {
                        self.kernels().add_scaled(to, from, mix[j * n + k]);
                    }
                }
                streams.copy_from_slice(&mixed);
            }
        });
    }

    /// The one stream that the final norm reads.
    pub(super) fn merge(
        &self,
        hyper: &Hyper,
        streams: &[f32],
        scratch: &mut HyperScratch,
        matmul: &mut Products,
        out: &mut [f32],
    ) {
        let mix = &hyper.head;
        let (base, scale) = (self.vector(mix.base), self.vector(mix.scale)[0]);
        self.project(hyper, mix, streams, scratch, matmul);
        for weights in scratch.weights.chunks_exact_mut(hyper.streams) {
            for (weight, base) in weights.iter_mut().zip(base) {
                *weight = sigmoid(*weight * scale + base) + hyper.eps;
            }
        }
        self.collapse(hyper, hyper.streams, streams, &scratch.weights, out);
    }

    /// A token's streams, normed together, times the projection.
    fn project(
        &self,
        hyper: &Hyper,
        mix: &HyperMix,
        streams: &[f32],
        scratch: &mut HyperScratch,
        matmul: &mut Products,
    ) {
        let n = streams.len() / mix.linear.cols;
        scratch.flat.resize(streams.len());
        scratch.weights.resize(n * mix.linear.rows);
        self.kernels().rms_norm(streams, mix.linear.cols, None, hyper.norm_eps, &mut scratch.flat);
        self.products(&scratch.flat, n, matmul, &mut [self.job(&mix.linear, &mut scratch.weights)]);
    }

    /// `out = sum_j weights_j X_j`, `width` weights for each token.
    fn collapse(&self, hyper: &Hyper, width: usize, streams: &[f32], weights: &[f32], out: &mut [f32]) {
        let hidden = self.plan().hidden;
        self.kernels().pool().run_slices(out, PIECE * hidden, |piece, out| {
            let first = piece * PIECE;
            let streams = streams[first * hyper.streams * hidden..].chunks_exact(hyper.streams * hidden);
            let weights = weights[first * width..].chunks_exact(width);
            for ((out, streams), weights) in out.chunks_exact_mut(hidden).zip(streams).zip(weights) {
                out.fill(0.0);
                for (from, weight) in streams.chunks_exact(hidden).zip(weights) {
                    self.kernels().add_scaled(out, from, *weight);
                }
            }
        });
    }
}

impl Hyper {
    /// Weights of one token: into the sublayer, out of it, from stream to stream.
    fn weights(&self) -> usize {
        (2 + self.streams) * self.streams
    }

    /// Turns a token's projection into weights; those from stream to stream become a matrix whose rows and columns
    /// sum to 1 (Sinkhorn and Knopp, 1967).
    fn weigh(&self, weights: &mut [f32], base: &[f32], scale: &[f32]) {
        let n = self.streams;
        for (i, (weight, base)) in weights.iter_mut().zip(base).enumerate() {
            *weight = *weight * scale[(i / n).min(2)] + base;
        }
        let (pre, rest) = weights.split_at_mut(n);
        let (post, mix) = rest.split_at_mut(n);
        pre.iter_mut().for_each(|x| *x = sigmoid(*x) + self.eps);
        post.iter_mut().for_each(|x| *x = 2.0 * sigmoid(*x));
        for row in mix.chunks_exact_mut(n) {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|x| *x = (*x - max).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|x| *x = *x / sum + self.eps);
        }
        self.columns(mix);
        for _ in 1..self.iterations {
            for row in mix.chunks_exact_mut(n) {
                let sum = row.iter().sum::<f32>() + self.eps;
                row.iter_mut().for_each(|x| *x /= sum);
            }
            self.columns(mix);
        }
    }

    /// Divides every column by its sum.
    fn columns(&self, mix: &mut [f32]) {
        for k in 0..self.streams {
            let sum = mix.iter().skip(k).step_by(self.streams).sum::<f32>() + self.eps;
            mix.iter_mut().skip(k).step_by(self.streams).for_each(|x| *x /= sum);
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{HyperMix, Linear};

    fn hyper(streams: usize, iterations: usize) -> Hyper {
        let linear = Linear { weight: 0, bias: None, rows: 0, cols: 0 };
        let head = HyperMix { linear, base: 0, scale: 0 };
        Hyper { streams, iterations, eps: 1e-6, norm_eps: 1e-6, head }
    }

    /// Weights of a token whose projection is `i * i % 7 - 3`, scaled.
    fn weights(hyper: &Hyper, scale: f32) -> Vec<f32> {
        let mut weights: Vec<f32> = (0..hyper.weights()).map(|i| (i * i % 7) as f32 - 3.0).collect();
        let base: Vec<f32> = (0..hyper.weights()).map(|i| (i % 3) as f32 * 0.5).collect();
        hyper.weigh(&mut weights, &base, &[0.5, 0.25, scale]);
        weights
    }

    #[test]
    fn streams_are_mixed_by_rows_and_columns_that_sum_to_one() {
        for streams in [2, 4, 5] {
            let hyper = hyper(streams, 60);
            let all = weights(&hyper, 1.0);
            let mix = &all[2 * streams..];
            for i in 0..streams {
                let row: f32 = mix[i * streams..(i + 1) * streams].iter().sum();
                let column: f32 = mix.iter().skip(i).step_by(streams).sum();
                assert!((row - 1.0).abs() < 1e-3 && (column - 1.0).abs() < 1e-3, "{streams}: {row} {column}");
            }
        }
    }

    #[test]
    fn columns_come_first_and_last() {
        // One round: a softmax over each row, then every column divided by its sum.
        let hyper = hyper(2, 1);
        let all = weights(&hyper, 0.0); // only the bases 1, 0, 0.5 and 1 of the four are left of the mix
        let softmax = |a: f32, b: f32| a.exp() / (a.exp() + b.exp());
        let base = |i: usize| (i % 3) as f32 * 0.5;
        let rows = [
            softmax(base(4), base(5)),
            softmax(base(5), base(4)),
            softmax(base(6), base(7)),
            softmax(base(7), base(6)),
        ];
        for (i, mix) in all[4..].iter().enumerate() {
            let expected = rows[i] / (rows[i % 2] + rows[i % 2 + 2]);
            assert!((mix - expected).abs() < 1e-5, "{i}: {mix} for {expected}");
        }
        // Into the sublayer below 1, out of it below 2.
        let logit = |i: usize, scale: f32| (i * i % 7) as f32 * scale - 3.0 * scale + base(i);
        assert!((all[1] - 1.0 / (1.0 + (-logit(1, 0.5)).exp())).abs() < 1e-5);
        assert!((all[3] - 2.0 / (1.0 + (-logit(3, 0.25)).exp())).abs() < 1e-5);
    }
}
