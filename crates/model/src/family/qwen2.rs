//! Qwen2, Qwen2.5 (Coder, Math) and the DeepSeek-R1 distills made from them.

use super::builder::{Builder, Dense};
use crate::error::PlanError;
use crate::plan::Plan;
use sampan_kernels::ops::Pairing;

/// Llama's shape with biases on q, k and v.
pub(crate) fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    builder.dense(&Dense {
        qkv_bias: true,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        pairing: Pairing::Half,
    })
}
