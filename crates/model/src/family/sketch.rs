//! What a config.json says of the checkpoint beside it, for plans without weights.

use super::builder::{Builder, Draft, Notes, Place};
use crate::config::Config;
use crate::names::Names;
use sampan_kernels::Format;

/// A draft of the published checkpoint.
pub(super) fn draft<'a>(names: Names) -> Draft<'a> {
    Draft { has: &has, names, prefix: "model.", stored, divisors: None, notes: Notes::default() }
}

/// Whether a published checkpoint has a part of a module, where plans depend on it.
fn has(builder: &Builder<'_>, place: Place, module: &str, part: &str) -> bool {
    let config = builder.config;
    let flag = |key: &str| config.flag(key).unwrap_or(false);
    match (module, place) {
        // A head of its own is left out only where it is tied.
        ("lm_head", _) => !flag("tie_word_embeddings"),
        (_, _) if part == "bias" && module.starts_with("mlp.") => flag("mlp_bias"),
        (_, _) if part == "bias" => flag("attention_bias"),
        // Of entries that stand for few tokens there are too many to look at all.
        ("attn.indexer.wq_b", Place::Layer(index)) => {
            config.usize_at("compress_ratios", index).is_ok_and(|ratio| ratio.is_some_and(|r| r <= 4))
        }
        _ if module.ends_with("_blocks") => in_four_bits(config),
        _ => module.ends_with("in_proj_qkvz") || module.ends_with("in_proj_ba"),
    }
}

/// Whether experts are published in four bits.
fn in_four_bits(config: &Config) -> bool {
    let is = |key: &str, name: &str| config.get(key).and_then(|value| value.as_str()) == Some(name);
    is("quantization_config.quant_method", "mxfp4") || is("expert_dtype", "fp4")
}

/// The type in which matrices are held when they are loaded as published.
fn stored(config: &Config, module: &str) -> Format {
    if module.contains("experts") && !module.contains("shared") && in_four_bits(config) {
        return Format::MXFP4;
    }
    let dtype = ["dtype", "torch_dtype"].iter().find_map(|key| config.get(key)).and_then(|v| v.as_str());
    match dtype {
        Some("float32") => Format::F32,
        Some("float16") => Format::F16,
        // FP8 is held as bfloat16 too.
        _ => Format::BF16,
    }
}
