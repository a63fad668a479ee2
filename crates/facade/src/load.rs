//! From a named model to weights in memory: plan first, then the check that it fits, then the weights.

use crate::Error;
use crate::machine::{AvailableMemory, available_memory, resident};
use crate::source::Source;
use sampan_engine::{EngineOptions, PAGE};
use sampan_kernels::{Isa, Kernels, Options, cpu};
use sampan_model::plan::SetAside;
use sampan_model::{KvFormat, Memory, Model, Plan, PlanOptions, Quant};
use sampan_weights::{Checkpoint, Kind};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The context that is taken when none is asked for, if the model was made for as much and it fits.
pub const DEFAULT_CONTEXT: usize = 32_768;

/// How many tokens are proposed at most.
pub const DEFAULT_SPECULATE: usize = 7;

/// How many full contexts the cache of many sequences has room for, if nothing else is asked for: few of them are full at
/// the same time, and what begins alike is kept once.
pub const DEFAULT_SHARES: usize = 4;

/// Below this a context is not made smaller to fit; the model is refused instead.
pub(crate) const LEAST_DEFAULT_CONTEXT: usize = 2_048;

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Tokens of prompt and answer together. `None`: what the model was trained for, at most
    /// [`DEFAULT_CONTEXT`], and less if only that fits into memory.
    pub context: Option<usize>,
    /// Threads to compute on. `None`: the physical cores this process may use.
    pub threads: Option<usize>,
    /// Instruction set. `None`: the best there is.
    pub isa: Option<Isa>,
    /// How keys and values are kept.
    pub kv: KvFormat,
    /// Everything in float32, for comparison with float references. Slow.
    pub exact: bool,
    /// Quantise a float checkpoint so while it is loaded.
    pub quant: Option<Quant>,
    /// Refuse a model that needs more memory than there is.
    pub check_memory: bool,
    /// Bytes that this process may have resident, if that is less than what the machine has.
    pub memory: Option<u64>,
    /// Tokens that are proposed at most from the text so far and checked together with the next one; 0: none. The answer
    /// is the same, in fewer steps where it repeats what was said before ([`EngineOptions::speculate`]).
    pub speculate: usize,
    /// Sequences that are computed at the same time.
    pub streams: usize,
    /// Bytes to leave for others: what is loaded beside the model (adapters), and what other models in this process
    /// have been promised and have not yet taken.
    pub reserve: u64,
    /// Sequences that may wait besides those; more are refused.
    pub waiting: usize,
    /// Tokens that the cache holds of all sequences together. `None`: as many as [`DEFAULT_SHARES`] full contexts (one
    /// for each sequence, if these are fewer), and less, but at least one, if only that fits into memory.
    pub pool: Option<usize>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            context: None,
            threads: None,
            isa: None,
            kv: KvFormat::I16,
            exact: false,
            quant: None,
            check_memory: true,
            memory: None,
            speculate: DEFAULT_SPECULATE,
            streams: 1,
            reserve: 0,
            waiting: EngineOptions::default().max_waiting,
            pool: None,
        }
    }
}

impl LoadOptions {
    /// The kernels that the options ask for.
    ///
    /// # Errors
    /// When this CPU cannot run the instruction set asked for.
    pub fn kernels(&self) -> Result<Kernels, Error> {
        let threads = self.threads.unwrap_or_else(cpu::default_threads);
        Ok(Kernels::new(Options { isa: self.isa, threads, exact: self.exact })?)
    }

    /// Memory that may still be taken: of the machine or its control group, of what this process may have, and less what
    /// is left to others. `None` when nothing is to be checked, or the system does not tell.
    pub fn available(&self) -> Option<AvailableMemory> {
        if !self.check_memory {
            return None;
        }
        let own = self.memory.map(|most| AvailableMemory {
            bytes: most.saturating_sub(resident().unwrap_or(0)),
            limited_by: "what this process may take",
        });
        let least = available_memory().into_iter().chain(own).min_by_key(|memory| memory.bytes)?;
        Some(AvailableMemory { bytes: least.bytes.saturating_sub(self.reserve), ..least })
    }
}

/// A model that does not fit, in figures.
#[derive(Clone, Copy, Debug)]
pub struct MemoryShortage {
    /// What the model would need.
    pub needed: Memory,
    /// Tokens of context in that.
    pub context: usize,
    /// What there is.
    pub available: AvailableMemory,
}

