//! Whole texts through a model at once, for what it says at their last token: vectors and relevance.

use crate::Error;
use crate::load::Prepared;
use crate::speech;
use sampan_model::{Cache, CacheSizes, Chunk, Logits, Model, PAGE, Scratch};
use sampan_text::{Special, Tokenizer};
use std::sync::Arc;

/// Tokens that are computed together.
const BATCH: usize = 512;

/// Sequences that are computed together.
const TOGETHER: usize = 16;

/// What is wanted of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// The hidden state after the final norm.
    Hidden,
    /// The rows of the head.
    Logits,
}

/// A loaded model that reads sequences and generates nothing.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) name: String,
    pub(crate) model: Arc<Model>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) context: usize,
    cache: Cache,
    scratch: Scratch,
    together: usize,
}

impl Encoder {
    /// Loads the weights.
    pub(crate) fn load(prepared: &Prepared, progress: &mut dyn FnMut(u64, u64)) -> Result<Arc<Model>, Error> {
        // Whatever can fail quickly comes before the weights.
        Encoder::vocabulary(prepared)?;
        Ok(Arc::new(prepared.load(progress)?))
    }

    fn vocabulary(prepared: &Prepared) -> Result<Tokenizer, Error> {
        let tokenizer = speech::tokenizer(&prepared.name, &prepared.checkpoint)?;
        let (tokens, rows) = (tokenizer.vocab_size(), prepared.plan.vocab);
        if tokens > rows {
            return Err(Error::Vocabulary { model: prepared.name.clone(), tokens, rows });
        }
        Ok(tokenizer)
    }

    /// An encoder over weights that may be in use elsewhere too.
    pub(crate) fn over(prepared: &Prepared, model: Arc<Model>) -> Result<Encoder, Error> {
        let tokenizer = Encoder::vocabulary(prepared)?;
        let sizes = sizes(prepared);
        let (cache, together) = (Cache::new(model.plan(), sizes), sizes.slots);
        let (name, context) = (prepared.name.clone(), prepared.context);
        Ok(Encoder { name, model, tokenizer, context, cache, scratch: Scratch::default(), together })
    }

    /// The ids of a text in which nothing is a control token.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode(text, Special::AsText).map_err(Error::Encode)
    }

    /// Refuses the first sequence that does not fit the context. `what` names a sequence of that number.
    pub(crate) fn check_lengths(
        &self,
        sequences: &[Vec<u32>],
        what: impl Fn(usize) -> String,
    ) -> Result<(), Error> {
        match sequences.iter().position(|ids| ids.len() > self.context) {
            None => Ok(()),
            Some(at) => {
                let (tokens, context) = (sequences[at].len(), self.context);
                Err(Error::TextTooLong { what: what(at), tokens, context })
            }
        }
    }

    /// Computes the sequences, none of them empty or longer than the context. `take` gets the rows of each in order,
    /// those of a long one in several pieces.
    pub(crate) fn run(
        &mut self,
        sequences: &[Vec<u32>],
        output: Output,
        wanted: Logits,
        take: &mut dyn FnMut(usize, &[f32]),
    ) {
        let width = match (output, &self.model.plan().head) {
            (Output::Logits, Some(head)) => head.rows,
            _ => self.model.plan().hidden,
        };
        let (mut at, mut out) = (0, Vec::new());
        while at < sequences.len() {
            let group = self.group(&sequences[at..]);
            let mut start = 0;
            while start < group.iter().map(Vec::len).max().unwrap_or(0) {
                let pages: Vec<Vec<u32>> = pages(group);
                let chunks: Vec<Chunk<'_>> = group
                    .iter()
                    .zip(&pages)
                    .enumerate()
                    .map(|(slot, (ids, pages))| {
                        let end = ids.len().min(start + BATCH);
                        let logits =
                            if wanted == Logits::Last && end < ids.len() { Logits::None } else { wanted };
                        Chunk {
                            tokens: &ids[start..end],
                            start,
                            pages,
                            slot: slot as u32,
                            logits,
                            adapter: None,
                        }
                    })
                    .collect();
                let (cache, scratch) = (&mut self.cache, &mut self.scratch);
                match output {
                    Output::Hidden => self.model.hidden(&chunks, cache, scratch, &mut out),
                    Output::Logits => self.model.forward(&chunks, cache, scratch, &mut out),
                }
                let mut rest = &out[..];
                for (offset, chunk) in chunks.iter().enumerate() {
                    let rows = match chunk.logits {
                        Logits::None => 0,
                        Logits::Last => 1,
                        Logits::All => chunk.tokens.len(),
                    };
                    let (rows, later) = rest.split_at(rows * width);
                    take(at + offset, rows);
                    rest = later;
                }
                start += BATCH;
            }
            at += group.len();
        }
    }

    /// The first sequences that fit a batch together; a long one is alone.
    fn group<'a>(&self, sequences: &'a [Vec<u32>]) -> &'a [Vec<u32>] {
        let mut tokens = 0;
        let fits = |ids: &&Vec<u32>| {
            tokens += ids.len();
            tokens <= BATCH
        };
        let count = sequences.iter().take(self.together).take_while(fits).count();
        &sequences[..count.max(1)]
    }
}

/// The cache for one sequence of the whole context, or several that are shorter.
fn sizes(prepared: &Prepared) -> CacheSizes {
    let pages = prepared.context.div_ceil(PAGE);
    // The memory that was planned holds one sequence's slot; where slots are large, sequences take turns.
    let slots = if prepared.plan.slot_bytes(prepared.kv, pages) > 0 { 1 } else { TOGETHER };
    CacheSizes { format: prepared.kv, pages: pages.max(BATCH / PAGE + slots), slots }
}

/// Bytes that an [`Embedder`](crate::Embedder) or a [`Reranker`](crate::Reranker) takes beside the weights, for its cache
/// and for computing.
pub fn encoder_bytes(prepared: &Prepared) -> usize {
    let CacheSizes { format, pages, slots } = sizes(prepared);
    let plan = &prepared.plan;
    let kv = pages * plan.kv_bytes_per_page(format) + slots * plan.slot_bytes(format, pages);
    kv + plan.memory(&prepared.kernels, format, prepared.context, BATCH).scratch
}

/// Pages for sequences that lie one after the other.
fn pages(group: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let mut next = 0;
    let take = |ids: &Vec<u32>| {
        let first = next;
        next += ids.len().div_ceil(PAGE) as u32;
        (first..next).collect()
    };
    group.iter().map(take).collect()
}
