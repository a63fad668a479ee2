//! Softmax attention with grouped heads.

use super::{Linear, Norm, TensorId};
use sampan_kernels::ops::Pairing;

/// Softmax attention: queries, keys and values per head, rope on queries and keys.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a query or key head.
    pub key_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// Query projection.
    pub q: Linear,
    /// Norm of each query head before rope.
    pub q_norm: Option<Norm>,
    /// Keys and values.
    pub keys: Keys,
    /// `mixed *= sigmoid(gate x)` before the output projection.
    pub gate: Option<Linear>,
    /// Output projection.
    pub o: Linear,
    /// Index into [`Plan::ropes`](super::Plan::ropes); it may rotate fewer dimensions than a head has.
    pub rope: usize,
    /// Which dimensions rotate together.
    pub pairing: Pairing,
    /// Positions seen, itself included; `None` sees all.
    pub window: Option<usize>,
    /// Scores pass through `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// One logit per query head that takes part in the softmax and brings no value.
    pub sinks: Option<TensorId>,
    /// Factor on the scores.
    pub scale: f32,
}

/// Where an attention's keys and values come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// The layer's own projections.
    Own {
        /// Key projection.
        k: Linear,
        /// Norm of each key head before rope.
        k_norm: Option<Norm>,
        /// Value projection; `None`: the value is what the key projection gives, before norm and rope.
        v: Option<Linear>,
        /// Norm of each value head.
        v_norm: Option<Norm>,
    },
    /// The keys and values of an earlier layer, as that layer cached them.
    Shared {
        /// Index of the layer.
        layer: usize,
    },
}
