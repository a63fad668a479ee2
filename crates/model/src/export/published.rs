//! What checkpoints of Hugging Face have of a family that the plan does not say.

use super::ExportError;
use super::special::Has;
use crate::plan::{Mixer, Plan, Score};

/// A family as it is published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// `model_type`, which is the family's name or one of its names.
    pub(super) model_type: &'static str,
    /// The one of `architectures`.
    pub(super) class: &'static str,
    /// Modules that are in the checkpoint or not, whatever the file has.
    pub(super) has: &'static [(&'static str, Has)],
    /// What tensors' names begin with.
    pub(super) prefix: &'static str,
    /// How experts in four bits are stored, if the family is published with such.
    pub(super) four_bits: Option<FourBits>,
}

/// Where experts in four bits have their codes and scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FourBits {
    /// `NAME_blocks` and `NAME_scales` (gpt-oss).
    Blocks,
    /// `NAME.weight` and `NAME.scale` (DeepSeek V4).
    Scale,
}

const fn plain(model_type: &'static str, class: &'static str) -> Published {
    Published { model_type, class, has: &[], prefix: "model.", four_bits: None }
}

const fn latent(model_type: &'static str, class: &'static str) -> Published {
    Published { has: &[("self_attn.k_b_proj", Has::No)], ..plain(model_type, class) }
}

/// Experts of all layers in stacks, gates and ups in one.
const STACKED: &[(&str, Has)] = &[("mlp.experts.gate_up_proj", Has::Yes)];
const FUSED: &[(&str, Has)] = &[("linear_attn.in_proj_qkvz", Has::Yes), ("linear_attn.in_proj_ba", Has::Yes)];

/// The row of a plan's family. GGUF has one name for three of DeepSeek's.
pub(super) fn of(plan: &Plan) -> Result<Published, ExportError> {
    Ok(match plan.family {
        "llama" => plain("llama", "LlamaForCausalLM"),
        "qwen2" => plain("qwen2", "Qwen2ForCausalLM"),
        "qwen2_moe" => plain("qwen2_moe", "Qwen2MoeForCausalLM"),
        "qwen3" => plain("qwen3", "Qwen3ForCausalLM"),
        "qwen3_moe" => plain("qwen3_moe", "Qwen3MoeForCausalLM"),
        "qwen3_next" => Published { has: FUSED, ..plain("qwen3_next", "Qwen3NextForCausalLM") },
        "qwen3_5" => plain("qwen3_5_text", "Qwen3_5ForCausalLM"),
        "qwen3_5_moe" => Published { has: STACKED, ..plain("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM") },
        "deepseek_v2" | "deepseek_v3" | "deepseek_v32" => deepseek(plan),
        "deepseek_v4" => Published {
            prefix: "",
            four_bits: Some(FourBits::Scale),
            ..plain("deepseek_v4", "DeepseekV4ForCausalLM")
        },
        "gemma2" => plain("gemma2", "Gemma2ForCausalLM"),
        "gemma3" => plain("gemma3_text", "Gemma3ForCausalLM"),
        "gemma3n" => plain("gemma3n_text", "Gemma3nForCausalLM"),
        "gemma4" => Published {
            has: &[("experts.gate_up_proj", Has::Yes)],
            ..plain("gemma4_text", "Gemma4ForCausalLM")
        },
        "gpt_oss" => Published { four_bits: Some(FourBits::Blocks), ..plain("gpt_oss", "GptOssForCausalLM") },
        family => return Err(ExportError::Family { family: family.to_string(), what: "config.json" }),
    })
}

fn deepseek(plan: &Plan) -> Published {
    let indexed =
        plan.layers.iter().any(|layer| matches!(&layer.mixer, Mixer::Latent(l) if l.index.is_some()));
    let softmax = plan.mixtures().next().is_some_and(|moe| moe.router.score == Score::Softmax);
    match (indexed, softmax) {
        (true, _) => latent("deepseek_v32", "DeepseekV32ForCausalLM"),
        (false, true) => latent("deepseek_v2", "DeepseekV2ForCausalLM"),
        (false, false) => latent("deepseek_v3", "DeepseekV3ForCausalLM"),
    }
}
