//! What families build plans with: named tensors, checked against the checkpoint as they are asked for.

use crate::config::{Config, Dialect};
use crate::error::PlanError;
use crate::names::Names;
use crate::plan::{
    Activation, Attention, Ffn, LayerPlan, Linear, Mixer, Norm, Plan, Role, TensorId, TensorSpec,
};
use crate::rope::Rope;
use sampan_kernels::Format;
use sampan_kernels::ops::Pairing;
use sampan_weights::{Checkpoint, Dtype, Tensor, Value};
use std::collections::HashSet;

/// A module of the model: outside the layers, or in one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Global,
    Layer(usize),
}

/// Collects the tensors that a plan reads. Missing tensors are gathered, so that the error can count them.
pub(crate) struct Builder<'a> {
    pub(crate) config: &'a Config,
    checkpoint: &'a Checkpoint,
    family: &'static str,
    names: Names,
    tensors: Vec<TensorSpec>,
    missing: Vec<(String, Vec<usize>)>,
    unread: HashSet<String>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(checkpoint: &'a Checkpoint, config: &'a Config, family: &'static str) -> Builder<'a> {
        let names = Names::of(checkpoint, config.dialect());
        Builder {
            config,
            checkpoint,
            family,
            names,
            tensors: Vec::new(),
            missing: Vec::new(),
            unread: HashSet::new(),
        }
    }

    /// Whether the checkpoint has this part of a module.
    pub(crate) fn has(&self, place: Place, module: &str, part: &str) -> bool {
        self.checkpoint.tensor(&self.name(place, module, part)).is_some()
    }

    /// A projection of `cols` inputs to `rows` outputs.
    pub(crate) fn linear(
        &mut self,
        place: Place,
        module: &str,
        (rows, cols): (usize, usize),
        bias: bool,
    ) -> Result<Linear, PlanError> {
        let weight = self.tensor(self.name(place, module, "weight"), &[rows, cols], Role::Matrix)?;
        let bias = match bias {
            true => Some(self.tensor(self.name(place, module, "bias"), &[rows], Role::Vector)?),
            false => None,
        };
        Ok(Linear { weight, bias, rows, cols })
    }

    /// A norm over `dim` channels; its epsilon is the configuration's `rms_norm_eps`.
    pub(crate) fn norm(&mut self, place: Place, module: &str, dim: usize) -> Result<Norm, PlanError> {
        let eps = self.config.f32("rms_norm_eps")?.ok_or_else(|| self.config.missing("rms_norm_eps"))?;
        if eps < 0.0 {
            return Err(self.config.bad("rms_norm_eps", "a number that is not negative"));
        }
        let weight = self.tensor(self.name(place, module, "weight"), &[dim], Role::Vector)?;
        Ok(Norm { weight, eps })
    }

    /// Numbers that are read now and not kept, if the checkpoint has them.
    pub(crate) fn constant(&mut self, module: &str, len: usize) -> Result<Option<Vec<f32>>, PlanError> {
        if !self.has(Place::Global, module, "weight") {
            return Ok(None);
        }
        let name = self.name(Place::Global, module, "weight");
        let id = self.tensor(name, &[len], Role::Constant)?;
        match self.checkpoint.tensor(&self.tensors[id].name) {
            Some(tensor) => Ok(Some(tensor.to_f32()?)),
            None => Ok(None),
        }
    }

    /// Lets a tensor stay unread.
    pub(crate) fn leave_unread(&mut self, place: Place, module: &str, part: &str) {
        let name = self.name(place, module, part);
        self.unread.insert(name);
    }

    /// Checks that nothing is missing, left over or contradictory, and hands over the finished plan.
    pub(crate) fn finish(self, mut plan: Plan) -> Result<Plan, PlanError> {
        if let Some((name, shape)) = self.missing.first() {
            let more = match self.missing.len() - 1 {
                0 => String::new(),
                n => format!(", and {n} more"),
            };
            return Err(PlanError::MissingTensor { name: name.clone(), shape: shape.clone(), more });
        }
        let read: HashSet<&str> = self.tensors.iter().map(|t| t.name.as_str()).collect();
        let left: Vec<&str> = self
            .checkpoint
            .tensors()
            .map(|t| t.name)
            .filter(|name| !read.contains(name) && !self.unread.contains(*name) && !self.names.ignored(name))
            .collect();
        if !left.is_empty() {
            let shown = left.iter().take(4).copied().collect::<Vec<_>>().join(", ");
            let dots = if left.len() > 4 { ", ..." } else { "" };
            return Err(PlanError::LeftOver {
                family: self.family.to_string(),
                count: left.len(),
                names: format!("{shown}{dots}"),
            });
        }
        plan.tensors = self.tensors;
        Ok(plan)
    }

    fn name(&self, place: Place, module: &str, part: &str) -> String {
        match place {
            Place::Global => self.names.global(module, part),
            Place::Layer(index) => self.names.layer(index, module, part),
        }
    }

    fn tensor(&mut self, name: String, shape: &[usize], role: Role) -> Result<TensorId, PlanError> {
        let format = match self.checkpoint.tensor(&name) {
            None => {
                self.missing.push((name.clone(), shape.to_vec()));
                Format::F32
            }
            Some(tensor) => {
                if tensor.shape != shape {
                    let (found, expected) = (tensor.shape.to_vec(), shape.to_vec());
                    return Err(PlanError::Shape { name, found, expected });
                }
                usable(&tensor, role)?
            }
        };
        self.tensors.push(TensorSpec { name, shape: shape.to_vec(), role, format });
        Ok(self.tensors.len() - 1)
    }
}

