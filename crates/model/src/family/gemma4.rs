//! Gemma 4: heads of two widths, per-layer embeddings, layers that share keys and values, experts beside an MLP.

use super::experts::{PROJECTIONS, softmax_router};
use super::gemma::{GLOBAL_ROPE, LOCAL_ROPE, local_layers};
use super::{Builder, Family, builder::Place};
use crate::config::{Config, Dialect};
use crate::error::PlanError;
use crate::plan::*;
use crate::rope::Rope;
use sampan_kernels::ops::Pairing;

pub(super) const FAMILY: Family = Family {
    names: &["gemma4", "gemma4_text"],
    translate: plan,
    gguf: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("post_feedforward_layernorm_1", "post_ffw_norm_1"),
        ("post_feedforward_layernorm_2", "post_ffw_norm_2"),
        ("layer_scalar", "layer_output_scale.weight"),
        ("router.proj", "ffn_gate_inp"),
        ("router.scale", "ffn_gate_inp.scale"),
        ("router.per_expert_scale", "ffn_down_exps.scale"),
        ("experts.gate_up_proj", "ffn_gate_up_exps"),
        ("experts.gate_proj", "ffn_gate_exps"),
        ("experts.up_proj", "ffn_up_exps"),
        ("experts.down_proj", "ffn_down_exps"),
        ("per_layer_input_gate", "inp_gate"),
        ("per_layer_projection", "proj"),
        ("post_per_layer_input_norm", "post_norm"),
        ("embed_tokens_per_layer", "per_layer_token_embd"),
        ("per_layer_model_projection", "per_layer_model_proj"),
        ("per_layer_projection_norm", "per_layer_proj_norm"),
    ],
    defaults: r#"{"tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh"}"#,
};

fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    match config.get("use_bidirectional_attention").map(|value| value.as_str()) {
        // Images only: the text is causal.
        None | Some(Some("vision")) => {}
        Some(_) if !config.flag("use_bidirectional_attention")? => {}
        Some(_) => return Err(config.unsupported("use_bidirectional_attention")),
    }
    let hidden = config.size("hidden_size")?;
    let (vocab, embedding, head) = builder.embedding(hidden)?;
    let local = local_layers(config, config.layers()?)?;
    let shared = config.usize("num_kv_shared_layers")?.unwrap_or(0);
    if shared >= local.len() {
        return Err(config.bad("num_kv_shared_layers", "less than the number of layers"));
    }
    let inputs = per_layer_inputs(builder, local.len(), hidden, vocab)?;
    let mut layers = Vec::with_capacity(local.len());
    for index in 0..local.len() {
        let keys = donor(&local, local.len() - shared, index).ok_or_else(|| {
            config.bad("num_kv_shared_layers", "fewer, so that a layer of each kind is left")
        })?;
        layers.push(layer(builder, index, hidden, local[index], keys, inputs.map(|inputs| inputs.width))?);
    }
    let last = builder.norm(Place::Global, "norm", hidden)?;
    let ropes = ropes(builder, &local)?;
    let plan = builder.plain_plan(hidden, vocab, embedding, head, ropes, layers, last)?;
    let final_softcap = config.f32("final_logit_softcapping")?;
    Ok(Plan { embedding_scale: (hidden as f32).sqrt(), per_layer: inputs, final_softcap, ..plan })
}

/// The layer whose keys and values layer `index` reads: itself, or from layer `own` on the last one of its kind
/// before `own`.
pub(super) fn donor(local: &[bool], own: usize, index: usize) -> Option<usize> {
    match index < own {
        true => Some(index),
        false => local[..own].iter().rposition(|&kind| kind == local[index]),
    }
}

/// Frequencies of the global layers, which rotate part of wide heads, and of the local ones.
fn ropes(builder: &mut Builder<'_>, local: &[bool]) -> Result<Vec<Rope>, PlanError> {
    let config = builder.config;
    let dim = |kind| {
        let index = local.iter().position(|&local| local == kind);
        head_dim(config, index.unwrap_or(0), kind)
    };
    let (wide, narrow) = (dim(false)?, dim(true)?);
    if let Dialect::Gguf = config.dialect() {
        let theta = |key: &str| config.f32(key)?.ok_or_else(|| config.missing(key));
        let mut global = Rope::plain(theta("rope_theta")?, wide);
        if let Some(divisors) = builder.constant("rope_freqs", wide / 2)? {
            global = global.divided_by(&divisors);
        }
        return Ok(vec![global, Rope::plain(theta("local_rope_theta")?, narrow)]);
    }
    let theta = |key: &str| config.f32(key)?.ok_or_else(|| config.missing(key));
    let global = theta("rope_parameters.full_attention.rope_theta")?;
    let own = theta("rope_parameters.sliding_attention.rope_theta")?;
    Ok(vec![
        Rope::scaled(config, "rope_parameters.full_attention", global, wide)?,
        Rope::scaled(config, "rope_parameters.sliding_attention", own, narrow)?,
    ])
}

