//! The catalogue as it suits this machine.

use super::measured::Measured;
use super::{FitArgs, Machine};
use crate::cli::Context;
use crate::command::list::ago;
use crate::command::{print, print_json};
use crate::error::{AppError, Result};
use crate::render::{bytes, table, three_digits};
use sampan::fit::{Candidate, READING_SPEED, as_published, of_products};
use sampan::rates::{Rate, Rates};
use sampan::trial::{Speeds, try_out};
use sampan_hub::{Catalogue, Pick, Purpose, Release};
use sampan_kernels::limits::measure_read_bandwidth;
use serde_json::{Value, json};

/// A release in the format that is pulled.
struct Entry<'c> {
    release: &'c Release,
    candidate: Candidate,
    /// Of what does not fit nothing is expected.
    speeds: Option<Speeds>,
    /// Why it is one to take.
    why: Option<&'static str>,
}

pub(super) fn run(args: &FitArgs, machine: &Machine, context: &Context) -> Result<()> {
    let catalogue = Catalogue::builtin();
    let language = args.language.as_deref();
    let mut entries = Vec::new();
    for release in catalogue.releases().iter().filter(|r| language.is_none_or(|code| r.speaks(code))) {
        entries.push(Entry { release, candidate: candidate(release, machine)?, speeds: None, why: None });
    }
    let mut measured = Measured::read(context, &machine.kernels, args.measure);
    let (old, when) = (!measured.is_new(), ago(measured.at));
    for mixtures in [false, true] {
        expect(entries.iter_mut().filter(|entry| entry.is_mixture() == mixtures), machine, &mut measured)?;
    }
    measured.write();
    recommend(&mut entries);
    let all = entries.len();
    if !args.all {
        entries.retain(|entry| entry.candidate.fits);
    }
    let bandwidth = measure_read_bandwidth(machine.kernels.pool());
    if args.json {
        return print_json(&machine.json(bandwidth, "catalogue", entries.iter().map(Entry::json).collect()));
    }
    print(&machine.text(bandwidth))?;
    if entries.is_empty() {
        return print("no model of the catalogue fits\n");
    }
    let header =
        ["model", "parameters", "download", "memory", "context", "prompt/s", "generated/s", "languages", ""];
    print(&table(&header, &entries.iter().map(Entry::row).collect::<Vec<_>>()))?;
    let hidden = all - entries.len();
    if hidden > 0 {
        print(&format!("{hidden} more do not fit; --all shows them\n"))?;
    }
    if old {
        print(&format!("speeds are by what was measured {when}; --measure does that again\n"))?;
    }
    advice(&entries)
}

fn candidate(release: &Release, machine: &Machine) -> Result<Candidate> {
    let format = match &release.pick {
        Pick::Format(format) => Some(format.as_str()),
        _ => None,
    };
    let config = release.config().unwrap_or_default();
    let (kernels, options) = (&machine.kernels, &machine.options);
    Ok(as_published(release.name, config, format, kernels, options, machine.bytes())?)
}

/// The speeds of models that are alike: those of their products, by what one of them reaches of that in a trial: the one of middle
/// size, or one that was tried before.
fn expect<'e, 'c: 'e>(
    alike: impl Iterator<Item = &'e mut Entry<'c>>,
    machine: &Machine,
    measured: &mut Measured,
) -> Result<()> {
    let mut alike: Vec<&mut Entry<'_>> = alike.filter(|entry| entry.candidate.fits).collect();
    alike.sort_by_key(|entry| entry.candidate.plan.parameters());
    let (kernels, kv) = (&machine.kernels, machine.options.kv);
    let mut rates = Rates::new(kernels, measured.rates());
    for entry in &mut alike {
        let rate: Rate = rates.of_plan(&entry.candidate.plan).map_err(AppError::internal)?;
        entry.speeds = Some(of_products(&entry.candidate.plan, kernels, kv, rate));
    }
    measured.keep_rates(rates.known());
    let middle = alike.len() / 2;
    let known = |entry: &Entry<'_>| measured.trial(entry.release.name, kv);
    let before = (0..alike.len()).filter(|&i| known(alike[i]).is_some()).min_by_key(|i| i.abs_diff(middle));
    let Some(one) = alike.get(before.unwrap_or(middle)) else { return Ok(()) };
    let tried = match known(one) {
        Some(speeds) => speeds,
        None => {
            let speeds = try_out(one.release.name, &one.candidate.plan, kernels, kv)?;
            measured.keep_trial(one.release.name, kv, speeds);
            speeds
        }
    };
    let Some(products) = one.speeds else { return Ok(()) };
    for speeds in alike.iter_mut().filter_map(|entry| entry.speeds.as_mut()) {
        speeds.prompt *= tried.prompt / products.prompt;
        speeds.generate *= tried.generate / products.generate;
    }
    Ok(())
}

