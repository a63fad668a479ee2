//! Attention over a window and compressed entries (DeepSeek V4).

use super::{Down, Linear, Norm, TensorId};

/// Attention with one key per token that is its own value, over a window of tokens and, beyond it, entries that sum
/// up blocks of tokens. All in one softmax with a sink per head.
#[derive(Clone, Debug)]
pub struct Compressed {
    /// Query heads.
    pub heads: usize,
    /// Width of a query head, of the key and of an entry.
    pub head_dim: usize,
    /// Numbers at the end of each that rotate.
    pub rotated: usize,
    /// Tokens that are seen themselves, the row's own included.
    pub window: usize,
    /// From hidden to a query latent.
    pub q_down: Down,
    /// From the query latent to the queries.
    pub q: Linear,
    /// Of each query head; has no weight.
    pub q_norm: Norm,
    /// From hidden to the key.
    pub kv: Linear,
    /// Of the key.
    pub kv_norm: Norm,
    /// One logit per head that takes part in the softmax and brings no value.
    pub sinks: TensorId,
    /// The first output projection: groups of consecutive heads, each its own.
    pub o_groups: Vec<Linear>,
    /// The second, over all groups' results.
    pub o: Linear,
    /// Index into [`Plan::ropes`](super::Plan::ropes).
    pub rope: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// What is seen beyond the window.
    pub entries: Option<Entries>,
}

/// Entries that sum up the past, and what chooses among them.
#[derive(Clone, Debug)]
pub struct Entries {
    /// Makes the entries.
    pub compressor: Compressor,
    /// Chooses those that a row attends to; `None`: all.
    pub index: Option<EntryIndex>,
}

/// Makes one entry of every `ratio` tokens: a mean weighted by a softmax per channel, normed and rotated.
#[derive(Clone, Debug)]
pub struct Compressor {
    /// Tokens per entry.
    pub ratio: usize,
    /// Tokens also take part in the entry after their own, with numbers of their own.
    pub overlap: bool,
    /// Numbers of an entry.
    pub dim: usize,
    /// From hidden to what is averaged; with overlap, first what goes to the next entry.
    pub kv: Linear,
    /// From hidden to the logits of the softmax.
    pub gate: Linear,
    /// Added to these, for each place in a block.
    pub places: TensorId,
    /// Of the mean.
    pub norm: Norm,
}

impl Compressor {
    /// Entries that a token takes part in.
    pub fn parts(&self) -> usize {
        1 + usize::from(self.overlap)
    }

    /// Numbers that a sequence carries between steps: per entry under way and channel the largest logit, the sum of
    /// weights and the weighted sum.
    pub(crate) fn state(&self) -> usize {
        3 * self.parts() * self.dim
    }
}

/// The lightning indexer over entries of its own.
#[derive(Clone, Debug)]
pub struct EntryIndex {
    /// Heads of the index.
    pub heads: usize,
    /// From the query latent to the index queries.
    pub q: Linear,
    /// From hidden to the weight of each head.
    pub weights: Linear,
    /// Makes the index's entries, as wide as its heads.
    pub compressor: Compressor,
    /// Entries that a row attends to.
    pub top_k: usize,
}

impl Compressed {
    /// Raw keys that a sequence carries between steps.
    pub(crate) fn ring(&self) -> usize {
        self.window - 1
    }

    /// The compressors in the order of their states.
    pub(crate) fn compressors(&self) -> impl Iterator<Item = &Compressor> {
        let entries = self.entries.iter();
        entries.flat_map(|e| [Some(&e.compressor), e.index.as_ref().map(|i| &i.compressor)]).flatten()
    }

    /// Numbers that a sequence carries between steps.
    pub(crate) fn state(&self) -> usize {
        self.ring() * self.head_dim + self.compressors().map(Compressor::state).sum::<usize>()
    }
}
