//! `sampan quantize`: a model with fewer bits per weight.

mod measure;

use super::convert::{self, Destination};
use super::{LoadingBar, fetch, print, print_json, say};
use crate::cli::Context;
use crate::error::Result;
use crate::flags::{HubArgs, MachineArgs};
use crate::render::{bytes, count};
use clap::Args;
use sampan::Quant;
use sampan_model::export::{self, ExportOptions, Quantised, Quantising};
use sampan_weights::{Checkpoint, Kind};
use serde_json::json;
use std::path::PathBuf;

/// Write a model with fewer bits per weight, as one GGUF file.
///
/// Norms, biases, routers and what is no part of the text model stay as they are. Afterwards original and result read a
/// text, and what was lost is printed.
#[derive(Args, Debug)]
pub(crate) struct QuantizeArgs {
    /// A GGUF file, a folder with config.json and safetensors files, or a name as for `sampan pull`
    #[arg(value_name = "MODEL")]
    source: String,
    #[command(flatten)]
    to: Destination,
    /// The mix of formats: q4_k_m, q5_k_m, q6_k, q8_0, q4_0, ...
    #[arg(long = "to", value_name = "MIX")]
    quant: Quant,
    /// Quantise weights that are quantised already, which loses more than doing it once
    #[arg(long)]
    requantize: bool,
    /// A text that the model is good at: errors count for more where it makes inputs large
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// The text that original and result are compared on [default: a short one of several languages]
    #[arg(long, value_name = "FILE", conflicts_with = "no_report")]
    eval: Option<PathBuf>,
    /// Do not compare the result with the original
    #[arg(long)]
    no_report: bool,
    /// Print one JSON object with sizes and losses
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    hub: HubArgs,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: QuantizeArgs, context: &Context) -> Result<()> {
    let source = fetch::source(&args.source, &args.hub, context, args.quiet)?;
    let checkpoint = source.open()?;
    args.to.check_file(&checkpoint, false)?;
    let kernels = args.machine.options().kernels()?;
    let original = measure::Original::ask(&args, &source, context)?;
    let quantising = Quantising {
        quant: args.quant,
        again: args.requantize,
        importance: original.importance.as_ref(),
        pool: kernels.pool(),
    };
    if args.requantize && !args.quiet {
        say("note: weights that are quantised already lose more than they would from the original");
    }
    let written = {
        let mut bar = LoadingBar::doing("quantising", context.terminal, args.quiet);
        write(&args, &checkpoint, quantising, &mut |done, total| bar.update(done, total))?
    };
    if !args.quiet {
        say(&summary(&args, &checkpoint, &written));
    }
    let damage = original.compare(&args, context)?;
    if args.json {
        return print_json(&json!({
            "file": args.to.path.display().to_string(),
            "mix": args.quant.to_string(),
            "weights": written.total().0,
            "bytes": written.total().1,
            "damage": damage.as_ref().map(measure::json),
        }));
    }
    damage.map_or(Ok(()), |damage| print(&measure::text(&damage, &args.quant.to_string())))
}

fn write(
    args: &QuantizeArgs,
    checkpoint: &Checkpoint,
    quantising: Quantising<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Quantised> {
    if checkpoint.kind() == Kind::Gguf {
        return Ok(export::quantise(checkpoint, &args.to.path, quantising, progress)?);
    }
    let keys = convert::keys(&args.source, checkpoint, args.quiet)?;
    let pooling = convert::pooling(&args.source, checkpoint)?;
    let options = ExportOptions { keys, pooling, quantising: Some(quantising), ..ExportOptions::default() };
    let written = export::gguf(checkpoint, &args.to.path, &options, progress)?;
    convert::left_out(&written, args.quiet);
    Ok(written.quantised.expect("it was asked for"))
}

/// What was written: the types, where another one had to be taken, and the sizes.
fn summary(args: &QuantizeArgs, checkpoint: &Checkpoint, written: &Quantised) -> String {
    let mut lines = Vec::new();
    for row in &written.not_whole {
        lines.push(format!(
            "note: {} tensors have rows of {} numbers, which are no blocks of {}: {}",
            row.tensors, row.cols, row.base, row.dtype
        ));
    }
    let types = written.types.iter().map(|(dtype, tensors, weights, _)| {
        let s = if *tensors == 1 { "" } else { "s" };
        format!("{dtype} {} weights in {tensors} tensor{s}", count(*weights))
    });
    lines.push(types.collect::<Vec<_>>().join(", "));
    let (weights, size) = written.total();
    let bits = 8.0 * size as f64 / weights.max(1) as f64;
    lines.push(format!(
        "wrote {}: {}, {} from {}, {bits:.2} bits per weight",
        args.to.path.display(),
        args.quant,
        bytes(size),
        bytes(checkpoint.file_bytes())
    ));
    lines.join("\n")
}
