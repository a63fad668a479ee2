//! Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", 2024) and the index over it ("DeepSeek-V3.2", 2025).

use super::{Linear, Norm, TensorId};
use sampan_kernels::ops::Pairing;

/// Attention whose keys and values are projections of one latent vector per token. The projections are absorbed:
/// queries are brought into the latent space, and what attention mixes is latent vectors, so the cache holds `rank +
/// rotated` numbers per token.
#[derive(Clone, Debug)]
pub struct Latent {
    /// Query heads.
    pub heads: usize,
    /// Numbers of a query head that meet the latent part of the keys.
    pub plain: usize,
    /// Numbers of a query head that rotate and meet the rotating part of the keys, which all heads share.
    pub rotated: usize,
    /// Numbers of a latent vector.
    pub rank: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// From hidden to a query latent; `None`: queries come from hidden.
    pub q_down: Option<Down>,
    /// To the queries, per head `plain` numbers, then `rotated`.
    pub q: Linear,
    /// From hidden to a latent vector and the rotating part of the key.
    pub kv: Linear,
    /// Of the latent vector.
    pub kv_norm: Norm,
    /// Per head: from the plain part of a query into the latent space, `rank x plain`.
    pub absorb: Vec<Linear>,
    /// Per head: from the latent space to a value, `value_dim x rank`.
    pub expand: Vec<Linear>,
    /// Output projection.
    pub o: Linear,
    /// Index into [`Plan::ropes`](super::Plan::ropes).
    pub rope: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Chooses the keys that a row attends to.
    pub index: Option<Index>,
}

/// A projection to fewer numbers and their norm.
#[derive(Clone, Copy, Debug)]
pub struct Down {
    /// The projection.
    pub linear: Linear,
    /// Of its result.
    pub norm: Norm,
}

/// The lightning indexer: of many keys a row attends to the `top_k` with the largest `sum_h w_h relu(q_h k)`.
#[derive(Clone, Debug)]
pub struct Index {
    /// Heads of the index.
    pub heads: usize,
    /// Width of a head, and of the one key.
    pub dim: usize,
    /// From the query latent to the index queries.
    pub q: Linear,
    /// From hidden to the key.
    pub k: Linear,
    /// Weight and bias of the layer norm of the key.
    pub k_norm: (TensorId, TensorId),
    /// Added to the variance.
    pub k_eps: f32,
    /// From hidden to the weight of each head.
    pub weights: Linear,
    /// Keys that a row attends to.
    pub top_k: usize,
    /// Index into [`Plan::ropes`](super::Plan::ropes); it rotates the first dimensions.
    pub rope: usize,
    /// Which dimensions rotate together.
    pub pairing: Pairing,
}

impl Index {
    /// Factor on the scores.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (self.heads as f32).sqrt() / (self.dim as f32).sqrt()
    }
}
