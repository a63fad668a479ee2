//! What the engine needs of a model: one call per step.

use sampan_kernels::attention::KvFormat;
use sampan_model::{Cache, CacheSizes, Chunk, Model, Scratch};
use std::fmt::Debug;
use std::sync::Arc;

/// A model together with its KV cache.
///
/// Row `r` of a call must depend only on the tokens of its own sequence up to its position, as they were given to
/// this and earlier calls through the pages: not on the other chunks, nor on how the tokens were cut into chunks.
pub(crate) trait Forward: Debug + Send {
    /// Ids that may be given as tokens are below this; also the length of a row of logits.
    fn vocab(&self) -> usize;
    /// Runs the chunks, storing their keys and values in their pages. `logits` is cleared and gets one row for
    /// each chunk that wants it, in the chunks' order.
    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>);
}

/// The real thing.
#[derive(Debug)]
pub(crate) struct Loaded {
    model: Arc<Model>,
    cache: Cache,
    scratch: Scratch,
}

impl Loaded {
    pub(crate) fn new(model: Arc<Model>, format: KvFormat, pages: usize) -> Loaded {
        let cache = Cache::new(model.plan(), CacheSizes { format, pages, slots: 1 });
        Loaded { model, cache, scratch: Scratch::default() }
    }
}

impl Forward for Loaded {
    fn vocab(&self) -> usize {
        self.model.plan().vocab
    }

    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) {
        self.model.forward(chunks, &mut self.cache, &mut self.scratch, logits);
    }
}
