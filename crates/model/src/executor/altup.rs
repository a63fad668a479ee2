//! Alternating updates: several residual streams of which a layer computes one and predicts the others.
//!
//! The streams of a token lie side by side, so that mixing them stays in cache. What the layer itself reads and
//! writes is a copy of the active stream, [`Scratch::residual`], as in a model with one stream.

use super::Scratch;
use crate::load::Model;
use crate::plan::{AltUp, AltUpLayer, Laurel, Linear};
use sampan_kernels::Floats;

/// Tokens that a thread takes at a time.
const PIECE: usize = 8;

/// A projected stream's mean square counts as no less when it is brought to another's.
const LEAST: f32 = 1e-5;

/// Activations of alternating updates, kept between calls.
#[derive(Debug, Default)]
pub(super) struct AltUpScratch {
    pub(super) streams: Floats, // [n, streams, hidden]
    routed: Floats,             // [n, streams]
    weights: Floats,            // [n, streams * streams] or [n, streams]
}

impl AltUpScratch {
    /// Numbers per token.
    pub(super) fn numbers(plan: &AltUp, hidden: usize) -> usize {
        plan.streams * (hidden + 1 + plan.streams)
    }
}

impl Model {
    /// Makes the streams from the embedding in `scratch.residual`.
    pub(super) fn spread(&self, plan: &AltUp, n: usize, scratch: &mut Scratch) {
        let (kernels, hidden) = (self.kernels(), self.plan().hidden);
        let Scratch { residual, result, matmul, altup, .. } = scratch;
        let width = plan.streams * hidden;
        altup.streams.resize(n * width);
        let mut place = |index: usize, from: &[f32]| {
            kernels.pool().run_slices(&mut altup.streams, PIECE * width, |piece, streams| {
                let rows = from[piece * PIECE * hidden..].chunks_exact(hidden);
                for (streams, row) in streams.chunks_exact_mut(width).zip(rows) {
                    let (first, others) = streams.split_at_mut(hidden);
                    match index {
                        0 => first.copy_from_slice(row),
                        _ => {
                            let to = &mut others[(index - 1) * hidden..][..hidden];
                            to.copy_from_slice(row);
                            kernels.scale(to, match_factor(first, row));
                        }
                    }
                }
            });
        };
        place(0, residual);
        for (index, linear) in plan.spread.iter().enumerate() {
            self.products(residual, n, matmul, &mut [self.job(linear, result)]);
            place(index + 1, result);
        }
    }

    /// Makes one stream in `scratch.residual` of the first `n` tokens' streams, the mean.
    pub(super) fn join(&self, plan: &AltUp, n: usize, scratch: &mut Scratch) {
        let (kernels, hidden) = (self.kernels(), self.plan().hidden);
        let Scratch { residual, input, result, matmul, altup, .. } = scratch;
        let width = plan.streams * hidden;
        let streams = &altup.streams[..n * width];
        let (mean, input) = (&mut residual[..n * hidden], &mut input[..n * hidden]);
        self.take_stream(plan, 0, streams, mean);
        for (index, linear) in plan.join.iter().enumerate() {
            self.take_stream(plan, index + 1, streams, input);
            let result = &mut result[..n * hidden];
            self.products(input, n, matmul, &mut [self.job(linear, result)]);
            kernels.pool().run_slices(mean, PIECE * hidden, |piece, mean| {
                let first = piece * PIECE;
                let rows = result[first * hidden..].chunks_exact(hidden);
                let streams = streams[first * width..].chunks_exact(width);
                for ((mean, row), streams) in mean.chunks_exact_mut(hidden).zip(rows).zip(streams) {
                    kernels.add_scaled(mean, row, match_factor(&streams[..hidden], row));
                }
            });
        }
        kernels.scale(mean, 1.0 / plan.streams as f32);
    }

    /// Before a layer: mixes the streams into predictions, and copies the active one to `scratch.residual`.
    pub(super) fn predict(&self, plan: &AltUp, layer: &AltUpLayer, n: usize, scratch: &mut Scratch) {
        let (kernels, hidden) = (self.kernels(), self.plan().hidden);
        let (count, width) = (plan.streams, plan.streams * hidden);
        self.take_stream(plan, plan.active, &scratch.altup.streams, &mut scratch.residual);
        self.weigh_streams(layer, &layer.predict, n, scratch);
        let AltUpScratch { streams, weights, .. } = &mut scratch.altup;
        kernels.pool().run_slices(streams, PIECE * width, |piece, tokens| {
            let weights = weights[piece * PIECE * count * count..].chunks_exact(count * count);
            let mut old = vec![0.0; width];
            for (streams, weights) in tokens.chunks_exact_mut(width).zip(weights) {
                old.copy_from_slice(streams);
                for (to, weights) in streams.chunks_exact_mut(hidden).zip(weights.chunks_exact(count)) {
                    for (from, weight) in old.chunks_exact(hidden).zip(weights) {
                        kernels.add_scaled(to, from, *weight);
                    }
                }
            }
        });
        self.take_stream(plan, plan.active, &scratch.altup.streams, &mut scratch.residual);
    }

