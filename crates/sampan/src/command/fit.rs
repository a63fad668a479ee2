//! `sampan fit`: which models, in which formats, suit this machine.

use super::{print, print_json};
use crate::error::{AppError, Result};
use crate::flags::{MachineArgs, kv_format, kv_name};
use crate::render::{bytes, count, table, three_digits};
use clap::Args;
use sampan::fit::{Candidate, candidates, recommended, speeds};
use sampan::rates::Rates;
use sampan::{KvFormat, LoadOptions, Source, machine};
use sampan_kernels::limits::measure_read_bandwidth;
use serde_json::{Value, json};

/// Say which formats of a model fit into memory here, and how fast they would be, before anything is downloaded or loaded.
///
/// Memory comes from the model's plan; a folder with nothing but its config.json is enough. Speeds come from the plan and
/// from how fast this machine multiplies with weights of each format, which is measured now.
#[derive(Args, Debug)]
pub(crate) struct FitArgs {
    /// GGUF files, folders with config.json (and weights or not), or `mini`
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Tokens that prompt and answer may have together [default: as `run` would take]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// How keys and values of past tokens are kept: f16, bf16 or f32
    #[arg(long, value_name = "FORMAT", default_value = "f16", value_parser = kv_format)]
    kv: KvFormat,
    /// Print one JSON object with every figure
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Tokens of the prompt that speeds are of.
const PROMPT: usize = 512;

/// A model in the formats that were considered.
struct Considered {
    name: String,
    candidates: Vec<Candidate>,
    /// Tokens per second of a prompt and of an answer.
    speeds: Vec<(f64, f64)>,
    recommended: Option<usize>,
}

pub(crate) fn run(args: FitArgs) -> Result<()> {
    let options =
        LoadOptions { context: args.context.map(|n| n as usize), kv: args.kv, ..args.machine.options() };
    let kernels = options.kernels()?;
    let available = machine::available_memory();
    let mut all = Vec::new();
    for name in &args.models {
        let found = candidates(&Source::parse(name), &kernels, &options, available.map(|a| a.bytes))?;
        all.push((name.clone(), found));
    }
    let bandwidth = measure_read_bandwidth(kernels.pool());
    let mut rates = Rates::new(&kernels);
    let mut considered = Vec::new();
    for (name, candidates) in all {
        let mut expected = Vec::new();
        for candidate in &candidates {
            let rate = rates.of_plan(&candidate.plan).map_err(AppError::internal)?;
            expected.push(speeds(&candidate.plan, &kernels, args.kv, rate, PROMPT));
        }
        let generate: Vec<f64> = expected.iter().map(|speed| speed.1).collect();
        let recommended = recommended(&candidates, &generate);
        considered.push(Considered { name, candidates, speeds: expected, recommended });
    }
    if args.json {
        let models: Vec<Value> = considered.iter().map(|model| model.json()).collect();
        return print_json(&json!({
            "available_bytes": available.map(|a| a.bytes),
            "read_bytes_per_s": bandwidth,
            "threads": kernels.pool().threads(),
            "kv": kv_name(args.kv),
            "models": models,
        }));
    }
    let there = available.map_or("memory unknown".into(), |a| {
        format!("{} of memory available ({})", bytes(a.bytes), a.limited_by)
    });
    let reads = three_digits(bandwidth / 1e9);
    print(&format!("{there}, read at {reads} GB/s by {} threads\n", kernels.pool().threads()))?;
    considered.iter().try_for_each(|model| print(&model.text()))
}

impl Considered {
    fn label(&self, at: usize) -> String {
        match self.candidates[at].quant {
            Some(quant) => quant.to_string().to_lowercase(),
            None => format!("{} as it is", self.candidates[at].plan.main_format()),
        }
    }

    fn text(&self) -> String {
        let plan = &self.candidates[0].plan;
        let active = match plan.active_parameters() {
            active if active == plan.parameters() => String::new(),
            active => format!(" ({} active)", count(active)),
        };
        let rows: Vec<Vec<String>> = (0..self.candidates.len()).map(|at| self.row(at)).collect();
        let header =
            ["format", "file", "memory", "context", "fits", "prompt tokens/s", "generated tokens/s", ""];
        let head =
            format!("\n{}: {}, {} parameters{active}\n", self.name, plan.family, count(plan.parameters()));
        head + &table(&header, &rows) + &self.advice()
    }

    fn row(&self, at: usize) -> Vec<String> {
        let (candidate, (prompt, generate)) = (&self.candidates[at], self.speeds[at]);
        let fits = if candidate.fits { "yes" } else { "no" };
        let mark = if self.recommended == Some(at) { "<- recommended" } else { "" };
        vec![
            self.label(at),
            bytes(candidate.file_bytes),
            bytes(candidate.memory.total() as u64),
            candidate.context.to_string(),
            fits.into(),
            three_digits(prompt),
            three_digits(generate),
            mark.into(),
        ]
    }

    fn advice(&self) -> String {
        match self.recommended {
            None => "nothing of it fits; a smaller model would\n".into(),
            Some(at) => match self.candidates[at].quant {
                Some(quant) => {
                    let quant = quant.to_string().to_lowercase();
                    format!(
                        "take it with `sampan run MODEL --quant {quant}`, or write it with `sampan quantize`\n"
                    )
                }
                None => String::new(),
            },
        }
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = (0..self.candidates.len())
            .map(|at| {
                let (candidate, (prompt, generate)) = (&self.candidates[at], self.speeds[at]);
                json!({
                    "format": candidate.plan.main_format().name(),
                    "quant": candidate.quant.map(|quant| quant.to_string().to_lowercase()),
                    "file_bytes": candidate.file_bytes,
                    "memory": {
                        "total_bytes": candidate.memory.total(),
                        "weights_bytes": candidate.memory.weights,
                        "kv_bytes": candidate.memory.kv,
                        "scratch_bytes": candidate.memory.scratch,
                    },
                    "context": candidate.context,
                    "fits": candidate.fits,
                    "prompt_tokens_per_s": prompt,
                    "generated_tokens_per_s": generate,
                    "recommended": self.recommended == Some(at),
                })
            })
            .collect();
        let plan = &self.candidates[0].plan;
        json!({
            "model": self.name,
            "family": plan.family,
            "parameters": plan.parameters(),
            "active_parameters": plan.active_parameters(),
            "formats": rows,
        })
    }
}
