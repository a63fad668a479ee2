//! The per-layer embedding: every layer gets some numbers of its own for each token.

use super::Scratch;
use crate::load::Model;
use crate::plan::{PerLayerGate, PerLayerInputs};

impl Model {
    /// `(table[token] * table_scale + norm(projection(x0) * projection_scale)) / sqrt(2)` for all layers.
    pub(super) fn per_layer_inputs(&self, plan: &PerLayerInputs, n: usize, scratch: &mut Scratch) {
        let kernels = self.kernels();
        let width = plan.projection.rows;
        scratch.per_layer.resize(n * width);
        let job = self.job(&plan.projection, &mut scratch.per_layer);
        self.products(&scratch.residual, n, &mut scratch.matmul, &mut [job]);
        kernels.scale(&mut scratch.per_layer, plan.projection_scale);
        self.norm_rows(&plan.norm, plan.width, &mut scratch.per_layer);
        let table = self.matrix(plan.table);
        let mut row = vec![0.0; width];
        for (inputs, &token) in scratch.per_layer.chunks_exact_mut(width).zip(&scratch.tokens) {
            let token = if (token as usize) < plan.rows { token as usize } else { 0 };
            kernels.decode_row(table, token, &mut row);
            kernels.add_scaled(inputs, &row, plan.table_scale);
        }
        kernels.scale(&mut scratch.per_layer, std::f32::consts::FRAC_1_SQRT_2);
    }

    /// `result = norm(projection(gelu(gate x) * input))`
    pub(super) fn per_layer_gate(&self, index: usize, plan: &PerLayerGate, n: usize, scratch: &mut Scratch) {
        let kernels = self.kernels();
        let (width, all) = (plan.gate.rows, scratch.per_layer.len() / n.max(1));
        let Scratch { residual, result, per_layer, matmul, .. } = scratch;
        let (gate, inputs) = scratch.gated.both(n * width);
        self.products(residual, n, matmul, &mut [self.job(&plan.gate, gate)]);
        for (to, row) in inputs.chunks_exact_mut(width).zip(per_layer.chunks_exact(all.max(1))) {
            to.copy_from_slice(&row[index * width..][..width]);
        }
        kernels.gelu_tanh_mul(gate, inputs);
        self.products(gate, n, matmul, &mut [self.job(&plan.projection, result)]);
        self.norm_rows(&plan.norm, self.plan().hidden, result);
    }
}
