//! Adapters in memory: low-rank changes of a model's matrices, beside the model, which stays as it is.

use crate::error::AdapterError;
use crate::load::Model;
use crate::names;
use crate::plan::{Mixer, Plan, Role, TensorId, TensorSpec};
use sampan_kernels::{Format, Kernels, Matrix};
use sampan_weights::{AdapterFiles, LowRank};
use std::collections::HashMap;

/// What an adapter adds to a model. Goes with the model that it was loaded for; any number of them share that one, and
/// [`Chunk::adapter`](crate::Chunk::adapter) says which one a sequence has.
#[derive(Debug)]
pub struct Adapter {
    changes: HashMap<TensorId, Change>,
}

/// `b (a x)` is added to what a matrix makes of `x`.
#[derive(Debug)]
pub(crate) struct Change {
    /// `rank x inputs`
    pub(crate) a: Matrix,
    /// `outputs x rank`, the adapter's factor in it.
    pub(crate) b: Matrix,
}

impl Adapter {
    /// Finds the matrices that an adapter changes, by the names that the model's own files have for them, and brings
    /// the changes into memory, in float32.
    ///
    /// # Errors
    /// Names what the adapter would change and cannot be changed, or has another shape. No part is left out.
    pub fn load(files: &AdapterFiles, model: &Model) -> Result<Adapter, AdapterError> {
        let plan = model.plan();
        let gguf = plan.tensors[plan.embedding].name == "token_embd.weight";
        if gguf != files.is_gguf() {
            return Err(AdapterError::Dialect { adapter: dialect(files.is_gguf()), model: dialect(gguf) });
        }
        let mut adapter = Adapter { changes: HashMap::new() };
        for change in files.low_rank()? {
            for id in find(plan, &change.target)? {
                let change = pack(model.kernels(), &change, &plan.tensors[id])?;
                adapter.changes.insert(id, change);
            }
        }
        Ok(adapter)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.changes.values().map(|change| change.a.bytes() + change.b.bytes()).sum()
    }

    /// How many matrices it changes.
    pub fn matrices(&self) -> usize {
        self.changes.len()
    }

    pub(crate) fn change(&self, id: TensorId) -> Option<&Change> {
        self.changes.get(&id)
    }
}

fn dialect(gguf: bool) -> &'static str {
    if gguf { "GGUF" } else { "Hugging Face" }
}

/// The matrices of the plan that come from the file's tensor `target`.
fn find(plan: &Plan, target: &str) -> Result<Vec<TensorId>, AdapterError> {
    let refuse = |why: &str| AdapterError::Unsupported { target: target.into(), why: why.into() };
    let named = |spec: &TensorSpec| spec.role == Role::Matrix && names::same(&spec.name, target);
    let mut ids: Vec<TensorId> = (0..plan.tensors.len()).filter(|&id| named(&plan.tensors[id])).collect();
    let tied = plan.head.filter(|head| head.weight == plan.embedding);
    match (tied, target) {
        // A head that shares the embedding's tensor has a name of its own all the same.
        (Some(head), "lm_head.weight" | "output.weight") => ids = vec![head.weight],
        _ if ids.contains(&plan.embedding) => return Err(refuse("it is the embedding")),
        _ => {}
    }
    if ids.is_empty() {
        return Err(AdapterError::Unmatched { target: target.into() });
    }
    let apart = multiplied_apart(plan);
    if ids.iter().any(|id| apart.contains(id)) {
        return Err(refuse("it is multiplied in parts: an expert, or heads that are absorbed"));
    }
    if ids.iter().any(|&id| plan.tensors[id].source.transposed) {
        return Err(refuse("the file stores it transposed"));
    }
    Ok(ids)
}

/// The matrices of which only some rows of a batch are multiplied, or in another order.
fn multiplied_apart(plan: &Plan) -> Vec<TensorId> {
    let experts = plan.mixtures().flat_map(|moe| &moe.experts);
    let experts = experts.flat_map(|expert| [expert.gate, expert.up, expert.down]);
    let heads = plan.layers.iter().flat_map(|layer| match &layer.mixer {
        Mixer::Latent(latent) => [&latent.absorb[..], &latent.expand].concat(),
        Mixer::Compressed(compressed) => compressed.o_groups.clone(),
        Mixer::Attention(_) | Mixer::Delta(_) => Vec::new(),
    });
    let table = plan.per_layer.map(|inputs| inputs.table);
    experts.chain(heads).map(|linear| linear.weight).chain(table).collect()
}

/// The change of the part of the file's tensor that `spec` is.
fn pack(kernels: &Kernels, change: &LowRank<'_>, spec: &TensorSpec) -> Result<Change, AdapterError> {
    let (rows, cols) = spec.rows_cols();
    let ([rank, inputs], [outputs, _]) = (change.a.shape, change.b.shape) else {
        unreachable!("both halves are matrices");
    };
    let which = &spec.source.rows;
    let there = match which {
        crate::plan::Rows::All => *outputs == rows,
        _ => (0..rows).all(|row| which.index(row) < *outputs),
    };
    if !there || *inputs != cols {
        let found = [*outputs, *inputs];
        return Err(AdapterError::Shape { target: change.target.clone(), expected: [rows, cols], found });
    }
    let a = change.a.to_f32()?;
    let all = change.b.to_f32()?;
    let row = |i: usize| &all[which.index(i) * rank..][..*rank];
    let b: Vec<f32> = (0..rows).flat_map(row).map(|x| x * change.scale).collect();
    if a.iter().chain(&b).any(|x| !x.is_finite()) {
        return Err(AdapterError::NotFinite { target: change.target.clone() });
    }
    let pack = |rows, cols, numbers: &[f32]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        kernels
            .pack(Format::F32, rows, cols, &bytes)
            .map_err(|source| AdapterError::Pack { target: change.target.clone(), source })
    };
    Ok(Change { a: pack(*rank, cols, &a)?, b: pack(rows, *rank, &b)? })
}
