//! `sampan convert`: a checkpoint as one GGUF file.

mod vocabulary;

use super::{LoadingBar, say};
use crate::cli::Context;
use crate::error::{AppError, Result};
use clap::Args;
use sampan::Source;
use sampan_model::export::{self, ExportError, ExportOptions, Exported};
use sampan_model::{LoadError, PlanError};
use sampan_weights::{Checkpoint, Value};
use std::path::PathBuf;

/// Write a safetensors checkpoint as one GGUF file, with its tokenizer and chat template. Weights keep their precision:
/// FP4 becomes MXFP4, FP8 becomes BF16.
#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// A folder with config.json and safetensors files
    #[arg(value_name = "FOLDER")]
    source: String,
    #[command(flatten)]
    to: Destination,
    /// Write FP8 weights as float32
    #[arg(long)]
    f32: bool,
    /// What the model is called in the file; else as its folder
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// The GGUF file that is written.
#[derive(Args, Debug)]
pub(super) struct Destination {
    /// The file to write; it appears when it is whole
    #[arg(value_name = "FILE.gguf")]
    pub(super) path: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Destination {
    /// Refuses a file that is there, is one of those that are read, or is named as another kind.
    pub(super) fn check(&self, from: &Checkpoint) -> Result<()> {
        let to = self.path.display();
        if self.path.extension().is_none_or(|end| !end.eq_ignore_ascii_case("gguf")) {
            return Err(AppError::user(format!("{to} does not end in .gguf"))
                .hint("GGUF is what can be written; name the file so"));
        }
        let there = self.path.canonicalize().ok();
        if there.is_some() && from.files().any(|file| file.canonicalize().ok() == there) {
            return Err(AppError::user(format!("{to} is the model that is read"))
                .hint("give another name; the original is needed until the new file is whole"));
        }
        if self.path.exists() && !self.force {
            return Err(AppError::user(format!("{to} is already there"))
                .hint("--force replaces it; or give another name"));
        }
        Ok(())
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
            ExportError::Weights(_) => "check the paths and the space on the disk",
            ExportError::NotSafetensors { .. } => "give the folder of the original model",
            _ => "run the safetensors checkpoint as it is; nothing was written",
        };
        AppError::user(&error).hint(hint)
    }
}

pub(crate) fn run(args: ConvertArgs, context: &Context) -> Result<()> {
    let checkpoint = Source::parse(&args.source).open()?;
    args.to.check(&checkpoint)?;
    let (to, keys) = (args.to.path.display(), keys(&args.source, &checkpoint, args.quiet)?);
    let options = ExportOptions { exact: args.f32, name: args.name, keys, quantising: None };
    let written = {
        let mut bar = LoadingBar::doing("converting", context.terminal, args.quiet);
        export::gguf(&checkpoint, &args.to.path, &options, &mut |done, total| bar.update(done, total))?
    };
    left_out(&written, args.quiet);
    if !args.quiet {
        let size = written.bytes as f64 / 1e6;
        say(&format!("wrote {to}: {}, {} tensors, {size:.1} MB", written.arch, written.tensors));
    }
    Ok(())
}

/// The tokenizer and the template in the words of GGUF; a note where there are none.
pub(super) fn keys(source: &str, checkpoint: &Checkpoint, quiet: bool) -> Result<Vec<(String, Value)>> {
    let keys = vocabulary::keys(source, checkpoint)?;
    if keys.is_empty() && !quiet {
        say("note: there is no tokenizer.json; the file will hold weights only");
    }
    Ok(keys)
}

/// Says which parts of the checkpoint the file does not hold.
pub(super) fn left_out(written: &Exported, quiet: bool) {
    for aside in written.plan.set_aside.iter().filter(|_| !quiet) {
        say(&format!("note: left out: {} ({} tensors)", aside.what, aside.tensors));
    }
}
