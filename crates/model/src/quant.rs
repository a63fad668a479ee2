//! Which format each tensor gets when a float checkpoint is quantised while it is loaded.
//!
//! The mixes are those that GGUF files of these names have: the head in six bits, and more bits for what loses most,
//! the values of attention and the FFN's last matrix, in the first and last layers and every third between.

use crate::error::PlanError;
use crate::plan::Role;
use sampan_kernels::Format;
use std::fmt;
use std::str::FromStr;

/// A mix of formats, by the name that GGUF files carry.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    Q2_K,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_0,
    Q4_1,
    Q4_K_S,
    Q4_K_M,
    Q5_0,
    Q5_1,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    Q8_0,
    IQ4_NL,
}

/// What a matrix is for, as far as mixes care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Values,
    Output,
    Down,
    Other,
}

impl Quant {
    /// Every mix.
    pub const ALL: [Quant; 15] = [
        Quant::Q2_K,
        Quant::Q3_K_S,
        Quant::Q3_K_M,
        Quant::Q3_K_L,
        Quant::Q4_0,
        Quant::Q4_1,
        Quant::Q4_K_S,
        Quant::Q4_K_M,
        Quant::Q5_0,
        Quant::Q5_1,
        Quant::Q5_K_S,
        Quant::Q5_K_M,
        Quant::Q6_K,
        Quant::Q8_0,
        Quant::IQ4_NL,
    ];

    /// What most matrices get.
    pub fn base(self) -> Format {
        match self {
            Quant::Q2_K => Format::Q2_K,
            Quant::Q3_K_S | Quant::Q3_K_M | Quant::Q3_K_L => Format::Q3_K,
            Quant::Q4_0 => Format::Q4_0,
            Quant::Q4_1 => Format::Q4_1,
            Quant::Q4_K_S | Quant::Q4_K_M => Format::Q4_K,
            Quant::Q5_0 => Format::Q5_0,
            Quant::Q5_1 => Format::Q5_1,
            Quant::Q5_K_S | Quant::Q5_K_M => Format::Q5_K,
            Quant::Q6_K => Format::Q6_K,
            Quant::Q8_0 => Format::Q8_0,
            Quant::IQ4_NL => Format::IQ4_NL,
        }
    }

    /// `general.file_type` of a file with this mix.
    pub fn file_type(self) -> u32 {
        match self {
            Quant::Q4_0 => 2,
            Quant::Q4_1 => 3,
            Quant::Q8_0 => 7,
            Quant::Q5_0 => 8,
            Quant::Q5_1 => 9,
            Quant::Q2_K => 10,
            Quant::Q3_K_S => 11,
            Quant::Q3_K_M => 12,
            Quant::Q3_K_L => 13,
            Quant::Q4_K_S => 14,
            Quant::Q4_K_M => 15,
            Quant::Q5_K_S => 16,
            Quant::Q5_K_M => 17,
            Quant::Q6_K => 18,
            Quant::IQ4_NL => 25,
        }
    }

    /// What a part gets in layer `layer` of `layers`.
    fn of_part(self, part: Part, layer: usize, layers: usize) -> Format {
        use Format as F;
        // The first and the last eighth of the layers, and every third between.
        let eighth = layers / 8;
        let more = layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
        match (self, part) {
            (Quant::Q8_0, _) => F::Q8_0,
            (_, Part::Head) => F::Q6_K,
            (Quant::Q4_K_M | Quant::Q5_K_M, Part::Values | Part::Down) if more => F::Q6_K,
            (Quant::Q4_K_S, Part::Values) if layer < 4 => F::Q5_K,
            (Quant::Q4_K_S, Part::Down) if layer < eighth => F::Q5_K,
            (Quant::Q3_K_L, Part::Values | Part::Down | Part::Output) => F::Q5_K,
            (Quant::Q3_K_M, Part::Values) if layer < 2 => F::Q5_K,
            (Quant::Q3_K_M, Part::Down) if layer < layers / 16 => F::Q5_K,
            (Quant::Q3_K_M, Part::Values | Part::Output | Part::Down) => F::Q4_K,
            (Quant::Q2_K, Part::Values) => F::Q4_K,
            (Quant::Q2_K, Part::Down | Part::Output) => F::Q3_K,
            _ => self.base(),
        }
    }

    /// The format of a matrix of the float format `float`: `module` by its Hugging Face name, in layer `layer` of
    /// `layers` (outside of layers: 0). `tied`: the embedding is the head too.
    pub(crate) fn format(
        self,
        float: Format,
        module: &str,
        (layer, layers): (usize, usize),
        (rows, cols): (usize, usize),
        tied: bool,
    ) -> Format {
        let last = module.rsplit('.').next().unwrap_or(module);
        if rows < LEAST_ROWS || last == "gate" || STAY_FLOAT.iter().any(|part| module.contains(part)) {
            return float;
        }
        let part = match last {
            "lm_head" | "head" => Part::Head,
            "embed_tokens" | "embed" if tied => Part::Head,
            "v_proj" => Part::Values,
            "o_proj" | "out_proj" | "wo_b" => Part::Output,
            "down_proj" | "w2" => Part::Down,
            _ => Part::Other,
        };
        fitting(self.of_part(part, layer, layers), cols).unwrap_or(float)
    }
}

