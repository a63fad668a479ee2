//! The tensors of the file: what each is made of, and writing them.

use super::ExportError;
use super::draft::Drafted;
use super::target::{Append, Piece, Target, Types, common};
use crate::plan::{Plan, Role};
use sampan_kernels::Format;
use sampan_weights::{Checkpoint, Dtype};
use std::collections::HashMap;

/// A tensor of a file: name, shape, type.
pub(super) type Listed = (String, Vec<usize>, Dtype);

/// The tensors of a file, in their order.
pub(super) struct Layout<'a> {
    targets: Vec<Target<'a>>,
    types: Types<'a>,
    constants: &'a [(String, Vec<f32>)],
}

impl<'a> Layout<'a> {
    /// Gathers the tensors of the plan by the file's tensor that they are a part of.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        plan: &Plan,
        draft: &'a Drafted,
        types: Types<'a>,
    ) -> Result<Layout<'a>, ExportError> {
        let mut targets: Vec<Target<'a>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let gguf = matches!(types, Types::Gguf { .. });
        let kept = plan.tensors.iter().enumerate().filter(|(_, spec)| spec.role != Role::Constant);
        let drafted = draft.plan.tensors.iter().zip(&draft.notes.shapes);
        let drafted = drafted.filter(|(spec, _)| spec.role != Role::Constant);
        for ((id, spec), (to, shape)) in kept.zip(drafted) {
            if (&spec.shape, spec.role) != (&to.shape, to.role) || gguf && to.source.transposed {
                let why = format!("{} of the checkpoint has the shape {:?}", spec.name, spec.shape);
                return Err(ExportError::Tensor { name: to.name.clone(), why });
            }
            let at = *places.entry(&to.name).or_insert_with(|| {
                // GGUF drops dimensions of 1.
                let first = shape.iter().position(|&n| n != 1).unwrap_or(shape.len() - 1);
                let shape = if gguf { shape[first..].to_vec() } else { shape.clone() };
                let dtype = types.of(spec, shape.len());
                targets.push(Target { name: &to.name, shape, dtype, unit: 0, pieces: Vec::new() });
                targets.len() - 1
            });
            let target = &mut targets[at];
            target.dtype = common(target.dtype, types.of(spec, target.shape.len()));
            let (rows, cols) = spec.rows_cols();
            let count = if spec.role == Role::Vector { cols } else { rows };
            let order = draft.orders.get(&id);
            target.pieces.push(Piece { id, to: &to.source, order, count });
        }
        for target in &mut targets {
            target.finish(plan, &types)?;
            target.narrow(checkpoint, plan, &types)?;
        }
        Ok(Layout { targets, types, constants: &draft.notes.constants })
    }

    /// The tensors of the file that are made from the plan's.
    pub(super) fn listed(&self) -> Vec<Listed> {
        self.targets.iter().flat_map(|target| target.listed(&self.types)).collect()
    }

    /// All tensors of the file.
    pub(super) fn all(&self) -> Vec<Listed> {
        let constants = self.constants.iter();
        let constants = constants.map(|(name, n)| (name.clone(), vec![n.len()], Dtype::Block(Format::F32)));
        constants.chain(self.listed()).collect()
    }

    /// `general.file_type`: the mix, or the type of most weights, in the numbers of llama.cpp.
    pub(super) fn file_type(&self) -> u32 {
        if let Some(quantising) = &self.types.quantising() {
            return quantising.quant.file_type();
        }
        let weights = |format| {
            let same = self.targets.iter().filter(|t| t.dtype == Dtype::Block(format));
            same.map(|target| target.shape.iter().product::<usize>()).sum::<usize>()
        };
        let types = [(Format::F32, 0), (Format::F16, 1), (Format::BF16, 32), (Format::MXFP4, 38)];
        types.into_iter().max_by_key(|(format, _)| weights(*format)).map_or(0, |(_, number)| number)
    }

    /// Gives every tensor's bytes to `append`; the number of tensors and their bytes.
    pub(super) fn pour(
        &self,
        checkpoint: &Checkpoint,
        plan: &Plan,
        append: Append<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(usize, u64), ExportError> {
        let (mut done, total) = (0, self.targets.iter().map(Target::bytes).sum());
        for (name, numbers) in self.constants {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            append(name, &bytes)?;
        }
        for target in &self.targets {
            target.write(checkpoint, plan, &self.types, append)?;
            done += target.bytes();
            progress(done, total);
        }
        Ok((self.listed().len() + self.constants.len(), total))
    }
}
