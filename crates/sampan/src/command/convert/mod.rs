//! `sampan convert`: a safetensors checkpoint as GGUF, a GGUF file as a folder with safetensors, or either in files of other
//! sizes.

mod copied;
mod destination;
mod folder;
mod vocabulary;

pub(super) use destination::Destination;

use super::{LoadingBar, fetch, say};
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::HubArgs;
use clap::{Args, ValueEnum};
use folder::{SAMPLING, Sidecars};
use sampan::Pooling;
use sampan_kernels::Format;
use sampan_model::export::{self, ExportError, ExportOptions, Exported, FolderOptions};
use sampan_model::{LoadError, PlanError};
use sampan_weights::{Checkpoint, Kind, Value};

/// Write a safetensors checkpoint as a GGUF file, or a GGUF file as a folder with config.json and safetensors, with
/// tokenizer, chat template and settings.
///
/// To GGUF, weights keep their precision: FP4 becomes MXFP4, FP8 becomes BF16. To a folder, floats keep their type and what is
/// quantised becomes BF16; experts in MXFP4 stay so where the family is published with such (gpt-oss, DeepSeek V4).
///
/// A folder to a folder and a GGUF file to a GGUF file are copied, byte for byte, over other files: one, or with --shard-size
/// several.
#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// A folder with config.json and safetensors files, a GGUF file, or a name as for `sampan pull`
    #[arg(value_name = "MODEL")]
    source: String,
    /// What to write: a file that ends in .gguf, or a folder; it appears when it is whole
    #[command(flatten)]
    to: Destination,
    /// Write FP8 weights as float32 (to GGUF)
    #[arg(long)]
    f32: bool,
    /// Write all matrices in this type (to a folder)
    #[arg(long, value_name = "TYPE")]
    dtype: Option<FloatType>,
    /// Write weights over several files, none with more than this: 5GB, 500MB (a single tensor may be larger)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    shard_size: Option<u64>,
    /// What the model is called in the GGUF file; else as its folder
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    hub: HubArgs,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Types that matrices can have in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FloatType {
    F32,
    F16,
    Bf16,
}

impl From<FloatType> for Format {
    fn from(float: FloatType) -> Format {
        match float {
            FloatType::F32 => Format::F32,
            FloatType::F16 => Format::F16,
            FloatType::Bf16 => Format::BF16,
        }
    }
}

/// `500MB` in bytes; units are powers of ten, as in what others call shards of 5GB.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "MB" | "M" => 1e6,
        "GB" | "G" => 1e9,
        _ => return Err("needs a number and a unit, such as 500MB or 5GB".into()),
    };
    match digits.parse::<f64>() {
        Ok(number) if (1e6..1e15).contains(&(number * unit)) => Ok((number * unit) as u64),
        _ => Err("needs a size of at least 1MB".into()),
    }
}

impl From<ExportError> for AppError {
    fn from(error: ExportError) -> AppError {
        let hint = match &error {
            ExportError::Plan(PlanError::AlreadyQuantized { .. }) => {
                "give the original checkpoint; --requantize does it all the same, and loses more"
            }
            ExportError::Load(LoadError::Encode { .. }) => "the file is damaged; download it again",
            ExportError::Plan(_) | ExportError::Load(_) => {
                "`sampan show` says what is known of the checkpoint"
            }
            ExportError::Weights(_) | ExportError::Io { .. } => "check the paths and the space on the disk",
            ExportError::NotSafetensors { .. } => {
                "a GGUF file is written to a folder (no .gguf at the end), or with fewer bits by `sampan quantize`"
            }
            ExportError::NotGguf { .. } => "safetensors are written to a file that ends in .gguf",
            _ => "run the model as it is; nothing was written",
        };
        AppError::user(&error).hint(hint)
    }
}

pub(crate) fn run(args: ConvertArgs, context: &Context) -> Result<()> {
    let source = fetch::source(&args.source, &args.hub, context, args.quiet)?;
    let checkpoint = source.open()?;
    match (checkpoint.kind(), args.to.is_gguf()) {
        (Kind::Gguf, true) => copied::to_gguf(&args, &checkpoint, context),
        (Kind::Safetensors, false) => copied::to_folder(&args, &checkpoint, context),
        (_, true) => to_gguf(&args, &checkpoint, context),
        (_, false) => to_folder(&args, &checkpoint, context),
    }
}