impl MemoryShortage {
    /// What would help.
    pub fn advice(&self) -> String {
        let fixed = (self.needed.weights + self.needed.scratch) as u64;
        if fixed < self.available.bytes && self.needed.kv > 0 {
            let share = (self.available.bytes - fixed) as f64 / self.needed.kv as f64;
            let context = (self.context as f64 * share * 0.95) as usize / 32 * 32;
            if context >= 32 {
                return format!("--context {context} would fit");
            }
        }
        "choose a smaller model or a smaller format (Q4_K_M), or free memory".into()
    }
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let Memory { weights, kv, scratch } = self.needed;
        write!(
            f,
            "it needs {} MiB (weights {}, context of {} tokens {}, activations {}), and {} has {} MiB available",
            mib(self.needed.total() as u64),
            mib(weights as u64),
            self.context,
            mib(kv as u64),
            mib(scratch as u64),
            self.available.limited_by,
            mib(self.available.bytes),
        )
    }
}

/// A model whose files have been read as far as needed to know everything about it but the weights.
#[derive(Debug)]
pub struct Prepared {
    /// The model as it was named.
    pub name: String,
    /// The files.
    pub checkpoint: Checkpoint,
    /// What the model is.
    pub plan: Plan,
    /// What it will run on.
    pub kernels: Arc<Kernels>,
    /// Tokens of prompt and answer together.
    pub context: usize,
    /// How keys and values will be kept.
    pub kv: KvFormat,
    /// What it will need.
    pub memory: Memory,
    /// How it will be computed.
    pub engine: EngineOptions,
    /// Things the user should know: a context that was made smaller, or is larger than the model was trained for.
    pub notices: Vec<String>,
}

impl Prepared {
    /// Opens a model, makes its plan, and checks that it fits into memory.
    ///
    /// # Errors
    /// What is wrong with the files, the configuration or the options.
    pub fn new(source: &Source, options: &LoadOptions) -> Result<Prepared, Error> {
        Prepared::on(source, options, None)
    }

    /// The same on kernels that other models run on too, if there are any.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn on(
        source: &Source,
        options: &LoadOptions,
        kernels: Option<Arc<Kernels>>,
    ) -> Result<Prepared, Error> {
        let checkpoint = source.open()?;
        let name = source.to_string();
        if checkpoint.kind() == Kind::NoWeights || checkpoint.tensors().next().is_none() {
            return Err(Error::NoWeights { model: name });
        }
        let plan_options =
            PlanOptions { exact: options.exact, quant: options.quant, ..PlanOptions::default() };
        let plan = Plan::from_checkpoint(&checkpoint, plan_options)
            .map_err(|source| Error::Plan { model: name.clone(), source })?;
        let kernels = match kernels {
            Some(kernels) => kernels,
            None => Arc::new(options.kernels()?),
        };
        let available = options.available();
        let memory_at =
            |(context, pool): (usize, usize)| needed_memory(&plan, &kernels, options, context.max(pool));
        let fits = |sizes| available.is_none_or(|a| memory_at(sizes).total() as u64 <= a.bytes);
        let mut notices = Vec::new();
        if !plan.set_aside.is_empty() {
            let parts: Vec<String> = plan.set_aside.iter().map(set_aside).collect();
            notices.push(parts.join("; "));
        }
        let wanted = options.context.unwrap_or(plan.context.min(DEFAULT_CONTEXT));
        let shares = options.streams.clamp(1, DEFAULT_SHARES);
        let mut sizes = (wanted, options.pool.unwrap_or(wanted * shares));
        while options.pool.is_none() && !fits(sizes) && sizes.1 > sizes.0 {
            sizes.1 = (sizes.1 - wanted / 2).max(sizes.0);
        }
        while options.context.is_none() && !fits(sizes) && sizes.0 / 2 >= LEAST_DEFAULT_CONTEXT {
            sizes.0 /= 2;
            sizes.1 = options.pool.unwrap_or(sizes.0);
        }
        let (context, pool) = sizes;
        if let Some(available) = available.filter(|_| !fits(sizes)) {
            let shortage = MemoryShortage { needed: memory_at(sizes), context: context.max(pool), available };
            return Err(Error::Memory { model: name, shortage });
        }
        if context < wanted {
            notices.push(format!(
                "a context of {context} tokens instead of {wanted}: more does not fit into memory"
            ));
        }
        if context > plan.context {
            let trained = plan.context;
            notices
                .push(format!("the model was trained for {trained} tokens; answers beyond that may be poor"));
        }
        let memory = memory_at(sizes);
        let engine = engine_options(options, context.max(pool));
        let kv = options.kv;
        Ok(Prepared { name, checkpoint, plan, kernels, context, kv, memory, engine, notices })
    }

    /// Refuses a model that predicts no tokens.
    ///
    /// # Errors
    /// When the plan has no head, or one of another kind.
    pub fn check_generates(&self) -> Result<(), Error> {
        let (why, instead) = match self.plan.head {
            Some(head) if head.rows == self.plan.vocab => return Ok(()),
            Some(_) => ("it ranks documents and predicts no tokens", "use `sampan rerank`"),
            None => ("it has no head: it makes vectors and predicts no tokens", "use `sampan embed`"),
        };
        Err(Error::Unsuited { model: self.name.clone(), why: why.into(), instead: instead.into() })
    }

    /// Refuses a model that predicts no tokens, or has no template for conversations.
    ///
    /// # Errors
    /// As [`Prepared::check_generates`]; when there is no template, or the file that should have it cannot be read.
    pub fn check_converses(&self) -> Result<(), Error> {
        self.check_generates()?;
        match self.checkpoint.chat_template()? {
            Some(_) => Ok(()),
            None => Err(Error::NoTemplate { model: self.name.clone() }),
        }
    }

    /// Brings the weights into memory. `progress` gets the bytes done and the bytes in total.
    ///
    /// # Errors
    /// When a tensor cannot be read or packed.
    pub fn load(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Model, Error> {
        Model::load(&self.checkpoint, self.plan.clone(), self.kernels.clone(), progress)
            .map_err(|source| Error::Load { model: self.name.clone(), source })
    }
}

