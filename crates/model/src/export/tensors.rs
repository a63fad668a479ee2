//! The tensors of the file: what each is made of, and writing them.

use super::draft::Drafted;
use super::order::Order;
use super::{ExportError, Quantising};
use crate::error::LoadError;
use crate::load::source;
use crate::plan::{Plan, Role, Rows, TensorId, TensorSpec};
use crate::quant;
use sampan_kernels::Format;
use sampan_weights::{Checkpoint, Dtype, Tensor, gguf};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// The tensors of a file, in their order.
pub(super) struct Layout<'a> {
    targets: Vec<Target<'a>>,
    quantising: Option<Quantising<'a>>,
    constants: &'a [(String, Vec<f32>)],
}

/// A tensor of the file.
struct Target<'a> {
    name: &'a str,
    shape: Vec<usize>,
    dtype: Dtype,
    /// Bytes of a row of a matrix, or of a number of a vector.
    unit: usize,
    pieces: Vec<Piece<'a>>,
}

/// A tensor of the plan as a part of one of the file.
struct Piece<'a> {
    id: TensorId,
    /// Where its rows go in the file's tensor.
    rows: &'a Rows,
    /// And how they are ordered before that.
    order: Option<&'a Order>,
    /// How many rows, or numbers of a vector.
    count: usize,
}

impl<'a> Layout<'a> {
    /// Gathers the tensors of the plan by the file's tensor that they are a part of.
    pub(super) fn new(
        plan: &Plan,
        draft: &'a Drafted,
        quantising: Option<Quantising<'a>>,
    ) -> Result<Layout<'a>, ExportError> {
        let mut targets: Vec<Target<'a>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let kept = plan.tensors.iter().enumerate().filter(|(_, spec)| spec.role != Role::Constant);
        for ((id, spec), (to, shape)) in kept.zip(draft.plan.tensors.iter().zip(&draft.notes.shapes)) {
            if (&spec.shape, spec.role) != (&to.shape, to.role) || to.source.transposed {
                let why = format!("{} of the checkpoint has the shape {:?}", spec.name, spec.shape);
                return Err(ExportError::Tensor { name: to.name.clone(), why });
            }
            let at = *places.entry(&to.name).or_insert_with(|| {
                let first = shape.iter().position(|&n| n != 1).unwrap_or(shape.len() - 1);
                let (shape, dtype) = (shape[first..].to_vec(), dtype(spec, shape.len() - first));
                targets.push(Target { name: &to.name, shape, dtype, unit: 0, pieces: Vec::new() });
                targets.len() - 1
            });
            let target = &mut targets[at];
            target.dtype = common(target.dtype, dtype(spec, target.shape.len()));
            let (rows, cols) = spec.rows_cols();
            let count = if spec.role == Role::Vector { cols } else { rows };
            let order = draft.orders.get(&id);
            target.pieces.push(Piece { id, rows: &to.source.rows, order, count });
        }
        targets.iter_mut().try_for_each(|target| target.finish(plan, quantising.is_some()))?;
        Ok(Layout { targets, quantising, constants: &draft.notes.constants })
    }

    /// The tensors of the file as they will be.
    pub(super) fn listed(&self) -> impl Iterator<Item = (&str, &[usize], Dtype)> {
        self.targets.iter().map(|target| (target.name, &target.shape[..], target.dtype))
    }

    /// `general.file_type`: the mix, or the type of most weights, in the numbers of llama.cpp.
    pub(super) fn file_type(&self) -> u32 {
        if let Some(quantising) = &self.quantising {
            return quantising.quant.file_type();
        }
        let weights = |format| {
            let same = self.targets.iter().filter(|t| t.dtype == Dtype::Block(format));
            same.map(|target| target.shape.iter().product::<usize>()).sum::<usize>()
        };
        let types = [(Format::F32, 0), (Format::F16, 1), (Format::BF16, 32), (Format::MXFP4, 38)];
        types.into_iter().max_by_key(|(format, _)| weights(*format)).map_or(0, |(_, number)| number)
    }

    /// Writes the file; gives the number of tensors and their bytes.
    pub(super) fn write(
        &self,
        checkpoint: &Checkpoint,
        plan: &Plan,
        mut writer: gguf::Writer,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(usize, u64), ExportError> {
        for (name, numbers) in self.constants {
            writer.tensor(name, &[numbers.len()], Dtype::Block(Format::F32))?;
        }
        for target in &self.targets {
            writer.tensor(target.name, &target.shape, target.dtype)?;
        }
        checkpoint.check_length()?;
        let mut file = writer.create(path)?;
        let (mut done, total) = (0, self.targets.iter().map(Target::bytes).sum());
        for (name, numbers) in self.constants {
            file.append(name, &floats(numbers))?;
        }
        for target in &self.targets {
            target.write(checkpoint, plan, self.quantising.as_ref(), &mut file)?;
            done += target.bytes();
            progress(done, total);
        }
        file.finish()?;
        Ok((self.targets.len() + self.constants.len(), total))
    }
}

