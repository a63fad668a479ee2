//! Tensor names: the plan speaks the names of Hugging Face transformers; this table gives GGUF's.

use crate::config::Dialect;
use sampan_weights::Checkpoint;

/// Prefixes under which published checkpoints keep the text model.
const PREFIXES: &[&str] = &["model.", "", "model.language_model.", "language_model.model."];

/// Whether two names of Hugging Face's mean the same tensor of the text model, whatever prefix a class puts before it.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let bare = |name: &str| {
        let prefixes = PREFIXES.iter().filter_map(|prefix| name.strip_prefix(prefix));
        prefixes.min_by_key(|rest| rest.len()).unwrap_or(name).to_owned()
    };
    a == b || bare(a) == bare(b)
}

/// Outside the layers: our name, GGUF's name.
const GLOBAL: &[(&str, &str)] = &[
    ("embed_tokens", "token_embd"),
    ("norm", "output_norm"),
    ("lm_head", "output"),
    ("score", "cls.output"),
    ("rope_freqs", "rope_freqs"),
];

/// Inside a layer: our name, GGUF's name. A family's own table comes first.
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
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.experts.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.up_proj", "ffn_up_exps"),
    ("mlp.experts.down_proj", "ffn_down_exps"),
    ("mlp.experts.gate_up_proj", "ffn_gate_up_exps"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
];

/// Tensors that some exporters write and no model reads.
const IGNORED_SUFFIXES: &[&str] = &["rotary_emb.inv_freq", "masked_bias", "attn.bias"];

/// How one checkpoint spells tensor names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    dialect: Dialect,
    prefix: &'static str,
    /// The family's GGUF names, inside and outside of layers.
    own: Table,
}

/// Our name, GGUF's name.
pub(crate) type Table = &'static [(&'static str, &'static str)];

impl Names {
    /// Finds the spelling that a checkpoint uses.
    pub(crate) fn of(checkpoint: &Checkpoint, dialect: Dialect, own: Table) -> Names {
        let holds = |prefix: &str, name: &str| checkpoint.tensor(&format!("{prefix}{name}")).is_some();
        let prefix = PREFIXES
            .iter()
            .find(|prefix| holds(prefix, "embed_tokens.weight") || holds(prefix, "embed.weight"))
            .unwrap_or(&"model.");
        Names { dialect, prefix, own }
    }

    /// The same spelling with another prefix.
    pub(crate) fn with_prefix(self, prefix: &'static str) -> Names {
        Names { prefix, ..self }
    }

    /// The file's name for a tensor outside the layers, for example `("norm", "weight")`; a part may be empty.
    pub(crate) fn global(&self, module: &str, part: &str) -> String {
        match self.dialect {
            Dialect::HuggingFace if matches!(module, "lm_head" | "score") => join(module, part),
            Dialect::HuggingFace => format!("{}{}", self.prefix, join(module, part)),
            Dialect::Gguf => join(self.lookup(GLOBAL, module), part),
        }
    }

    /// The file's name for a tensor of layer `index`, for example `(3, "mlp.up_proj", "weight")`.
    pub(crate) fn layer(&self, index: usize, module: &str, part: &str) -> String {
        match self.dialect {
            Dialect::HuggingFace => format!("{}layers.{index}.{}", self.prefix, join(module, part)),
            Dialect::Gguf => format!("blk.{index}.{}", join(self.lookup(LAYER, module), part)),
        }
    }

    /// Whether a tensor may stay unread.
    pub(crate) fn ignored(&self, name: &str) -> bool {
        IGNORED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
    }

    /// What a tensor belongs to that is no part of the text model, if it is such a one. Layers after the text model's
    /// `layers` predict further tokens if they have what such layers have: a projection of two hidden states.
    pub(crate) fn set_aside(
        &self,
        checkpoint: &Checkpoint,
        name: &str,
        layers: usize,
    ) -> Option<&'static str> {
        let beyond = |prefix: &str, projection: &str| {
            let number = name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok()?;
            let predicts = checkpoint.tensor(&format!("{prefix}{number}.{projection}.weight")).is_some();
            (number >= layers && predicts).then_some(MTP)
        };
        match self.dialect {
            Dialect::Gguf => beyond("blk.", "nextn.eh_proj"),
            Dialect::HuggingFace => SET_ASIDE
                .iter()
                .find(|(part, _)| name.starts_with(part))
                .map(|(_, what)| *what)
                .or_else(|| beyond(&format!("{}layers.", self.prefix), "eh_proj")),
        }
    }

    fn lookup<'a>(&self, table: &[(&str, &'a str)], module: &'a str) -> &'a str {
        let own = self.own.iter().find(|(ours, _)| *ours == module);
        own.or_else(|| table.iter().find(|(ours, _)| *ours == module)).map_or(module, |(_, theirs)| theirs)
    }
}

const MTP: &str = "multi-token-prediction heads";

/// What published checkpoints hold besides the text model: the beginning of the names, and what it is.
const SET_ASIDE: &[(&str, &str)] = &[
    ("mtp.", MTP),
    ("model.mtp.", MTP),
    ("model.visual.", "vision tower"),
    ("visual.", "vision tower"),
    ("vision_tower.", "vision tower"),
    ("model.vision_tower.", "vision tower"),
    ("multi_modal_projector.", "vision projector"),
    ("model.multi_modal_projector.", "vision projector"),
    ("model.embed_vision.", "vision projector"),
    ("model.vision_embedder.", "vision projector"),
    ("model.audio_tower.", "audio tower"),
    ("model.embed_audio.", "audio projector"),
];

fn join(module: &str, part: &str) -> String {
    if part.is_empty() { module.to_string() } else { format!("{module}.{part}") }
}
