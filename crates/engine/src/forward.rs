//! What the engine needs of a model: one call per step.

use sampan_model::{Cache, CacheSizes, Chunk, Model, Scratch};
use std::fmt::Debug;
use std::sync::Arc;

/// A model together with its cache.
///
/// Row `r` of a call must depend only on the tokens of its own sequence up to its position, as they were given to
/// this and earlier calls through the pages and the slot: not on the other chunks, nor on how the tokens were cut
/// into chunks.
pub(crate) trait Forward: Debug + Send {
    /// Ids that may be given as tokens are below this; also the length of a row of logits.
    fn vocab(&self) -> usize;
    /// Bytes of the state that a slot holds of the sequence in it, at the position that it has reached. 0: none;
    /// everything is in the pages.
    fn slot_bytes(&self) -> usize;
    /// Whether a sequence that has run too far can go back a few tokens, simply by running others in their place.
    fn rewinds(&self) -> bool;
    /// Makes slot `to` what slot `from` is.
    fn copy_slot(&mut self, from: u32, to: u32);
    /// Runs the chunks, storing what is to be remembered in their pages and slots; a chunk at position 0 finds its
    /// slot cleared. `logits` is cleared and gets the rows that each chunk wants, in the chunks' order.
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
    pub(crate) fn new(model: Arc<Model>, sizes: CacheSizes) -> Loaded {
        let cache = Cache::new(model.plan(), sizes);
        Loaded { model, cache, scratch: Scratch::default() }
    }
}

impl Forward for Loaded {
    fn vocab(&self) -> usize {
        self.model.plan().vocab
    }

    fn slot_bytes(&self) -> usize {
        let CacheSizes { format, pages, .. } = self.cache.sizes();
        self.model.plan().slot_bytes(format, pages)
    }

    fn rewinds(&self) -> bool {
        self.model.plan().rewinds()
    }

    fn copy_slot(&mut self, from: u32, to: u32) {
        self.cache.copy_slot(self.model.kernels(), from, to);
    }

    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Vec<f32>) {
        self.model.forward(chunks, &mut self.cache, &mut self.scratch, logits);
    }
}