fn usable(tensor: &Tensor<'_>, role: Role) -> Result<Format, PlanError> {
    let floats = [Format::F32, Format::F16, Format::BF16];
    let supported: &[Format] = if role == Role::Matrix { &Format::ALL } else { &floats };
    match tensor.dtype {
        Dtype::Block(format) if supported.contains(&format) => Ok(format),
        dtype => Err(PlanError::UnsupportedFormat {
            name: tensor.name.to_string(),
            dtype: dtype.to_string(),
            supported: supported.iter().map(|f| f.name()).collect::<Vec<_>>().join(" "),
        }),
    }
}

/// What distinguishes the dense decoder families from each other.
pub(crate) struct Dense {
    /// q, k and v have a bias.
    pub(crate) qkv_bias: bool,
    /// o has a bias.
    pub(crate) o_bias: bool,
    /// gate, up and down have a bias.
    pub(crate) mlp_bias: bool,
    /// Queries and keys are normalised per head.
    pub(crate) qk_norm: bool,
    /// Which dimensions rotate together.
    pub(crate) pairing: Pairing,
}

impl Builder<'_> {
    /// The plan of a dense decoder: two norms, grouped attention and a gated MLP in every layer.
    pub(crate) fn dense(&mut self, kind: &Dense) -> Result<Plan, PlanError> {
        let config = self.config;
        let hidden = config.size("hidden_size")?;
        let heads = config.size("num_attention_heads")?;
        let head_dim = match config.usize("head_dim")? {
            Some(_) => config.size("head_dim")?,
            None if hidden % heads == 0 => hidden / heads,
            None => return Err(config.bad("num_attention_heads", "a divisor of hidden_size, or a head_dim")),
        };
        if head_dim % 2 != 0 {
            return Err(config.bad("head_dim", "an even number"));
        }
        let mut rope = Rope::from_config(config, head_dim)?;
        if let Some(divisors) = self.constant("rope_freqs", head_dim / 2)? {
            rope = rope.divided_by(&divisors);
        }
        let (vocab, embedding, head) = self.embedding(hidden)?;
        let layers = (0..config.size("num_hidden_layers")?)
            .map(|index| {
                let place = Place::Layer(index);
                Ok(LayerPlan {
                    mixer_norm: self.norm(place, "input_layernorm", hidden)?,
                    mixer: Mixer::Attention(self.attention(kind, index, hidden, heads, head_dim)?),
                    ffn_norm: self.norm(place, "post_attention_layernorm", hidden)?,
                    ffn: self.gated(kind, place, hidden)?,
                })
            })
            .collect::<Result<Vec<_>, PlanError>>()?;
        Ok(Plan {
            family: self.family,
            hidden,
            vocab,
            context: config.size("max_position_embeddings")?,
            embedding,
            ropes: vec![rope],
            layers,
            norm: self.norm(Place::Global, "norm", hidden)?,
            head,
            tensors: Vec::new(),
        })
    }

    /// Embedding and head. The head shares the embedding's tensor when the configuration ties them, or when a GGUF
    /// file has no head of its own.
    fn embedding(&mut self, hidden: usize) -> Result<(usize, TensorId, Linear), PlanError> {
        let config = self.config;
        let name = self.name(Place::Global, "embed_tokens", "weight");
        let rows = self.checkpoint.tensor(&name).and_then(|t| t.shape.first().copied());
        let vocab = match config.usize("vocab_size")? {
            Some(_) => config.size("vocab_size")?,
            None => rows.ok_or_else(|| config.missing("vocab_size"))?,
        };
        let tokens = match self.checkpoint.metadata().get("tokenizer.ggml.tokens") {
            Some(Value::Array(tokens)) => Some(tokens.len()),
            _ => None,
        };
        if let (Some(rows), Some(tokens)) = (rows, tokens)
            && tokens > rows
        {
            return Err(PlanError::Vocabulary { tokens, name, rows });
        }
        let embedding = self.tensor(name, &[vocab, hidden], Role::Matrix)?;
        let tied = match config.dialect() {
            Dialect::HuggingFace => config.flag("tie_word_embeddings")?,
            Dialect::Gguf => !self.has(Place::Global, "lm_head", "weight"),
        };
        if tied {
            self.leave_unread(Place::Global, "lm_head", "weight");
            return Ok((
                vocab,
                embedding,
                Linear { weight: embedding, bias: None, rows: vocab, cols: hidden },
            ));
        }
        let head = self.linear(Place::Global, "lm_head", (vocab, hidden), false)?;
        Ok((vocab, embedding, head))
    }

    fn attention(
        &mut self,
        kind: &Dense,
        index: usize,
        hidden: usize,
        heads: usize,
        dim: usize,
    ) -> Result<Attention, PlanError> {
        let config = self.config;
        let place = Place::Layer(index);
        let kv_heads = match config.usize("num_key_value_heads")? {
            Some(_) => config.size("num_key_value_heads")?,
            None => heads,
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(config.bad("num_key_value_heads", "a divisor of num_attention_heads"));
        }
        if config.usize("value_head_dim")?.is_some_and(|value| value != dim) {
            return Err(config.unsupported("value_head_dim"));
        }
        let (wide, narrow) = (heads * dim, kv_heads * dim);
        let norm = |builder: &mut Self, module: &str| match kind.qk_norm {
            true => builder.norm(place, module, dim).map(Some),
            false => Ok(None),
        };
        Ok(Attention {
            heads,
            kv_heads,
            key_dim: dim,
            value_dim: dim,
            q: self.linear(place, "self_attn.q_proj", (wide, hidden), kind.qkv_bias)?,
            k: self.linear(place, "self_attn.k_proj", (narrow, hidden), kind.qkv_bias)?,
            v: self.linear(place, "self_attn.v_proj", (narrow, hidden), kind.qkv_bias)?,
            o: self.linear(place, "self_attn.o_proj", (hidden, wide), kind.o_bias)?,
            q_norm: norm(self, "self_attn.q_norm")?,
            k_norm: norm(self, "self_attn.k_norm")?,
            rope: 0,
            pairing: kind.pairing,
            window: self.window(index)?,
            softcap: None,
            scale: 1.0 / (dim as f32).sqrt(),
        })
    }

    /// Qwen's sliding window: on from layer `max_window_layers` when `use_sliding_window` is set, else off.
    fn window(&self, index: usize) -> Result<Option<usize>, PlanError> {
        if !self.config.flag("use_sliding_window")? {
            return Ok(None);
        }
        let first = self.config.usize("max_window_layers")?.unwrap_or(0);
        if index < first { Ok(None) } else { self.config.size("sliding_window").map(Some) }
    }

    fn gated(&mut self, kind: &Dense, place: Place, hidden: usize) -> Result<Ffn, PlanError> {
        let config = self.config;
        let wide = config.size("intermediate_size")?;
        let activation = match config.string("hidden_act")?.as_deref() {
            None | Some("silu" | "swish") => Activation::Silu,
            Some("gelu_pytorch_tanh") => Activation::GeluTanh,
            Some(_) => return Err(config.unsupported("hidden_act")),
        };
        let bias = kind.mlp_bias;
        Ok(Ffn::Gated {
            gate: self.linear(place, "mlp.gate_proj", (wide, hidden), bias)?,
            up: self.linear(place, "mlp.up_proj", (wide, hidden), bias)?,
            down: self.linear(place, "mlp.down_proj", (hidden, wide), bias)?,
            activation,
        })
    }
}
