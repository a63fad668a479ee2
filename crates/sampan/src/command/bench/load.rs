//! From starting a process to the first token: this program runs itself, and llama.cpp beside it.

use super::compare::Peer;
use super::report::Spread;
use super::{Progress, measure};
use crate::error::{AppError, Result};
use crate::flags::{ModelArgs, kv_name};
use sampan::{LoadOptions, Prepared, Source};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// Tokens to read before the first one.
const PROMPT: usize = 8;

/// Context of llama.cpp, in tokens: the least that it takes.
pub(super) const CELLS: usize = 256;

/// What the child says when it has its token.
const SAID: &str = "first token";

/// Seconds of every runner.
pub(super) fn measure(
    model: &ModelArgs,
    prepared: &Prepared,
    start: &dyn Fn() -> Result<Option<Peer>>,
    repeat: u32,
    progress: &mut Progress,
) -> Result<Vec<Spread>> {
    let mut seconds: Vec<Vec<f64>> = Vec::new();
    // Turn 0 brings the file into the system's cache and does not count.
    for turn in 0..=repeat {
        progress.show(&format!("turn {turn} of {repeat}: load to first token"));
        let mut times = vec![ours(model, prepared)?];
        if let Some(mut peer) = start()? {
            // The interpreter is running and has its modules: what counts begins here.
            let begin = Instant::now();
            peer.first_token(PROMPT)?;
            times.push(begin.elapsed().as_secs_f64());
            peer.close()?;
        }
        if turn > 0 {
            seconds.push(times);
        }
    }
    let runners = seconds.first().map_or(0, Vec::len);
    Ok((0..runners).map(|i| Spread::of(seconds.iter().map(|times| times[i]).collect())).collect())
}

fn ours(model: &ModelArgs, prepared: &Prepared) -> Result<f64> {
    let program = std::env::current_exe().map_err(|e| {
        AppError::user(format!("cannot find this program's own file: {e}")).hint("leave --load out")
    })?;
    let mut command = Command::new(program);
    command.args(["bench", "--first-token", "--kv", kv_name(prepared.kv)]);
    command.args(["--threads", &prepared.kernels.pool().threads().to_string()]);
    command.args(["--isa", prepared.kernels.isa().name()]);
    if let Some(quant) = &model.load.quant.quant {
        command.args(["--quant", &quant.to_string()]);
    }
    command
        .arg("--")
        .arg(prepared.checkpoint.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child =
        command.spawn().map_err(|e| AppError::internal(format!("cannot start a second sampan: {e}")))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    let status = child.wait()?;
    if line.trim_end() != SAID || !status.success() {
        return Err(AppError::user(format!(
            "a second sampan could not load the model ({status}): {}",
            said.trim()
        ))
        .hint("leave --load out to measure the rest"));
    }
    Ok(seconds)
}

/// The child's part.
pub(super) fn first_token(args: &ModelArgs) -> Result<()> {
    let options = LoadOptions { context: Some(64), ..args.load.options() };
    let prepared = Prepared::new(&Source::parse(&args.model), &options)?;
    prepared.check_generates()?;
    let model = Arc::new(prepared.load(&mut |_, _| {})?);
    measure::first_token(model, &prepared, PROMPT)?;
    super::print(&format!("{SAID}\n"))
}