/// Matrices of fewer rows are too small to matter.
const LEAST_ROWS: usize = 16;

/// Modules that gate, route or mix: small, and everything after them depends on them.
const STAY_FLOAT: [&str; 12] = [
    "in_proj_a",
    "in_proj_b",
    "conv1d",
    "shared_expert_gate",
    "router",
    "weights_proj",
    "hc_",
    "altup",
    "laurel",
    "per_layer_model_projection",
    "cls.output",
    "score",
];

/// The format, or the next larger one whose blocks fill rows of `cols`.
fn fitting(format: Format, cols: usize) -> Option<Format> {
    if cols.is_multiple_of(format.block_len()) {
        return Some(format);
    }
    let shorter = match format {
        Format::Q2_K | Format::Q3_K => Format::Q4_0,
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        _ => Format::Q8_0,
    };
    cols.is_multiple_of(shorter.block_len()).then_some(shorter)
}

/// The wider of two formats: more bytes for as many numbers.
pub(crate) fn wider(a: Format, b: Format) -> Format {
    let bytes = |format: Format| format.block_bytes() * (256 / format.block_len());
    if bytes(a) >= bytes(b) { a } else { b }
}

/// Whether a matrix that is held as `format` can be quantised: `Ok(false)`: it stays what it is. `again`: so can what is
/// quantised already.
pub(crate) fn applies(role: Role, format: Format, name: &str, again: bool) -> Result<bool, PlanError> {
    match format {
        _ if role != Role::Matrix => Ok(false),
        Format::F32 | Format::F16 | Format::BF16 => Ok(true),
        // Experts that are published in four bits and nothing else.
        Format::MXFP4 => Ok(false),
        _ if again => Ok(true),
        _ => Err(PlanError::AlreadyQuantized { name: name.to_owned(), format }),
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Quant {
    type Err = String;

    fn from_str(text: &str) -> Result<Quant, String> {
        // The short names of the K formats mean the middle mixes, as elsewhere.
        let name = match text.to_ascii_uppercase().as_str() {
            name @ ("Q3_K" | "Q4_K" | "Q5_K") => format!("{name}_M"),
            name => name.to_owned(),
        };
        Quant::ALL.into_iter().find(|quant| quant.to_string() == name).ok_or_else(|| {
            let known: Vec<String> = Quant::ALL.iter().map(|q| q.to_string().to_ascii_lowercase()).collect();
            format!("known: {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_choose_by_part_and_layer() {
        let four = |module: &str, layer: usize, cols: usize| {
            Quant::Q4_K_M.format(Format::BF16, module, (layer, 24), (256, cols), false).name()
        };
        for (module, layer, cols, format) in [
            ("lm_head", 0, 1024, "Q6_K"),
            ("lm_head", 0, 96, "Q8_0"),
            ("embed_tokens", 0, 1024, "Q4_K"),
            ("self_attn.v_proj", 0, 1024, "Q6_K"),
            ("self_attn.v_proj", 3, 1024, "Q4_K"),
            ("self_attn.v_proj", 5, 1024, "Q6_K"),
            ("self_attn.v_proj", 21, 1024, "Q6_K"),
            ("mlp.experts.7.down_proj", 23, 768, "Q6_K"),
            ("mlp.experts.7.down_proj", 23, 2880, "Q8_0"),
            ("mlp.up_proj", 23, 2880, "Q5_0"),
            ("mlp.up_proj", 23, 100, "BF16"),
            ("mlp.gate", 1, 1024, "BF16"),
            ("linear_attn.in_proj_ba", 1, 1024, "BF16"),
            ("mlp.gate_proj", 1, 1024, "Q4_K"),
        ] {
            assert_eq!(four(module, layer, cols), format, "{module} of layer {layer}, {cols} columns");
        }
        assert_eq!(Quant::Q4_K_M.format(Format::F32, "embed_tokens", (0, 1), (256, 512), true), Format::Q6_K);
        assert_eq!(Quant::Q8_0.format(Format::F32, "lm_head", (0, 1), (256, 512), true), Format::Q8_0);
    }

    #[test]
    fn names_are_read_in_any_case_and_all_can_be_written() {
        for quant in Quant::ALL {
            assert_eq!(quant.to_string().to_lowercase().parse(), Ok(quant));
            assert!(quant.base().can_encode());
        }
        assert_eq!("q4_k".parse(), Ok(Quant::Q4_K_M));
        assert!("q9".parse::<Quant>().is_err_and(|why| why.contains("q4_k_m")));
    }
}
