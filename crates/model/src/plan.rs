//! The plan: what a checkpoint says about a model, in the terms that every reader shares.
//!
//! A family translates a configuration into a [`Plan`]; the executor walks it, the loader takes names and shapes
//! from it, and every byte and operation count comes from it.

use crate::error::PlanError;
use crate::{family, rope::Rope};
use sampan_kernels::Format;
use sampan_kernels::ops::Pairing;
use sampan_weights::Checkpoint;

/// Index into [`Plan::tensors`].
pub type TensorId = usize;

/// What a tensor is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix of a product, kept packed in its own format.
    Matrix,
    /// A vector of weights (a norm, a bias), kept in f32.
    Vector,
    /// Read while planning (rope divisors); not kept.
    Constant,
}

/// One tensor that the plan reads.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// The name in the file.
    pub name: String,
    /// Rows and columns of a matrix, or the length of a vector.
    pub shape: Vec<usize>,
    /// What it is to the model.
    pub role: Role,
    /// How it is stored.
    pub format: Format,
}

impl TensorSpec {
    /// Weights in the tensor.
    pub fn count(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// Rows and columns; a vector has one row.
    pub fn rows_cols(&self) -> (usize, usize) {
        match self.shape[..] {
            [rows, cols] => (rows, cols),
            _ => (1, self.shape.iter().product()),
        }
    }
}

/// A matrix product with an optional bias: `y = W x + b`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// The matrix, `rows x cols`.
    pub weight: TensorId,
    /// Added to the result.
    pub bias: Option<TensorId>,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

/// RMS norm with a weight per channel.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// The weights.
    pub weight: TensorId,
    /// Added to the mean square.
    pub eps: f32,
}

/// How a layer mixes positions.
#[derive(Clone, Debug)]
pub enum Mixer {
    /// Softmax attention with grouped heads.
    Attention(Attention),
}

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
    /// Key projection.
    pub k: Linear,
    /// Value projection.
    pub v: Linear,
    /// Output projection.
    pub o: Linear,
    /// Norm of each query head before rope.
    pub q_norm: Option<Norm>,
    /// Norm of each key head before rope.
    pub k_norm: Option<Norm>,
    /// Index into [`Plan::ropes`].
    pub rope: usize,
    /// Which dimensions rotate together.
    pub pairing: Pairing,
    /// Positions seen, itself included; `None` sees all.
    pub window: Option<usize>,
    /// Scores pass through `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Factor on the scores.
    pub scale: f32,
}

/// The function between gate and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// GELU, tanh approximation
    GeluTanh,
}

/// How a layer mixes channels.
#[derive(Clone, Debug)]
pub enum Ffn {
    /// `down(activation(gate x) * up x)`
    Gated {
        /// Gate projection.
        gate: Linear,
        /// Up projection.
        up: Linear,
        /// Down projection.
        down: Linear,
        /// Applied to the gate.
        activation: Activation,
    },
}

/// One layer: `x += mixer(norm(x)); x += ffn(norm(x))`.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// Before the mixer.
    pub mixer_norm: Norm,
    /// Mixes positions.
    pub mixer: Mixer,
    /// Before the FFN.
    pub ffn_norm: Norm,
    /// Mixes channels.
    pub ffn: Ffn,
}

/// A whole model.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The family's name.
    pub family: &'static str,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding; may exceed the tokenizer's size by padding rows.
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// Token embedding, `vocab x hidden`.
    pub embedding: TensorId,
    /// Rope frequencies that layers refer to.
    pub ropes: Vec<Rope>,
    /// The layers in order.
    pub layers: Vec<LayerPlan>,
    /// After the last layer.
    pub norm: Norm,
    /// From hidden to logits; shares the embedding's tensor when tied.
    pub head: Linear,
    /// Every tensor read, each once.
    pub tensors: Vec<TensorSpec>,
}

impl Plan {
    /// Finds the family of a checkpoint and makes its plan. Every tensor that the plan reads is in the checkpoint
    /// with the right shape, and every tensor of the checkpoint is read.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Plan, PlanError> {
        family::plan(checkpoint)
    }

    /// Weights in the model; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        self.kept().map(TensorSpec::count).sum()
    }

    /// Weights that take part in one token. Equal to [`Plan::parameters`] in a dense model.
    pub fn active_parameters(&self) -> u64 {
        self.parameters()
    }

    /// The tensors that stay in memory.
    pub fn kept(&self) -> impl Iterator<Item = &TensorSpec> {
        self.tensors.iter().filter(|tensor| tensor.role != Role::Constant)
    }

    /// The attention of every layer that has one.
    pub fn attentions(&self) -> impl Iterator<Item = &Attention> {
        self.layers.iter().map(|layer| match &layer.mixer {
            Mixer::Attention(attention) => attention,
        })
    }
}
