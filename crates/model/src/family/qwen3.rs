//! Qwen3, dense; also its embedding and reranking models.

use super::dense::{Dense, Windows};
use super::{Builder, Family};
use crate::error::PlanError;
use crate::plan::Plan;

pub(super) const FAMILY: Family = Family { names: &["qwen3"], translate: plan, gguf: &[], defaults: "{}" };

/// Llama's shape with a norm on every query and key head; the head width is given, never derived.
fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let bias = builder.config.flag("attention_bias")?;
    builder.config.size("head_dim")?;
    let windows = Windows::FromLayer;
    builder.dense(&Dense { qkv_bias: bias, o_bias: bias, qk_norm: true, windows, ..Dense::default() })
}
