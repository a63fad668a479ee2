//! The plan: what a checkpoint says about a model, in the terms that every reader shares.
//!
//! A family translates a configuration into a [`Plan`]; the executor walks it, the loader takes names and shapes
//! from it, and every byte and operation count comes from it.

mod altup;
mod attention;
mod compressed;
mod delta;
mod ffn;
mod hyper;
mod latent;
mod tensor;

pub use altup::{AltUp, AltUpLayer, Laurel};
pub use attention::{Attention, Keys};
pub use compressed::{Compressed, Compressor, Entries, EntryIndex};
pub use delta::Delta;
pub use ffn::{
    Activation, Expert, Ffn, Gated, Groups, Moe, Parallel, Router, RouterInput, Score, SharedExpert,
};
pub use hyper::{Hyper, HyperMix};
pub use latent::{Down, Index, Latent};
pub use tensor::{Linear, Map, Norm, Role, Rows, Source, Storage, TensorId, TensorSpec};

use crate::error::PlanError;
use crate::quant::Quant;
use crate::{family, rope::Rope};
use sampan_kernels::Format;
use sampan_weights::Checkpoint;

/// How a layer mixes positions.
#[derive(Clone, Debug)]
pub enum Mixer {
    /// Softmax attention with grouped heads.
    Attention(Attention),
    /// Attention over latent vectors.
    Latent(Latent),
    /// Attention over a window and compressed entries.
    Compressed(Compressed),
    /// The gated delta rule.
    Delta(Delta),
}

/// Where a mixer or an FFN meets the residual stream: `x += post(f(norm(x)))`.
#[derive(Clone, Debug)]
pub struct Sublayer {
    /// Before it.
    pub norm: Norm,
    /// Of its result, before the sum.
    pub post: Option<Norm>,
    /// How the streams of [`Plan::hyper`] are mixed around it.
    pub hyper: Option<HyperMix>,
    /// A low-rank path beside it.
    pub laurel: Option<Laurel>,
}

impl Sublayer {
    /// `x += f(norm(x))`
    pub fn plain(norm: Norm) -> Sublayer {
        Sublayer { norm, post: None, hyper: None, laurel: None }
    }
}

/// What a layer adds from the per-layer embedding: `x += norm(projection(gelu(gate x) * input))`. With alternating
/// updates `x` on the right is the active stream and on the left every stream but the first.
#[derive(Clone, Copy, Debug)]
pub struct PerLayerGate {
    /// From hidden to the width of the per-layer input.
    pub gate: Linear,
    /// Back to hidden.
    pub projection: Linear,
    /// Of the result.
    pub norm: Norm,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// Mixes positions.
    pub mixer: Mixer,
    /// Where the mixer meets the residual stream.
    pub mixer_at: Sublayer,
    /// Mixes channels.
    pub ffn: Ffn,
    /// Where the FFN meets the residual stream.
    pub ffn_at: Sublayer,
    /// Per-layer embedding, after the FFN.
    pub per_layer: Option<PerLayerGate>,
    /// One number that the residual stream is multiplied by at the end.
    pub output_scale: Option<TensorId>,
    /// How the streams of [`Plan::altup`] are predicted before and corrected after the layer.
    pub altup: Option<AltUpLayer>,
}

impl LayerPlan {
    /// A layer with two norms: `x += mixer(norm(x)); x += ffn(norm(x))`.
    pub fn new(mixer_norm: Norm, mixer: Mixer, ffn_norm: Norm, ffn: Ffn) -> LayerPlan {
        LayerPlan {
            mixer,
            mixer_at: Sublayer::plain(mixer_norm),
            ffn,
            ffn_at: Sublayer::plain(ffn_norm),
            per_layer: None,
            output_scale: None,
            altup: None,
        }
    }
}

/// The per-layer embedding (Gemma 3n and 4): every layer gets `width` numbers of its own for each token,
/// `(table[token] * table_scale + norm(projection(x0) * projection_scale)) / sqrt(2)`, `x0` being the embedding.
#[derive(Clone, Copy, Debug)]
pub struct PerLayerInputs {
    /// `rows x layers * width`
    pub table: TensorId,
    /// Rows of the table; tokens beyond it use row 0.
    pub rows: usize,
    /// Factor on the table.
    pub table_scale: f32,
    /// From hidden to `layers * width`.
    pub projection: Linear,
    /// Factor on the projection.
    pub projection_scale: f32,
    /// Over each layer's part of the projection.
    pub norm: Norm,
    /// Numbers per layer.
    pub width: usize,
}

/// Tensors of a checkpoint that no layer of the text model reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// What they are, in words.
    pub what: &'static str,
    /// How many.
    pub tensors: usize,
    /// Their size in the file.
    pub bytes: u64,
}

