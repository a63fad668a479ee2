//! `sampan check`: does a model compute what a reference computed?

use super::fetch::source;
use super::{LoadingBar, print, print_json, say};
use crate::cli::Context;
use crate::error::{AppError, Exit, Result};
use crate::flags::{HubArgs, MachineArgs, QuantArgs};
use crate::render::{grouped, table};
use clap::Args;
use sampan::{KvFormat, LoadOptions, Model, Plan, Prepared};
use sampan_model::plan::Mixer;
use sampan_model::{Cache, CacheSizes, Chunk, Logits, PAGE, Scratch};
use sampan_weights::{Checkpoint, Tensor};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Compare a model with recorded logits, to prove that a conversion is faithful.
///
/// The golden file holds `ids` [n] i64, `logits` [n, vocab] f32 and, optionally, `greedy` [m] i64: the tokens that
/// follow when the likeliest is taken each time. With `positions` [k] i64, `logits` [k, vocab] are only of these.
/// The model computes the same in three ways: the prompt in one pass, in chunks, and token by token. All must agree
/// for exit code 0.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// A GGUF file, a folder with config.json and safetensors, or `mini`
    #[arg(value_name = "MODEL")]
    model: String,
    /// The recorded ids and logits
    #[arg(value_name = "GOLDEN.safetensors")]
    golden: PathBuf,
    /// The largest difference of a logit that counts as equal [default: 2e-4; 1e-3 where layers follow the delta rule
    /// or streams are predicted (AltUp), which amplifies rounding]
    #[arg(long, value_name = "T", value_parser = tolerance)]
    tolerance: Option<f64>,
    /// Compute as `sampan run` does (quantised activations, f16 cache) instead of in float32
    #[arg(long)]
    as_run: bool,
    /// The least share of positions whose likeliest token must be the same
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    min_top1: f64,
    /// How many greedy tokens must be the same [default: all]
    #[arg(long, value_name = "TOKENS")]
    min_greedy: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    quant: QuantArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    hub: HubArgs,
}

/// So many damaged tensors are named.
const SHOWN: usize = 10;

fn tolerance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|t: &f64| t.is_finite() && *t >= 0.0)
        .ok_or("needs a number of at least 0".into())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s: &f64| (0.0..=1.0).contains(s)).ok_or("needs a number from 0 to 1".into())
}

pub(crate) fn run(args: CheckArgs, context: &Context) -> Result<()> {
    let golden = Golden::read(&args.golden)?;
    let kv = if args.as_run { KvFormat::I16 } else { KvFormat::F32 };
    let tokens = golden.ids.len() + golden.greedy.len();
    let quant = args.quant.quant;
    let options =
        LoadOptions { exact: !args.as_run, kv, quant, context: Some(tokens), ..args.machine.options() };
    let prepared = Prepared::new(&source(&args.model, &args.hub, context, args.json)?, &options)?;
    prepared.check_generates()?;
    golden.fits(&prepared)?;
    let mut bar = LoadingBar::new(context.terminal, args.json);
    let model = prepared.load(&mut |done, total| bar.update(done, total))?;
    drop(bar);
    for (tensor, count) in model.not_finite().iter().take(SHOWN) {
        say(&format!("warning: {tensor}: {} weights are not finite", grouped(*count as u64)));
    }
    let rows: Vec<Row> = WAYS.iter().map(|way| compare(&model, &golden, way, kv)).collect();
    let wanted = Wanted {
        tolerance: args.tolerance.unwrap_or(default_tolerance(model.plan())),
        top1: args.min_top1,
        greedy: args.min_greedy.unwrap_or(golden.greedy.len()).min(golden.greedy.len()),
    };
    let holds = rows.iter().all(|row| wanted.holds(row));
    if args.json {
        print_json(&as_json(&args, &golden, &rows, &wanted, holds))?;
    } else {
        print(&report(&golden, &rows, &wanted))?;
    }
    if holds {
        return Ok(());
    }
    for row in rows.iter().filter(|row| !wanted.holds(row)) {
        say(&explain(row, &wanted));
    }
    match args.json {
        true => Err(AppError::silent(Exit::User)),
        false => Err(AppError::user(format!(
            "{} does not compute what {} recorded",
            args.model,
            args.golden.display()
        ))
        .hint(if args.as_run {
            "without --as-run the comparison is in float32; for a quantised file raise --tolerance"
        } else {
            "is it the same model? a quantised file differs from its original: raise --tolerance"
        })),
    }
}

/// Rounding that two float32 implementations of the same model differ by at the most.
fn default_tolerance(plan: &Plan) -> f64 {
    let delta = plan.layers.iter().any(|layer| matches!(layer.mixer, Mixer::Delta(_)));
    if delta || plan.altup.is_some() { 1e-3 } else { 2e-4 }
}

/// What a reference computed.
struct Golden {
    ids: Vec<u32>,
    /// Where logits were recorded, in ascending order.
    positions: Vec<usize>,
    /// `[positions, vocab]`
    logits: Vec<f32>,
    vocab: usize,
    greedy: Vec<u32>,
}

