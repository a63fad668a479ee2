//! Qwen2, Qwen2.5 (Coder, Math) and the DeepSeek-R1 distills made from them.

use super::dense::{Dense, Windows};
use super::{Builder, Family};
use crate::error::PlanError;
use crate::plan::Plan;

pub(super) const FAMILY: Family = Family { names: &["qwen2"], translate: plan, gguf: &[], defaults: "{}" };

/// Llama's shape with biases on q, k and v.
fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    if builder.config.flag("use_mrope")? {
        return Err(builder.config.unsupported("use_mrope"));
    }
    builder.dense(&Dense { qkv_bias: true, windows: Windows::FromLayer, ..Dense::default() })
}
