//! `sampan pull`: from a name to verified files.

use super::{fetch, print};
use crate::cli::Context;
use crate::error::Result;
use crate::flags::HubArgs;
use clap::Args;
use sampan_hub::Store;

/// Fetch a model, verify it and keep it. What is here already is not fetched again, and a pull that was interrupted goes
/// on where it was. The path of the model goes to stdout.
///
/// Models are kept in the cache that other programs share (HF_HOME); what they fetched is used, and the other way round.
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// qwen3:4b, OWNER/NAME, OWNER/NAME:Q4_K_M, each with @REVISION; hf.co/OWNER/NAME; the URL of a GGUF file
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    hub: HubArgs,
    /// Nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: PullArgs, context: &Context) -> Result<()> {
    let options = args.hub.options(context);
    let store = Store::new(&options)?;
    let names = args.hub.names(&args.names, |typed| store.meant(typed, &[]))?;
    for name in &names {
        let local = fetch::pull(name, &options, &store, context.terminal, args.quiet)?;
        print(&format!("{}\n", local.path.display()))?;
    }
    Ok(())
}