    /// After a layer: moves every stream by what the layer made of the active one, and leaves in `scratch.residual`
    /// what the per-layer gate reads.
    pub(super) fn correct(&self, plan: &AltUp, layer: &AltUpLayer, n: usize, scratch: &mut Scratch) {
        let (kernels, hidden) = (self.kernels(), self.plan().hidden);
        let (count, width) = (plan.streams, plan.streams * hidden);
        self.weigh_streams(layer, &layer.correct, n, scratch);
        let AltUpScratch { streams, weights, .. } = &mut scratch.altup;
        let residual = &scratch.residual;
        kernels.pool().run_slices(streams, PIECE * width, |piece, tokens| {
            let first = piece * PIECE;
            let rows = residual[first * hidden..].chunks_exact(hidden);
            let weights = weights[first * count..].chunks_exact(count);
            let mut change = vec![0.0; hidden];
            for ((streams, row), weights) in tokens.chunks_exact_mut(width).zip(rows).zip(weights) {
                let active = &streams[plan.active * hidden..][..hidden];
                change.iter_mut().zip(row.iter().zip(active)).for_each(|(to, (y, x))| *to = y - x);
                for (stream, weight) in streams.chunks_exact_mut(hidden).zip(weights) {
                    kernels.add_scaled(stream, &change, 1.0 + weight);
                }
            }
        });
        self.take_stream(plan, plan.active, &scratch.altup.streams, &mut scratch.residual);
        if let Some(scale) = layer.gate_scale {
            let scale = self.vector(scale);
            kernels.pool().run_slices(&mut scratch.residual, PIECE * hidden, |_, rows| {
                for row in rows.chunks_exact_mut(hidden) {
                    row.iter_mut().zip(scale).for_each(|(x, scale)| *x *= scale);
                }
            });
        }
    }

    /// Adds `scratch.result` to every stream but the first.
    pub(super) fn add_to_further_streams(&self, plan: &AltUp, scratch: &mut Scratch) {
        let (kernels, hidden) = (self.kernels(), self.plan().hidden);
        let width = plan.streams * hidden;
        let Scratch { result, altup, .. } = scratch;
        kernels.pool().run_slices(&mut altup.streams, PIECE * width, |piece, tokens| {
            let rows = result[piece * PIECE * hidden..].chunks_exact(hidden);
            for (streams, row) in tokens.chunks_exact_mut(width).zip(rows) {
                streams[hidden..].chunks_exact_mut(hidden).for_each(|stream| kernels.add(stream, row));
            }
        });
    }

    /// `x = (x + a + norm(right left a)) / sqrt(2)`, the sublayer's input `a` in `scratch.normed` and its result in
    /// `x` already.
    pub(super) fn laurel(&self, plan: &Laurel, n: usize, scratch: &mut Scratch) {
        let kernels = self.kernels();
        let Scratch { residual, normed, result, matmul, gated, .. } = scratch;
        let low = gated.room(n * plan.left.rows);
        self.products(normed, n, matmul, &mut [self.job(&plan.left, low)]);
        self.products(low, n, matmul, &mut [self.job(&plan.right, result)]);
        self.norm_rows(&plan.norm, plan.right.rows, result);
        kernels.add(result, normed);
        kernels.add(residual, result);
        kernels.scale(residual, std::f32::consts::FRAC_1_SQRT_2);
    }

    /// Weights for the streams of every token, from what `scratch.residual` holds.
    fn weigh_streams(&self, layer: &AltUpLayer, linear: &Linear, n: usize, scratch: &mut Scratch) {
        let Scratch { residual, normed, matmul, altup, .. } = scratch;
        let AltUpScratch { routed, weights, .. } = altup;
        self.norm(&layer.router_norm, residual, normed);
        routed.resize(n * layer.router.rows);
        weights.resize(n * linear.rows);
        self.products(normed, n, matmul, &mut [self.job(&layer.router, routed)]);
        let factor = 1.0 / self.plan().hidden as f32;
        routed.iter_mut().for_each(|x| *x = (*x * factor).tanh());
        self.products(routed, n, matmul, &mut [self.job(linear, weights)]);
    }

    /// Copies one stream of every token.
    fn take_stream(&self, plan: &AltUp, index: usize, streams: &[f32], out: &mut [f32]) {
        let hidden = self.plan().hidden;
        let width = plan.streams * hidden;
        self.kernels().pool().run_slices(out, PIECE * hidden, |piece, out| {
            let streams = streams[piece * PIECE * width..].chunks_exact(width);
            for (out, streams) in out.chunks_exact_mut(hidden).zip(streams) {
                out.copy_from_slice(&streams[index * hidden..][..hidden]);
            }
        });
    }
}

/// The factor that brings `row` to the root mean square of `target`.
fn match_factor(target: &[f32], row: &[f32]) -> f32 {
    (mean_square(target) / mean_square(row).max(LEAST)).sqrt()
}

fn mean_square(row: &[f32]) -> f32 {
    let sum: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    (sum / row.len() as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gets_the_size_of_another_but_silence_stays_silence() {
        let sizes = |target: &[f32], row: &[f32]| {
            let factor = match_factor(target, row);
            mean_square(&row.iter().map(|x| x * factor).collect::<Vec<_>>()).sqrt()
        };
        assert!((sizes(&[3.0, -4.0], &[0.1, 0.7]) - 12.5f32.sqrt()).abs() < 1e-5);
        assert_eq!(sizes(&[3.0, -4.0], &[0.0, 0.0]), 0.0);
        // Below the least mean square the factor stops growing.
        let tiny = [1e-4f32, -1e-4];
        assert!((match_factor(&[1.0, 1.0], &tiny) - 1e5f32.sqrt()).abs() < 0.1);
    }
}
