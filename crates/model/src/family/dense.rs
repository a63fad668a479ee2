//! The shape that most decoders share: two norms, grouped attention and a feed-forward part in every layer.

use super::builder::{Builder, Place};
use crate::config::Dialect;
use crate::error::PlanError;
use crate::plan::*;
use crate::rope::Rope;
use sampan_kernels::ops::Pairing;
use sampan_weights::Value;

/// What distinguishes such decoders from each other.
pub(crate) struct Dense {
    /// q, k and v have a bias.
    pub(crate) qkv_bias: bool,
    /// o has a bias.
    pub(crate) o_bias: bool,
    /// gate, up and down have a bias.
    pub(crate) mlp_bias: bool,
    /// Queries and keys are normalised per head.
    pub(crate) qk_norm: bool,
    /// A logit per head takes part in the softmax.
    pub(crate) sinks: bool,
    /// Which dimensions rotate together.
    pub(crate) pairing: Pairing,
    /// Which layers have a window.
    pub(crate) windows: Windows,
}

/// Which layers have a window where the configuration does not list the kinds of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// None.
    Never,
    /// With `use_sliding_window`, those from `max_window_layers` on.
    FromLayer,
    /// With `use_sliding_window`, every other one below `max_window_layers`.
    EveryOtherBelow,
    /// With `use_sliding_window`, all.
    All,
    /// Every other one from the first.
    EveryOther,
}

impl Default for Dense {
    fn default() -> Dense {
        Dense {
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            sinks: false,
            pairing: Pairing::Half,
            windows: Windows::Never,
        }
    }
}

