//! Flags that several commands share, each defined once.

use clap::{ArgAction, Args};
use sampan::{KvFormat, LoadOptions, Quant, Settings};
use sampan_kernels::Isa;

/// Which model, and how it is loaded.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArgs {
    /// A GGUF file, a folder with config.json and safetensors, a name as for `sampan pull` (qwen3:4b, OWNER/NAME:Q4_K_M),
    /// or `mini` (the demonstration model inside this program)
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
}

/// Where models with names come from.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Models with names")]
pub(crate) struct HubArgs {
    /// Fail when the model is not on this machine, instead of pulling it
    #[arg(long)]
    pub(crate) no_pull: bool,
    /// Use no network at all (also HF_HUB_OFFLINE=1)
    #[arg(long)]
    pub(crate) offline: bool,
    /// OWNER/NAME is on ModelScope instead of Hugging Face
    #[arg(long)]
    pub(crate) modelscope: bool,
}

/// How a model is loaded.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Loading")]
pub(crate) struct LoadArgs {
    /// Tokens that prompt and answer may have together [default: what the model was trained for, at most 32768]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) context: Option<u32>,
    /// How keys and values of past tokens are kept: i16 (16-bit integers with a scale), f16, bf16, f32, or q8_0 (half the
    /// memory). Latent vectors (DeepSeek) are kept in f16 where this says i16 or q8_0
    #[arg(long, value_name = "FORMAT", default_value = "i16", value_parser = kv_format)]
    pub(crate) kv: KvFormat,
    #[command(flatten)]
    pub(crate) quant: QuantArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Whether float weights are quantised.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Loading")]
pub(crate) struct QuantArgs {
    /// Quantise a float checkpoint (F32, F16, BF16, FP8) while it is loaded: q4_k_m, q5_k_m, q6_k, q8_0, q4_0, ...
    #[arg(long, value_name = "MIX")]
    pub(crate) quant: Option<Quant>,
}

/// What is computed on.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Loading")]
pub(crate) struct MachineArgs {
    /// Threads to compute on [default: the physical cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Instruction set: portable, avx2, avx512 or amx [default: the best that this CPU has]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) isa: Option<Isa>,
}

impl LoadArgs {
    pub(crate) fn options(&self) -> LoadOptions {
        LoadOptions {
            context: self.context.map(|n| n as usize),
            kv: self.kv,
            quant: self.quant.quant,
            ..self.machine.options()
        }
    }
}

impl MachineArgs {
    pub(crate) fn options(&self) -> LoadOptions {
        LoadOptions { threads: self.threads.map(usize::from), isa: self.isa, ..LoadOptions::default() }
    }
}

/// How keys and values are kept, as `--kv` names it.
pub(crate) fn kv_name(kv: KvFormat) -> &'static str {
    match kv {
        KvFormat::F16 => "f16",
        KvFormat::Bf16 => "bf16",
        KvFormat::F32 => "f32",
        KvFormat::I16 => "i16",
        KvFormat::Q8_0 => "q8_0",
    }
}

pub(crate) fn kv_format(text: &str) -> Result<KvFormat, String> {
    match text {
        "f16" => Ok(KvFormat::F16),
        "bf16" => Ok(KvFormat::Bf16),
        "f32" => Ok(KvFormat::F32),
        "i16" => Ok(KvFormat::I16),
        "q8_0" => Ok(KvFormat::Q8_0),
        _ => Err("known: i16, q8_0, f16, bf16, f32".to_owned()),
    }
}

/// How the next token is chosen. What is not given comes from the model's generation_config.json (or the
/// `general.sampling` keys of a GGUF file), and else from sampan's defaults.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sampling (defaults come with the model)")]
pub(crate) struct SamplingArgs {
    /// 0 takes the likeliest token; higher is more varied
    #[arg(long, value_name = "T", value_parser = at_least_zero)]
    pub(crate) temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is off
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Choose among the likeliest tokens that together have probability P; 1 is off
    #[arg(long, value_name = "P", value_parser = probability)]
    pub(crate) top_p: Option<f32>,
    /// Leave out tokens less likely than P times the likeliest; 0 is off
    #[arg(long, value_name = "P", value_parser = probability)]
    pub(crate) min_p: Option<f32>,
    /// Choose among the tokens closest to the expected surprise, of probability P together; 1 is off
    #[arg(long, value_name = "P", value_parser = probability)]
    pub(crate) typical_p: Option<f32>,
    /// Divide the logits of recent tokens by this; 1 is off
    #[arg(long, value_name = "X", value_parser = above_zero)]
    pub(crate) repeat_penalty: Option<f32>,
    /// How many recent tokens the repeat penalty looks at
    #[arg(long, value_name = "N")]
    pub(crate) repeat_last_n: Option<usize>,
    /// Take this from the logit of every token that has been generated; 0 is off
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = finite)]
    pub(crate) presence_penalty: Option<f32>,
    /// Take this from the logit of a token for each time it has been generated; 0 is off
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = finite)]
    pub(crate) frequency_penalty: Option<f32>,
    /// The same seed, model and prompt give the same answer [default: random]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Stop after this many tokens [default: when the model ends or the context is full]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: Option<u32>,
    /// Stop before this text; can be given several times
    #[arg(long, value_name = "TEXT", action = ArgAction::Append, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Let the model think before it answers, where its template knows the switch
    #[arg(long, overrides_with = "no_think")]
    pub(crate) think: bool,
    /// Let the model answer at once, where its template knows the switch
    #[arg(long, overrides_with = "think")]
    pub(crate) no_think: bool,
}

impl SamplingArgs {
    /// Puts what was given on the command line over `settings`.
    pub(crate) fn apply(&self, settings: &mut Settings) {
        fn put<T: Copy>(from: Option<T>, to: &mut T) {
            if let Some(value) = from {
                *to = value;
            }
        }
        put(self.temperature, &mut settings.temperature);
        put(self.top_k, &mut settings.top_k);
        put(self.top_p, &mut settings.top_p);
        put(self.min_p, &mut settings.min_p);
        put(self.typical_p, &mut settings.typical_p);
        put(self.repeat_penalty, &mut settings.repeat_penalty);
        put(self.repeat_last_n, &mut settings.repeat_last_n);
        put(self.presence_penalty, &mut settings.presence_penalty);
        put(self.frequency_penalty, &mut settings.frequency_penalty);
        put(self.seed.map(Some), &mut settings.seed);
        put(self.max_tokens.map(|n| Some(n as usize)), &mut settings.max_tokens);
        settings.stop.extend(self.stop.iter().cloned());
        if self.think || self.no_think {
            settings.think = Some(self.think);
        }
    }
}

fn number(text: &str, good: impl Fn(f32) -> bool, wanted: &str) -> Result<f32, String> {
    text.parse().ok().filter(|&x: &f32| x.is_finite() && good(x)).ok_or_else(|| format!("needs {wanted}"))
}

/// A finite number.
pub(crate) fn finite(text: &str) -> Result<f32, String> {
    number(text, |_| true, "a number")
}

/// A number of at least 0.
pub(crate) fn at_least_zero(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 0.0, "a number of at least 0")
}

/// A number above 0.
pub(crate) fn above_zero(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0, "a number above 0")
}

/// A number from 0 to 1.
pub(crate) fn probability(text: &str) -> Result<f32, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")
}
