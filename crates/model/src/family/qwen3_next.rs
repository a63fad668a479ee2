//! Qwen3-Next, Qwen3.5 and Qwen3.6, dense and with experts: three layers of gated delta rule to each layer of gated
//! attention.

use super::qwen2_moe::shared_mixture;
use super::qwen3_moe::is_sparse;
use super::{Builder, Family, builder::Place};
use crate::config::{Config, Dialect};
use crate::error::PlanError;
use crate::names::Table;
use crate::plan::*;
use crate::rope::Rope;
use sampan_kernels::delta::{DeltaShape, KeyHeads, MAX_TAPS};
use sampan_kernels::ops::Pairing;

pub(super) const NEXT: Family = Family {
    names: &["qwen3_next", "qwen3next"],
    translate: plan,
    gguf: GGUF,
    defaults: r#"{"norm_topk_prob": true, "full_attention_interval": 4}"#,
};

pub(super) const DENSE: Family = Family {
    names: &["qwen3_5", "qwen3_5_text", "qwen35"],
    translate: plan,
    gguf: GGUF,
    defaults: r#"{"full_attention_interval": 4}"#,
};

pub(super) const MOE: Family = Family {
    names: &["qwen3_5_moe", "qwen3_5_moe_text", "qwen35moe"],
    translate: plan,
    gguf: GGUF,
    defaults: r#"{"norm_topk_prob": true, "full_attention_interval": 4}"#,
};

const GGUF: Table = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("linear_attn.in_proj_qkvz", "ssm_in"),
    ("linear_attn.in_proj_qkv", "attn_qkv"),
    ("linear_attn.in_proj_z", "attn_gate"),
    ("linear_attn.in_proj_ba", "ssm_ba"),
    ("linear_attn.in_proj_b", "ssm_beta"),
    ("linear_attn.in_proj_a", "ssm_alpha"),
    ("linear_attn.conv1d", "ssm_conv1d"),
    ("linear_attn.A_log", "ssm_a"),
    ("linear_attn.dt_bias", "ssm_dt.bias"),
    ("linear_attn.norm", "ssm_norm"),
    ("linear_attn.out_proj", "ssm_out"),
];

fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    refuse(config)?;
    let hidden = config.size("hidden_size")?;
    let head_dim = config.size("head_dim")?;
    let rope = Rope::part_from_config(config, rotated(config, head_dim)?)?;
    let kinds = kinds(config)?;
    let (vocab, embedding, head) = builder.embedding(hidden)?;
    let mut layers = Vec::with_capacity(kinds.len());
    for (index, &attends) in kinds.iter().enumerate() {
        let place = Place::Layer(index);
        let mixer_norm = norm(builder, place, "input_layernorm", hidden)?;
        let mixer = match attends {
            true => Mixer::Attention(attention(builder, place, hidden, head_dim)?),
            false => Mixer::Delta(delta(builder, place, hidden)?),
        };
        let ffn_norm = norm(builder, place, "post_attention_layernorm", hidden)?;
        let ffn = match is_mixture(config, index)? {
            true => Ffn::Moe(shared_mixture(builder, place, hidden)?),
            false => {
                Ffn::Gated(builder.gated(place, "mlp", hidden, config.size("intermediate_size")?, false)?)
            }
        };
        layers.push(LayerPlan::new(mixer_norm, mixer, ffn_norm, ffn));
    }
    let last = norm(builder, Place::Global, "norm", hidden)?;
    builder.plain_plan(hidden, vocab, embedding, head, vec![rope], layers, last)
}

/// Switches that other models of this shape may set and this translation does not know.
fn refuse(config: &Config) -> Result<(), PlanError> {
    for key in ["attention_bias", "output_gate_type"] {
        if config.get(key).is_some_and(|value| value.as_bool() != Some(false)) {
            return Err(config.unsupported(key));
        }
    }
    if config.get("attn_output_gate").is_some_and(|value| value.as_bool() != Some(true)) {
        return Err(config.unsupported("attn_output_gate"));
    }
    match config.string("hidden_act")?.as_deref() {
        None | Some("silu") => Ok(()),
        Some(_) => Err(config.unsupported("hidden_act")),
    }
}

/// Rotated dimensions of a head.
fn rotated(config: &Config, head_dim: usize) -> Result<usize, PlanError> {
    let (key, dim) = match config.dialect() {
        Dialect::Gguf => ("rope_dim", config.size("rope_dim")?),
        Dialect::HuggingFace => {
            let inner = "rope_parameters.partial_rotary_factor";
            let key = if config.get(inner).is_some() { inner } else { "partial_rotary_factor" };
            let factor = config.f32(key)?.unwrap_or(0.25);
            (key, (head_dim as f32 * factor) as usize)
        }
    };
    match dim {
        1.. if dim % 2 == 0 && dim <= head_dim => Ok(dim),
        _ => Err(config.bad(key, "an even number of the dimensions of a head")),
    }
}

