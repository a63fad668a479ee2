//! The same form in files of other sizes.

use super::super::{LoadingBar, say};
use super::{ConvertArgs, meaningless};
use crate::cli::Context;
use crate::error::{AppError, Result};
use sampan_weights::copy::{self, Copied};
use sampan_weights::{Checkpoint, Error};

pub(super) fn to_gguf(args: &ConvertArgs, checkpoint: &Checkpoint, context: &Context) -> Result<()> {
    keeps_types(args)?;
    args.to.check_file(checkpoint, args.shard_size.is_some())?;
    let name = args.name.as_deref();
    let copied = with_bar(args, context, &mut |progress| {
        copy::to_gguf(checkpoint, &args.to.path, args.shard_size, name, progress)
    })?;
    report(args, &copied);
    Ok(())
}

pub(super) fn to_folder(args: &ConvertArgs, checkpoint: &Checkpoint, context: &Context) -> Result<()> {
    keeps_types(args)?;
    if args.name.is_some() {
        return Err(meaningless("--name", "a folder", "leave it out"));
    }
    if checkpoint.config().is_none() {
        let what = format!("{} is a file of weights without a config.json", args.source);
        return Err(AppError::user(what).hint("name the folder of the model"));
    }
    let folder = args.to.folder(checkpoint)?;
    let copied = with_bar(args, context, &mut |progress| {
        copy::to_folder(checkpoint, folder.path(), args.shard_size, progress)
    })?;
    folder.finish()?;
    for path in copied.left.iter().filter(|_| !args.quiet) {
        say(&format!("note: left out: {}, which holds weights in another form", path.display()));
    }
    report(args, &copied);
    Ok(())
}

fn keeps_types(args: &ConvertArgs) -> Result<()> {
    let instead = "weights in the same form are copied as they are; convert to the other form, and from there back with --dtype";
    for (given, option) in [(args.f32, "--f32"), (args.dtype.is_some(), "--dtype")] {
        if given {
            return Err(meaningless(option, "a copy", instead));
        }
    }
    Ok(())
}

type Progress<'p> = &'p mut dyn FnMut(u64, u64);

fn with_bar(
    args: &ConvertArgs,
    context: &Context,
    copy: &mut dyn FnMut(Progress<'_>) -> Result<Copied, Error>,
) -> Result<Copied> {
    let mut bar = LoadingBar::doing("copying", context.terminal, args.quiet);
    let failed = |error: Error| AppError::user(error).hint("check the paths and the space on the disk");
    copy(&mut |done, total| bar.update(done, total)).map_err(failed)
}

fn report(args: &ConvertArgs, copied: &Copied) {
    if !args.quiet {
        let (to, size) = (args.to.path.display(), copied.bytes as f64 / 1e6);
        say(&format!("wrote {to}: {} tensors, {size:.1} MB, as they were", copied.tensors));
    }
}