/// For how long a prompt may hold up the answers of others.
const PAUSE: Duration = Duration::from_millis(500);

/// What the program takes beside a model: its code, threads, their buffers. As measured (`benches/record`).
pub const PROGRAM_BYTES: usize = 13 << 20;

/// What a word of a vocabulary takes in the tokenizer: its text, its bytes, its place among words and merges. As measured.
const WORD: usize = 240;

/// What a model needs with a cache of so many tokens, the program and the tokenizer included.
pub(crate) fn needed_memory(plan: &Plan, kernels: &Kernels, options: &LoadOptions, tokens: usize) -> Memory {
    let engine = engine_options(options, tokens);
    let Memory { weights, kv, scratch } = plan.memory(kernels, options.kv, tokens, engine.max_batch_tokens);
    let scratch = scratch + engine.logits_bytes(plan) + PROGRAM_BYTES + WORD * plan.vocab;
    Memory { weights, kv: kv + engine.state_bytes(plan), scratch }
}

/// The engine for a cache of `tokens`. Where layers have windows or states, these are kept as they were at the ends of the
/// last prompts, so that a conversation goes on from there.
fn engine_options(options: &LoadOptions, tokens: usize) -> EngineOptions {
    let streams = options.streams.max(1);
    EngineOptions {
        kv_format: options.kv,
        pages: tokens.div_ceil(PAGE) + streams,
        max_running: streams,
        max_waiting: options.waiting,
        max_mixed_time: Some(PAUSE),
        snapshots: 2 * streams,
        speculate: options.speculate,
        // One conversation scores no prompts.
        prompt_logprob_rows: if streams > 1 { EngineOptions::default().prompt_logprob_rows } else { 0 },
        ..EngineOptions::default()
    }
}

/// `vision tower: 398 tensors, 812 MiB, not read`
pub(crate) fn set_aside(item: &SetAside) -> String {
    let mib = item.bytes.div_ceil(1 << 20);
    let s = if item.tensors == 1 { "" } else { "s" };
    format!("{}: {} tensor{s}, {mib} MiB, not read", item.what, item.tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_gives_both_numbers_and_what_would_fit() {
        let available = AvailableMemory { bytes: 600 << 20, limited_by: "this machine" };
        let needed = Memory { weights: 400 << 20, kv: 400 << 20, scratch: 0 };
        let shortage = MemoryShortage { needed, context: 32_768, available };
        let text = shortage.to_string();
        assert!(text.contains("needs 800 MiB") && text.contains("has 600 MiB"), "{text}");
        assert_eq!(shortage.advice(), "--context 15552 would fit");
        let needed = Memory { weights: 700 << 20, ..needed };
        assert!(MemoryShortage { needed, ..shortage }.advice().contains("smaller model"));
    }
}