/// For each layer whether it attends; the others follow the delta rule.
fn kinds(config: &Config) -> Result<Vec<bool>, PlanError> {
    let layers = config.layers()?;
    if let Some(kinds) = config.layer_types(layers)? {
        let kind = |kind: &str| match kind {
            "full_attention" => Ok(true),
            "linear_attention" => Ok(false),
            _ => Err(config.bad("layer_types", "\"full_attention\" or \"linear_attention\" for each layer")),
        };
        return kinds.into_iter().map(kind).collect();
    }
    if let Some(recurrent) = config.get("recurrent_layers") {
        let at = |i: usize| match recurrent.get(i).map(|x| (x.as_bool(), x.as_i64())) {
            Some((Some(true), _) | (_, Some(1))) => Ok(false),
            Some((Some(false), _) | (_, Some(0))) => Ok(true),
            _ => Err(config.bad("recurrent_layers", "true or false for each layer")),
        };
        return (0..layers).map(at).collect();
    }
    let interval = config.size("full_attention_interval")?;
    Ok((1..=layers).map(|number| number.is_multiple_of(interval)).collect())
}

fn is_mixture(config: &Config, index: usize) -> Result<bool, PlanError> {
    if config.usize("num_experts")?.unwrap_or(0) == 0 {
        return Ok(false);
    }
    is_sparse(config, index)
}

/// A norm that multiplies by `1 + w`; GGUF files hold the sum.
fn norm(builder: &mut Builder<'_>, place: Place, module: &str, dim: usize) -> Result<Norm, PlanError> {
    let map = match builder.config.dialect() {
        Dialect::HuggingFace => Map::PlusOne,
        Dialect::Gguf => Map::Same,
    };
    let Norm { eps, .. } = builder.norm_eps()?;
    let source = Source { map, ..Source::default() };
    let weight = builder.tensor(place, module, "weight", &[dim], &[dim], Role::Vector, source)?;
    Ok(Norm { weight: Some(weight), eps })
}

/// Some rows of a matrix as a linear layer of their own.
fn part(
    builder: &mut Builder<'_>,
    place: Place,
    module: &str,
    (file_rows, cols): (usize, usize),
    list: Vec<u32>,
) -> Result<Linear, PlanError> {
    let rows = list.len();
    let source = Source { rows: Rows::List(list.into()), ..Source::default() };
    let (file, shape) = ([file_rows, cols], [rows, cols]);
    let weight = builder.tensor(place, module, "weight", &file, &shape, Role::Matrix, source)?;
    Ok(Linear { weight, bias: None, rows, cols })
}

/// The rows `first..first + len` of every one of `groups` groups of `stride` rows.
fn rows_of_groups(groups: usize, stride: usize, first: usize, len: usize) -> Vec<u32> {
    (0..groups).flat_map(|g| (first..first + len).map(move |row| (g * stride + row) as u32)).collect()
}

/// Attention whose query projection also gives a gate: in every head the query's rows, then the gate's.
fn attention(
    builder: &mut Builder<'_>,
    place: Place,
    hidden: usize,
    dim: usize,
) -> Result<Attention, PlanError> {
    let config = builder.config;
    let (heads, kv_heads) = (config.size("num_attention_heads")?, config.size("num_key_value_heads")?);
    if !heads.is_multiple_of(kv_heads) {
        return Err(config.bad("num_key_value_heads", "a divisor of num_attention_heads"));
    }
    if config.usize("value_head_dim")?.is_some_and(|value| value != dim) {
        return Err(config.unsupported("value_head_dim"));
    }
    let both = (heads * 2 * dim, hidden);
    let rows = |first| rows_of_groups(heads, 2 * dim, first, dim);
    let narrow = (kv_heads * dim, hidden);
    Ok(Attention {
        heads,
        kv_heads,
        key_dim: dim,
        value_dim: dim,
        q: part(builder, place, "self_attn.q_proj", both, rows(0))?,
        q_norm: Some(norm(builder, place, "self_attn.q_norm", dim)?),
        gate: Some(part(builder, place, "self_attn.q_proj", both, rows(dim))?),
        keys: Keys::Own {
            k: builder.linear(place, "self_attn.k_proj", narrow, false)?,
            k_norm: Some(norm(builder, place, "self_attn.k_norm", dim)?),
            v: Some(builder.linear(place, "self_attn.v_proj", narrow, false)?),
            v_norm: None,
        },
        o: builder.linear(place, "self_attn.o_proj", (hidden, heads * dim), false)?,
        rope: 0,
        pairing: Pairing::Half,
        window: None,
        softcap: None,
        sinks: None,
        scale: 1.0 / (dim as f32).sqrt(),
    })
}