impl Builder<'_> {
    /// The plan of a decoder with a gated MLP in every layer.
    pub(crate) fn dense(&mut self, kind: &Dense) -> Result<Plan, PlanError> {
        self.decoder(kind, |builder, index, hidden| {
            let wide = builder.config.size("intermediate_size")?;
            builder.gated(Place::Layer(index), "mlp", hidden, wide, kind.mlp_bias).map(Ffn::Gated)
        })
    }

    /// The plan of a decoder whose FFN `ffn` makes from the layer's index and the hidden width.
    pub(crate) fn decoder(
        &mut self,
        kind: &Dense,
        mut ffn: impl FnMut(&mut Self, usize, usize) -> Result<Ffn, PlanError>,
    ) -> Result<Plan, PlanError> {
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
        let layers = (0..config.layers()?)
            .map(|index| {
                let place = Place::Layer(index);
                let mixer_norm = self.norm(place, "input_layernorm", hidden)?;
                let mixer = Mixer::Attention(self.attention(kind, index, hidden, heads, head_dim)?);
                let ffn_norm = self.norm(place, "post_attention_layernorm", hidden)?;
                Ok(LayerPlan::new(mixer_norm, mixer, ffn_norm, ffn(self, index, hidden)?))
            })
            .collect::<Result<Vec<_>, PlanError>>()?;
        let last = self.norm(Place::Global, "norm", hidden)?;
        self.plain_plan(hidden, vocab, embedding, head, vec![rope], layers, last)
    }

    /// A plan with one residual stream and none of the rarer parts.
    #[allow(clippy::too_many_arguments)] // the parts of a plan, in its order
    pub(crate) fn plain_plan(
        &mut self,
        hidden: usize,
        vocab: usize,
        embedding: TensorId,
        head: Option<Linear>,
        ropes: Vec<Rope>,
        layers: Vec<LayerPlan>,
        norm: Norm,
    ) -> Result<Plan, PlanError> {
        Ok(Plan {
            family: self.family,
            hidden,
            vocab,
            context: self.config.size("max_position_embeddings")?,
            embedding,
            embedding_scale: 1.0,
            per_layer: None,
            ropes,
            layers,
            norm,
            head,
            hyper: None,
            altup: None,
            final_softcap: None,
            tensors: Vec::new(),
            set_aside: Vec::new(),
        })
    }

    /// Rows of the vocabulary, embedding and head. The head shares the embedding's tensor when the configuration
    /// ties them, or when a GGUF file has no head of its own. A checkpoint without the prefix of causal models has
    /// no head where it is not tied either: it embeds.
    pub(crate) fn embedding(
        &mut self,
        hidden: usize,
    ) -> Result<(usize, TensorId, Option<Linear>), PlanError> {
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
        let embedding = self.linear(Place::Global, "embed_tokens", (vocab, hidden), false)?;
        let own = self.has(Place::Global, "lm_head", "weight");
        // The head of a model that ranks: rows that are no tokens.
        if let Some(rows) = self.original_rows(Place::Global, "score") {
            self.leave_unread(Place::Global, "lm_head", "weight");
            let head = self.linear(Place::Global, "score", (rows, hidden), false)?;
            return Ok((vocab, embedding.weight, Some(head)));
        }
        let tied = match config.dialect() {
            Dialect::HuggingFace => config.flag("tie_word_embeddings")?,
            Dialect::Gguf => !own,
        };
        if tied {
            self.leave_unread(Place::Global, "lm_head", "weight");
            return Ok((vocab, embedding.weight, Some(embedding)));
        }
        if name == "embed_tokens.weight" && !own {
            return Ok((vocab, embedding.weight, None));
        }
        let head = self.linear(Place::Global, "lm_head", (vocab, hidden), false)?;
        Ok((vocab, embedding.weight, Some(head)))
    }

    /// Key/value heads of a layer, which must divide the query heads.
    pub(crate) fn kv_heads(&self, index: usize, heads: usize) -> Result<usize, PlanError> {
        let config = self.config;
        let kv_heads = match config.get("num_key_value_heads") {
            Some(_) => config.size_at("num_key_value_heads", index)?,
            None => heads,
        };
        match heads.is_multiple_of(kv_heads) {
            true => Ok(kv_heads),
            false => Err(config.bad("num_key_value_heads", "a divisor of num_attention_heads")),
        }
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
        let kv_heads = self.kv_heads(index, heads)?;
        if config.usize("value_head_dim")?.is_some_and(|value| value != dim) {
            return Err(config.unsupported("value_head_dim"));
        }
        let (wide, narrow) = (heads * dim, kv_heads * dim);
        let norm = |builder: &mut Self, module: &str| match kind.qk_norm {
            true => builder.norm(place, module, dim).map(Some),
            false => Ok(None),
        };
        let sinks = match (kind.sinks, config.dialect()) {
            (false, _) => None,
            (true, Dialect::HuggingFace) => Some(self.vector(place, "self_attn.sinks", "", heads)?),
            (true, Dialect::Gguf) => Some(self.vector(place, "self_attn.sinks", "weight", heads)?),
        };
        Ok(Attention {
            heads,
            kv_heads,
            key_dim: dim,
            value_dim: dim,
            q: self.linear(place, "self_attn.q_proj", (wide, hidden), kind.qkv_bias)?,
            q_norm: norm(self, "self_attn.q_norm")?,
            keys: Keys::Own {
                k: self.linear(place, "self_attn.k_proj", (narrow, hidden), kind.qkv_bias)?,
                k_norm: norm(self, "self_attn.k_norm")?,
                v: Some(self.linear(place, "self_attn.v_proj", (narrow, hidden), kind.qkv_bias)?),
                v_norm: None,
            },
            gate: None,
            o: self.linear(place, "self_attn.o_proj", (hidden, wide), kind.o_bias)?,
            rope: 0,
            pairing: kind.pairing,
            window: self.window(kind.windows, index)?,
            softcap: None,
            sinks,
            scale: 1.0 / (dim as f32).sqrt(),
        })
    }

    /// The window of a layer: as the kinds of layers are listed, else by the family's rule.
    fn window(&self, windows: Windows, index: usize) -> Result<Option<usize>, PlanError> {
        let config = self.config;
        let used = windows == Windows::EveryOther || config.flag("use_sliding_window")?;
        if used && windows == Windows::Never {
            return Err(config.unsupported("use_sliding_window"));
        }
        let border = config.usize("max_window_layers")?.unwrap_or(28);
        let ruled = match windows {
            Windows::Never | Windows::All => used,
            Windows::FromLayer => used && index >= border,
            Windows::EveryOtherBelow => used && index.is_multiple_of(2) && index < border,
            Windows::EveryOther => index.is_multiple_of(2),
        };
        let free = !matches!(windows, Windows::Never | Windows::All);
        let local = match config.layer_types(config.layers()?)?.map(|kinds| kinds[index]) {
            None => ruled,
            Some("full_attention") if free || !ruled => false,
            Some("sliding_attention") if used => true,
            Some(_) => return Err(config.unsupported("layer_types")),
        };
        if local { config.size("sliding_window").map(Some) } else { Ok(None) }
    }

    /// The function between gate and up.
    pub(crate) fn activation(&self) -> Result<Activation, PlanError> {
        let key =
            if self.config.get("hidden_activation").is_some() { "hidden_activation" } else { "hidden_act" };
        match self.config.string(key)?.as_deref() {
            None | Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some(_) => Err(self.config.unsupported(key)),
        }
    }

    /// A gated MLP of width `wide`.
    pub(crate) fn gated(
        &mut self,
        place: Place,
        module: &str,
        hidden: usize,
        wide: usize,
        bias: bool,
    ) -> Result<Gated, PlanError> {
        Ok(Gated {
            gate: self.linear(place, &format!("{module}.gate_proj"), (wide, hidden), bias)?,
            up: self.linear(place, &format!("{module}.up_proj"), (wide, hidden), bias)?,
            down: self.linear(place, &format!("{module}.down_proj"), (hidden, wide), bias)?,
            activation: self.activation()?,
        })
    }
}
