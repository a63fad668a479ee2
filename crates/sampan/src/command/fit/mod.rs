//! `sampan fit`: which models, in which formats, suit this machine.

mod catalogue;
mod measured;
mod named;

use super::{print, print_json};
use crate::cli::Context;
use crate::error::Result;
use crate::flags::{HubArgs, MachineArgs, kv_format, kv_name};
use crate::render::{bytes, count, table, three_digits};
use clap::Args;
use sampan::fit::{Candidate, recommended};
use sampan::machine::{self, AvailableMemory};
use sampan::trial::{Speeds, try_out};
use sampan::{KvFormat, LoadOptions};
use sampan_kernels::Kernels;
use sampan_kernels::limits::measure_read_bandwidth;
use serde_json::{Value, json};
use std::sync::Arc;

/// Say which formats of a model fit into memory here, and how fast they would be, before anything is downloaded or loaded;
/// without names, which models of the catalogue do.
///
/// Memory comes from the model's plan; its config.json is enough, and is all that a hub is asked for. Speeds are measured now,
/// on a few layers of the model with made-up weights; those of the catalogue come from two such trials and from how fast this
/// machine multiplies with weights of each format, which is measured once and remembered.
#[derive(Args, Debug)]
pub(crate) struct FitArgs {
    /// GGUF files, folders with config.json (and weights or not), names as for `sampan pull`, or `mini` [default: the catalogue]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Of the catalogue only models for this language, by its code (en, zh, ...)
    #[arg(long, value_name = "CODE", conflicts_with = "models")]
    language: Option<String>,
    /// Also those of the catalogue that do not fit
    #[arg(long, conflicts_with = "models")]
    all: bool,
    /// Measure this machine again for the catalogue, and not go by what was measured before
    #[arg(long, conflicts_with = "models")]
    measure: bool,
    /// Tokens that prompt and answer may have together [default: as `run` would take]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// How keys and values of past tokens are kept, as in `run`
    #[arg(long, value_name = "FORMAT", default_value = "i16", value_parser = kv_format)]
    kv: KvFormat,
    /// Print one JSON object with every figure
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    hub: HubArgs,
}

/// What models are to fit.
struct Machine {
    kernels: Arc<Kernels>,
    options: LoadOptions,
    available: Option<AvailableMemory>,
}

impl Machine {
    fn bytes(&self) -> Option<u64> {
        self.available.map(|available| available.bytes)
    }

    /// How fast a model would be; of what does not fit nothing is expected.
    fn speeds(&self, name: &str, candidate: &Candidate) -> Result<Option<Speeds>> {
        if !candidate.fits {
            return Ok(None);
        }
        Ok(Some(try_out(name, &candidate.plan, &self.kernels, self.options.kv)?))
    }

    /// The machine in a line.
    fn text(&self, bandwidth: f64) -> String {
        let there = self.available.map_or("memory unknown".into(), |a| {
            format!("{} of memory available ({})", bytes(a.bytes), a.limited_by)
        });
        let (reads, threads) = (three_digits(bandwidth / 1e9), self.kernels.pool().threads());
        format!("{there}, read at {reads} GB/s by {threads} threads\n")
    }

    /// The machine for programs, and what was found.
    fn json(&self, bandwidth: f64, key: &str, found: Vec<Value>) -> Value {
        json!({
            "available_bytes": self.bytes(),
            "read_bytes_per_s": bandwidth,
            "threads": self.kernels.pool().threads(),
            "kv": kv_name(self.options.kv),
            key: found,
        })
    }
}

/// A model in the formats that were considered.
struct Considered {
    name: String,
    candidates: Vec<Candidate>,
    /// `None` where a candidate does not fit.
    speeds: Vec<Option<Speeds>>,
    recommended: Option<usize>,
}

pub(crate) fn run(args: FitArgs, context: &Context) -> Result<()> {
    let options =
        LoadOptions { context: args.context.map(|n| n as usize), kv: args.kv, ..args.machine.options() };
    let (kernels, available) = (Arc::new(options.kernels()?), machine::available_memory());
    let machine = Machine { kernels, options, available };
    if args.models.is_empty() {
        return catalogue::run(&args, &machine, context);
    }
    let mut all = Vec::new();
    for name in &args.models {
        all.push((name.clone(), named::candidates(name, &args.hub, &machine, context)?));
    }
    let bandwidth = measure_read_bandwidth(machine.kernels.pool());
    let mut considered = Vec::new();
    for (name, candidates) in all {
        let speeds: Vec<Option<Speeds>> =
            candidates.iter().map(|c| machine.speeds(&name, c)).collect::<Result<_>>()?;
        let generate: Vec<f64> =
            speeds.iter().map(|speeds| speeds.map_or(0.0, |speeds| speeds.generate)).collect();
        let recommended = recommended(&candidates, &generate);
        considered.push(Considered { name, candidates, speeds, recommended });
    }
    if args.json {
        let models = considered.iter().map(Considered::json).collect();
        return print_json(&machine.json(bandwidth, "models", models));
    }
    print(&machine.text(bandwidth))?;
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
        let (candidate, speeds) = (&self.candidates[at], self.speeds[at]);
        let fits = if candidate.fits { "yes" } else { "no" };
        let speed = |pick: fn(Speeds) -> f64| speeds.map_or("-".into(), |speeds| three_digits(pick(speeds)));
        let mark = if self.recommended == Some(at) { "<- recommended" } else { "" };
        vec![
            self.label(at),
            bytes(candidate.file_bytes),
            bytes(candidate.memory.total() as u64),
            candidate.context.to_string(),
            fits.into(),
            speed(|speeds| speeds.prompt),
            speed(|speeds| speeds.generate),
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
                let (candidate, speeds) = (&self.candidates[at], self.speeds[at]);
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
                    "prompt_tokens_per_s": speeds.map(|speeds| speeds.prompt),
                    "generated_tokens_per_s": speeds.map(|speeds| speeds.generate),
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