fn shape(config: &Config) -> Result<DeltaShape, PlanError> {
    let value_heads = config.size("linear_num_value_heads")?;
    let value_dim = match config.dialect() {
        Dialect::HuggingFace => config.size("linear_value_head_dim")?,
        Dialect::Gguf => config.size("linear_inner_size")? / value_heads,
    };
    // Files of Qwen3.5 in GGUF hold the value heads of a key head apart, one round of all key heads after the other.
    let order = match (config.dialect(), config.family()) {
        (Dialect::Gguf, "qwen35" | "qwen35moe") => KeyHeads::Tiled,
        _ => KeyHeads::Grouped,
    };
    let (key_heads, key_dim) = (config.size("linear_num_key_heads")?, config.size("linear_key_head_dim")?);
    if !value_heads.is_multiple_of(key_heads) {
        return Err(config.bad("linear_num_value_heads", "a multiple of linear_num_key_heads"));
    }
    let shape = DeltaShape { key_heads, value_heads, key_dim, value_dim, order };
    match shape.fits() {
        true => Ok(shape),
        false => Err(config.unsupported("linear_key_head_dim")),
    }
}

fn delta(builder: &mut Builder<'_>, place: Place, hidden: usize) -> Result<Delta, PlanError> {
    let config = builder.config;
    let shape = shape(config)?;
    let (heads, taps) = (shape.value_heads, config.size("linear_conv_kernel_dim")?);
    if taps > MAX_TAPS {
        return Err(config.unsupported("linear_conv_kernel_dim"));
    }
    let (channels, outputs) = (shape.channels(), shape.outputs());
    let module = |name: &str| format!("linear_attn.{name}");
    let (qkv, z) = if builder.has(place, &module("in_proj_qkvz"), "weight") {
        // By key head: its query, its key, its value heads, their gates.
        let (keys, values) = (shape.key_dim, outputs / shape.key_heads);
        let rows = |first, len| rows_of_groups(shape.key_heads, 2 * (keys + values), first, len);
        let (name, file) = (module("in_proj_qkvz"), (channels + outputs, hidden));
        let qkv = [rows(0, keys), rows(keys, keys), rows(2 * keys, values)].concat();
        let qkv = part(builder, place, &name, file, qkv)?;
        (qkv, part(builder, place, &name, file, rows(2 * keys + values, values))?)
    } else {
        let qkv = builder.linear(place, &module("in_proj_qkv"), (channels, hidden), false)?;
        (qkv, builder.linear(place, &module("in_proj_z"), (outputs, hidden), false)?)
    };
    let (b, a) = if builder.has(place, &module("in_proj_ba"), "weight") {
        let group = heads / shape.key_heads;
        let rows = |first| rows_of_groups(shape.key_heads, 2 * group, first, group);
        let (name, file) = (module("in_proj_ba"), (2 * heads, hidden));
        (part(builder, place, &name, file, rows(0))?, part(builder, place, &name, file, rows(group))?)
    } else {
        let b = builder.linear(place, &module("in_proj_b"), (heads, hidden), false)?;
        (b, builder.linear(place, &module("in_proj_a"), (heads, hidden), false)?)
    };
    let (file, map) = match config.dialect() {
        Dialect::HuggingFace => (vec![channels, 1, taps], Map::NegExp),
        Dialect::Gguf => (vec![channels, taps], Map::Same),
    };
    let tap = |start| {
        let source = Source { rows: Rows::Strided { start, step: taps }, ..Source::default() };
        builder.tensor(place, &module("conv1d"), "weight", &file, &[channels], Role::Vector, source)
    };
    let taps = (0..taps).map(tap).collect::<Result<Vec<_>, PlanError>>()?;
    let rate = Source { map, ..Source::default() };
    Ok(Delta {
        shape,
        qkv,
        z,
        a,
        b,
        taps,
        neg_exp_a: builder.tensor(place, &module("A_log"), "", &[heads], &[heads], Role::Vector, rate)?,
        dt_bias: builder.vector(place, &module("dt_bias"), "", heads)?,
        norm: builder.norm(place, &module("norm"), shape.value_dim)?,
        o: builder.linear(place, &module("out_proj"), (hidden, outputs), false)?,
    })
}
