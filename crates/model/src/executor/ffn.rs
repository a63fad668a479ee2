//! Gated MLPs.

use super::product::Products;
use crate::load::Model;
use crate::plan::Gated;
use sampan_kernels::Floats;

/// Activations of an MLP, kept between calls.
#[derive(Debug, Default)]
pub(super) struct GatedScratch {
    gate: Floats, // [n, width]
    up: Floats,   // [n, width]
}

impl GatedScratch {
    /// Room for `len` numbers while no MLP runs.
    pub(super) fn room(&mut self, len: usize) -> &mut [f32] {
        self.gate.resize(self.gate.len().max(len));
        &mut self.gate[..len]
    }

    /// Twice the room.
    pub(super) fn both(&mut self, len: usize) -> (&mut [f32], &mut [f32]) {
        self.gate.resize(len);
        self.up.resize(len);
        (&mut self.gate, &mut self.up)
    }
}

impl Model {
    /// `out = down(activation(gate x, up x))`, or added to what `out` holds.
    #[allow(clippy::too_many_arguments)] // input, output and memory of one product after the other
    pub(super) fn gated(
        &self,
        plan: &Gated,
        n: usize,
        x: &[f32],
        out: &mut [f32],
        added: bool,
        scratch: &mut GatedScratch,
        matmul: &mut Products,
    ) {
        let (gate, up) = scratch.both(n * plan.gate.rows);
        self.products(x, n, matmul, &mut [self.job(&plan.gate, gate), self.job(&plan.up, up)]);
        self.activate(plan.activation, plan.gate.rows, gate, up);
        let job = self.job(&plan.down, out).added(added);
        self.products(gate, n, matmul, &mut [job]);
    }

    /// Of every row of `width` numbers keeps how far those above the threshold exceed it; the others become 0.
    pub(super) fn keep_outliers(&self, deviations: f32, width: usize, x: &mut [f32]) {
        let piece = (1 << 14) / width.max(1) + 1;
        self.kernels().pool().run_slices(x, piece * width, |_, rows| {
            for row in rows.chunks_exact_mut(width) {
                let mean = sum(row, |x| x) / width as f32;
                let variance = sum(row, |x| (x - mean) * (x - mean)) / width as f32;
                let threshold = mean + deviations * variance.sqrt();
                for x in row {
                    let over = *x - threshold;
                    *x = if over < 0.0 { 0.0 } else { over }; // what is no number stays visible
                }
            }
        });
    }
}

/// `sum of term(x)`, in lanes so that it can be computed with vectors, in an order that depends on the length only.
fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for numbers in whole {
        lanes.iter_mut().zip(numbers).for_each(|(lane, x)| *lane += term(*x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane += term(*x));
    lanes.iter().sum()
}
