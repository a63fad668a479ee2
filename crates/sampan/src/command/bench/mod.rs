//! `sampan bench`: how fast a model runs here, next to what this machine allows and to llama.cpp.

mod compare;
mod limits;
mod load;
mod measure;
mod report;
mod row;

use super::{LoadingBar, print, print_json};
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::ModelArgs;
use crate::render::{Terminal, bytes};
use clap::Args;
use compare::Peer;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use limits::{Cost, Limits};
use measure::Ours;
use report::{Measured, Report, Spread};
use row::Row;
use sampan::{Error, LoadOptions, Prepared, machine};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Measure prompt and generation speed, each as a share of what this machine could do.
///
/// The tokens are made up; a tokenizer is not needed. All of it runs through the engine that serves requests.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// Tokens to read; several numbers (512,4096) measure several prompts
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "512", value_parser = clap::value_parser!(u32).range(1..))]
    prompt: Vec<u32>,
    /// Tokens to generate
    #[arg(long, value_name = "TOKENS", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    generate: u32,
    /// Also generate when so many tokens are in the context before; several numbers, several times
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    depth: Vec<u32>,
    /// Also generate for so many requests at once; several numbers (8,16), several times
    #[arg(long, value_name = "STREAMS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Vec<u32>,
    /// Also measure the time from starting a process to the first token
    #[arg(long)]
    load: bool,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Measure llama.cpp too, in turns, through its Python package `llama-cpp-python` (GGUF files only)
    #[arg(long, conflicts_with = "quant")]
    compare: bool,
    /// The Python interpreter that has the package
    #[arg(long, value_name = "PATH", default_value = "python3", requires = "compare")]
    python: PathBuf,
    /// Print one JSON object with every figure
    #[arg(long)]
    json: bool,
    /// Load, generate one token, say so, and end
    #[arg(long, hide = true)]
    first_token: bool,
    #[command(flatten)]
    model: ModelArgs,
}

pub(crate) fn run(args: BenchArgs, context: &Context) -> Result<()> {
    if args.first_token {
        return load::first_token(&args.model);
    }
    let rows = row::rows(&args.prompt, args.generate, &args.depth, &args.batch);
    let prepared = prepare(&args, &rows, context)?;
    let pool = measure::pool(&rows, &prepared)?;
    let file = if args.compare {
        Some(compare::gguf(&prepared.checkpoint.path().to_string_lossy(), &prepared)?)
    } else {
        None
    };
    machine::reset_peak_resident();
    let mut progress = Progress::new(context.terminal, args.json);
    let threads = prepared.kernels.pool().threads();
    let start = |cells: usize, streams: usize| {
        let cells = (cells, compare::cache_format(prepared.kv));
        file.as_ref().map(|file| Peer::start(&args.python, file, threads, cells, streams)).transpose()
    };
    let load = match args.load {
        true => Some(load::measure(
            &args.model,
            &prepared,
            &|| start(load::CELLS, 1),
            args.repeat,
            &mut progress,
        )?),
        false => None,
    };
    let mut bar = LoadingBar::new(context.terminal, args.json);
    let model = Arc::new(prepared.load(&mut |done, total| bar.update(done, total))?);
    drop(bar);
    let mut limits = Limits::new(model.clone());
    let mut ours = Ours::new(model, &prepared, &pool.options);
    let mut peer = start(row::cells(&rows), row::most_streams(&rows))?;
    if let Some(peer) = &mut peer {
        peer.open()?;
    }
    let mut runners: Vec<&mut dyn Runner> = vec![&mut ours];
    runners.extend(peer.as_mut().map(|peer| peer as &mut dyn Runner));
    let mut limit = |row: &Row| limits.now(row, &Cost::of(row, &prepared));
    let measured = alternate(&rows, args.repeat, &mut runners, &mut limit, &mut progress)?;
    progress.end();
    let peak = machine::peak_resident();
    let peer = peer.map(Peer::close).transpose()?;
    let report = Report {
        prepared: &prepared,
        limits,
        rows: &rows,
        measured,
        load,
        planned: pool.memory,
        peak,
        peer,
        repeat: args.repeat,
    };
    if args.json { print_json(&report.json()) } else { print(&report.text()) }
}

/// Reads the files, with a context that the longest row fits in.
fn prepare(args: &BenchArgs, rows: &[Row], context: &Context) -> Result<Prepared> {
    let needed = rows.iter().map(Row::context).max().unwrap_or(0);
    let options = args.model.load.options();
    if let Some(context) = options.context.filter(|&context| context < needed) {
        let what = format!("--context {context} is too small: what is to be measured takes {needed} tokens");
        return Err(AppError::user(what).hint("leave --context out; bench takes what it needs"));
    }
    let options = LoadOptions { context: Some(needed), ..options };
    let prepared =
        Prepared::new(&args.model.source(context, false)?, &options).map_err(|error| match error {
            Error::Memory { shortage, .. } => too_much(shortage.needed.total() as u64, &shortage.available),
            error => error.into(),
        })?;
    prepared.check_generates()?;
    Ok(prepared)
}

