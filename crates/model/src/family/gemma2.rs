//! Gemma 2 (arXiv 2408.00118).

use super::{Builder, Family, gemma};
use crate::error::PlanError;
use crate::plan::Plan;
use crate::rope::Rope;

pub(super) const FAMILY: Family = Family {
    names: &["gemma2"],
    translate: plan,
    gguf: gemma::GGUF,
    defaults: r#"{"tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window_pattern": 2, "rope_theta": 10000.0, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0}"#,
};

/// One rope for all layers, and softcaps, which the configuration names.
fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let rope = Rope::from_config(builder.config, builder.config.size("head_dim")?)?;
    gemma::plan(builder, false, vec![rope])
}
