//! Qwen3, dense.

use super::builder::{Builder, Dense};
use crate::error::PlanError;
use crate::plan::Plan;
use sampan_kernels::ops::Pairing;

/// Llama's shape with a norm on every query and key head; the head width is given, never derived.
pub(crate) fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let bias = builder.config.flag("attention_bias")?;
    builder.config.size("head_dim")?;
    builder.dense(&Dense {
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: false,
        qk_norm: true,
        pairing: Pairing::Half,
    })
}