impl Golden {
    fn read(path: &Path) -> Result<Golden> {
        let file = Checkpoint::open(path)?;
        let wrong = |what: String| {
            AppError::user(format!("{}: {what}", path.display())).hint(
                "a golden file holds ids [n] i64, logits [n, vocab] f32 and, optionally, greedy [m] i64 and positions",
            )
        };
        let find =
            |name: &str| file.tensor(name).ok_or_else(|| wrong(format!("there is no tensor {name:?}")));
        let ids = ids(&find("ids")?).map_err(wrong)?;
        let logits = find("logits")?;
        let [n, vocab] = *logits.shape else {
            return Err(wrong(format!("logits have the shape {:?}, not [n, vocab]", logits.shape)));
        };
        let positions: Vec<usize> = match file.tensor("positions") {
            Some(tensor) => self::ids(&tensor).map_err(wrong)?.into_iter().map(|at| at as usize).collect(),
            None => (0..ids.len()).collect(),
        };
        let ascending =
            positions.is_sorted_by(|a, b| a < b) && positions.last().is_some_and(|&p| p < ids.len());
        if n != positions.len() || !ascending || vocab == 0 {
            let places = positions.len();
            let what =
                format!("logits of the shape {:?} for {places} positions of {} ids", logits.shape, ids.len());
            return Err(wrong(what));
        }
        let greedy = match file.tensor("greedy") {
            Some(tensor) => self::ids(&tensor).map_err(wrong)?,
            None => Vec::new(),
        };
        let logits = logits.to_f32()?;
        if let Some(at) = logits.iter().position(|x| !x.is_finite()) {
            return Err(wrong(format!("logits[{}, {}] is {}", at / vocab, at % vocab, logits[at])));
        }
        Ok(Golden { ids, positions, logits, vocab, greedy })
    }

    /// Whether the model could have computed it at all.
    fn fits(&self, prepared: &Prepared) -> Result<()> {
        let rows = prepared.plan.vocab;
        let largest = self.ids.iter().chain(&self.greedy).max().copied().unwrap_or(0) as usize;
        if self.vocab > rows || largest >= rows {
            let what = format!(
                "the golden file has logits for {} tokens and ids up to {largest}, the model an embedding for {rows}",
                self.vocab
            );
            return Err(AppError::user(what).hint("the golden file was recorded with another model"));
        }
        Ok(())
    }
}

fn ids(tensor: &Tensor<'_>) -> Result<Vec<u32>, String> {
    if tensor.shape.len() != 1 {
        return Err(format!("{} has the shape {:?}, not one dimension", tensor.name, tensor.shape));
    }
    let values = tensor.to_i64s().map_err(|e| e.to_string())?;
    let id =
        |v: i64| u32::try_from(v).map_err(|_| format!("{} holds {v}, which is no token id", tensor.name));
    values.into_iter().map(id).collect()
}

/// A way to compute the same logits.
struct Way {
    name: &'static str,
    /// Lengths of the chunks, repeated until all tokens are computed.
    chunks: &'static [usize],
}

const WAYS: [Way; 3] = [
    Way { name: "one-shot", chunks: &[usize::MAX] },
    // Lengths that begin and end inside pages and tiles.
    Way { name: "chunked", chunks: &[7, 1, 19, 32, 5] },
    Way { name: "cached", chunks: &[1] },
];

/// How one way compares with the golden file.
struct Row {
    name: &'static str,
    max: f64,
    mean: f64,
    /// Position, token, ours and the recorded value where the difference is largest.
    worst: (usize, usize, f32, f32),
    not_finite: usize,
    top1: f64,
    greedy: usize,
    /// Of the first greedy token that differs: ours and the recorded one.
    diverged: Option<(u32, u32)>,
}

struct Wanted {
    tolerance: f64,
    top1: f64,
    greedy: usize,
}

impl Wanted {
    fn holds(&self, row: &Row) -> bool {
        row.not_finite == 0 && row.max <= self.tolerance && row.top1 >= self.top1 && row.greedy >= self.greedy
    }
}

