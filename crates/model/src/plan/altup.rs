//! Alternating updates: several residual streams of which each layer computes one and predicts the others.

use super::{Linear, Norm, TensorId};

/// What all layers of a model with alternating updates share (Baykal et al., "Alternating Updates for Efficient
/// Transformers", 2023). The first stream begins as the embedding, every further one as a projection of it; after the
/// last layer their mean is taken, every further one projected again. What is projected is brought to the root mean
/// square of the first stream.
#[derive(Clone, Debug)]
pub struct AltUp {
    /// Residual streams.
    pub streams: usize,
    /// The stream that layers compute.
    pub active: usize,
    /// From the embedding to each further stream.
    pub spread: Vec<Linear>,
    /// From each further stream to what is averaged.
    pub join: Vec<Linear>,
}

/// What a layer does with the streams `x`: before it `x_i += sum_j p_ij x_j` for all at once, the weights `p` from
/// the active stream; then the layer turns the active one into `y`; after it `x_i += (1 + c_i)(y - x_active)`, the
/// weights `c` from `y`.
#[derive(Clone, Copy, Debug)]
pub struct AltUpLayer {
    /// Of what the router reads.
    pub router_norm: Norm,
    /// `tanh(router norm(y) / hidden)`: one number for each stream, from which the weights are made. In float32.
    pub router: Linear,
    /// To `p`, `streams * streams` weights, row by row. In float32.
    pub predict: Linear,
    /// To `c`, one weight for each stream. In float32.
    pub correct: Linear,
    /// Factors on the active stream for the per-layer gate, whose result all streams but the first get.
    pub gate_scale: Option<TensorId>,
}

/// A low-rank path beside a sublayer (Menghani et al., "LAuReL: Learned Augmented Residual Layer", 2024): with the
/// sublayer's input `a`, `x = (x + f(a) + a + norm(right left a)) / sqrt(2)`.
#[derive(Clone, Copy, Debug)]
pub struct Laurel {
    /// To the rank.
    pub left: Linear,
    /// Back to hidden.
    pub right: Linear,
    /// Of the result.
    pub norm: Norm,
}
