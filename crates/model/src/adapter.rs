//! Adapters in memory: low-rank changes of a model's matrices, beside the model, which stays as it is.

use crate::error::AdapterError;
use crate::export::{self, Order};
use crate::load::Model;
use crate::names;
use crate::plan::{Mixer, Plan, Role, Rows, TensorId, TensorSpec};
use sampan_kernels::{Format, Kernels, Matrix};
use sampan_weights::{AdapterFiles, Checkpoint, LowRank};
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

/// A tensor of the model as an adapter knows it.
struct Known<'a> {
    id: TensorId,
    /// Under what name, and which rows of that tensor.
    spec: &'a TensorSpec,
    /// How its rows or columns are ordered there.
    order: Option<&'a Order>,
}

impl Adapter {
    /// Finds the matrices that an adapter changes and brings the changes into memory, in float32. An adapter in GGUF goes
    /// with a GGUF model; one of PEFT with both, as the `checkpoint` that the model was loaded from can be said in Hugging
    /// Face's names.
    ///
    /// # Errors
    /// Names what the adapter would change and cannot be changed, or has another shape. No part is left out.
    pub fn load(
        files: &AdapterFiles,
        model: &Model,
        checkpoint: &Checkpoint,
    ) -> Result<Adapter, AdapterError> {
        let plan = model.plan();
        let gguf = plan.tensors[plan.embedding].name == "token_embd.weight";
        let published = match (files.is_gguf(), gguf) {
            (true, false) => return Err(AdapterError::Dialect),
            (false, true) => Some(export::as_published(checkpoint, plan).map_err(Box::new)?),
            _ => None,
        };
        let known: Vec<Known<'_>> = match &published {
            Some(published) => {
                published.pairs(plan).map(|(id, spec, order)| Known { id, spec, order }).collect()
            }
            None => {
                let tensors = plan.tensors.iter().enumerate();
                tensors.map(|(id, spec)| Known { id, spec, order: None }).collect()
            }
        };
        let mut adapter = Adapter { changes: HashMap::new() };
        for change in files.low_rank()? {
            for known in find(plan, &known, &change.target)? {
                adapter.changes.insert(known.id, pack(model.kernels(), &change, known)?);
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

/// The matrices of the plan that come from the file's tensor `target`.
fn find<'a>(plan: &Plan, known: &'a [Known<'a>], target: &str) -> Result<Vec<&'a Known<'a>>, AdapterError> {
    let refuse = |why: &str| AdapterError::Unsupported { target: target.into(), why: why.into() };
    let named = |known: &&Known<'_>| known.spec.role == Role::Matrix && names::same(&known.spec.name, target);
    let mut found: Vec<&Known<'_>> = known.iter().filter(named).collect();
    let tied = plan.head.filter(|head| head.weight == plan.embedding);
    match (tied, target) {
        // A head that shares the embedding's tensor has a name of its own all the same.
        (Some(head), "lm_head.weight" | "output.weight") => {
            found = known.iter().filter(|known| known.id == head.weight).collect();
        }
        _ if found.iter().any(|known| known.id == plan.embedding) => {
            return Err(refuse("it is the embedding"));
        }
        _ => {}
    }
    if found.is_empty() {
        return Err(AdapterError::Unmatched { target: target.into() });
    }
    let apart = multiplied_apart(plan);
    if found.iter().any(|known| apart.contains(&known.id)) {
        return Err(refuse("it is multiplied in parts: an expert, or heads that are absorbed"));
    }
    if found.iter().any(|known| known.spec.source.transposed) {
        return Err(refuse("the file stores it transposed"));
    }
    Ok(found)
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

/// The change of the part of the file's tensor that a tensor of the model is.
fn pack(kernels: &Kernels, change: &LowRank<'_>, known: &Known<'_>) -> Result<Change, AdapterError> {
    let (rows, cols) = known.spec.rows_cols();
    let ([rank, inputs], [outputs, _]) = (change.a.shape, change.b.shape) else {
        unreachable!("both halves are matrices");
    };
    let which = &known.spec.source.rows;
    let there = match which {
        Rows::All => *outputs == rows,
        _ => (0..rows).all(|row| which.index(row) < *outputs),
    };
    if !there || *inputs != cols {
        let found = [*outputs, *inputs];
        return Err(AdapterError::Shape { target: change.target.clone(), expected: [rows, cols], found });
    }
    let (mut a, all) = (change.a.to_f32()?, change.b.to_f32()?);
    let place = |row: usize| match known.order {
        Some(Order::Rows(places)) => places[row],
        _ => row,
    };
    if let Some(Order::Columns(places)) = known.order {
        a = a.chunks_exact(cols).flat_map(|row| places.iter().map(|&place| row[place])).collect();
    }
    let row = |i: usize| &all[which.index(place(i)) * rank..][..*rank];
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
