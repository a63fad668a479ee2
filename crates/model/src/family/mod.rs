//! The families: each translates a configuration into a plan, and is nothing but that translation.

mod builder;
mod deepseek;
mod deepseek_v4;
mod dense;
mod experts;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod gpt_oss;
mod llama;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod qwen3_next;
mod sketch;

pub(crate) use builder::{Builder, Draft, Notes, Place};
pub(crate) use gemma3n::share_below;

use crate::config::Config;
use crate::error::PlanError;
use crate::names::{Names, Table};
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
    gemma2::FAMILY,
    gemma3::FAMILY,
    gemma3n::FAMILY,
    gemma4::FAMILY,
    gpt_oss::FAMILY,
];

/// The names of the known families.
pub fn known() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.names[0])
}

/// Whether a family goes by this name.
#[cfg(test)]
pub(crate) fn is_name(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.names.contains(&name))
}

/// Finds the family, makes its plan and checks that it reads the whole checkpoint.
pub(crate) fn plan(checkpoint: &Checkpoint, options: PlanOptions) -> Result<Plan, PlanError> {
    let config = Config::read(checkpoint)?;
    let family = find(&config)?;
    // Models that embed are often made from those that generate by letting tokens see what follows.
    if config.get("is_causal").is_some() && !config.flag("is_causal")? {
        return Err(config.unsupported("is_causal"));
    }
    let config = with_defaults(config, family);
    let mut builder = Builder::new(checkpoint, &config, family, options);
    let plan = (family.translate)(&mut builder)?;
    builder.finish(plan)
}

/// The plan that a GGUF file with the metadata `config` will have, written from `checkpoint`.
pub(crate) fn draft(
    checkpoint: &Checkpoint,
    config: Config,
    draft: Draft<'_>,
) -> Result<(Plan, Notes), PlanError> {
    let family = find(&config)?;
    let config = with_defaults(config, family);
    let mut builder = Builder::drafting(checkpoint, &config, family, PlanOptions::default(), draft);
    let plan = (family.translate)(&mut builder)?;
    Ok(builder.drafted(plan))
}

/// The plan of the published checkpoint that the configuration of `checkpoint` describes; no weights are there.
pub(crate) fn sketch(checkpoint: &Checkpoint, options: PlanOptions) -> Result<Plan, PlanError> {
    let config = Config::read(checkpoint)?;
    let family = find(&config)?;
    let config = with_defaults(config, family);
    let names = Names::of(checkpoint, config.dialect(), family.gguf);
    let draft = sketch::draft(names);
    let mut builder = Builder::drafting(checkpoint, &config, family, options, draft);
    let plan = (family.translate)(&mut builder)?;
    Ok(builder.drafted(plan).0)
}

/// How a checkpoint of Hugging Face spells the names of its tensors.
pub(crate) fn original_names(checkpoint: &Checkpoint, config: &Config) -> Result<Names, PlanError> {
    Ok(Names::of(checkpoint, config.dialect(), find(config)?.gguf))
}

fn find(config: &Config) -> Result<&'static Family, PlanError> {
    let family = FAMILIES.iter().find(|family| family.names.contains(&config.family()));
    family.ok_or_else(|| unknown(config))
}

fn with_defaults(config: Config, family: &Family) -> Config {
    config.or_defaults(&serde_json::from_str(family.defaults).expect("a family's defaults are JSON"))
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