impl SetAside {
    /// Counts a tensor of the kind `what`.
    pub(crate) fn count(list: &mut Vec<SetAside>, what: &'static str, bytes: u64) {
        match list.iter_mut().find(|item| item.what == what) {
            Some(item) => {
                item.tensors += 1;
                item.bytes += bytes;
            }
            None => list.push(SetAside { what, tensors: 1, bytes }),
        }
    }
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
    /// Factor on the embedding.
    pub embedding_scale: f32,
    /// Embedding of every layer's own, if there is one.
    pub per_layer: Option<PerLayerInputs>,
    /// Rope frequencies that layers refer to.
    pub ropes: Vec<Rope>,
    /// The layers in order.
    pub layers: Vec<LayerPlan>,
    /// After the last layer.
    pub norm: Norm,
    /// From hidden to logits; shares the embedding's tensor when tied. `None`: the model only embeds.
    pub head: Option<Linear>,
    /// Several residual streams in place of one.
    pub hyper: Option<Hyper>,
    /// Several residual streams of which each layer computes one.
    pub altup: Option<AltUp>,
    /// Logits become `cap * tanh(logit / cap)`.
    pub final_softcap: Option<f32>,
    /// Every tensor read, each once.
    pub tensors: Vec<TensorSpec>,
    /// What the checkpoint holds besides the text model.
    pub set_aside: Vec<SetAside>,
}

/// What the user decides about the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Hold weights that no format of ours stores (FP8 with block scales) in float32 instead of bfloat16, for
    /// comparison with float references.
    pub exact: bool,
    /// Quantise float weights so while they are loaded.
    pub quant: Option<Quant>,
    /// Quantise what is quantised already too, where that makes it smaller; else such a checkpoint is refused.
    pub requantise: bool,
}

impl Plan {
    /// Finds the family of a checkpoint and makes its plan. Every tensor that the plan reads is in the checkpoint
    /// with the right shape, and every tensor of the checkpoint is read or named in [`Plan::set_aside`].
    pub fn from_checkpoint(checkpoint: &Checkpoint, options: PlanOptions) -> Result<Plan, PlanError> {
        family::plan(checkpoint, options)
    }

    /// The plan of the published checkpoint that a config.json describes, without any weights: what is needed to know
    /// how large a model is and how much it computes. Weights are of the type that the configuration names, or as
    /// `options` have them quantised.
    pub fn from_config(checkpoint: &Checkpoint, options: PlanOptions) -> Result<Plan, PlanError> {
        family::sketch(checkpoint, options)
    }

    /// Bytes of the weights in a file.
    pub fn file_bytes(&self) -> u64 {
        let bytes = |t: &TensorSpec| match t.role {
            Role::Matrix => t.count() * t.format.block_bytes() as u64 / t.format.block_len() as u64,
            _ => 4 * t.count(),
        };
        self.tensors.iter().map(bytes).sum()
    }

    /// The format of most weights.
    pub fn main_format(&self) -> Format {
        let weights = |format: Format| {
            let same = self.tensors.iter().filter(|t| t.role == Role::Matrix && t.format == format);
            same.map(TensorSpec::count).sum::<u64>()
        };
        Format::ALL.into_iter().max_by_key(|&format| weights(format)).unwrap_or(Format::F32)
    }

    /// Weights in the model; a tied head counts once, tables of ids are no weights.
    pub fn parameters(&self) -> u64 {
        self.kept().filter(|tensor| tensor.role != Role::Ids).map(TensorSpec::count).sum()
    }

    /// Weights that take part in one token: all but the experts that are not chosen. Equal to
    /// [`Plan::parameters`] in a dense model.
    pub fn active_parameters(&self) -> u64 {
        let idle: u64 = self.mixtures().map(|moe| moe.idle(|expert| self.expert_count(expert))).sum();
        self.parameters() - idle
    }

    fn expert_count(&self, expert: &Expert) -> u64 {
        let linears = [expert.gate, expert.up, expert.down];
        linears.iter().flat_map(Linear::tensors).map(|id| self.tensors[id].count()).sum()
    }

    /// The tensors that stay in memory.
    pub fn kept(&self) -> impl Iterator<Item = &TensorSpec> {
        self.tensors.iter().filter(|tensor| tensor.role != Role::Constant)
    }

    /// The attention of every layer that has one of the plain kind.
    pub fn attentions(&self) -> impl Iterator<Item = &Attention> {
        self.layers.iter().filter_map(|layer| match &layer.mixer {
            Mixer::Attention(attention) => Some(attention),
            _ => None,
        })
    }

    /// The mixture of experts of every layer that has one.
    pub fn mixtures(&self) -> impl Iterator<Item = &Moe> {
        self.layers.iter().filter_map(|layer| layer.ffn.moe())
    }
}
