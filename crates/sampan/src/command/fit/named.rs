//! What is known of a model by its name, before anything is downloaded.

use super::Machine;
use crate::cli::Context;
use crate::command::{fetch, say};
use crate::error::{AppError, Result};
use crate::flags::HubArgs;
use sampan::Source;
use sampan::fit::{Candidate, candidates as of_source, published};
use sampan_hub::{Catalogue, Hub, ModelName, Pick, Place, Store};
use serde_json::Value;

/// The formats of a model: of its files where they are here, else of its configuration on the hub, else of its shape in the
/// catalogue.
pub(super) fn candidates(
    typed: &str,
    hub: &HubArgs,
    machine: &Machine,
    context: &Context,
) -> Result<Vec<Candidate>> {
    let of = |source: &Source| of_source(source, &machine.kernels, &machine.options, machine.bytes());
    let Some((name, store)) = fetch::only_name(typed, hub, &hub.options(context))? else {
        return Ok(of(&Source::parse(typed))?);
    };
    if let Some(local) = store.find(&name) {
        return Ok(of(&Source::Named { name: typed.into(), path: local.path })?);
    }
    let format = match name.place() {
        Place::Repo { pick: Pick::Format(format), .. } => Some(format.as_str()),
        _ => None,
    };
    let config = configuration(&name, hub, &store, context)?;
    Ok(published(typed, config, format, &machine.kernels, &machine.options, machine.bytes())?)
}

fn configuration(name: &ModelName, hub: &HubArgs, store: &Store, context: &Context) -> Result<Value> {
    let options = hub.options(context);
    let catalogue = Catalogue::builtin();
    let known = catalogue.release(name.place()).and_then(|release| release.config());
    // Nothing is pulled here; who wants no pull wants to hear of what is here, or known.
    let asked = match (options.offline || hub.no_pull, &known) {
        (true, Some(_)) => Ok(None),
        _ => Hub::new(&options, store).peek(name, "config.json", &|_| {}),
    };
    match (asked, known) {
        (Ok(Some(bytes)), _) => serde_json::from_slice(&bytes).map_err(|e| {
            AppError::user(format!("config.json of {name} is no JSON: {e}")).hint("look at it on the hub")
        }),
        (Ok(None), Some(known)) => Ok(known),
        (Err(error), Some(known)) => {
            say(&format!("note: {error}; the figures for {name} are those of the catalogue"));
            Ok(known)
        }
        (Ok(None), None) => {
            Err(AppError::user(format!("{name} has no config.json, and is not in the catalogue"))
                .hint("give the repository of the original model, or pull the GGUF file and give that"))
        }
        (Err(error), None) => Err(error.into()),
    }
}
