//! What GGUF files of a family have that the plan does not say.

use super::ExportError;
use crate::plan::Plan;

/// A family in GGUF.
#[derive(Clone, Copy, Debug)]
pub(super) struct Special {
    /// Names of the family's plans.
    families: &'static [&'static str],
    /// `general.architecture`.
    pub(super) arch: &'static str,
    /// Modules that are in the file or not, whatever the checkpoint has: current files have one layout of several
    /// that are known.
    pub(super) has: &'static [(&'static str, Has)],
    /// Positions have several parts (`rope.dimension_sections`), equal for text.
    pub(super) sections: bool,
    /// What scores are divided by is said, where it is not the usual.
    pub(super) scalar: bool,
    /// The width of per-layer embeddings is said, be it 0.
    pub(super) inputs: bool,
    /// Layers with a window are listed, not given as every n-th.
    pub(super) window_list: bool,
}

/// Whether a module is in the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Has {
    /// Always.
    Yes,
    /// Never.
    No,
    /// When the checkpoint has this part of another module.
    If(&'static str, &'static str),
}

const PLAIN: Special = Special {
    families: &[],
    arch: "",
    has: &[],
    sections: false,
    scalar: false,
    inputs: false,
    window_list: false,
};

const LATENT: &[(&str, Has)] =
    &[("self_attn.k_b_proj", Has::Yes), ("exp_probs_b", Has::If("mlp.gate", "e_score_correction_bias"))];

const SPECIAL: &[Special] = &[
    Special { families: &["llama"], arch: "llama", ..PLAIN },
    Special { families: &["qwen2"], arch: "qwen2", ..PLAIN },
    Special { families: &["qwen2_moe"], arch: "qwen2moe", ..PLAIN },
    Special { families: &["qwen3"], arch: "qwen3", ..PLAIN },
    Special { families: &["qwen3_moe"], arch: "qwen3moe", ..PLAIN },
    Special {
        families: &["qwen3_next"],
        arch: "qwen3next",
        has: &[("linear_attn.in_proj_qkvz", Has::No), ("linear_attn.in_proj_ba", Has::Yes)],
        ..PLAIN
    },
    Special { families: &["qwen3_5"], arch: "qwen35", sections: true, ..PLAIN },
    Special { families: &["qwen3_5_moe"], arch: "qwen35moe", sections: true, ..PLAIN },
    Special { families: &["deepseek_v2", "deepseek_v3"], arch: "deepseek2", has: LATENT, ..PLAIN },
    Special { families: &["deepseek_v32"], arch: "deepseek32", has: LATENT, ..PLAIN },
    Special { families: &["deepseek_v4"], arch: "deepseek4", ..PLAIN },
    Special { families: &["gemma2"], arch: "gemma2", scalar: true, ..PLAIN },
    Special { families: &["gemma3"], arch: "gemma3", scalar: true, ..PLAIN },
    Special {
        families: &["gemma4"],
        arch: "gemma4",
        has: &[("experts.gate_up_proj", Has::Yes)],
        inputs: true,
        window_list: true,
        ..PLAIN
    },
    Special { families: &["gemma3n"], arch: "gemma3n", inputs: true, window_list: true, ..PLAIN },
    Special { families: &["gpt_oss"], arch: "gpt-oss", ..PLAIN },
];

/// The row of a plan's family.
pub(super) fn of(plan: &Plan) -> Result<&'static Special, ExportError> {
    let row = SPECIAL.iter().find(|row| row.families.contains(&plan.family));
    row.ok_or_else(|| ExportError::Family { family: plan.family.to_string(), what: "GGUF" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_row_that_its_reader_knows() {
        for name in crate::family::known() {
            let row = SPECIAL.iter().find(|row| row.families.contains(&name));
            let arch = row.unwrap_or_else(|| panic!("no row for {name}")).arch;
            assert!(crate::family::is_name(arch), "no family reads {arch}");
        }
    }
}
