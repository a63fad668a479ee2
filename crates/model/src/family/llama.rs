//! Llama 2 and 3.x, and the many models that share its shape.

use super::dense::Dense;
use super::{Builder, Family, builder::Place};
use crate::config::Dialect;
use crate::error::PlanError;
use crate::plan::Plan;
use sampan_kernels::ops::Pairing;

pub(super) const FAMILY: Family = Family { names: &["llama"], translate: plan, gguf: &[], defaults: "{}" };

/// GGUF files hold q and k with the rows of each head permuted, so that rope rotates neighbouring dimensions.
fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    let first = Place::Layer(0);
    let kind = match config.dialect() {
        Dialect::HuggingFace => Dense {
            qkv_bias: config.flag("attention_bias")?,
            o_bias: config.flag("attention_bias")?,
            mlp_bias: config.flag("mlp_bias")?,
            ..Dense::default()
        },
        Dialect::Gguf => Dense {
            qkv_bias: builder.has(first, "self_attn.q_proj", "bias"),
            o_bias: builder.has(first, "self_attn.o_proj", "bias"),
            mlp_bias: builder.has(first, "mlp.gate_proj", "bias"),
            pairing: Pairing::Pairs,
            ..Dense::default()
        },
    };
    builder.dense(&kind)
}
