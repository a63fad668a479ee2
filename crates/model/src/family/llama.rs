//! Llama 2 and 3.x, and the many models that share its shape.

use super::builder::{Builder, Dense, Place};
use crate::config::Dialect;
use crate::error::PlanError;
use crate::plan::Plan;
use sampan_kernels::ops::Pairing;

/// GGUF files hold q and k with the rows of each head permuted, so that rope rotates neighbouring dimensions.
pub(crate) fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    let first = Place::Layer(0);
    let kind = match config.dialect() {
        Dialect::HuggingFace => Dense {
            qkv_bias: config.flag("attention_bias")?,
            o_bias: config.flag("attention_bias")?,
            mlp_bias: config.flag("mlp_bias")?,
            qk_norm: false,
            pairing: Pairing::Half,
        },
        Dialect::Gguf => Dense {
            qkv_bias: builder.has(first, "self_attn.q_proj", "bias"),
            o_bias: builder.has(first, "self_attn.o_proj", "bias"),
            mlp_bias: builder.has(first, "mlp.gate_proj", "bias"),
            qk_norm: false,
            pairing: Pairing::Pairs,
        },
    };
    builder.dense(&kind)
}
