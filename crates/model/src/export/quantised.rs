//! A GGUF file with its weights quantised: the same keys and tensors, in other formats.

use super::{ExportError, Quantising};
use crate::error::LoadError;
use crate::load::source;
use crate::plan::{Plan, Role, Source, TensorId, TensorSpec};
use crate::quant::{Quant, wider};
use sampan_kernels::Format;
use sampan_weights::{Checkpoint, Dtype, Kind, Tensor, Value, gguf};
use std::collections::HashMap;
use std::path::Path;

/// What became of the tensors of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantised {
    /// Tensors, their weights and bytes, by type, the largest share first.
    pub types: Vec<(Dtype, usize, u64, u64)>,
    /// Tensors whose rows are no whole blocks of the format that the mix is named after.
    pub not_whole: Vec<NotWhole>,
}

/// Tensors that got another format because of the length of their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWhole {
    /// Numbers in a row.
    pub cols: usize,
    /// The format that the mix is named after.
    pub base: Format,
    /// What they got.
    pub dtype: Dtype,
    /// How many tensors.
    pub tensors: usize,
}

impl Quantised {
    /// Counts the tensors of a file, given by name, shape and type.
    pub(super) fn of<'t>(
        quant: Quant,
        tensors: impl Iterator<Item = (&'t str, &'t [usize], Dtype)>,
    ) -> Quantised {
        let base = quant.base();
        let (mut types, mut not_whole) = (Vec::<(Dtype, usize, u64, u64)>::new(), Vec::<NotWhole>::new());
        for (_, shape, dtype) in tensors {
            let weights = shape.iter().map(|&n| n as u64).product();
            let bytes = dtype.size(shape).ok().flatten().unwrap_or_default() as u64;
            match types.iter_mut().find(|row| row.0 == dtype) {
                Some(row) => *row = (dtype, row.1 + 1, row.2 + weights, row.3 + bytes),
                None => types.push((dtype, 1, weights, bytes)),
            }
            let cols = shape.last().copied().unwrap_or(1);
            let blocks = matches!(dtype, Dtype::Block(format) if format.block_len() > 1);
            if !blocks || cols.is_multiple_of(base.block_len()) {
                continue;
            }
            match not_whole.iter_mut().find(|row| (row.cols, row.dtype) == (cols, dtype)) {
                Some(row) => row.tensors += 1,
                None => not_whole.push(NotWhole { cols, base, dtype, tensors: 1 }),
            }
        }
        types.sort_by_key(|row| std::cmp::Reverse(row.2));
        Quantised { types, not_whole }
    }

    /// Weights and bytes of all tensors.
    pub fn total(&self) -> (u64, u64) {
        self.types.iter().fold((0, 0), |sum, row| (sum.0 + row.2, sum.1 + row.3))
    }
}

/// Writes the GGUF `checkpoint` to the file `path` with its matrices quantised, a tensor at a time. `progress` is called with
/// the bytes done and the bytes in total. The file appears when it is whole.
///
/// What the plan does not read (a tower for images, say), vectors and routers stay as they are.
///
/// # Errors
/// When the checkpoint has no plan or is quantised already (unless that is wanted), a weight is no number, or a file cannot
/// be read or written.
pub fn quantise(
    checkpoint: &Checkpoint,
    path: &Path,
    quantising: Quantising<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Quantised, ExportError> {
    if checkpoint.kind() != Kind::Gguf {
        return Err(ExportError::NotGguf { path: checkpoint.path().display().to_string() });
    }
    let plan = Plan::from_checkpoint(checkpoint, quantising.plan_options(false))?;
    let formats = formats(&plan);
    let target = |tensor: &Tensor<'_>| match formats.get(tensor.name) {
        // Rows of vectors are added or multiplied by element: float32 only.
        Some(&format) if tensor.shape.len() > 1 => Dtype::Block(format),
        _ => tensor.dtype,
    };
    let mut writer = gguf::Writer::new();
    for (key, value) in checkpoint.metadata().iter() {
        if key != "general.alignment" && !key.starts_with("split.") {
            writer.set(key, value.clone())?;
        }
    }
    writer.set("general.file_type", Value::U32(quantising.quant.file_type()))?;
    writer.set("general.quantization_version", Value::U32(2))?;
    for tensor in checkpoint.tensors() {
        writer.tensor(tensor.name, tensor.shape, target(&tensor))?;
    }
    let census = Quantised::of(
        quantising.quant,
        checkpoint.tensors().map(|tensor| (tensor.name, tensor.shape, target(&tensor))),
    );
    let mut file = writer.create(path)?;
    let (mut done, total) = (0, checkpoint.tensors().map(|tensor| tensor.size() as u64).sum());
    for tensor in checkpoint.tensors() {
        match target(&tensor) {
            Dtype::Block(format) if tensor.dtype != Dtype::Block(format) => {
                file.append(tensor.name, &quantised(checkpoint, &plan, &tensor, format, quantising)?)?;
            }
            _ => {
                for piece in tensor.pieces() {
                    file.append(tensor.name, &piece?)?;
                }
            }
        }
        done += tensor.size() as u64;
        progress(done, total);
    }
    file.finish()?;
    Ok(census)
}

/// The format of each tensor of the file that is a matrix; the widest, where the plan cuts one into several. Matrices
/// whose columns are the file's rows are small and stay what they are.
fn formats(plan: &Plan) -> HashMap<&str, Format> {
    let mut formats = HashMap::new();
    let as_stored = |spec: &&TensorSpec| spec.role == Role::Matrix && !spec.source.transposed;
    for spec in plan.tensors.iter().filter(as_stored) {
        let format = formats.entry(spec.name.as_str()).or_insert(spec.format);
        *format = wider(*format, spec.format);
    }
    formats
}

/// The bytes of a tensor of the file in another format.
fn quantised(
    checkpoint: &Checkpoint,
    plan: &Plan,
    tensor: &Tensor<'_>,
    format: Format,
    quantising: Quantising<'_>,
) -> Result<Vec<u8>, LoadError> {
    let cols = tensor.shape.last().copied().unwrap_or(1);
    let spec = TensorSpec {
        name: tensor.name.to_owned(),
        shape: vec![tensor.count() / cols.max(1), cols],
        layer: None,
        role: Role::Matrix,
        format,
        source: Source::default(),
    };
    let by_row = by_row(plan, tensor.name, spec.shape[0]);
    let weights = |row: usize| quantising.importance?.of(by_row[row]?);
    source::quantised(checkpoint, tensor, &spec, None, &weights, quantising.pool)
}

/// Which tensor of the plan each row of a tensor of the file belongs to: experts lie in stacks.
fn by_row(plan: &Plan, name: &str, rows: usize) -> Vec<Option<TensorId>> {
    let mut by_row = vec![None; rows];
    for (id, spec) in plan.tensors.iter().enumerate().filter(|(_, spec)| spec.name == name) {
        if !spec.source.transposed {
            (0..spec.rows_cols().0).for_each(|i| by_row[spec.source.rows.index(i)] = Some(id));
        }
    }
    by_row
}
