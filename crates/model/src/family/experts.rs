//! Mixtures of experts, as most families store them.

use super::builder::{Builder, Place};
use crate::config::Dialect;
use crate::error::PlanError;
use crate::plan::{Expert, Linear, Role, Router, RouterInput, Rows, Score, Source};
use sampan_kernels::Format;

/// What most families call gate, up and down.
pub(crate) const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

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

    /// Experts in tensors of their own (`{module}.7.up_proj.weight`), or stacked in one for each projection
    /// (`{module}.up_proj.weight`, GGUF), or in two with the rows of all gates before those of the ups
    /// (`{module}.gate_up_proj`). `names` are what the family calls gate, up and down.
    pub(crate) fn experts(
        &mut self,
        place: Place,
        module: &str,
        names: [&str; 3],
        count: usize,
        (hidden, wide): (usize, usize),
    ) -> Result<Vec<Expert>, PlanError> {
        let gguf = self.config.dialect() == Dialect::Gguf;
        let part = if gguf { "weight" } else { "" };
        let fused = format!("{module}.gate_up_proj");
        let stacked = gguf || self.has(place, &fused, part);
        let joined = stacked && self.has(place, &fused, part);
        (0..count)
            .map(|expert| {
                let mut linear = |index: usize, (rows, cols): (usize, usize)| {
                    if !stacked {
                        let name = format!("{module}.{expert}.{}", names[index]);
                        return self.linear(place, &name, (rows, cols), false);
                    }
                    let (name, all, first) = match index {
                        0 | 1 if joined => (fused.clone(), 2 * rows, index * rows),
                        _ => (format!("{module}.{}", names[index]), rows, 0),
                    };
                    let source = Source { rows: Rows::from(expert * all + first), ..Source::default() };
                    let (file, shape) = ([count, all, cols], [rows, cols]);
                    let weight = self.tensor(place, &name, part, &file, &shape, Role::Matrix, source)?;
                    Ok(Linear { weight, bias: None, rows, cols })
                };
                Ok(Expert {
                    gate: linear(0, (wide, hidden))?,
                    up: linear(1, (wide, hidden))?,
                    down: linear(2, (hidden, wide))?,
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
