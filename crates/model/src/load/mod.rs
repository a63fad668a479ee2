//! Loading: every tensor that the plan names, packed for this CPU.

pub(crate) mod source;

use crate::error::LoadError;
use crate::plan::{Plan, Role, TensorId, TensorSpec};
use sampan_kernels::{Arena, Kernels, Matrix};
use sampan_weights::Checkpoint;
use std::sync::Arc;

/// A plan with its weights in memory. Read-only after loading.
#[derive(Debug)]
pub struct Model {
    plan: Plan,
    kernels: Arc<Kernels>,
    weights: Vec<Weight>,
}

/// Room for the plan's matrices, packed.
pub(crate) fn arena(plan: &Plan, kernels: &Kernels) -> Arena {
    let packed = |t: &TensorSpec| match t.role {
        Role::Matrix => kernels.packed_bytes(t.format, t.rows_cols().0, t.rows_cols().1).next_multiple_of(64),
        Role::Vector | Role::Ids | Role::Constant => 0,
    };
    Arena::new(plan.kept().map(packed).sum())
}

/// A tensor in memory, by its role in the plan.
#[derive(Debug)]
pub(crate) enum Weight {
    Matrix(Matrix),
    Vector(Vec<f32>),
    Ids(Vec<u32>),
    Constant,
}

impl Model {
    /// Packs every tensor of the plan. `progress` is called with the bytes done and the bytes in total.
    ///
    /// A tensor that is packed as it lies in the file is read by the threads that pack it, a task at a time, so that the
    /// file's weights and the packed ones are never both in memory. (Of a tensor that is converted, both are until it is.)
    ///
    /// # Errors
    /// When a file cannot be read, or has been shortened since it was opened; names it, the tensor and the byte.
    pub fn load(
        checkpoint: &Checkpoint,
        plan: Plan,
        kernels: Arc<Kernels>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model, LoadError> {
        let held = |t: &TensorSpec| t.count() * t.format.block_bytes() as u64 / t.format.block_len() as u64;
        let (mut done, total) = (0, plan.kept().map(held).sum());
        let mut arena = arena(&plan, &kernels);
        let mut weights = Vec::with_capacity(plan.tensors.len());
        for spec in &plan.tensors {
            weights.push(match spec.role {
                Role::Constant => Weight::Constant,
                Role::Vector => Weight::Vector(source::vector(checkpoint, spec)?),
                Role::Ids => Weight::Ids(source::ids(checkpoint, spec)?),
                Role::Matrix => Weight::Matrix(matrix(checkpoint, spec, &kernels, &mut arena)?),
            });
            if spec.role != Role::Constant {
                done += held(spec);
                progress(done, total);
            }
        }
        Ok(Model { plan, kernels, weights })
    }

    /// A model of weights that are packed already, one for each tensor of the plan.
    pub(crate) fn from_parts(plan: Plan, kernels: Arc<Kernels>, weights: Vec<Weight>) -> Model {
        Model { plan, kernels, weights }
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

    /// The matrices, in the order in which a forward pass reads them.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.weights.iter().filter_map(|weight| match weight {
            Weight::Matrix(matrix) => Some(matrix),
            _ => None,
        })
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

/// A matrix of the plan, packed.
fn matrix(
    checkpoint: &Checkpoint,
    spec: &TensorSpec,
    kernels: &Kernels,
    arena: &mut Arena,
) -> Result<Matrix, LoadError> {
    let tensor = source::find(checkpoint, &spec.name)?;
    let (rows, cols) = spec.rows_cols();
    let packed = if let Some(start) = source::start_as_stored(&tensor, spec) {
        let read = |offset, out: &mut [u8]| tensor.read_into(start + offset, out);
        match kernels.pack_from(arena, spec.format, rows, cols, read) {
            Ok(read) => Ok(read?),
            Err(refused) => Err(refused),
        }
    } else {
        let data = match source::to_be_quantised(&tensor, spec) {
            true => source::quantised(checkpoint, &tensor, spec, None, &|_| None, kernels.pool())?.into(),
            false => source::matrix(checkpoint, &tensor, spec)?,
        };
        kernels.pack_in(arena, spec.format, rows, cols, &data)
    };
    packed.map_err(|source| LoadError::Pack { name: spec.name.clone(), format: spec.format, source })
}
