//! Qwen1.5-MoE and Qwen2-MoE.

use super::dense::{Dense, Windows};
use super::qwen3_moe::{is_mixture, mixture};
use super::{Builder, Family, builder::Place};
use crate::config::Dialect;
use crate::error::PlanError;
use crate::plan::{Ffn, Linear, Moe, Plan, Role, SharedExpert, Source};

pub(super) const FAMILY: Family = Family {
    names: &["qwen2_moe", "qwen2moe"],
    translate: plan,
    gguf: &[],
    defaults: r#"{"qkv_bias": true}"#,
};

/// Qwen2 with experts and one more that every token uses, weighted by a sigmoid.
fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let bias = builder.config.flag("qkv_bias")?;
    let kind = Dense { qkv_bias: bias, windows: Windows::EveryOtherBelow, ..Dense::default() };
    builder.decoder(&kind, |builder, index, hidden| {
        let place = Place::Layer(index);
        if !is_mixture(builder, index)? {
            let wide = builder.config.size("intermediate_size")?;
            return Ok(Ffn::Gated(builder.gated(place, "mlp", hidden, wide, false)?));
        }
        Ok(Ffn::Moe(shared_mixture(builder, place, hidden)?))
    })
}

/// Routed experts, and one that every token uses.
pub(super) fn shared_mixture(
    builder: &mut Builder<'_>,
    place: Place,
    hidden: usize,
) -> Result<Moe, PlanError> {
    let moe = mixture(builder, place, hidden)?;
    Ok(Moe { shared: Some(shared(builder, place, hidden)?), ..moe })
}

fn shared(builder: &mut Builder<'_>, place: Place, hidden: usize) -> Result<SharedExpert, PlanError> {
    let config = builder.config;
    // GGUF files from before the key have an expert as wide as the dense layers.
    let key = match (config.dialect(), config.get("shared_expert_intermediate_size")) {
        (Dialect::Gguf, None) => "intermediate_size",
        _ => "shared_expert_intermediate_size",
    };
    let mlp = builder.gated(place, "mlp.shared_expert", hidden, config.size(key)?, false)?;
    let shape = [1, hidden];
    let weight = builder.tensor(
        place,
        "mlp.shared_expert_gate",
        "weight",
        &shape,
        &shape,
        Role::Matrix,
        Source::default(),
    )?;
    let gate = Linear { weight, bias: None, rows: 1, cols: hidden };
    Ok(SharedExpert { mlp, gate: Some(gate) })
}
