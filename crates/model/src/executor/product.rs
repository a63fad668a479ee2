//! Products of matrices of the plan, with what adapters add to single rows.

use super::Chunk;
use crate::adapter::Adapter;
use crate::load::Model;
use crate::plan::{Linear, TensorId};
use sampan_kernels::{Floats, Job, MatmulScratch};
use std::ops::Range;
use std::sync::Arc;

/// Memory of products, kept between calls, and which rows of a call have an adapter.
#[derive(Debug, Default)]
pub(super) struct Products {
    pub(super) scratch: MatmulScratch,
    adapted: Vec<(Range<usize>, Arc<Adapter>)>,
    narrow: Floats, // [rows, rank]
}

/// `out = W x + b`, or added to what `out` holds.
#[derive(Debug)]
pub(super) struct Product<'a> {
    weight: TensorId,
    job: Job<'a>,
}

impl Product<'_> {
    /// Adds to what the output holds instead of replacing it.
    pub(super) fn added(mut self, added: bool) -> Self {
        self.job.accumulate = added;
        self
    }
}

impl Products {
    /// From here on, the rows of the products are those that `rows` takes of each chunk, in the chunks' order.
    pub(super) fn adapt(&mut self, chunks: &[Chunk<'_>], rows: impl Fn(&Chunk<'_>) -> usize) {
        self.adapted.clear();
        let mut first = 0;
        for chunk in chunks {
            let range = first..first + rows(chunk);
            first = range.end;
            let Some(adapter) = chunk.adapter.filter(|_| !range.is_empty()) else { continue };
            match self.adapted.last_mut() {
                Some((last, same)) if last.end == range.start && Arc::ptr_eq(same, adapter) => {
                    last.end = range.end;
                }
                _ => self.adapted.push((range, adapter.clone())),
            }
        }
    }

    /// Forgets the adapters of a call.
    pub(super) fn adapt_none(&mut self) {
        self.adapted.clear();
    }
}

impl Model {
    /// The product of a matrix of the plan, into `out`.
    pub(super) fn job<'a>(&'a self, linear: &Linear, out: &'a mut [f32]) -> Product<'a> {
        let bias = linear.bias.map(|bias| self.vector(bias));
        let job = Job { weights: self.matrix(linear.weight), bias, out, accumulate: false };
        Product { weight: linear.weight, job }
    }

    /// Runs all products on the `n` rows of `x`. A row that has an adapter gets `b (a x)` added of each matrix that the
    /// adapter changes; the others are what they are without any.
    pub(super) fn products(&self, x: &[f32], n: usize, memory: &mut Products, products: &mut [Product<'_>]) {
        let kernels = self.kernels();
        let Products { scratch, adapted, narrow } = memory;
        let mut jobs: Vec<Job<'_>> = products
            .iter_mut()
            .map(|Product { job, .. }| Job {
                weights: job.weights,
                bias: job.bias,
                out: &mut *job.out,
                accumulate: job.accumulate,
            })
            .collect();
        kernels.matmul(x, n, scratch, &mut jobs);
        for (rows, adapter) in adapted {
            for Product { weight, job } in &mut *products {
                let Some(change) = adapter.change(*weight) else { continue };
                let (inputs, outputs) = (change.a.cols(), change.b.rows());
                let x = &x[rows.start * inputs..rows.end * inputs];
                narrow.resize(rows.len() * change.a.rows());
                let product = Job { weights: &change.a, bias: None, out: narrow, accumulate: false };
                kernels.matmul(x, rows.len(), scratch, &mut [product]);
                let out = &mut job.out[rows.start * outputs..rows.end * outputs];
                let product = Job { weights: &change.b, bias: None, out, accumulate: true };
                kernels.matmul(narrow, rows.len(), scratch, &mut [product]);
            }
        }
    }
}
