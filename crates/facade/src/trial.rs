//! How fast a model would be here, from a few of its layers with made-up weights, run by the executor that would run the model.

use crate::Error;
use crate::machine::caches;
use sampan_kernels::Kernels;
use sampan_model::{Cache, CacheSizes, Chunk, KvFormat, Logits, Model, PAGE, Plan, Scratch};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens of the prompt that speeds are of.
pub const PROMPT: usize = 512;

/// Tokens before those that are generated, on average: an answer's beginning.
const BEFORE: usize = 64;

/// Bytes of weights that a token reads, where caches are small or unknown.
const LEAST_BYTES: u64 = 48 << 20;

/// How long prompts, and single tokens, are repeated.
const TIME: Duration = Duration::from_millis(400);

/// Tokens per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// Of a prompt of [`PROMPT`] tokens.
    pub prompt: f64,
    /// Of an answer at the beginning of a context.
    pub generate: f64,
}

/// Times a sample of the model: large enough that no cache holds its weights, as none would hold the model's. The model takes
/// longer by its operations (a prompt) and by the bytes that it reads (an answer). About a second, and as much memory as the
/// sample, which is never more than the model.
///
/// # Errors
/// A format that this CPU has no kernels for. `name` is the model's, for this.
pub fn try_out(name: &str, plan: &Plan, kernels: &Arc<Kernels>, kv: KvFormat) -> Result<Speeds, Error> {
    // Of a cache that is a third of what is read in turn, hardly anything is found again.
    let largest = caches().iter().map(|level| level.bytes).max().unwrap_or(0);
    let sample = plan.sample(kernels, LEAST_BYTES.max(3 * largest));
    let operations = |plan: &Plan| plan.operations(kernels, kv, 0, PROMPT).total() as f64;
    let bytes = |plan: &Plan| plan.decode_bytes(kernels, kv, BEFORE) as f64;
    let (longer, larger) = (operations(plan) / operations(&sample), bytes(plan) / bytes(&sample));
    let model = Model::made_up(sample, Arc::clone(kernels))
        .map_err(|source| Error::Load { model: name.to_owned(), source })?;
    let mut trial = Trial::new(model, kv);
    // Memory is taken, clocks and threads are awake.
    trial.run(0, BEFORE);
    let read = mean(|| trial.run(0, PROMPT));
    trial.run(0, BEFORE);
    let mut position = BEFORE;
    let generated = mean(|| {
        let begin = Instant::now();
        trial.run(position, 1);
        position = BEFORE + (position + 1 - BEFORE) % (PROMPT - BEFORE);
        begin.elapsed()
    });
    Ok(Speeds { prompt: PROMPT as f64 / (read * longer), generate: 1.0 / (generated * larger) })
}

/// Seconds that something takes on average.
fn mean(mut once: impl FnMut() -> Duration) -> f64 {
    let (mut sum, mut times) = (Duration::ZERO, 0);
    while times == 0 || sum < TIME {
        sum += once();
        times += 1;
    }
    sum.as_secs_f64() / f64::from(times)
}

/// A sample in memory, and one sequence.
struct Trial {
    model: Model,
    cache: Cache,
    scratch: Scratch,
    pages: Vec<u32>,
    out: Vec<f32>,
}

impl Trial {
    fn new(model: Model, format: KvFormat) -> Trial {
        let pages = PROMPT.div_ceil(PAGE);
        let cache = Cache::new(model.plan(), CacheSizes { format, pages, slots: 1 });
        let pages = (0..pages as u32).collect();
        Trial { model, cache, scratch: Scratch::default(), pages, out: Vec::new() }
    }

    /// Runs tokens that follow `start` others, with logits for the last where the model has any.
    fn run(&mut self, start: usize, tokens: usize) -> Duration {
        let vocab = self.model.plan().vocab.max(1);
        // Others each time, so that a mixture chooses other experts.
        let ids: Vec<u32> = (start..start + tokens).map(|i| (i * 7_919 % vocab) as u32).collect();
        let pages = &self.pages[..(start + tokens).div_ceil(PAGE)];
        let chunk = Chunk { tokens: &ids, start, pages, slot: 0, logits: Logits::Last, adapter: None };
        let begin = Instant::now();
        match self.model.plan().head {
            Some(_) => self.model.forward(&[chunk], &mut self.cache, &mut self.scratch, &mut self.out),
            None => self.model.hidden(&[chunk], &mut self.cache, &mut self.scratch, &mut self.out),
        }
        begin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoadOptions, Source};

    #[test]
    fn a_sample_tells_what_the_whole_would_take() {
        let options = LoadOptions::default();
        let kernels = Arc::new(options.kernels().unwrap());
        let checkpoint = Source::parse("mini").open().unwrap();
        let plan = Plan::from_checkpoint(&checkpoint, sampan_model::PlanOptions::default()).unwrap();
        let speeds = try_out("mini", &plan, &kernels, options.kv).unwrap();
        assert!(speeds.generate > 1.0 && speeds.prompt > speeds.generate, "{speeds:?}");
    }
}
