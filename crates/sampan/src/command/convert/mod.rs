//! `sampan convert`: a checkpoint as one GGUF file.

mod vocabulary;

use super::{LoadingBar, say};
use crate::cli::Context;
use crate::error::{AppError, Result};
use clap::Args;
use sampan::Source;
use sampan_model::export::{self, ExportError, ExportOptions};
use std::path::PathBuf;

/// Write a safetensors checkpoint as one GGUF file, with its tokenizer and chat template. Weights keep their precision:
/// FP4 becomes MXFP4, FP8 becomes BF16.
#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// A folder with config.json and safetensors files
    #[arg(value_name = "FOLDER")]
    source: String,
    /// The file to write; it appears when it is whole
    #[arg(value_name = "FILE.gguf")]
    to: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
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

impl From<ExportError> for AppError {
    fn from(error: ExportError) -> AppError {
        let hint = match &error {
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
    let to = args.to.display();
    if args.to.extension().is_none_or(|end| !end.eq_ignore_ascii_case("gguf")) {
        return Err(AppError::user(format!("{to} does not end in .gguf"))
            .hint("GGUF is what can be written; name the file so"));
    }
    if args.to.exists() && !args.force {
        return Err(AppError::user(format!("{to} is already there"))
            .hint("--force replaces it; or give another name"));
    }
    let checkpoint = Source::parse(&args.source).open()?;
    let keys = vocabulary::keys(&args.source, &checkpoint)?;
    if keys.is_empty() && !args.quiet {
        say("note: there is no tokenizer.json; the file will hold weights only");
    }
    let options = ExportOptions { exact: args.f32, name: args.name, keys };
    let written = {
        let mut bar = LoadingBar::new(context.terminal, args.quiet);
        export::gguf(&checkpoint, &args.to, &options, &mut |done, total| bar.update(done, total))?
    };
    if !args.quiet {
        for aside in &written.plan.set_aside {
            say(&format!("note: left out: {} ({} tensors)", aside.what, aside.tensors));
        }
        let size = written.bytes as f64 / 1e6;
        say(&format!("wrote {to}: {}, {} tensors, {size:.1} MB", written.arch, written.tensors));
    }
    Ok(())
}