/// The type that a tensor of the plan has in a file, in a tensor of `dims` dimensions. What is one row is added or
/// multiplied by element, which other programs do in float32 only.
fn dtype(spec: &TensorSpec, dims: usize) -> Dtype {
    match spec.role {
        Role::Ids => Dtype::I32,
        Role::Matrix if dims > 1 => Dtype::Block(spec.format),
        _ => Dtype::Block(Format::F32),
    }
}

/// The type of a tensor with parts of two types: of quantised ones the wider, else float32.
fn common(a: Dtype, b: Dtype) -> Dtype {
    match (a, b) {
        _ if a == b => a,
        (Dtype::Block(x), Dtype::Block(y)) if x.block_len() > 1 && y.block_len() > 1 => {
            Dtype::Block(quant::wider(x, y))
        }
        _ => Dtype::Block(Format::F32),
    }
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

impl Piece<'_> {
    /// Its bytes in a quantised format, with its columns in the file's order.
    fn quantised(
        &self,
        checkpoint: &Checkpoint,
        tensor: &Tensor<'_>,
        wanted: &TensorSpec,
        quantising: &Quantising<'_>,
    ) -> Result<Vec<u8>, LoadError> {
        let importance = quantising.importance.and_then(|known| known.of(self.id));
        let (places, importance) = match self.order {
            Some(Order::Columns(places)) => {
                (Some(&places[..]), importance.map(|weights| Cow::Owned(source::placed(weights, places))))
            }
            _ => (None, importance.map(Cow::Borrowed)),
        };
        let weights = |_| importance.as_deref();
        source::quantised(checkpoint, tensor, wanted, places, &weights, quantising.pool)
    }
}

