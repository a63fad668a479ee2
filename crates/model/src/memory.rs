//! Bytes, counted from the plan: one figure behind `show`, admission and the bandwidth share of `--stats`.

use crate::executor::Scratch;
use crate::plan::{Linear, Moe, Plan, Role, TensorSpec};
use sampan_kernels::Kernels;
use sampan_kernels::attention::{KvFormat, PAGE};

/// What a model needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Packed weights.
    pub weights: usize,
    /// Keys, values and states of one sequence that fills the context.
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
    /// What the model needs for one sequence of `context` tokens, computed in batches of `batch` tokens.
    pub fn memory(&self, kernels: &Kernels, kv: KvFormat, context: usize, batch: usize) -> Memory {
        let pages = context.div_ceil(PAGE);
        Memory {
            weights: self.kept().map(|tensor| held_bytes(kernels, tensor)).sum(),
            kv: pages * self.kv_bytes_per_page(kv) + self.slot_bytes(kv, pages),
            scratch: Scratch::bytes(self, batch.min(context), context),
        }
    }

    /// Bytes read from memory to generate one token when `context` tokens are in the cache: every weight but the
    /// embeddings' other rows and the experts that are not chosen, and the keys and values.
    pub fn decode_bytes(&self, kernels: &Kernels, kv: KvFormat, context: usize) -> u64 {
        self.step_bytes(kernels, kv, context, 1)
    }

    /// Bytes read from memory in a step that generates one token for each of `streams` sequences with `context` tokens
    /// in the cache. Weights are read once; of the experts so many as are chosen on average where each sequence
    /// chooses by itself and all are chosen alike.
    pub fn step_bytes(&self, kernels: &Kernels, kv: KvFormat, context: usize, streams: usize) -> u64 {
        let tied = self.head.is_some_and(|head| head.weight == self.embedding);
        let table = self.per_layer.map(|inputs| inputs.table);
        let looked_up = |id: usize| (!tied && id == self.embedding) || Some(id) == table;
        let bytes = |id: usize| held_bytes(kernels, &self.tensors[id]) as u64;
        let all: u64 = (0..self.tensors.len()).filter(|&id| !looked_up(id)).map(bytes).sum();
        let idle = |moe: &Moe| {
            let alone = moe.idle(|expert| {
                let linears = [expert.gate, expert.up, expert.down];
                linears.iter().flat_map(Linear::tensors).map(bytes).sum()
            });
            let missed = 1.0 - moe.top_k as f64 / moe.experts.len().max(1) as f64;
            (alone as f64 * missed.powf(streams.max(1) as f64 - 1.0)) as u64
        };
        let idle: u64 = self.mixtures().map(idle).sum();
        all - idle + (streams * self.kv_bytes_read(kv, context)) as u64
    }
}

fn held_bytes(kernels: &Kernels, tensor: &TensorSpec) -> usize {
    let (rows, cols) = tensor.rows_cols();
    match tensor.role {
        Role::Matrix => kernels.packed_bytes(tensor.format, rows, cols),
        Role::Vector | Role::Ids => rows * cols * size_of::<f32>(),
        Role::Constant => 0,
    }
}
