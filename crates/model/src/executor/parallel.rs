//! An MLP and a mixture of experts side by side.

use super::Scratch;
use super::moe::MoeRows;
use crate::load::Model;
use crate::plan::{Parallel, RouterInput};

impl Model {
    /// `result = dense_post(dense(normed)) + experts_post(experts(experts_pre(residual)))`
    pub(super) fn parallel(&self, plan: &Parallel, n: usize, scratch: &mut Scratch) {
        let Scratch { residual, normed, input, result, tokens, matmul, .. } = scratch;
        let (kernels, hidden) = (self.kernels(), self.plan().hidden);
        self.gated(&plan.dense, n, normed, result, false, &mut scratch.gated, matmul);
        self.norm_rows(&plan.dense_post, hidden, result);
        self.norm(&plan.experts_pre, residual, normed);
        // The router's input is as wide as the residual stream, and the MLP's room is free again.
        let router = match &plan.experts.router.input {
            RouterInput::Normed => None,
            RouterInput::Residual { norm, factor } => {
                self.norm(norm, residual, input);
                kernels.scale(input, *factor);
                Some(&input[..])
            }
        };
        let out = scratch.gated.room(result.len());
        let rows = MoeRows { tokens, router, x: normed, out };
        self.moe(&plan.experts, rows, &mut scratch.moe, matmul);
        self.norm_rows(&plan.experts_post, hidden, out);
        kernels.add(result, out);
    }
}
