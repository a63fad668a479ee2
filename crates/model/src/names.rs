//! Tensor names: the plan speaks the names of Hugging Face transformers; this table gives GGUF's.

use crate::config::Dialect;
use sampan_weights::Checkpoint;

/// Prefixes under which published checkpoints keep the text model.
const PREFIXES: &[&str] = &["model.", "", "model.language_model.", "language_model.model."];

/// Outside the layers: our name, GGUF's name.
const GLOBAL: &[(&str, &str)] = &[
    ("embed_tokens", "token_embd"),
    ("norm", "output_norm"),
    ("lm_head", "output"),
    ("rope_freqs", "rope_freqs"),
];

/// Inside a layer: our name, GGUF's name.
const LAYER: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Tensors that some exporters write and no model reads.
const IGNORED_SUFFIXES: &[&str] = &["rotary_emb.inv_freq", "masked_bias", "attn.bias"];

/// How one checkpoint spells tensor names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    dialect: Dialect,
    prefix: &'static str,
}

impl Names {
    /// Finds the spelling that a checkpoint uses.
    pub(crate) fn of(checkpoint: &Checkpoint, dialect: Dialect) -> Names {
        let prefix = PREFIXES
            .iter()
            .find(|prefix| checkpoint.tensor(&format!("{prefix}embed_tokens.weight")).is_some())
            .unwrap_or(&"model.");
        Names { dialect, prefix }
    }

    /// The file's name for a tensor outside the layers, for example `("norm", "weight")`.
    pub(crate) fn global(&self, module: &str, part: &str) -> String {
        match self.dialect {
            Dialect::HuggingFace if module == "lm_head" => format!("lm_head.{part}"),
            Dialect::HuggingFace => format!("{}{module}.{part}", self.prefix),
            Dialect::Gguf => format!("{}.{part}", lookup(GLOBAL, module)),
        }
    }

    /// The file's name for a tensor of layer `index`, for example `(3, "mlp.up_proj", "weight")`.
    pub(crate) fn layer(&self, index: usize, module: &str, part: &str) -> String {
        match self.dialect {
            Dialect::HuggingFace => format!("{}layers.{index}.{module}.{part}", self.prefix),
            Dialect::Gguf => format!("blk.{index}.{}.{part}", lookup(LAYER, module)),
        }
    }

    /// Whether a tensor may stay unread.
    pub(crate) fn ignored(&self, name: &str) -> bool {
        IGNORED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
    }
}

fn lookup<'a>(table: &[(&str, &'a str)], module: &'a str) -> &'a str {
    table.iter().find(|(ours, _)| *ours == module).map_or(module, |(_, theirs)| theirs)
}
