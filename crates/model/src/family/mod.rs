//! The families: each translates a configuration into a plan, and is nothing but that translation.

mod builder;
mod deepseek;
mod deepseek_v4;
mod dense;
mod experts;
mod gemma;
mod gemma3n;
mod gemma4;
mod gpt_oss;
mod llama;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod qwen3_next;

pub(crate) use builder::Builder;

use crate::config::Config;
use crate::error::PlanError;
use crate::names::Table;
use crate::plan::{Plan, PlanOptions};
use sampan_weights::Checkpoint;

/// Makes the plan of one family.
type Translate = fn(&mut Builder<'_>) -> Result<Plan, PlanError>;

/// A family: what it is called and how it is translated.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    /// `model_type` of `config.json` and `general.architecture` of GGUF; the first is the family's name.
    pub(crate) names: &'static [&'static str],
    /// Makes the plan.
    pub(crate) translate: Translate,
    /// Tensors that GGUF names otherwise than in most families.
    pub(crate) gguf: Table,
    /// What keys of `config.json` mean when they are left out, as a JSON object.
    pub(crate) defaults: &'static str,
}

/// All families.
const FAMILIES: &[Family] = &[
    llama::FAMILY,
    qwen2::FAMILY,
    qwen2_moe::FAMILY,
    qwen3::FAMILY,
    qwen3_moe::FAMILY,
    qwen3_next::NEXT,
    qwen3_next::DENSE,
    qwen3_next::MOE,
    deepseek::V2,
    deepseek::V3,
    deepseek::V32,
    deepseek_v4::FAMILY,
    gemma::GEMMA2,
    gemma::GEMMA3,
    gemma3n::FAMILY,
    gemma4::FAMILY,
    gpt_oss::FAMILY,
];

/// The names of the known families.
pub fn known() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.names[0])
}

/// Finds the family, makes its plan and checks that it reads the whole checkpoint.
pub(crate) fn plan(checkpoint: &Checkpoint, options: PlanOptions) -> Result<Plan, PlanError> {
    let config = Config::read(checkpoint)?;
    let family = FAMILIES
        .iter()
        .find(|family| family.names.contains(&config.family()))
        .ok_or_else(|| unknown(&config))?;
    let defaults = serde_json::from_str(family.defaults).expect("a family's defaults are JSON");
    let config = config.or_defaults(&defaults);
    let mut builder = Builder::new(checkpoint, &config, family, options);
    let plan = (family.translate)(&mut builder)?;
    builder.finish(plan)
}

fn unknown(config: &Config) -> PlanError {
    let key = match config.dialect() {
        crate::config::Dialect::HuggingFace => "model_type in config.json",
        crate::config::Dialect::Gguf => "general.architecture",
    };
    PlanError::UnknownFamily {
        name: config.family().to_string(),
        key: key.to_string(),
        known: known().collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_objects() {
        let mut names: Vec<&str> = FAMILIES.iter().flat_map(|family| family.names).copied().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{names:?}");
        for family in FAMILIES {
            let defaults: Option<serde_json::Value> = serde_json::from_str(family.defaults).ok();
            assert!(defaults.is_some_and(|d| d.is_object()), "{:?}", family.names);
        }
    }
}
