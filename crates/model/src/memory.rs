//! Bytes, counted from the plan: one figure behind `show`, admission and the bandwidth share of `--stats`.

use crate::cache;
use crate::executor::Scratch;
use crate::plan::{Plan, Role, TensorSpec};
use sampan_kernels::Kernels;
use sampan_kernels::attention::{KvFormat, PAGE};

/// What a model needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Packed weights.
    pub weights: usize,
    /// Keys and values for the whole context.
    pub kv: usize,
    /// Activations of one batch.
    pub scratch: usize,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> usize {
        self.weights + self.kv + self.scratch
    }
}

impl Plan {
    /// Bytes of one KV page over all layers.
    pub fn kv_bytes_per_page(&self, format: KvFormat) -> usize {
        self.attentions().map(|attention| cache::shape(attention, format).page_bytes()).sum()
    }

    /// What the model needs for one sequence of `context` tokens, computed in batches of `batch` tokens.
    pub fn memory(&self, kernels: &Kernels, kv: KvFormat, context: usize, batch: usize) -> Memory {
        Memory {
            weights: self.kept().map(|tensor| held_bytes(kernels, tensor)).sum(),
            kv: context.div_ceil(PAGE) * self.kv_bytes_per_page(kv),
            scratch: Scratch::bytes(self, batch.min(context)),
        }
    }

    /// Bytes read from memory to generate one token when `context` tokens are in the cache: every weight but the
    /// embedding's other rows, and the keys and values.
    pub fn decode_bytes(&self, kernels: &Kernels, kv: KvFormat, context: usize) -> u64 {
        let tied = self.head.weight == self.embedding;
        let weights: usize = self
            .tensors
            .iter()
            .enumerate()
            .filter(|(id, tensor)| tensor.role != Role::Constant && (tied || *id != self.embedding))
            .map(|(_, tensor)| held_bytes(kernels, tensor))
            .sum();
        let kv: usize = self
            .attentions()
            .map(|attention| {
                let seen = attention.window.map_or(context, |window| window.min(context));
                let page = cache::shape(attention, kv).page_bytes();
                seen * page / PAGE
            })
            .sum();
        (weights + kv) as u64
    }
}

fn held_bytes(kernels: &Kernels, tensor: &TensorSpec) -> usize {
    let (rows, cols) = tensor.rows_cols();
    match tensor.role {
        Role::Matrix => kernels.packed_bytes(tensor.format, rows, cols),
        Role::Vector => cols * size_of::<f32>(),
        Role::Constant => 0,
    }
}
