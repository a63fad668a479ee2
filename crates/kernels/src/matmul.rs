//! Products of activations and packed weights.

use crate::isa::product::{Activations, Product};
use crate::{InputSquares, Kernels, Matrix};
use std::ops::Range;

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

/// One product of a group: `out = x[rows] * weights^T`.
#[derive(Debug)]
pub struct GroupedJob<'a> {
    /// The activation rows; none is allowed.
    pub rows: Range<usize>,
    /// `rows x cols`.
    pub weights: &'a Matrix,
    /// One number per row of the weights, added to every output row.
    pub bias: Option<&'a [f32]>,
    /// An output row per activation row, each as long as the weights have rows.
    pub out: &'a mut [f32],
}

/// Memory that products reuse from call to call.
#[derive(Debug, Default)]
pub struct MatmulScratch {
    activations: Activations,
    /// Where inputs are recorded, if they are.
    inputs: Option<InputSquares>,
}

impl MatmulScratch {
    /// Records the inputs of every product from now on.
    pub fn record_inputs(&mut self) {
        self.inputs = Some(InputSquares::default());
    }

    /// What was recorded since [`MatmulScratch::record_inputs`], which ends with this.
    pub fn take_inputs(&mut self) -> InputSquares {
        self.inputs.take().unwrap_or_default()
    }
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
        if let Some(inputs) = &mut scratch.inputs {
            jobs.iter().for_each(|job| inputs.add(job.weights, x));
        }
        let products = jobs.iter_mut().filter(|_| n > 0).map(|job| Product {
            rows: 0..n,
            weights: job.weights,
            bias: job.bias,
            out: job.out,
            accumulate: job.accumulate,
        });
        scratch.activations.run(self.isa(), self.exact(), self.pool(), x, products);
    }

    /// Runs all `jobs`, each on its own rows of `x` (`n x cols`, row-major), as one task of the pool.
    ///
    /// For many matrices with few rows each: the experts of a mixture, the heads of a projection. Only the matrices
    /// of jobs that have rows are read. Jobs of the same rows may follow each other and share the preparation of
    /// their activations. Results equal those of [`Kernels::matmul`] on the same rows, bit for bit.
    ///
    /// # Panics
    /// If shapes do not agree, or a job's rows are not among the `n`.
    pub fn matmul_grouped(
        &self,
        x: &[f32],
        n: usize,
        scratch: &mut MatmulScratch,
        jobs: &mut [GroupedJob<'_>],
    ) {
        for job in jobs.iter() {
            let (rows, cols) = (job.weights.rows(), job.weights.cols());
            assert!(job.rows.start <= job.rows.end && job.rows.end <= n, "rows {:?} of {n}", job.rows);
            assert_eq!(Some(x.len()), n.checked_mul(cols), "activations for {n} rows of {:?}", job.weights);
            assert_eq!(
                Some(job.out.len()),
                job.rows.len().checked_mul(rows),
                "outputs for rows {:?} of {:?}",
                job.rows,
                job.weights
            );
            assert!(job.bias.is_none_or(|bias| bias.len() == rows), "bias of {:?}", job.weights);
        }
        if let Some(inputs) = &mut scratch.inputs {
            for job in jobs.iter() {
                let cols = job.weights.cols();
                inputs.add(job.weights, &x[job.rows.start * cols..job.rows.end * cols]);
            }
        }
        let products = jobs.iter_mut().filter(|job| !job.rows.is_empty()).map(|job| Product {
            rows: job.rows.clone(),
            weights: job.weights,
            bias: job.bias,
            out: job.out,
            accumulate: false,
        });
        scratch.activations.run(self.isa(), self.exact(), self.pool(), x, products);
    }
}
