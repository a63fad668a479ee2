//! Gated MLPs.

use crate::load::Model;
use crate::plan::Gated;
use sampan_kernels::{Job, MatmulScratch};

/// Activations of an MLP, kept between calls.
#[derive(Debug, Default)]
pub(super) struct GatedScratch {
    gate: Vec<f32>, // [n, width]
    up: Vec<f32>,   // [n, width]
}

impl GatedScratch {
    /// Room for `len` numbers while no MLP runs.
    pub(super) fn room(&mut self, len: usize) -> &mut [f32] {
        self.gate.resize(self.gate.len().max(len), 0.0);
        &mut self.gate[..len]
    }

    /// Twice the room.
    pub(super) fn both(&mut self, len: usize) -> (&mut [f32], &mut [f32]) {
        self.gate.resize(len, 0.0);
        self.up.resize(len, 0.0);
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
        matmul: &mut MatmulScratch,
    ) {
        let (gate, up) = scratch.both(n * plan.gate.rows);
        self.kernels().matmul(x, n, matmul, &mut [self.job(&plan.gate, gate), self.job(&plan.up, up)]);
        self.activate(plan.activation, gate, up);
        let job = Job { accumulate: added, ..self.job(&plan.down, out) };
        self.kernels().matmul(gate, n, matmul, &mut [job]);
    }
}
