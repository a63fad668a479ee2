//! `sampan rm` and `sampan gc`: room on the disk.

use super::print;
use crate::cli::Context;
use crate::error::Result;
use crate::flags::HubArgs;
use crate::render::bytes;
use clap::Args;
use sampan_hub::Store;

/// Remove models that sampan fetched, and say what is free again. Files that another model uses stay.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Names as for `sampan pull`
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Also what other programs fetched into the shared cache
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    hub: HubArgs,
}

pub(crate) fn rm(args: RmArgs, context: &Context) -> Result<()> {
    let store = Store::new(&args.hub.options(context))?;
    let names = args.hub.names(&args.names, |typed| store.meant_here(typed))?;
    for name in &names {
        let removed = store.remove(name, args.shared)?;
        let kept = match removed.kept {
            0 => String::new(),
            n => format!("; {n} stay, which others fetched or use"),
        };
        print(&format!(
            "removed {name}: {} file{}, {} free again{kept}\n",
            removed.files,
            if removed.files == 1 { "" } else { "s" },
            bytes(removed.bytes)
        ))?;
    }
    Ok(())
}

/// Remove what no model needs: the rest of interrupted pulls, files with wrong bytes, blobs that nothing uses, and older
/// states of a branch that has been pulled again since.
///
/// An interrupted pull can go on only as long as this has not been run. A state that was pulled by its commit (NAME@COMMIT)
/// stays.
#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn gc(args: GcArgs, context: &Context) -> Result<()> {
    let store = Store::new(&context.environment.hub())?;
    let leftovers = store.leftovers();
    if !args.dry_run {
        store.collect(&leftovers)?;
    }
    for leftover in &leftovers {
        print(&format!("{}  {}  {}\n", bytes(leftover.bytes), leftover.why, leftover.path.display()))?;
    }
    let total = leftovers.iter().map(|leftover| leftover.bytes).sum();
    let done = if args.dry_run { "would be free again" } else { "free again" };
    let files = if leftovers.len() == 1 { "file" } else { "files" };
    print(&format!("{} {files}, {} {done}\n", leftovers.len(), bytes(total)))
}
