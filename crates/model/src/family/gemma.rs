//! What Gemma 2 and 3 share: norms before and after every sublayer, layers with a window between layers without.

use super::{Builder, builder::Place};
use crate::config::{Config, Dialect};
use crate::error::PlanError;
use crate::names::Table;
use crate::plan::*;
use crate::rope::Rope;
use sampan_kernels::ops::Pairing;

/// Names in GGUF.
pub(super) const GGUF: Table = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// Indices of [`Plan::ropes`].
pub(super) const GLOBAL_ROPE: usize = 0;
pub(super) const LOCAL_ROPE: usize = 1;

/// The plan over `ropes`; with `head_norms` queries and keys are normalised per head.
pub(super) fn plan(builder: &mut Builder<'_>, head_norms: bool, ropes: Vec<Rope>) -> Result<Plan, PlanError> {
    let config = builder.config;
    if config.flag("use_bidirectional_attention")? {
        return Err(config.unsupported("use_bidirectional_attention"));
    }
    let hidden = config.size("hidden_size")?;
    let (vocab, embedding, head) = builder.embedding(hidden)?;
    let head_dim = config.size("head_dim")?;
    let local = local_layers(config, config.layers()?)?;
    let mut layers = Vec::with_capacity(local.len());
    for (index, &local) in local.iter().enumerate() {
        let place = Place::Layer(index);
        let mixer_at = sandwich(builder, place, "input_layernorm", "post_attention_layernorm", hidden)?;
        let mixer =
            attention(builder, index, (hidden, head_dim), local.then_some(ropes.len() - 1), head_norms)?;
        let (before, after) = ("pre_feedforward_layernorm", "post_feedforward_layernorm");
        let ffn_at = sandwich(builder, place, before, after, hidden)?;
        let wide = config.size_at("intermediate_size", index)?;
        layers.push(LayerPlan {
            mixer: Mixer::Attention(mixer),
            mixer_at,
            ffn: Ffn::Gated(builder.gated(place, "mlp", hidden, wide, false)?),
            ffn_at,
            per_layer: None,
            output_scale: None,
            altup: None,
        });
    }
    let last = norm(builder, Place::Global, "norm", hidden)?;
    let plan = builder.plain_plan(hidden, vocab, embedding, head, ropes, layers, last)?;
    let final_softcap = config.f32("final_logit_softcapping")?;
    Ok(Plan { embedding_scale: (hidden as f32).sqrt(), final_softcap, ..plan })
}

/// For each layer whether it has a window: as listed, else all but every `sliding_window_pattern`-th.
pub(super) fn local_layers(config: &Config, layers: usize) -> Result<Vec<bool>, PlanError> {
    if let Some(kinds) = config.layer_types(layers)? {
        let local = |kind: &str| match kind {
            "sliding_attention" => Ok(true),
            "full_attention" => Ok(false),
            _ => Err(config.bad("layer_types", "\"sliding_attention\" or \"full_attention\" for each layer")),
        };
        return kinds.into_iter().map(local).collect();
    }
    let key = "sliding_window_pattern";
    if let Some(list) = config.get(key).and_then(|value| value.as_array()) {
        let local: Option<Vec<bool>> =
            list.iter().map(|x| x.as_bool().or_else(|| x.as_u64().map(|x| x != 0))).collect();
        return match local.filter(|local| local.len() >= layers) {
            Some(local) => Ok(local[..layers].to_vec()),
            None => Err(config.bad(key, "true or false for each layer")),
        };
    }
    let every = config.size(key)?;
    Ok((1..=layers).map(|number| !number.is_multiple_of(every)).collect())
}

/// A sublayer between two norms.
fn sandwich(
    builder: &mut Builder<'_>,
    place: Place,
    before: &str,
    after: &str,
    hidden: usize,
) -> Result<Sublayer, PlanError> {
    let before = norm(builder, place, before, hidden)?;
    Ok(Sublayer { post: Some(norm(builder, place, after, hidden)?), ..Sublayer::plain(before) })
}

/// A norm that multiplies by `1 + w`; GGUF files hold the sum.
fn norm(builder: &mut Builder<'_>, place: Place, module: &str, dim: usize) -> Result<Norm, PlanError> {
    let map = match builder.config.dialect() {
        Dialect::HuggingFace => Map::PlusOne,
        Dialect::Gguf => Map::Same,
    };
    builder.norm_from(place, module, dim, Source { map, ..Source::default() })
}

fn attention(
    builder: &mut Builder<'_>,
    index: usize,
    (hidden, dim): (usize, usize),
    local_rope: Option<usize>,
    head_norms: bool,
) -> Result<Attention, PlanError> {
    let config = builder.config;
    let place = Place::Layer(index);
    let heads = config.size("num_attention_heads")?;
    let kv_heads = builder.kv_heads(index, heads)?;
    let bias = config.flag("attention_bias")?;
    let (wide, narrow) = (heads * dim, kv_heads * dim);
    let head_norm = |builder: &mut Builder<'_>, module: &str| match head_norms {
        true => norm(builder, place, module, dim).map(Some),
        false => Ok(None),
    };
    Ok(Attention {
        heads,
        kv_heads,
        key_dim: dim,
        value_dim: dim,
        q: builder.linear(place, "self_attn.q_proj", (wide, hidden), bias)?,
        q_norm: head_norm(builder, "self_attn.q_norm")?,
        keys: Keys::Own {
            k: builder.linear(place, "self_attn.k_proj", (narrow, hidden), bias)?,
            k_norm: head_norm(builder, "self_attn.k_norm")?,
            v: Some(builder.linear(place, "self_attn.v_proj", (narrow, hidden), bias)?),
            v_norm: None,
        },
        gate: None,
        o: builder.linear(place, "self_attn.o_proj", (hidden, wide), bias)?,
        rope: local_rope.unwrap_or(GLOBAL_ROPE),
        pairing: Pairing::Half,
        window: if local_rope.is_some() { Some(config.size("sliding_window")?) } else { None },
        softcap: config.f32("attn_logit_softcapping")?,
        sinks: None,
        scale: 1.0 / scalar(config, hidden, heads, dim)?.sqrt(),
    })
}

/// What scores are divided by, squared. GGUF files do not say it: all releases have the head's width but the 27B
/// ones, known by their number of layers, which have the hidden width per head.
fn scalar(config: &Config, hidden: usize, heads: usize, dim: usize) -> Result<f32, PlanError> {
    let key = "query_pre_attn_scalar";
    match (config.f32(key)?, config.dialect()) {
        (Some(scalar), _) if scalar > 0.0 => Ok(scalar),
        (Some(_), _) => Err(config.bad(key, "a number above 0")),
        (None, Dialect::HuggingFace) => Ok(256.0),
        (None, Dialect::Gguf) => match (config.family(), config.layers()?) {
            ("gemma2", 46) | ("gemma3", 62) => Ok(hidden as f32 / heads as f32),
            _ => Ok(dim as f32),
        },
    }
}
