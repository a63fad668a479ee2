//! Loading: every tensor that the plan names, packed for this CPU.

pub(crate) mod source;

use crate::error::LoadError;
use crate::plan::{Plan, Role, TensorId, TensorSpec};
use sampan_kernels::{Arena, Kernels, Matrix};
use sampan_weights::Checkpoint;
use std::borrow::Cow;
use std::sync::Arc;

/// A plan with its weights in memory. Read-only after loading.
#[derive(Debug)]
pub struct Model {
    plan: Plan,
    kernels: Arc<Kernels>,
    weights: Vec<Weight>,
}

/// A tensor in memory, by its role in the plan.
#[derive(Debug)]
enum Weight {
    Matrix(Matrix),
    Vector(Vec<f32>),
    Ids(Vec<u32>),
    Constant,
}

impl Model {
    /// Packs every tensor of the plan. `progress` is called with the bytes done and the bytes in total.
    ///
    /// Each tensor's pages are released while it is packed, so that the file and the packed weights are never both in
    /// memory for more than a few megabytes. (Of a tensor that is converted, once it is.)
    pub fn load(
        checkpoint: &Checkpoint,
        plan: Plan,
        kernels: Arc<Kernels>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model, LoadError> {
        let held = |t: &TensorSpec| t.count() * t.format.block_bytes() as u64 / t.format.block_len() as u64;
        let (mut done, total) = (0, plan.kept().map(held).sum());
        checkpoint.check_length()?;
        let packed = |t: &TensorSpec| match t.role {
            Role::Matrix => {
                kernels.packed_bytes(t.format, t.rows_cols().0, t.rows_cols().1).next_multiple_of(64)
            }
            Role::Vector | Role::Ids | Role::Constant => 0,
        };
        let mut arena = Arena::new(plan.kept().map(packed).sum());
        let mut weights = Vec::with_capacity(plan.tensors.len());
        for (index, spec) in plan.tensors.iter().enumerate() {
            let tensor =
                checkpoint.tensor(&spec.name).ok_or_else(|| LoadError::Gone { name: spec.name.clone() })?;
            weights.push(match spec.role {
                Role::Constant => Weight::Constant,
                Role::Vector => Weight::Vector(source::vector(checkpoint, spec)?),
                Role::Ids => Weight::Ids(source::ids(checkpoint, spec)?),
                Role::Matrix => {
                    let (rows, cols) = spec.rows_cols();
                    let data = match source::to_be_quantised(&tensor, spec) {
                        true => {
                            source::quantised(checkpoint, &tensor, spec, None, &|_| None, kernels.pool())?
                                .into()
                        }
                        false => source::matrix(checkpoint, &tensor, spec)?,
                    };
                    // What has been packed is given back at once, so that no whole tensor is in memory twice.
                    let mut part = tensor;
                    let mut done = |bytes: std::ops::Range<usize>| {
                        if let Cow::Borrowed(data) = data {
                            part.data = &data[bytes];
                            checkpoint.release(&part);
                        }
                    };
                    let matrix = kernels.pack_in_parts(&mut arena, spec.format, rows, cols, &data, &mut done);
                    Weight::Matrix(matrix.map_err(|source| LoadError::Pack {
                        name: spec.name.clone(),
                        format: spec.format,
                        source,
                    })?)
                }
            });
            if spec.role != Role::Constant {
                done += held(spec);
                progress(done, total);
            }
            // Several tensors of the plan may come from one of the file, one after the other.
            if plan.tensors.get(index + 1).is_none_or(|next| next.name != spec.name) {
                checkpoint.release(&tensor);
            }
        }
        Ok(Model { plan, kernels, weights })
    }

    /// What the model is.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What it runs on.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Weights that are not finite, as `(tensor, how many)`.
    pub fn not_finite(&self) -> Vec<(&str, usize)> {
        let mut found = Vec::new();
        let mut row = Vec::new();
        for (spec, weight) in self.plan.tensors.iter().zip(&self.weights) {
            let bad = |values: &[f32]| values.iter().filter(|x| !x.is_finite()).count();
            let count = match weight {
                Weight::Constant | Weight::Ids(_) => 0,
                Weight::Vector(values) => bad(values),
                Weight::Matrix(matrix) => {
                    row.resize(matrix.cols(), 0.0);
                    let mut count = 0;
                    for index in 0..matrix.rows() {
                        self.kernels.decode_row(matrix, index, &mut row);
                        count += bad(&row);
                    }
                    count
                }
            };
            if count > 0 {
                found.push((spec.name.as_str(), count));
            }
        }
        found
    }

    pub(crate) fn matrix(&self, id: TensorId) -> &Matrix {
        match &self.weights[id] {
            Weight::Matrix(matrix) => matrix,
            _ => unreachable!("{} is no matrix in the plan", self.plan.tensors[id].name),
        }
    }

    /// The matrix, if the tensor is one.
    pub(crate) fn matrix_if_any(&self, id: TensorId) -> Option<&Matrix> {
        match &self.weights[id] {
            Weight::Matrix(matrix) => Some(matrix),
            _ => None,
        }
    }

    pub(crate) fn vector(&self, id: TensorId) -> &[f32] {
        match &self.weights[id] {
            Weight::Vector(values) => values,
            _ => unreachable!("{} is no vector in the plan", self.plan.tensors[id].name),
        }
    }

    pub(crate) fn ids(&self, id: TensorId) -> &[u32] {
        match &self.weights[id] {
            Weight::Ids(ids) => ids,
            _ => unreachable!("{} is no table in the plan", self.plan.tensors[id].name),
        }
    }
}