/// Of each purpose the largest that fits and answers faster than one reads, and the fastest of those in conversation with a
/// thousand million parameters or more.
fn recommend(entries: &mut [Entry<'_>]) {
    let size = |entry: &Entry<'_>| entry.candidate.plan.parameters();
    let speed = |entry: &Entry<'_>| entry.speeds.map_or(0.0, |speeds| speeds.generate);
    let largest = [
        (Purpose::Conversation, "the largest that answers fluently"),
        (Purpose::Code, "for programs"),
        (Purpose::Embedding, "for vectors"),
        (Purpose::Reranking, "for ranking"),
    ];
    for (purpose, why) in largest {
        let good = |entry: &&mut Entry<'_>| {
            // A model that makes no text is not waited for word by word.
            let fluent =
                speed(entry) >= READING_SPEED || matches!(purpose, Purpose::Embedding | Purpose::Reranking);
            entry.release.purpose() == purpose && entry.candidate.fits && fluent
        };
        // Of equals the first: newer releases stand before older ones.
        if let Some(entry) = entries.iter_mut().filter(good).rev().max_by_key(|entry| size(entry)) {
            entry.why = Some(why);
        }
    }
    let quick = |entry: &&mut Entry<'_>| {
        let free = entry.why.is_none() && entry.candidate.fits && size(entry) >= 1_000_000_000;
        free && entry.release.purpose() == Purpose::Conversation
    };
    let fastest = entries.iter_mut().filter(quick).rev().max_by(|a, b| speed(a).total_cmp(&speed(b)));
    if let Some(entry) = fastest {
        entry.why = Some("quick");
    }
}

fn advice(entries: &[Entry<'_>]) -> Result<()> {
    let best = entries.iter().find(|e| e.why.is_some() && e.release.purpose() == Purpose::Conversation);
    match best {
        Some(entry) => print(&format!("try `sampan run {}`\n", entry.release.name)),
        None => Ok(()),
    }
}

impl Entry<'_> {
    fn is_mixture(&self) -> bool {
        self.candidate.plan.mixtures().next().is_some()
    }

    fn row(&self) -> Vec<String> {
        let (release, candidate) = (self.release, &self.candidate);
        let speed = |pick: fn(Speeds) -> f64| {
            self.speeds.map_or("does not fit".into(), |speeds| three_digits(pick(speeds)))
        };
        vec![
            release.name.into(),
            release.parameters.into(),
            bytes(release.bytes),
            bytes(candidate.memory.total() as u64),
            candidate.context.to_string(),
            speed(|speeds| speeds.prompt),
            speed(|speeds| speeds.generate),
            release.languages.into(),
            self.why.map(|why| format!("<- {why}")).unwrap_or_default(),
        ]
    }

    fn json(&self) -> Value {
        let (release, candidate) = (self.release, &self.candidate);
        json!({
            "model": release.name,
            "repository": release.repo.to_string(),
            "parameters": candidate.plan.parameters(),
            "active_parameters": candidate.plan.active_parameters(),
            "download_bytes": release.bytes,
            "licence": release.licence,
            "languages": release.languages,
            "memory_bytes": candidate.memory.total(),
            "context": candidate.context,
            "fits": candidate.fits,
            "prompt_tokens_per_s": self.speeds.map(|speeds| speeds.prompt),
            "generated_tokens_per_s": self.speeds.map(|speeds| speeds.generate),
            "recommended": self.why,
        })
    }
}