impl Target<'_> {
    /// Works out the bytes of a row, and checks that the pieces fill the tensor.
    fn finish(&mut self, plan: &Plan, quantising: bool) -> Result<(), ExportError> {
        let numbers: usize = self.shape.iter().product();
        let role = plan.tensors[self.pieces[0].id].role;
        let width = match role {
            Role::Vector => 1,
            _ => plan.tensors[self.pieces[0].id].rows_cols().1,
        };
        let filled: usize = self.pieces.iter().map(|piece| piece.count * width).sum();
        let unit = match self.dtype {
            Dtype::Block(format) => format.row_bytes(width),
            _ => Some(4 * width),
        };
        let fail = |why: String| Err(ExportError::Tensor { name: self.name.to_string(), why });
        let Some(unit) = unit else {
            return fail(format!("rows of {width} numbers are no whole blocks of {}", self.dtype));
        };
        let columns = self.pieces.iter().any(|piece| matches!(piece.order, Some(Order::Columns(_))));
        let movable = match self.dtype {
            // What is quantised here is put in order before.
            Dtype::Block(format) => format.block_len() == 1 || quantising && format != Format::MXFP4,
            _ => false,
        };
        if columns && !movable {
            return fail(format!("the columns of {} blocks cannot change places", self.dtype));
        }
        if filled != numbers {
            return fail(format!("its parts have {filled} numbers, its shape {:?} {numbers}", self.shape));
        }
        self.unit = unit;
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| (piece.count * self.unit) as u64).sum()
    }

    /// Whether every piece follows the one before.
    fn in_order(&self) -> bool {
        let mut next = 0;
        self.pieces.iter().all(|piece| {
            let start = next;
            next += piece.count;
            piece.rows.consecutive() && piece.rows.index(0) == start
        })
    }

    fn write(
        &self,
        checkpoint: &Checkpoint,
        plan: &Plan,
        quantising: Option<&Quantising<'_>>,
        file: &mut gguf::TensorWriter,
    ) -> Result<(), ExportError> {
        let in_order = self.in_order();
        let mut whole = vec![0; if in_order { 0 } else { self.bytes() as usize }];
        for piece in &self.pieces {
            let bytes = self.read(checkpoint, piece, &plan.tensors[piece.id], quantising)?;
            if in_order {
                file.append(self.name, &bytes)?;
                continue;
            }
            for (i, row) in bytes.chunks_exact(self.unit).enumerate() {
                whole[piece.rows.index(i) * self.unit..][..self.unit].copy_from_slice(row);
            }
        }
        if !in_order {
            file.append(self.name, &whole)?;
        }
        let names = self.pieces.iter().map(|piece| plan.tensors[piece.id].name.as_str());
        for tensor in names.filter_map(|name| checkpoint.tensor(name)) {
            checkpoint.release(&tensor);
        }
        Ok(())
    }

    /// A tensor of the plan in the file's type and order.
    fn read<'c>(
        &self,
        checkpoint: &'c Checkpoint,
        piece: &Piece<'_>,
        spec: &TensorSpec,
        quantising: Option<&Quantising<'_>>,
    ) -> Result<Cow<'c, [u8]>, ExportError> {
        let bytes = match (spec.role, self.dtype) {
            (Role::Vector, _) => Cow::Owned(floats(&source::vector(checkpoint, spec)?)),
            (Role::Ids, _) => {
                let ids = source::ids(checkpoint, spec)?;
                Cow::Owned(ids.iter().flat_map(|id| id.to_le_bytes()).collect())
            }
            (_, Dtype::Block(format)) => {
                let gone = || LoadError::Gone { name: spec.name.clone() };
                let tensor = checkpoint.tensor(&spec.name).ok_or_else(gone)?;
                if format != spec.format && spec.format == Format::MXFP4 {
                    let why = format!("{} is MXFP4, others of its parts are not", spec.name);
                    return Err(ExportError::Tensor { name: self.name.to_string(), why });
                }
                let wanted = TensorSpec { format, ..spec.clone() };
                match quantising.filter(|_| source::to_be_quantised(&tensor, &wanted)) {
                    None => source::matrix(checkpoint, &tensor, &wanted)?,
                    Some(quantising) => {
                        let bytes = Cow::Owned(piece.quantised(checkpoint, &tensor, &wanted, quantising)?);
                        // Columns are in order before blocks are made of them.
                        match piece.order {
                            Some(Order::Columns(_)) => return Ok(bytes),
                            _ => bytes,
                        }
                    }
                }
            }
            _ => unreachable!("matrices are written in formats that matrices have"),
        };
        Ok(self.ordered(piece, bytes))
    }

    /// A piece with its rows, or columns, in the file's order.
    fn ordered<'c>(&self, piece: &Piece<'_>, bytes: Cow<'c, [u8]>) -> Cow<'c, [u8]> {
        let (list, unit, row) = match piece.order {
            None => return bytes,
            Some(Order::Rows(list)) => (list, self.unit, bytes.len()),
            // `Target::finish` let only formats with single numbers pass.
            Some(Order::Columns(list)) => (list, self.unit / list.len(), self.unit),
        };
        let mut out = vec![0; bytes.len()];
        for (from, to) in bytes.chunks_exact(row).zip(out.chunks_exact_mut(row)) {
            for (number, &place) in from.chunks_exact(unit).zip(list) {
                to[place * unit..][..unit].copy_from_slice(number);
            }
        }
        Cow::Owned(out)
    }
}
