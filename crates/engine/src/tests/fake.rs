//! A model whose every logit depends on every token before it, read back through the page table. It keeps a state
//! for each position in its pages; a wrong page, a page with another past, or a page overwritten gives other tokens.
//! With slots it keeps the past in them too, and where slot and pages disagree, it gives other tokens.

use crate::filter::FilterError;
use crate::forward::Forward;
use crate::request::{FinishReason, Logprob, Request};
use crate::sampler::Sampler;
use sampan_kernels::attention::PAGE;
use sampan_model::{Chunk, Logits};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(super) const VOCAB: usize = 40;

fn mix(a: u64, b: u64) -> u64 {
    let x = (a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 29)
}

/// The state of a position, from all states before it.
fn state(past: u64, token: u32) -> u64 {
    mix(past, u64::from(token) + 1)
}

/// The logits for the token at `position`. The model has a habit, a rhyme of eleven tokens, which it mostly follows.
fn row(past: u64, position: usize) -> impl Iterator<Item = f32> {
    let follows = !mix(past, 77).is_multiple_of(16);
    let habit = move |id: u64| if follows && id == position as u64 % 11 { 9.0 } else { 0.0 };
    (0..VOCAB as u64).map(move |id| (mix(past, id) >> 48) as f32 / 8192.0 + habit(id))
}

#[derive(Debug)]
pub(super) struct Fake {
    pages: Vec<[u64; PAGE]>,
    /// Of each slot the past of its sequence; none: a model without state beside its pages.
    slots: Vec<u64>,
    /// Tokens run so far.
    pub(super) tokens: Arc<AtomicUsize>,
    /// The most rows of logits of a step so far.
    pub(super) rows: Arc<AtomicUsize>,
    /// From this position on, the logits are not numbers.
    pub(super) broken_from: usize,
    /// How long a call takes.
    pub(super) delay: Duration,
}

impl Fake {
    pub(super) fn new(pages: usize) -> Fake {
        Fake {
            pages: vec![[0; PAGE]; pages],
            slots: Vec::new(),
            tokens: Arc::default(),
            rows: Arc::default(),
            broken_from: usize::MAX,
            delay: Duration::ZERO,
        }
    }

    pub(super) fn with_slots(pages: usize, slots: usize) -> Fake {
        Fake { slots: vec![u64::MAX; slots], ..Fake::new(pages) }
    }

    /// The past of a chunk. All pasts are read before anything is written: no chunk may rely on another one of the
    /// same step.
    fn past(&self, chunk: &Chunk<'_>) -> u64 {
        let past = (0..chunk.start)
            .map(|position| self.pages[chunk.pages[position / PAGE] as usize][position % PAGE])
            .fold(0, mix);
        if self.slots.is_empty() || chunk.start == 0 {
            return past;
        }
        let slot = self.slots[chunk.slot as usize];
        if slot == past { past } else { mix(past, slot) }
    }
}

impl Forward for Fake {
    fn vocab(&self) -> usize {
        VOCAB
    }

    fn slot_bytes(&self) -> usize {
        if self.slots.is_empty() { 0 } else { size_of::<u64>() }
    }

    fn rewinds(&self) -> bool {
        self.slots.is_empty()
    }

