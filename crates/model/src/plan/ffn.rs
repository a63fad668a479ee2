//! Feed-forward: gated MLPs and mixtures of them.

use super::{Linear, Norm, TensorId};

/// The function between gate and up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `silu(gate) * up`
    Silu,
    /// `gelu(gate) * up`, tanh approximation
    GeluTanh,
    /// `gelu(max(gate - mean - deviations * deviation, 0)) * up`, tanh approximation, with the mean and the standard
    /// deviation of a token's gates: few of them are left (You et al., "Spark Transformer", 2025)
    GeluTanhTopK {
        /// Deviations above the mean from which on gates count.
        deviations: f32,
    },
    /// `silu(min(gate, limit)) * clamp(up, -limit, limit)` (DeepSeek V4)
    SiluClamped {
        /// The bound.
        limit: f32,
    },
    /// `g * sigmoid(alpha * g) * (clamp(up, -limit, limit) + 1)` with `g = min(gate, limit)` (gpt-oss)
    SwigluOai {
        /// Steepness of the sigmoid.
        alpha: f32,
        /// The bound.
        limit: f32,
    },
}

/// `down(activation(gate x, up x))`
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    /// Gate projection.
    pub gate: Linear,
    /// Up projection.
    pub up: Linear,
    /// Down projection.
    pub down: Linear,
    /// Of gate and up.
    pub activation: Activation,
}

/// One expert of a mixture: a gated MLP with the mixture's activation.
#[derive(Clone, Copy, Debug)]
pub struct Expert {
    /// Gate projection.
    pub gate: Linear,
    /// Up projection.
    pub up: Linear,
    /// Down projection.
    pub down: Linear,
}

/// An MLP and a mixture side by side: `dense_post(dense(x)) + experts_post(experts(experts_pre(r)))`, `x` being the
/// normed and `r` the plain residual stream, which the router reads too (Gemma 4).
#[derive(Clone, Debug)]
pub struct Parallel {
    /// The MLP.
    pub dense: Gated,
    /// Of the MLP's result.
    pub dense_post: Norm,
    /// The mixture.
    pub experts: Moe,
    /// Of what the experts read.
    pub experts_pre: Norm,
    /// Of the mixture's result.
    pub experts_post: Norm,
}

/// How a layer mixes channels.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each layer of a model")]
pub enum Ffn {
    /// One gated MLP.
    Gated(Gated),
    /// A mixture of experts.
    Moe(Moe),
    /// Both, side by side.
    Parallel(Parallel),
}

impl Ffn {
    /// The mixture of experts in it.
    pub fn moe(&self) -> Option<&Moe> {
        match self {
            Ffn::Gated(_) => None,
            Ffn::Moe(moe) | Ffn::Parallel(Parallel { experts: moe, .. }) => Some(moe),
        }
    }
}

/// A mixture of experts: each token is sent to `top_k` experts, whose results are summed by weight.
#[derive(Clone, Debug)]
pub struct Moe {
    /// Chooses the experts and their weights.
    pub router: Router,
    /// All experts.
    pub experts: Vec<Expert>,
    /// Of gate and up, in every expert.
    pub activation: Activation,
    /// Experts per token.
    pub top_k: usize,
    /// An MLP that every token passes.
    pub shared: Option<SharedExpert>,
}

impl Moe {
    /// The sum of `size` over the experts that one token does not use.
    pub fn idle(&self, size: impl Fn(&Expert) -> u64) -> u64 {
        let unused = self.experts.len().saturating_sub(self.top_k) as u64;
        self.experts.first().map_or(0, size) * unused
    }
}

/// The MLP beside the experts.
#[derive(Clone, Copy, Debug)]
pub struct SharedExpert {
    /// The MLP.
    pub mlp: Gated,
    /// Its result is multiplied by `sigmoid(gate x)`, one number per token.
    pub gate: Option<Linear>,
}

/// How the experts of a token are chosen and weighted.
#[derive(Clone, Debug)]
pub struct Router {
    /// From hidden to one logit per expert; in float32.
    pub linear: Linear,
    /// What the linear layer reads.
    pub input: RouterInput,
    /// From logits to scores.
    pub score: Score,
    /// Added to the scores for the choice, not for the weights.
    pub selection_bias: Option<TensorId>,
    /// The choice is limited to some groups of experts.
    pub groups: Option<Groups>,
    /// The experts by token id, `vocab x top_k`, in place of a choice by score.
    pub table: Option<TensorId>,
    /// The weights of the chosen experts are divided by their sum.
    pub renormalize: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// A factor for every expert.
    pub expert_scale: Option<TensorId>,
}

/// What a router reads.
#[derive(Clone, Copy, Debug)]
pub enum RouterInput {
    /// The same as the experts.
    Normed,
    /// `norm(r) * factor`, the weight of the norm being a vector of its own, on the plain residual stream.
    Residual {
        /// On the plain residual stream.
        norm: Norm,
        /// Factor on the result.
        factor: f32,
    },
}

/// From router logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// `sqrt(softplus(logit))`
    SqrtSoftplus,
}

/// Experts in groups of equal size, of which only the best are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many groups.
    pub count: usize,
    /// How many of them are used.
    pub used: usize,
    /// A group's score is the sum of its best `top` experts' scores.
    pub top: usize,
}
