//! Products of activations and packed weights.

use crate::isa::product::Activations;
use crate::{Kernels, Matrix};

/// One product: `out = x * weights^T`, for an `x` that it shares with others.
#[derive(Debug)]
pub struct Job<'a> {
    /// `rows x cols`.
    pub weights: &'a Matrix,
    /// One number per row, added to every output row.
    pub bias: Option<&'a [f32]>,
    /// `n x rows`, row-major.
    pub out: &'a mut [f32],
    /// Add to what `out` holds instead of replacing it.
    pub accumulate: bool,
}

/// Memory that products reuse from call to call.
#[derive(Debug, Default)]
pub struct MatmulScratch {
    activations: Activations,
}

impl Kernels {
    /// Runs all `jobs` on `x` (`n x cols`, row-major).
    ///
    /// An output depends on its activation row and its weight row alone: not on `n`, nor on the threads.
    ///
    /// # Panics
    /// If shapes do not agree.
    pub fn matmul(&self, x: &[f32], n: usize, scratch: &mut MatmulScratch, jobs: &mut [Job<'_>]) {
        for job in jobs.iter() {
            let (rows, cols) = (job.weights.rows(), job.weights.cols());
            assert_eq!(Some(x.len()), n.checked_mul(cols), "activations for {n} rows of {:?}", job.weights);
            assert_eq!(Some(job.out.len()), n.checked_mul(rows), "outputs for {n} rows of {:?}", job.weights);
            assert!(job.bias.is_none_or(|bias| bias.len() == rows), "bias of {:?}", job.weights);
        }
        scratch.activations.run(self.isa(), self.exact(), self.pool(), x, n, jobs);
    }
}
