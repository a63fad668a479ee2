//! `sampan bench`: how fast a model runs here, next to what this machine allows.

use super::{LoadingBar, print, print_json};
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::{ModelArgs, kv_name};
use crate::render::{Facts, bytes, three_digits};
use clap::Args;
use sampan::{Error, LoadOptions, Prepared, Source, Usage};
use sampan_engine::{Engine, EngineOptions, Event, FinishReason, PAGE, Request, Sampling};
use sampan_kernels::limits;
use serde_json::json;
use std::sync::Arc;

/// Measure prompt and generation speed, and the share of this machine's read bandwidth that generation reaches.
/// The tokens are made up; a tokenizer is not needed.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens to read
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// Tokens to generate
    #[arg(long, value_name = "TOKENS", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    generate: u32,
    /// Tokens that are in the context before
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    depth: u32,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: BenchArgs, context: &Context) -> Result<()> {
    let [prompt, generate, depth] = [args.prompt, args.generate, args.depth].map(|n| n as usize);
    let needed = depth + prompt.max(generate + 1) + 1;
    let options = args.model.load.options();
    let options = LoadOptions { context: options.context.or(Some(needed)), ..options };
    let prepared = Prepared::new(&Source::parse(&args.model.model), &options)?;
    prepared.check_generates()?;
    let mut bar = LoadingBar::new(context.terminal, args.json);
    let model = Arc::new(prepared.load(&mut |done, total| bar.update(done, total))?);
    drop(bar);
    // Depth, prompt and answer of a repetition, and what the prefix index keeps of the one before.
    let pages = 2 * needed.div_ceil(PAGE) + 2;
    let options = EngineOptions { kv_format: prepared.kv, pages, ..EngineOptions::default() };
    let mut bench = Bench {
        engine: Engine::new(model, options),
        vocab: prepared.plan.vocab,
        context: prepared.context,
        state: 1,
    };
    bench.read(depth, prompt.min(64))?; // warms up threads, caches and page tables
    let mut reading = Vec::new();
    let mut generating = Vec::new();
    for _ in 0..args.repeat {
        reading.push(bench.read(depth, prompt)?);
        generating.push(bench.generate(depth, generate)?);
    }
    let limit = limits::measure_read_bandwidth(prepared.kernels.pool());
    let per_token = prepared.plan.decode_bytes(&prepared.kernels, prepared.kv, depth + generate / 2);
    let (reading, generating) = (Spread::of(reading), Spread::of(generating));
    let share = generating.median * per_token as f64 / limit;
    if args.json {
        return print_json(&json!({
            "model": prepared.name,
            "isa": prepared.kernels.isa().name(),
            "threads": prepared.kernels.pool().threads(),
            "kv": kv_name(prepared.kv),
            "prompt": {"tokens": prompt, "depth": depth, "tokens_per_s": reading.median, "least": reading.least, "most": reading.most},
            "generate": {
                "tokens": generate, "depth": depth, "tokens_per_s": generating.median,
                "least": generating.least, "most": generating.most,
                "bytes_per_token": per_token, "share_of_read_bandwidth": share,
            },
            "read_bytes_per_s": limit,
            "repeat": args.repeat,
        }));
    }
    let mut facts = Facts::default();
    let on = format!(
        "{}, {} threads, {} cache",
        prepared.kernels.isa(),
        prepared.kernels.pool().threads(),
        kv_name(prepared.kv)
    );
    facts.add(&prepared.name, on);
    let after = if depth == 0 { String::new() } else { format!(" after {depth}") };
    facts.add(&format!("prompt {prompt}{after}"), &reading);
    facts.add(&format!("generate {generate}{after}"), &generating);
    let line = format!(
        "{} % of {} GB/s ({} a token)",
        three_digits(100.0 * share),
        three_digits(limit / 1e9),
        bytes(per_token)
    );
    facts.add("read bandwidth", line);
    print(&facts.to_string())
}

struct Bench {
    engine: Engine,
    vocab: usize,
    context: usize,
    state: u64,
}

impl Bench {
    /// Prompt tokens per second after `depth` other tokens.
    fn read(&mut self, depth: usize, prompt: usize) -> Result<f64> {
        let usage = self.run(depth, prompt, 1)?;
        let computed = usage.prompt_tokens - usage.cached_tokens;
        Ok(computed as f64 / usage.prefill.as_secs_f64())
    }

    /// Generated tokens per second after `depth` other tokens.
    fn generate(&mut self, depth: usize, tokens: usize) -> Result<f64> {
        let usage = self.run(depth, 1, tokens + 1)?;
        Ok((usage.generated_tokens - 1) as f64 / usage.decode.as_secs_f64())
    }

    /// Fills the cache with `depth` new tokens, then reads `prompt` tokens and generates `generate`.
    fn run(&mut self, depth: usize, prompt: usize, generate: usize) -> Result<Usage> {
        let mut tokens = self.tokens(depth);
        if depth > 0 {
            self.request(tokens.clone(), 0)?;
        }
        tokens.extend(self.tokens(prompt));
        self.request(tokens, generate)
    }

    fn request(&mut self, prompt: Vec<u32>, generate: usize) -> Result<Usage> {
        let request = Request {
            prompt,
            sampling: Sampling::default(),
            max_tokens: Some(generate),
            stop_tokens: Vec::new(),
            context: self.context,
            vocab_limit: self.vocab,
        };
        self.engine.submit(request).map_err(Error::from)?;
        loop {
            for event in self.engine.step() {
                match event {
                    Event::Finished { reason: FinishReason::Failed(bad), .. } => {
                        return Err(Error::from(bad).into());
                    }
                    Event::Finished { usage, .. } => return Ok(usage),
                    _ => {}
                }
            }
            if self.engine.is_idle() {
                return Err(AppError::internal("the engine dropped a request"));
            }
        }
    }

    /// Made-up tokens, never the same ones twice, so that nothing is found in the cache by accident.
    fn tokens(&mut self, n: usize) -> Vec<u32> {
        let vocab = self.vocab as u64;
        let mut next = || {
            // Knuth's multiplier for 64-bit linear congruential generators (MMIX).
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.state >> 33) % vocab) as u32
        };
        (0..n).map(|_| next()).collect()
    }
}

/// Median and range of tokens per second.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut speeds: Vec<f64>) -> Spread {
        speeds.sort_by(f64::total_cmp);
        let at = |i: usize| speeds.get(i).copied().unwrap_or(0.0);
        let n = speeds.len();
        Spread { least: at(0), median: (at((n - 1) / 2) + at(n / 2)) / 2.0, most: at(n - 1) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, least, most] = [self.median, self.least, self.most].map(three_digits);
        write!(f, "{median} tokens/s ({least} to {most})")
    }
}
