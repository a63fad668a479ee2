//! Hyper-connections (Xie et al., 2026): several residual streams in place of one.

use super::{Linear, TensorId};

/// What all layers share.
#[derive(Clone, Debug)]
pub struct Hyper {
    /// Residual streams; at the start all are the embedding.
    pub streams: usize,
    /// Rounds of Sinkhorn and Knopp.
    pub iterations: usize,
    /// Added to weights and sums.
    pub eps: f32,
    /// Added to the mean square of a token's streams.
    pub norm_eps: f32,
    /// Makes one stream of all before the last norm.
    pub head: HyperMix,
}

/// From a token's streams to weights.
#[derive(Clone, Copy, Debug)]
pub struct HyperMix {
    /// `weights x streams * hidden`, kept in float32.
    pub linear: Linear,
    /// Added to each weight.
    pub base: TensorId,
    /// Factors on the weights: of those into a sublayer, out of it, and between streams.
    pub scale: TensorId,
}
