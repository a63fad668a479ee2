//! Gemma 3 (arXiv 2503.19786), and the text part of its multimodal files.

use super::{Builder, Family, gemma};
use crate::config::Config;
use crate::error::PlanError;
use crate::plan::Plan;
use crate::rope::Rope;

/// Published files of the multimodal sizes leave out what the reference implementation has as defaults.
pub(super) const FAMILY: Family = Family {
    names: &["gemma3", "gemma3_text"],
    translate: plan,
    gguf: gemma::GGUF,
    defaults: r#"{"tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window_pattern": 6, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "rms_norm_eps": 1e-6,
        "sliding_window": 4096, "max_position_embeddings": 131072}"#,
};

/// Queries and keys are normalised; layers with a window have a rope of their own, which is not scaled.
fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    // Gemma 2 caps scores; here the key is there and nothing reads it.
    if config.get("attn_logit_softcapping").is_some() {
        return Err(config.unsupported("attn_logit_softcapping"));
    }
    let head_dim = config.size("head_dim")?;
    let ropes = vec![global_rope(config, head_dim)?, Rope::plain(local_theta(config)?, head_dim)];
    gemma::plan(builder, true, ropes)
}

/// The rope of layers without a window.
pub(super) fn global_rope(config: &Config, dim: usize) -> Result<Rope, PlanError> {
    let nested = "rope_parameters.full_attention";
    let theta = match config.f32("rope_parameters.full_attention.rope_theta")? {
        Some(theta) => theta,
        None => config.f32("rope_theta")?.ok_or_else(|| config.missing("rope_theta"))?,
    };
    let key = if config.get(nested).is_some() { nested } else { "rope_scaling" };
    Rope::scaled(config, key, theta, dim)
}

/// The base of the frequencies in layers with a window.
pub(super) fn local_theta(config: &Config) -> Result<f32, PlanError> {
    let key = "rope_parameters.sliding_attention";
    match config.string(&format!("{key}.rope_type"))?.as_deref() {
        None | Some("default") => {}
        Some(_) => return Err(config.unsupported(&format!("{key}.rope_type"))),
    }
    match config.f32(&format!("{key}.rope_theta"))? {
        Some(theta) => Ok(theta),
        None => config.f32("rope_local_base_freq")?.ok_or_else(|| config.missing("rope_local_base_freq")),
    }
}
