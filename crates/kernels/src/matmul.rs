//! Products of activations and packed weights.

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
pub struct MatmulScratch {}

impl Kernels {
    /// Runs all `jobs` on `x` (`n x cols`, row-major).
    ///
    /// An output depends on its activation row and its weight row alone: not on `n`, nor on the threads.
    ///
    /// # Panics
    /// If shapes do not agree.
    pub fn matmul(&self, x: &[f32], n: usize, _scratch: &mut MatmulScratch, jobs: &mut [Job<'_>]) {
        for job in jobs {
            let (rows, cols) = (job.weights.rows(), job.weights.cols());
            assert_eq!(x.len(), n * cols, "activations for {:?}", job.weights);
            assert_eq!(job.out.len(), n * rows, "outputs of {:?}", job.weights);
            assert!(job.bias.is_none_or(|bias| bias.len() == rows), "bias of {:?}", job.weights);
            let mut columns = vec![0.0; rows * n];
            self.pool().run_slices(&mut columns, n.max(1), |row, column| {
                let mut weights = vec![0.0; cols];
                self.decode_row(job.weights, row, &mut weights);
                for (t, y) in column.iter_mut().enumerate() {
                    *y = x[t * cols..][..cols]
                        .iter()
                        .zip(&weights)
                        .fold(0.0, |sum, (x, w)| x.mul_add(*w, sum));
                    *y += job.bias.map_or(0.0, |bias| bias[row]);
                }
            });
            for (i, y) in job.out.iter_mut().enumerate() {
                let new = columns[i % rows * n + i / rows];
                *y = if job.accumulate { *y + new } else { new };
            }
        }
    }
}
