//! The families: each translates a configuration into a plan, and is nothing but that translation.

mod builder;
mod llama;
mod qwen2;
mod qwen3;

pub(crate) use builder::Builder;

use crate::config::Config;
use crate::error::PlanError;
use crate::plan::Plan;
use sampan_weights::Checkpoint;

/// Makes the plan of one family.
type Translate = fn(&mut Builder<'_>) -> Result<Plan, PlanError>;

/// `model_type` of `config.json` or `general.architecture` of GGUF, and who translates it.
const FAMILIES: &[(&str, Translate)] =
    &[("llama", llama::plan), ("qwen2", qwen2::plan), ("qwen3", qwen3::plan)];

/// The names of the known families.
pub fn known() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}

/// Finds the family, makes its plan and checks that it reads the whole checkpoint.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<Plan, PlanError> {
    let config = Config::read(checkpoint)?;
    let (name, translate) =
        FAMILIES.iter().find(|(name, _)| *name == config.family()).ok_or_else(|| unknown(&config))?;
    let mut builder = Builder::new(checkpoint, &config, name);
    let plan = translate(&mut builder)?;
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
