//! Qwen3 with experts: 30B-A3B, 235B-A22B and the Coder models of that shape.

use super::dense::{Dense, Windows};
use super::experts::{PROJECTIONS, softmax_router};
use super::{Builder, Family, builder::Place};
use crate::config::{Config, Dialect};
use crate::error::PlanError;
use crate::plan::{Ffn, Moe, Plan};
use serde_json::Value;

pub(super) const FAMILY: Family =
    Family { names: &["qwen3_moe", "qwen3moe"], translate: plan, gguf: &[], defaults: "{}" };

/// Qwen3 with a mixture of experts in the layers that have one.
fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    let bias = config.flag("attention_bias")?;
    config.size("head_dim")?;
    let windows = Windows::All;
    let kind = Dense { qkv_bias: bias, o_bias: bias, qk_norm: true, windows, ..Dense::default() };
    builder.decoder(&kind, |builder, index, hidden| {
        let place = Place::Layer(index);
        if is_mixture(builder, index)? {
            return Ok(Ffn::Moe(mixture(builder, place, hidden)?));
        }
        let wide = builder.config.size("intermediate_size")?;
        Ok(Ffn::Gated(builder.gated(place, "mlp", hidden, wide, false)?))
    })
}

/// Whether a layer has experts: every `decoder_sparse_step`-th one that is not among `mlp_only_layers`. GGUF files
/// say it by their tensors.
pub(super) fn is_mixture(builder: &Builder<'_>, index: usize) -> Result<bool, PlanError> {
    let config = builder.config;
    match config.dialect() {
        Dialect::Gguf => Ok(builder.has(Place::Layer(index), "mlp.gate", "weight")),
        Dialect::HuggingFace => is_sparse(config, index),
    }
}

/// Whether the configuration gives a layer experts.
pub(super) fn is_sparse(config: &Config, index: usize) -> Result<bool, PlanError> {
    let key = "mlp_only_layers";
    let dense: Option<Vec<u64>> = match config.get(key) {
        None => Some(Vec::new()),
        Some(list) => list.as_array().and_then(|list| list.iter().map(Value::as_u64).collect()),
    };
    let dense = dense.ok_or_else(|| config.bad(key, "a list of layer numbers"))?;
    let step = match config.usize("decoder_sparse_step")? {
        Some(_) => config.size("decoder_sparse_step")?,
        None => 1,
    };
    Ok(!dense.contains(&(index as u64)) && (index + 1).is_multiple_of(step))
}

/// The routed experts of a layer: softmax over all, then the best, renormalised where the configuration says so.
pub(super) fn mixture(builder: &mut Builder<'_>, place: Place, hidden: usize) -> Result<Moe, PlanError> {
    let config = builder.config;
    let (experts, top_k) = builder.expert_counts()?;
    let wide = config.size("moe_intermediate_size")?;
    let linear = builder.router(place, "mlp.gate", (experts, hidden), false)?;
    // Left out, it is false; files of Qwen3 in GGUF always leave it out and mean the opposite.
    let renormalize = match config.get("norm_topk_prob") {
        None => config.family() == "qwen3moe",
        Some(_) => config.flag("norm_topk_prob")?,
    };
    Ok(Moe {
        router: softmax_router(linear, renormalize),
        experts: builder.experts(place, "mlp.experts", PROJECTIONS, experts, (hidden, wide))?,
        activation: builder.activation()?,
        top_k,
        shared: None,
    })
}