fn compare(model: &Model, golden: &Golden, way: &Way, kv: KvFormat) -> Row {
    let vocab = model.plan().vocab;
    let length = golden.ids.len() + golden.greedy.len();
    let pages: Vec<u32> = (0..length.div_ceil(PAGE) as u32).collect();
    let mut cache = Cache::new(model.plan(), CacheSizes { format: kv, pages: pages.len(), slots: 1 });
    let mut scratch = Scratch::default();
    let mut logits = Vec::new();
    let mut row = Row {
        name: way.name,
        max: 0.0,
        mean: 0.0,
        worst: (0, 0, 0.0, 0.0),
        not_finite: 0,
        top1: 0.0,
        greedy: 0,
        diverged: None,
    };
    let mut start = 0usize;
    let mut last = Vec::new();
    for &size in way.chunks.iter().cycle() {
        let end = golden.ids.len().min(start.saturating_add(size));
        let chunk = Chunk {
            tokens: &golden.ids[start..end],
            start,
            pages: &pages,
            slot: 0,
            logits: Logits::All,
            adapter: None,
        };
        model.forward(&[chunk], &mut cache, &mut scratch, &mut logits);
        for (at, ours) in (start..end).zip(logits.chunks_exact(vocab)) {
            if let Ok(index) = golden.positions.binary_search(&at) {
                row.add(at, &ours[..golden.vocab], &golden.logits[index * golden.vocab..][..golden.vocab]);
            }
        }
        start = end;
        if start == golden.ids.len() {
            last.extend_from_slice(&logits[logits.len() - vocab..]);
            break;
        }
    }
    row.mean /= golden.logits.len() as f64;
    row.top1 /= golden.positions.len() as f64;
    for (step, &expected) in golden.greedy.iter().enumerate() {
        let ours = argmax(&last[..golden.vocab]) as u32;
        if ours != expected {
            row.diverged = Some((ours, expected));
            break;
        }
        row.greedy += 1;
        let start = golden.ids.len() + step;
        let chunk =
            Chunk { tokens: &[expected], start, pages: &pages, slot: 0, logits: Logits::Last, adapter: None };
        model.forward(&[chunk], &mut cache, &mut scratch, &mut last);
    }
    row
}

impl Row {
    /// Compares the logits of one position.
    fn add(&mut self, position: usize, ours: &[f32], recorded: &[f32]) {
        for (token, (&a, &b)) in ours.iter().zip(recorded).enumerate() {
            if !a.is_finite() {
                self.not_finite += 1;
                continue;
            }
            let difference = (f64::from(a) - f64::from(b)).abs();
            self.mean += difference;
            if difference > self.max {
                self.max = difference;
                self.worst = (position, token, a, b);
            }
        }
        if argmax(ours) == argmax(recorded) {
            self.top1 += 1.0;
        }
    }
}

/// The index of the largest value; of equal ones the first.
fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] || values[best].is_nan() {
            best = i;
        }
    }
    best
}

fn report(golden: &Golden, rows: &[Row], wanted: &Wanted) -> String {
    let n = golden.greedy.len();
    let cells = |row: &Row| {
        vec![
            row.name.to_owned(),
            format!("{:.3e}", row.max),
            format!("{:.3e}", row.mean),
            format!("{:.2} %", 100.0 * row.top1),
            if n == 0 { "-".into() } else { format!("{} of {n}", row.greedy) },
            if wanted.holds(row) { "ok".into() } else { "DIFFERS".into() },
        ]
    };
    let lines: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let header = ["pass", "max |diff|", "mean |diff|", "top-1 equal", "greedy equal", "result"];
    format!(
        "{} positions x {} logits, tolerance {:e}\n{}",
        golden.positions.len(),
        grouped(golden.vocab as u64),
        wanted.tolerance,
        table(&header, &lines)
    )
}

fn explain(row: &Row, wanted: &Wanted) -> String {
    let mut reasons = Vec::new();
    if row.not_finite > 0 {
        reasons.push(format!("{} logits are not finite", grouped(row.not_finite as u64)));
    }
    if row.max > wanted.tolerance {
        let (position, token, ours, recorded) = row.worst;
        reasons.push(format!(
            "position {position}, token {token}: {ours} instead of {recorded}, {:.3e} apart",
            row.max
        ));
    }
    if row.top1 < wanted.top1 {
        reasons.push(format!(
            "another token is likeliest at {:.2} % of the positions",
            100.0 * (1.0 - row.top1)
        ));
    }
    if let Some((ours, expected)) = row.diverged.filter(|_| row.greedy < wanted.greedy) {
        reasons.push(format!("greedy token {} is {ours} instead of {expected}", row.greedy + 1));
    }
    format!("{}: {}", row.name, reasons.join("; "))
}

fn as_json(args: &CheckArgs, golden: &Golden, rows: &[Row], wanted: &Wanted, holds: bool) -> Value {
    let row = |row: &Row| {
        let (position, token, ours, recorded) = row.worst;
        json!({
            "pass": row.name,
            "max_difference": row.max,
            "mean_difference": row.mean,
            "worst": {"position": position, "token": token, "ours": ours, "recorded": recorded},
            "not_finite": row.not_finite,
            "top1_agreement": row.top1,
            "greedy_equal": row.greedy,
            "holds": wanted.holds(row),
        })
    };
    json!({
        "model": args.model,
        "golden": args.golden,
        "as_run": args.as_run,
        "tolerance": wanted.tolerance,
        "positions": golden.positions.len(),
        "vocab": golden.vocab,
        "greedy_tokens": golden.greedy.len(),
        "passes": rows.iter().map(row).collect::<Vec<_>>(),
        "holds": holds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_comes_first_and_nan_never_wins() {
        for (values, best) in [(&[1.0, 3.0, 3.0][..], 1), (&[f32::NAN, 1.0], 1), (&[2.0, f32::NAN], 0)] {
            assert_eq!(argmax(values), best);
        }
    }
}
