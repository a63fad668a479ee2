//! Mixtures of experts, as most families store them.

use super::builder::{Builder, Place};
use crate::config::Dialect;
use crate::error::PlanError;
use crate::plan::{Expert, Linear, Role, Router, RouterInput, Rows, Score, Source};
use sampan_kernels::Format;

impl Builder<'_> {
    /// A router with one logit per expert, held in float32 whatever the file has: a rounded logit is another expert.
    pub(crate) fn router(
        &mut self,
        place: Place,
        module: &str,
        (experts, hidden): (usize, usize),
        bias: bool,
    ) -> Result<Linear, PlanError> {
        let linear = self.linear(place, module, (experts, hidden), bias)?;
        self.hold_as(linear.weight, Format::F32);
        Ok(linear)
    }

    /// Experts in tensors of their own (`{module}.7.up_proj`), or in GGUF stacked in one (`{module}.up_proj`).
    pub(crate) fn experts(
        &mut self,
        place: Place,
        module: &str,
        count: usize,
        (hidden, wide): (usize, usize),
    ) -> Result<Vec<Expert>, PlanError> {
        let dialect = self.config.dialect();
        let mut linear = |expert: usize, projection: &str, (rows, cols): (usize, usize)| match dialect {
            Dialect::HuggingFace => {
                self.linear(place, &format!("{module}.{expert}.{projection}"), (rows, cols), false)
            }
            Dialect::Gguf => {
                let name = self.name(place, &format!("{module}.{projection}"), "weight");
                let source = Source { rows: Rows::from(expert * rows), ..Source::default() };
                let weight = self.tensor(name, &[count, rows, cols], &[rows, cols], Role::Matrix, source)?;
                Ok(Linear { weight, bias: None, rows, cols })
            }
        };
        (0..count)
            .map(|expert| {
                Ok(Expert {
                    gate: linear(expert, "gate_proj", (wide, hidden))?,
                    up: linear(expert, "up_proj", (wide, hidden))?,
                    down: linear(expert, "down_proj", (hidden, wide))?,
                })
            })
            .collect()
    }

    /// How many experts there are, and how many a token uses.
    pub(crate) fn expert_counts(&self) -> Result<(usize, usize), PlanError> {
        let config = self.config;
        let key = if config.get("num_experts").is_some() { "num_experts" } else { "num_local_experts" };
        let experts = config.size(key)?;
        let top_k = config.size("num_experts_per_tok")?;
        if top_k > experts {
            return Err(config.bad("num_experts_per_tok", "at most the number of experts"));
        }
        Ok((experts, top_k))
    }
}

/// The usual router: softmax over all experts, and the best of them. With `renormalize` that is the softmax over the
/// chosen.
pub(crate) fn softmax_router(linear: Linear, renormalize: bool) -> Router {
    Router {
        linear,
        input: RouterInput::Normed,
        score: Score::Softmax,
        selection_bias: None,
        groups: None,
        table: None,
        renormalize,
        scale: 1.0,
        expert_scale: None,
    }
}