/// Width of a head of layer `index`.
fn head_dim(config: &Config, index: usize, local: bool) -> Result<usize, PlanError> {
    let own = format!("per_layer_config.{index}.head_dim");
    let key = match (config.dialect(), local) {
        (Dialect::HuggingFace, _) if config.get(&own).is_some() => own.as_str(),
        (Dialect::HuggingFace, false) if config.get("global_head_dim").is_some() => "global_head_dim",
        (Dialect::HuggingFace, _) => "head_dim",
        (Dialect::Gguf, true) => "local_head_dim",
        (Dialect::Gguf, false) => "global_head_dim",
    };
    match config.size(key)? {
        dim if dim % 2 == 0 => Ok(dim),
        _ => Err(config.bad(key, "an even number")),
    }
}

fn kv_heads(builder: &Builder<'_>, index: usize, local: bool, heads: usize) -> Result<usize, PlanError> {
    let config = builder.config;
    let own = format!("per_layer_config.{index}.num_key_value_heads");
    let global = "num_global_key_value_heads";
    // Only layers whose values are their keys may have fewer of them.
    let fewer = !local && config.get(global).is_some() && config.flag("attention_k_eq_v")?;
    let key = match (config.get(&own), fewer) {
        (Some(_), _) => own.as_str(),
        (None, true) => global,
        _ => return builder.kv_heads(index, heads),
    };
    match config.size(key)? {
        kv_heads if heads.is_multiple_of(kv_heads) => Ok(kv_heads),
        _ => Err(config.bad(key, "a divisor of num_attention_heads")),
    }
}

/// The embedding of every layer's own; its table may have fewer rows than the vocabulary.
pub(super) fn per_layer_inputs(
    builder: &mut Builder<'_>,
    layers: usize,
    hidden: usize,
    vocab: usize,
) -> Result<Option<PerLayerInputs>, PlanError> {
    let config = builder.config;
    let width = match config.usize("hidden_size_per_layer_input")? {
        None | Some(0) => return Ok(None),
        Some(width) => width,
    };
    let place = Place::Global;
    let table = builder.checkpoint.tensor(&builder.name(place, "embed_tokens_per_layer", "weight"));
    let rows = match config.usize("vocab_size_per_layer_input")? {
        Some(rows) => rows,
        None => table.and_then(|table| table.shape.first().copied()).unwrap_or(vocab),
    };
    Ok(Some(PerLayerInputs {
        table: builder.linear(place, "embed_tokens_per_layer", (rows, layers * width), false)?.weight,
        rows,
        table_scale: (width as f32).sqrt(),
        projection: builder.linear(place, "per_layer_model_projection", (layers * width, hidden), false)?,
        projection_scale: 1.0 / (hidden as f32).sqrt(),
        norm: builder.norm(place, "per_layer_projection_norm", width)?,
        width,
    }))
}

fn layer(
    builder: &mut Builder<'_>,
    index: usize,
    hidden: usize,
    local: bool,
    keys: usize,
    input: Option<usize>,
) -> Result<LayerPlan, PlanError> {
    let place = Place::Layer(index);
    let mut sandwich = |before: &str, after: &str| {
        let before = builder.norm(place, before, hidden)?;
        Ok::<_, PlanError>(Sublayer {
            post: Some(builder.norm(place, after, hidden)?),
            ..Sublayer::plain(before)
        })
    };
    let mixer_at = sandwich("input_layernorm", "post_attention_layernorm")?;
    let ffn_at = sandwich("pre_feedforward_layernorm", "post_feedforward_layernorm")?;
    let per_layer = match input {
        None => None,
        Some(width) => Some(PerLayerGate {
            gate: builder.linear(place, "per_layer_input_gate", (width, hidden), false)?,
            projection: builder.linear(place, "per_layer_projection", (hidden, width), false)?,
            norm: builder.norm(place, "post_per_layer_input_norm", hidden)?,
        }),
    };
    Ok(LayerPlan {
        mixer: Mixer::Attention(attention(builder, index, hidden, local, keys)?),
        mixer_at,
        ffn: ffn(builder, index, hidden, keys != index)?,
        ffn_at,
        per_layer,
        output_scale: Some(builder.vector(place, "layer_scalar", "", 1)?),
        altup: None,
    })
}

