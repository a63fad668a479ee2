//! gpt-oss 20b and 120b (OpenAI, arXiv 2508.10925).

use super::dense::{Dense, Windows};
use super::experts::softmax_router;
use super::{Builder, Family, builder::Place};
use crate::config::Dialect;
use crate::error::PlanError;
use crate::plan::{Activation, Expert, Ffn, Linear, Moe, Plan, Role, Rows, Source, TensorId};

/// GGUF states neither the bounds of the gate nor the layer kinds. It has no place for YaRN's `truncate: false`
/// either; every reader of these files rounds, so that is what they mean.
pub(super) const FAMILY: Family = Family {
    names: &["gpt_oss", "gpt-oss"],
    translate: plan,
    gguf: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("self_attn.sinks", "attn_sinks"),
        ("mlp.router", "ffn_gate_inp"),
    ],
    defaults: r#"{"attention_bias": true, "rope_theta": 150000.0, "swiglu_alpha": 1.702, "swiglu_limit": 7.0}"#,
};

/// Attention with sinks and a window in every other layer; experts with biases and a bounded gate in all layers.
fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    if !matches!(config.string("hidden_act")?.as_deref(), None | Some("silu")) {
        return Err(config.unsupported("hidden_act"));
    }
    if config.get("rope_scaling").is_none() && config.get("rope_parameters").is_none() {
        return Err(config.missing("rope_scaling"));
    }
    let bias = config.flag("attention_bias")?;
    let windows = Windows::EveryOther;
    let kind = Dense { qkv_bias: bias, o_bias: bias, sinks: true, windows, ..Dense::default() };
    builder
        .decoder(&kind, |builder, index, hidden| Ok(Ffn::Moe(mixture(builder, Place::Layer(index), hidden)?)))
}

fn mixture(builder: &mut Builder<'_>, place: Place, hidden: usize) -> Result<Moe, PlanError> {
    let config = builder.config;
    let (experts, top_k) = builder.expert_counts()?;
    let number = |key: &str| config.f32(key)?.ok_or_else(|| config.missing(key));
    let router = softmax_router(builder.router(place, "mlp.router", (experts, hidden), true)?, true);
    let activation = Activation::SwigluOai { alpha: number("swiglu_alpha")?, limit: number("swiglu_limit")? };
    let stacked = Stacked { place, experts, hidden, wide: config.size("intermediate_size")? };
    let experts = (0..experts).map(|index| stacked.expert(builder, index)).collect::<Result<_, _>>()?;
    Ok(Moe { router, experts, activation, top_k, shared: None })
}

/// The experts of a layer, stacked in the file.
struct Stacked {
    place: Place,
    experts: usize,
    hidden: usize,
    wide: usize,
}

/// A projection of an expert: which rows of a stacked tensor's expert it is, from `first` in steps of `step`.
struct Part {
    module: &'static str,
    first: usize,
    step: usize,
    rows: usize,
    cols: usize,
}

impl Stacked {
    /// GGUF has gate and up apart, the original their rows in turn.
    fn expert(&self, builder: &mut Builder<'_>, index: usize) -> Result<Expert, PlanError> {
        let (gate, up, step) = match builder.config.dialect() {
            Dialect::Gguf => (("mlp.experts.gate_proj", 0), ("mlp.experts.up_proj", 0), 1),
            Dialect::HuggingFace => (("mlp.experts.gate_up_proj", 0), ("mlp.experts.gate_up_proj", 1), 2),
        };
        let (rows, cols) = (self.wide, self.hidden);
        let wide = |(module, first)| Part { module, first, step, rows, cols };
        let down = Part { module: "mlp.experts.down_proj", first: 0, step: 1, rows: cols, cols: rows };
        Ok(Expert {
            gate: self.linear(builder, index, &wide(gate))?,
            up: self.linear(builder, index, &wide(up))?,
            down: self.linear(builder, index, &down)?,
        })
    }

    fn linear(&self, builder: &mut Builder<'_>, index: usize, part: &Part) -> Result<Linear, PlanError> {
        let stacked = part.step * part.rows;
        let rows = Rows::Strided { start: index * stacked + part.first, step: part.step };
        let weight = self.weight(builder, index, part, &rows)?;
        let (name, suffix) = match builder.config.dialect() {
            Dialect::Gguf => (part.module.to_string(), "bias"),
            Dialect::HuggingFace => (format!("{}_bias", part.module), ""),
        };
        let source = Source { rows, ..Source::default() };
        let file = [self.experts, stacked];
        let bias = builder.tensor(self.place, &name, suffix, &file, &[part.rows], Role::Vector, source)?;
        Ok(Linear { weight, bias: Some(bias), rows: part.rows, cols: part.cols })
    }

    /// Float weights lie with inputs in rows; GGUF's and the blocks of MXFP4 with outputs.
    fn weight(
        &self,
        builder: &mut Builder<'_>,
        index: usize,
        part: &Part,
        rows: &Rows,
    ) -> Result<TensorId, PlanError> {
        let (place, stacked) = (self.place, part.step * part.rows);
        let gguf = builder.config.dialect() == Dialect::Gguf;
        let (mut file, mut source) =
            ([self.experts, stacked, part.cols], Source { rows: rows.clone(), ..Source::default() });
        if !gguf && !builder.has(place, &format!("{}_blocks", part.module), "") {
            file = [self.experts, part.cols, stacked];
            source.rows = Rows::from(index * part.cols);
            source.transposed = true;
            source.columns = Rows::Strided { start: part.first, step: part.step };
        }
        let suffix = if gguf { "weight" } else { "" };
        builder.tensor(place, part.module, suffix, &file, &[part.rows, part.cols], Role::Matrix, source)
    }
}