/// One who takes turns.
trait Runner {
    /// Who it is.
    fn name(&self) -> &str;
    /// Gets ready: threads, caches and page tables.
    fn warm_up(&mut self) -> Result<()>;
    /// Tokens per second, of all streams together.
    fn measure(&mut self, row: &Row) -> Result<f64>;
}

/// Measures every row `repeat` times, the runners in turns: what disturbs the machine meanwhile disturbs them alike. What
/// the machine allows (`limit`, in tokens per second) is measured before and after the first runner's turn.
fn alternate(
    rows: &[Row],
    repeat: u32,
    runners: &mut [&mut dyn Runner],
    limit: &mut dyn FnMut(&Row) -> f64,
    progress: &mut Progress,
) -> Result<Vec<Measured>> {
    /// Threads that wait for more work by spinning have given up by then.
    const SETTLE: Duration = Duration::from_millis(50);
    for runner in runners.iter_mut() {
        runner.warm_up()?;
    }
    let mut speeds = vec![(vec![Vec::new(); runners.len()], Vec::new()); rows.len()];
    for turn in 1..=repeat {
        for (row, (speeds, limits)) in rows.iter().zip(&mut speeds) {
            for (i, (runner, speeds)) in runners.iter_mut().zip(speeds).enumerate() {
                progress.show(&format!("turn {turn} of {repeat}: {}, {row}", runner.name()));
                std::thread::sleep(SETTLE);
                let before = (i == 0).then(|| limit(row));
                speeds.push(runner.measure(row)?);
                limits.extend(before.map(|before| (before + limit(row)) / 2.0));
            }
        }
    }
    let measured = |(speeds, limits): (Vec<Vec<f64>>, Vec<f64>)| Measured {
        runners: speeds.into_iter().map(Spread::of).collect(),
        limits: Spread::of(limits),
    };
    Ok(speeds.into_iter().map(measured).collect())
}

/// A line on stderr that says what is being measured; drawn between the turns, never during them.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(terminal: Terminal, quiet: bool) -> Progress {
        if quiet || !terminal.stderr {
            return Progress(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Progress(Some(bar))
    }

    fn show(&mut self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.to_owned());
            bar.tick();
        }
    }

    fn end(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// What does not fit into memory, with what would help.
fn too_much(needed: u64, available: &machine::AvailableMemory) -> AppError {
    let (needed, there) = (bytes(needed), bytes(available.bytes));
    let what = format!("measuring this takes {needed}, and {} has {there} available", available.limited_by);
    AppError::user(what).hint("use a smaller --batch, --depth or --prompt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    struct Fake<'a> {
        name: &'static str,
        speed: f64,
        seen: &'a RefCell<Vec<String>>,
    }

    impl Runner for Fake<'_> {
        fn name(&self) -> &str {
            self.name
        }

        fn warm_up(&mut self) -> Result<()> {
            self.seen.borrow_mut().push(format!("{} warms up", self.name));
            Ok(())
        }

        fn measure(&mut self, row: &Row) -> Result<f64> {
            self.seen.borrow_mut().push(format!("{}: {row}", self.name));
            self.speed += 1.0;
            Ok(self.speed)
        }
    }

    #[test]
    fn runners_take_turns_and_keep_their_own_figures() {
        let seen = RefCell::default();
        let mut a = Fake { name: "a", speed: 0.0, seen: &seen };
        let mut b = Fake { name: "b", speed: 100.0, seen: &seen };
        let rows = [Row::prompt(5), Row::generate(4, 8, 1)];
        let mut allowed = 1000.0;
        let mut limit = |row: &Row| {
            seen.borrow_mut().push(format!("limit: {row}"));
            allowed += 10.0;
            allowed
        };
        let measured = alternate(&rows, 2, &mut [&mut a, &mut b], &mut limit, &mut Progress(None)).unwrap();
        let turn = |row: &str| ["limit", "a", "limit", "b"].map(|who| format!("{who}: {row}"));
        let turns = [turn("prompt 5"), turn("generate 4 after 8")].concat();
        let warm = ["a warms up", "b warms up"].map(str::to_owned).to_vec();
        assert_eq!(*seen.borrow(), [warm, turns.clone(), turns].concat());
        let all: Vec<Vec<Vec<f64>>> = measured
            .iter()
            .map(|row| row.runners.iter().chain([&row.limits]).map(|spread| spread.all.clone()).collect())
            .collect();
        let expected =
            [[[1.0, 3.0], [101.0, 103.0], [1015.0, 1055.0]], [[2.0, 4.0], [102.0, 104.0], [1035.0, 1075.0]]];
        assert_eq!(all, expected);
    }
}