fn attention(
    builder: &mut Builder<'_>,
    index: usize,
    hidden: usize,
    local: bool,
    keys: usize,
) -> Result<Attention, PlanError> {
    let config = builder.config;
    let (heads, dim) = (config.size("num_attention_heads")?, head_dim(config, index, local)?);
    let kv_heads = kv_heads(builder, index, local, heads)?;
    // Without a projection of its own the value is the raw key.
    let copied = match config.dialect() {
        Dialect::HuggingFace => !local && config.flag("attention_k_eq_v")?,
        Dialect::Gguf => keys == index && !builder.has(Place::Layer(index), "self_attn.v_proj", "weight"),
    };
    let heads = Heads { heads, kv_heads, dim, copied };
    normed_attention(builder, index, hidden, local, keys, &heads)
}

/// Heads of a layer's attention.
pub(super) struct Heads {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// Width of a head.
    pub(super) dim: usize,
    /// Values are the raw keys.
    pub(super) copied: bool,
}

/// Attention with norms on queries, keys and values and no factor on the scores; `keys` is the layer whose keys and
/// values it reads.
pub(super) fn normed_attention(
    builder: &mut Builder<'_>,
    index: usize,
    hidden: usize,
    local: bool,
    keys: usize,
    &Heads { heads, kv_heads, dim, copied }: &Heads,
) -> Result<Attention, PlanError> {
    let config = builder.config;
    if config.flag("attention_bias")? {
        return Err(config.unsupported("attention_bias"));
    }
    let place = Place::Layer(index);
    let narrow = (kv_heads * dim, hidden);
    let keys = if keys == index {
        Keys::Own {
            k: builder.linear(place, "self_attn.k_proj", narrow, false)?,
            k_norm: Some(builder.norm(place, "self_attn.k_norm", dim)?),
            v: match copied {
                true => None,
                false => Some(builder.linear(place, "self_attn.v_proj", narrow, false)?),
            },
            v_norm: Some(builder.norm_eps()?),
        }
    } else {
        for module in ["self_attn.k_proj", "self_attn.v_proj", "self_attn.k_norm", "self_attn.v_norm"] {
            builder.leave_unread(place, module, "weight");
        }
        Keys::Shared { layer: keys }
    };
    Ok(Attention {
        heads,
        kv_heads,
        key_dim: dim,
        value_dim: dim,
        q: builder.linear(place, "self_attn.q_proj", (heads * dim, hidden), false)?,
        q_norm: Some(builder.norm(place, "self_attn.q_norm", dim)?),
        keys,
        gate: None,
        o: builder.linear(place, "self_attn.o_proj", (hidden, heads * dim), false)?,
        rope: if local { LOCAL_ROPE } else { GLOBAL_ROPE },
        pairing: Pairing::Half,
        window: if local { Some(config.size("sliding_window")?) } else { None },
        softcap: None,
        sinks: None,
        scale: 1.0,
    })
}

fn ffn(builder: &mut Builder<'_>, index: usize, hidden: usize, shares: bool) -> Result<Ffn, PlanError> {
    let config = builder.config;
    let place = Place::Layer(index);
    let double = shares && config.flag("use_double_wide_mlp")?;
    let wide = config.size_at("intermediate_size", index)? * if double { 2 } else { 1 };
    let dense = builder.gated(place, "mlp", hidden, wide, false)?;
    let mixed = match config.dialect() {
        Dialect::HuggingFace => config.flag("enable_moe_block")?,
        Dialect::Gguf => builder.has(place, "router.proj", "weight"),
    };
    if !mixed {
        return Ok(Ffn::Gated(dense));
    }
    let key = if config.get("top_k_experts").is_some() { "top_k_experts" } else { "num_experts_per_tok" };
    let (count, top_k) = (config.size("num_experts")?, config.size(key)?);
    if top_k > count {
        return Err(config.bad(key, "at most the number of experts"));
    }
    let linear = builder.router(place, "router.proj", (count, hidden), false)?;
    let norm =
        Norm { weight: Some(builder.vector(place, "router.scale", "", hidden)?), ..builder.norm_eps()? };
    let factor = 1.0 / (hidden as f32).sqrt();
    let router = Router {
        input: RouterInput::Residual { norm, factor },
        expert_scale: Some(builder.vector(place, "router.per_expert_scale", "", count)?),
        ..softmax_router(linear, true)
    };
    let wide = config.size("moe_intermediate_size")?;
    Ok(Ffn::Parallel(Parallel {
        dense,
        dense_post: builder.norm(place, "post_feedforward_layernorm_1", hidden)?,
        experts: Moe {
            router,
            experts: builder.experts(place, "experts", PROJECTIONS, count, (hidden, wide))?,
            activation: builder.activation()?,
            top_k,
            shared: None,
        },
        experts_pre: builder.norm(place, "pre_feedforward_layernorm_2", hidden)?,
        experts_post: builder.norm(place, "post_feedforward_layernorm_2", hidden)?,
    }))
}
