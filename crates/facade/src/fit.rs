//! Which formats of a model suit a machine, from its plan alone: nothing is loaded, and no weights need to be there.

use crate::load::{DEFAULT_CONTEXT, LEAST_DEFAULT_CONTEXT, LoadOptions, needed_memory};
use crate::rates::Rate;
use crate::trial::{PROMPT, Speeds};
use crate::{Error, Source};
use sampan_kernels::{Format, Kernels};
use sampan_model::{KvFormat, Memory, Plan, PlanOptions, Quant};
use sampan_weights::{Checkpoint, Kind};

/// The mixes that a float checkpoint is considered in, from the widest to the narrowest.
const MIXES: [Quant; 5] = [Quant::Q8_0, Quant::Q6_K, Quant::Q5_K_M, Quant::Q4_K_M, Quant::Q3_K_M];

/// A model in one format.
#[derive(Debug)]
pub struct Candidate {
    /// The mix that it would be quantised to; `None`: as it is.
    pub quant: Option<Quant>,
    /// The model.
    pub plan: Plan,
    /// Bytes of its weights in a file.
    pub file_bytes: u64,
    /// Tokens of context that the memory is for.
    pub context: usize,
    /// What it needs.
    pub memory: Memory,
    /// Whether that is there.
    pub fits: bool,
}

/// The formats in which a model could be used here: as it is, and where it is of floats, quantised. Of a folder with a
/// config.json and no weights the plan is that of the published checkpoint. The context is what `options` say, else
/// what would be taken when the model is loaded. `available`: bytes of memory.
///
/// # Errors
/// What is wrong with the files or the configuration.
pub fn candidates(
    source: &Source,
    kernels: &Kernels,
    options: &LoadOptions,
    available: Option<u64>,
) -> Result<Vec<Candidate>, Error> {
    let (name, checkpoint) = (source.to_string(), source.open()?);
    as_stored_and_in_mixes(|quant| candidate(&name, &checkpoint, quant, kernels, options, available))
}

/// The same of a published model that only its configuration is known of. `format`: the one quantisation that is asked for,
/// where it is not taken as it is published, and in others.
///
/// # Errors
/// What is wrong with the configuration, and a quantisation that is unknown.
pub fn published(
    name: &str,
    config: serde_json::Value,
    format: Option<&str>,
    kernels: &Kernels,
    options: &LoadOptions,
    available: Option<u64>,
) -> Result<Vec<Candidate>, Error> {
    if format.is_some() {
        return Ok(vec![as_published(name, config, format, kernels, options, available)?]);
    }
    let checkpoint = Checkpoint::from_config(name, config);
    as_stored_and_in_mixes(|quant| candidate(name, &checkpoint, quant, kernels, options, available))
}

/// A published model in one format alone: as [`published`], without the others that it could be taken in.
///
/// # Errors
/// As [`published`].
pub fn as_published(
    name: &str,
    config: serde_json::Value,
    format: Option<&str>,
    kernels: &Kernels,
    options: &LoadOptions,
    available: Option<u64>,
) -> Result<Candidate, Error> {
    let quant = match format {
        None => None,
        // Only experts are published in four bits; files that are named after them hold the rest in eight.
        Some(format) if format.eq_ignore_ascii_case(Format::MXFP4.name()) => Some(Quant::Q8_0),
        Some(format) => Some(format.parse().map_err(|known| Error::Mix {
            model: name.to_owned(),
            mix: format.to_owned(),
            known,
        })?),
    };
    candidate(name, &Checkpoint::from_config(name, config), quant, kernels, options, available)
}

/// The candidate of no quantisation and, where most of its weights are floats, those of every mix.
fn as_stored_and_in_mixes(
    of: impl Fn(Option<Quant>) -> Result<Candidate, Error>,
) -> Result<Vec<Candidate>, Error> {
    let mut candidates = vec![of(None)?];
    if is_float(&candidates[0].plan) {
        for quant in MIXES {
            candidates.push(of(Some(quant))?);
        }
    }
    Ok(candidates)
}

/// Whether most weights are floats.
fn is_float(plan: &Plan) -> bool {
    let floats = plan.kept().filter(|tensor| tensor.format.block_len() == 1);
    2 * floats.map(|tensor| tensor.count()).sum::<u64>() > plan.parameters()
}

fn candidate(
    name: &str,
    checkpoint: &Checkpoint,
    quant: Option<Quant>,
    kernels: &Kernels,
    options: &LoadOptions,
    available: Option<u64>,
) -> Result<Candidate, Error> {
    // What has fewer bits than the mix stays as it is.
    let plan_options = PlanOptions { quant, requantise: quant.is_some(), ..PlanOptions::default() };
    let plan = match checkpoint.kind() {
        Kind::NoWeights => Plan::from_config(checkpoint, plan_options),
        _ => Plan::from_checkpoint(checkpoint, plan_options),
    };
    let plan = plan.map_err(|error| Error::Plan { model: name.to_owned(), source: error })?;
    let memory_at = |context| needed_memory(&plan, kernels, options, context);
    let fits = |context| available.is_none_or(|bytes| memory_at(context).total() as u64 <= bytes);
    let mut context = options.context.unwrap_or(plan.context.min(DEFAULT_CONTEXT));
    while options.context.is_none() && !fits(context) && context / 2 >= LEAST_DEFAULT_CONTEXT {
        context /= 2;
    }
    let (memory, fits) = (memory_at(context), fits(context));
    Ok(Candidate { quant, file_bytes: plan.file_bytes(), context, memory, fits, plan })
}

/// The speeds that a model would have if it did nothing but its products, at such a rate.
pub fn of_products(plan: &Plan, kernels: &Kernels, kv: KvFormat, rate: Rate) -> Speeds {
    let operations = plan.operations(kernels, kv, 0, PROMPT).total() as f64;
    let bytes = plan.decode_bytes(kernels, kv, PROMPT / 8) as f64;
    Speeds { prompt: PROMPT as f64 * rate.operations_per_s / operations, generate: rate.bytes_per_s / bytes }
}

/// Tokens per second from which on an answer comes faster than it is read.
pub const READING_SPEED: f64 = 10.0;

/// Which of some candidates to take, given how many tokens per second each generates: of those that fit and are no
/// slower than reading, the first that is quantised (floats are larger than eight bits and no better to speak of); of
/// slower ones the fastest; none, if none fits.
pub fn recommended(candidates: &[Candidate], speeds: &[f64]) -> Option<usize> {
    let all: Vec<usize> = (0..candidates.len()).filter(|&i| candidates[i].fits).collect();
    let quantised = |&&i: &&usize| !is_float(&candidates[i].plan);
    let fluent = all.iter().filter(|&&i| speeds[i] >= READING_SPEED);
    let widest = fluent.clone().find(quantised).or(fluent.clone().next());
    widest.or_else(|| all.iter().max_by(|&&a, &&b| speeds[a].total_cmp(&speeds[b]))).copied()
}
