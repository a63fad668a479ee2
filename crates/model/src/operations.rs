//! Multiplications and additions, counted from the plan: what a prompt costs, to set beside what a machine can do.

use crate::plan::{Compressed, Delta, Latent, Linear, Mixer, Plan, Role};
use sampan_kernels::Kernels;
use sampan_kernels::attention::KvFormat;
use sampan_kernels::limits::Arithmetic;

/// Multiplications and additions (two to a product), by what the numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Of bytes.
    pub int8: u64,
    /// Of bfloat16.
    pub bf16: u64,
    /// Of float32.
    pub f32: u64,
}

impl Operations {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.int8 + self.bf16 + self.f32
    }

    /// Those of one kind.
    pub fn of(&self, arithmetic: Arithmetic) -> u64 {
        match arithmetic {
            Arithmetic::Int8 => self.int8,
            Arithmetic::Bf16 => self.bf16,
            Arithmetic::F32 => self.f32,
        }
    }

    fn add(&mut self, arithmetic: Arithmetic, products: u64) {
        *match arithmetic {
            Arithmetic::Int8 => &mut self.int8,
            Arithmetic::Bf16 => &mut self.bf16,
            Arithmetic::F32 => &mut self.f32,
        } += 2 * products;
    }
}

impl Plan {
    /// What it takes to compute the `tokens` tokens that follow `start` others, with logits for the last: every matrix
    /// once for each token, of the experts those that are chosen, the head once, and what the mixers do with the
    /// tokens that they see. Matrices count as the kind that `kernels` multiply them as; scores and mixed values as
    /// bf16 where keys and values are 16-bit floats, for that is what they could be multiplied as, and as two products of
    /// 8 bits where they are integers.
    pub fn operations(&self, kernels: &Kernels, kv: KvFormat, start: usize, tokens: usize) -> Operations {
        let mut sum = Operations::default();
        for (tensor, uses) in self.tensors.iter().zip(self.uses(tokens as u64)) {
            let (rows, cols) = tensor.rows_cols();
            if tensor.role == Role::Matrix {
                sum.add(kernels.arithmetic(tensor.format), uses * (rows * cols) as u64);
            }
        }
        let products = |kv| match kv {
            KvFormat::F32 => (Arithmetic::F32, 1),
            KvFormat::F16 | KvFormat::Bf16 => (Arithmetic::Bf16, 1),
            KvFormat::I16 | KvFormat::Q8_0 => (Arithmetic::Int8, 2),
        };
        let ((heads, per_product), (latents, _)) = (products(kv), products(kv.of_latent()));
        let positions = Positions { start, tokens };
        for layer in &self.layers {
            match &layer.mixer {
                Mixer::Attention(a) => {
                    let seen = positions.sum(|n| n.min(a.window.unwrap_or(n)));
                    sum.add(heads, per_product * seen * (a.heads * (a.key_dim + a.value_dim)) as u64);
                }
                Mixer::Latent(l) => sum.add(latents, latent(l, positions)),
                Mixer::Compressed(c) => sum.add(latents, compressed(c, positions)),
                Mixer::Delta(d) => sum.add(Arithmetic::F32, tokens as u64 * delta(d)),
            }
        }
        sum
    }

    /// How often each tensor is multiplied for a prompt of `tokens` tokens. All experts of a layer count as its first.
    fn uses(&self, tokens: u64) -> Vec<u64> {
        let mut uses = vec![tokens; self.tensors.len()];
        uses[self.embedding] = 0;
        if let Some(inputs) = self.per_layer {
            uses[inputs.table] = 0;
        }
        if let Some(head) = self.head {
            uses[head.weight] = 1;
        }
        for moe in self.mixtures() {
            for (i, expert) in moe.experts.iter().enumerate() {
                let chosen = if i == 0 { tokens * moe.top_k as u64 } else { 0 };
                let linears = [expert.gate, expert.up, expert.down];
                linears.iter().flat_map(Linear::tensors).for_each(|id| uses[id] = chosen);
            }
        }
        uses
    }
}

/// The positions of a prompt.
#[derive(Clone, Copy)]
struct Positions {
    start: usize,
    tokens: usize,
}

impl Positions {
    /// The sum of `seen` over all, given how many tokens there are up to and with each.
    fn sum(self, seen: impl Fn(usize) -> usize) -> u64 {
        (self.start + 1..=self.start + self.tokens).map(|n| seen(n) as u64).sum()
    }
}

/// Products of scores, mixed values and index over the latent vectors.
fn latent(l: &Latent, positions: Positions) -> u64 {
    let seen = positions.sum(|n| n.min(l.index.as_ref().map_or(n, |index| index.top_k)));
    let index = l.index.as_ref().map_or(0, |index| positions.sum(|n| n) * (index.heads * index.dim) as u64);
    index + seen * (l.heads * (2 * l.rank + l.rotated)) as u64
}

/// The same over a window and entries.
fn compressed(c: &Compressed, positions: Positions) -> u64 {
    let entries = |n: usize| {
        let Some(entries) = &c.entries else { return 0 };
        let there = n / entries.compressor.ratio;
        entries.index.as_ref().map_or(there, |index| there.min(index.top_k))
    };
    let seen = positions.sum(|n| n.min(c.window) + entries(n));
    let index = c.entries.iter().filter_map(|entries| entries.index.as_ref()).map(|index| {
        let there = positions.sum(|n| n / index.compressor.ratio);
        there * (index.heads * index.compressor.dim) as u64
    });
    index.sum::<u64>() + seen * (2 * c.heads * c.head_dim) as u64
}

/// Products of a token: the state is read for its key, corrected, and read for its query; and the convolution.
fn delta(d: &Delta) -> u64 {
    let shape = &d.shape;
    let state = shape.value_heads * shape.key_dim * shape.value_dim;
    (3 * state + d.taps.len() * shape.channels()) as u64
}
