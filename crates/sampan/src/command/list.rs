//! `sampan list`: the models on this machine, or those that have short names.

use super::{print, print_json};
use crate::cli::Context;
use crate::error::Result;
use crate::render::{bytes, grouped, table};
use clap::Args;
use sampan_hub::{Catalogue, Entry, Owner, Store};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// List the models on this machine: how large they are, when they were used, and who fetched them.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// List the releases that have short names instead
    #[arg(long)]
    catalogue: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: ListArgs, context: &Context) -> Result<()> {
    if args.catalogue {
        return catalogue(args.json);
    }
    let entries = Store::new(&context.environment.hub())?.list();
    if args.json {
        let object = |e: &Entry| {
            json!({"name": e.name, "path": e.path, "bytes": e.bytes, "used": e.used, "owner": owner(e.owner),
                   "commit": e.commit, "unfinished": e.unfinished})
        };
        return print_json(&entries.iter().map(object).collect());
    }
    if entries.is_empty() {
        return print("no models yet; `sampan pull qwen3:0.6b` fetches a small one\n");
    }
    let row = |e: &Entry| {
        let whose = match (e.unfinished, e.owner) {
            (true, _) => "unfinished",
            (false, Owner::Ours) => "sampan",
            (false, Owner::Shared) => "shared",
            (false, Owner::Ollama) => "ollama",
        };
        let used = e.used.map_or("-".into(), ago);
        let commit = e.commit.as_deref().map_or("-", |commit| &commit[..12]);
        vec![e.name.clone(), bytes(e.bytes), used, whose.into(), commit.into(), e.path.display().to_string()]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    print(&table(&["name", "size", "used", "from", "commit", "path"], &rows))
}

fn catalogue(as_json: bool) -> Result<()> {
    let catalogue = Catalogue::builtin();
    let releases = catalogue.releases();
    if as_json {
        let object = |r: &sampan_hub::Release| {
            json!({"name": r.name, "repository": r.repo.to_string(), "parameters": r.parameters, "bytes": r.bytes,
                   "licence": r.licence, "context": r.context, "languages": r.languages})
        };
        return print_json(&releases.iter().map(object).collect());
    }
    let row = |r: &sampan_hub::Release| {
        vec![
            r.name.to_owned(),
            r.parameters.to_owned(),
            bytes(r.bytes),
            grouped(r.context.into()),
            r.licence.to_owned(),
            r.languages.to_owned(),
            r.repo.to_string(),
        ]
    };
    let rows: Vec<_> = releases.iter().map(row).collect();
    print(&table(&["name", "parameters", "about", "context", "licence", "languages", "repository"], &rows))
}

fn owner(owner: Owner) -> &'static str {
    match owner {
        Owner::Ours => "sampan",
        Owner::Shared => "shared",
        Owner::Ollama => "ollama",
    }
}

/// `3 days ago`
pub(super) fn ago(seconds: u64) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let minutes = SystemTime::now().duration_since(then).map_or(0, |age| age.as_secs() / 60);
    let said = |n: u64, unit: &str| format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" });
    match minutes {
        0 => "just now".into(),
        1..60 => said(minutes, "minute"),
        60..1440 => said(minutes / 60, "hour"),
        _ => said(minutes / 1440, "day"),
    }
}