/// An option that has no meaning for what is written.
fn meaningless(option: &str, what: &str, instead: &str) -> AppError {
    AppError::user(format!("{option} says nothing about {what}")).hint(instead)
}

fn to_gguf(args: &ConvertArgs, checkpoint: &Checkpoint, context: &Context) -> Result<()> {
    if args.dtype.is_some() {
        let instead = "`sampan quantize --to q8_0` writes other types; without --dtype weights keep theirs";
        return Err(meaningless("--dtype", "a GGUF file", instead));
    }
    args.to.check_file(checkpoint, args.shard_size.is_some())?;
    let keys = match checkpoint.kind() {
        // Without weights this is refused anyway.
        Kind::NoWeights => Vec::new(),
        _ => keys(&args.source, checkpoint, args.quiet)?,
    };
    let (name, pooling) = (args.name.clone(), pooling(&args.source, checkpoint)?);
    let options =
        ExportOptions { exact: args.f32, name, keys, pooling, quantising: None, shard: args.shard_size };
    let written = {
        let mut bar = LoadingBar::doing("converting", context.terminal, args.quiet);
        export::gguf(checkpoint, &args.to.path, &options, &mut |done, total| bar.update(done, total))?
    };
    report(args, &written);
    Ok(())
}

fn to_folder(args: &ConvertArgs, checkpoint: &Checkpoint, context: &Context) -> Result<()> {
    for (given, option) in [(args.f32, "--f32"), (args.name.is_some(), "--name")] {
        if given {
            return Err(meaningless(
                option,
                "a folder",
                "leave it out; --dtype f32 sets the type of weights",
            ));
        }
    }
    let sidecars = match checkpoint.kind() {
        Kind::Gguf => Sidecars::of(&args.source, checkpoint)?,
        _ => return Err(ExportError::NotGguf { path: checkpoint.path().display().to_string() }.into()),
    };
    if !sidecars.speak() && !args.quiet {
        say("note: there is no tokenizer in the file; the folder will hold weights only");
    }
    let keys = sidecars.keys.clone();
    let options = FolderOptions { dtype: args.dtype.map(Format::from), shard: args.shard_size, keys };
    let folder = args.to.folder(checkpoint)?;
    let written = {
        let mut bar = LoadingBar::doing("converting", context.terminal, args.quiet);
        export::folder(checkpoint, folder.path(), &options, &mut |done, total| bar.update(done, total))?
    };
    sidecars.write(folder.path())?;
    folder.finish()?;
    report(args, &written);
    Ok(())
}

fn report(args: &ConvertArgs, written: &Exported) {
    left_out(written, args.quiet);
    if !args.quiet {
        let (to, size) = (args.to.path.display(), written.bytes as f64 / 1e6);
        say(&format!("wrote {to}: {}, {} tensors, {size:.1} MB", written.arch, written.tensors));
    }
}

/// The tokenizer, the template and the settings in the words of GGUF; a note where there are no words.
pub(super) fn keys(source: &str, checkpoint: &Checkpoint, quiet: bool) -> Result<Vec<(String, Value)>> {
    let mut note = |what: &str| {
        if !quiet {
            say(&format!("note: {what}"));
        }
    };
    let mut keys = vocabulary::keys(source, checkpoint, &mut note)?;
    if keys.is_empty() && !quiet {
        say("note: there is no tokenizer.json; the file will hold weights only");
    }
    for (theirs, ours) in SAMPLING {
        if let Some(value) = checkpoint.generation_config().and_then(|config| config[ours].as_f64()) {
            let value = if ours == "top_k" { Value::I32(value as i32) } else { Value::F32(value as f32) };
            keys.push((format!("general.sampling.{theirs}"), value));
        }
    }
    Ok(keys)
}

/// How a model that makes vectors makes one of many, in the numbers of GGUF.
pub(super) fn pooling(source: &str, checkpoint: &Checkpoint) -> Result<Option<u32>> {
    let stated = Pooling::stated(source, checkpoint);
    let cannot = |error| AppError::user(error).hint("GGUF has no word for it; run the model as it is");
    Ok(stated.map_err(cannot)?.map(Pooling::number))
}

/// Says which parts of the checkpoint the file does not hold.
pub(super) fn left_out(written: &Exported, quiet: bool) {
    for aside in written.plan.set_aside.iter().filter(|_| !quiet) {
        say(&format!("note: left out: {} ({} tensors)", aside.what, aside.tensors));
    }
}