    fn copy_slot(&mut self, from: u32, to: u32) {
        self.slots[to as usize] = self.slots[from as usize];
    }

    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) {
        logits.clear();
        std::thread::sleep(self.delay);
        let mut written = HashSet::new();
        let mut slots = HashSet::new();
        let at =
            |chunk: &Chunk<'_>, position: usize| (chunk.pages[position / PAGE] as usize, position % PAGE);
        let pasts: Vec<u64> = chunks.iter().map(|chunk| self.past(chunk)).collect();
        for (chunk, mut past) in chunks.iter().zip(pasts) {
            assert!(!chunk.tokens.is_empty());
            assert!(slots.insert(chunk.slot), "two chunks share slot {}", chunk.slot);
            self.tokens.fetch_add(chunk.tokens.len(), Ordering::Relaxed);
            for (i, &token) in chunk.tokens.iter().enumerate() {
                let (page, slot) = at(chunk, chunk.start + i);
                assert!(written.insert((page, slot)), "two chunks write to page {page}");
                self.pages[page][slot] = state(past, token);
                past = mix(past, self.pages[page][slot]);
                let wanted = match chunk.logits {
                    Logits::None => false,
                    Logits::Last => i + 1 == chunk.tokens.len(),
                    Logits::All => true,
                };
                if wanted {
                    let position = chunk.start + i + 1;
                    let broken = position >= self.broken_from;
                    logits.extend(row(past, position).map(|x| if broken { f32::NAN } else { x }));
                }
            }
            if !self.slots.is_empty() {
                self.slots[chunk.slot as usize] = past;
            }
        }
        self.rows.fetch_max(logits.len() / VOCAB, Ordering::Relaxed);
    }
}

/// What a request must get: the model run without pages, batches or an engine. `room`: tokens that the pool holds.
pub(super) fn alone(request: &Request, room: usize) -> (Vec<u32>, FinishReason) {
    let mut tokens = request.prompt.clone();
    let mut filter = request.filter.clone();
    let add = |past: u64, &token: &u32| mix(past, state(past, token));
    let mut past = tokens.iter().fold(0, add);
    let mut sampler = Sampler::default();
    let prompt = tokens.len();
    loop {
        let answer = tokens[prompt..].to_vec();
        if Some(answer.len()) == request.max_tokens {
            return (answer, FinishReason::Length);
        }
        if tokens.len() == request.context.min(room) {
            return (answer, FinishReason::Context);
        }
        let mut row: Vec<f32> = row(past, tokens.len()).take(request.vocab_limit).collect();
        if let Some(filter) = &mut filter {
            let end = filter.accepts();
            let mask = filter.mask().expect("it knows").map(<[u32]>::to_vec);
            let allowed = |t: usize| match &mask {
                _ if request.stop_tokens.contains(&(t as u32)) => end,
                None => true,
                Some(mask) => mask.get(t / 32).is_some_and(|word| word & 1 << (t % 32) != 0),
            };
            if !(0..row.len()).any(allowed) {
                let cause = "allows no token, and the answer cannot end here either: what it asks for cannot be \
                             written with this vocabulary";
                let error = FilterError { position: tokens.len(), cause: cause.into() };
                return (answer, if end { FinishReason::Complete } else { FinishReason::Filter(error) });
            }
            row.iter_mut()
                .enumerate()
                .filter(|(t, _)| !allowed(*t))
                .for_each(|(_, x)| *x = f32::NEG_INFINITY);
        }
        let token =
            sampler.choose(&row, &tokens, prompt, &request.sampling, None).expect("the row is sound").0;
        if request.stop_tokens.contains(&token) {
            return (answer, FinishReason::Stop(token));
        }
        let position = tokens.len();
        if let Some(Err(cause)) = filter.as_mut().map(|filter| filter.commit(token)) {
            return (answer, FinishReason::Filter(FilterError { position, cause }));
        }
        past = add(past, &token);
        tokens.push(token);
    }
}

/// The scores that a request must get, with the index of each token.
pub(super) fn scores_alone(request: &Request) -> Vec<(usize, Logprob)> {
    let Some(wanted) = request.prompt_logprobs else { return Vec::new() };
    let mut past = 0;
    let mut sampler = Sampler::default();
    let mut scores = Vec::new();
    for (i, &token) in request.prompt.iter().enumerate() {
        if i >= wanted.from.max(1) {
            let row: Vec<f32> = row(past, i).take(request.vocab_limit).collect();
            scores.push((i, sampler.score(&row, token, i, wanted.top).expect("the row is sound")));
        }
        past = mix(past, state(past, token));
    }
    scores
}
