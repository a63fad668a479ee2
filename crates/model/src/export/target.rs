//! A tensor of the file that is written: which tensors of the plan are its parts, and what becomes of their numbers.

use super::order::Order;
use super::published::FourBits;
use super::{ExportError, Quantising};
use crate::error::LoadError;
use crate::load::source;
use crate::plan::{Plan, Role, Source, TensorId, TensorSpec};
use crate::quant;
use sampan_kernels::Format;
use sampan_weights::{Checkpoint, Dtype, Tensor};
use std::borrow::Cow;

/// Takes the bytes of a tensor of the file, in pieces.
pub(super) type Append<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Result<(), sampan_weights::Error>;

/// What the numbers of a file become.
#[derive(Clone, Copy)]
pub(super) enum Types<'a> {
    /// Blocks of GGUF.
    Gguf {
        /// How weights are quantised; else they keep their type.
        quantising: Option<Quantising<'a>>,
    },
    /// Floats, and experts in four bits as they are published.
    Safetensors {
        /// The type of most weights.
        main: Format,
        /// All matrices get this type, also those that are of another float.
        all: bool,
        /// How experts in four bits are stored, if they stay that.
        four_bits: Option<FourBits>,
    },
}

impl<'a> Types<'a> {
    pub(super) fn quantising(&self) -> Option<Quantising<'a>> {
        match self {
            Types::Gguf { quantising } => *quantising,
            Types::Safetensors { .. } => None,
        }
    }

    /// The type that a tensor of the plan has in the file, in a tensor of `dims` dimensions.
    pub(super) fn of(&self, spec: &TensorSpec, dims: usize) -> Dtype {
        let floats = [Format::F32, Format::F16, Format::BF16];
        match (self, spec.role) {
            (Types::Gguf { .. }, Role::Ids) => Dtype::I32,
            (Types::Safetensors { .. }, Role::Ids) => Dtype::I64,
            // What is one row is added or multiplied by element, which other programs do in float32 only.
            (Types::Gguf { .. }, Role::Matrix) if dims > 1 => Dtype::Block(spec.format),
            (Types::Safetensors { four_bits: Some(_), .. }, Role::Matrix) if spec.format == Format::MXFP4 => {
                Dtype::Block(Format::MXFP4)
            }
            (Types::Safetensors { main, all, .. }, Role::Matrix) => {
                // What is quantised in the file is held as float16 where its columns are the rows.
                let quantised =
                    !floats.contains(&spec.format) || spec.source.transposed && spec.format == Format::F16;
                Dtype::Block(if quantised || *all { *main } else { spec.format })
            }
            _ => Dtype::Block(Format::F32),
        }
    }
}

/// A tensor of the file.
pub(super) struct Target<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Dtype,
    /// Bytes of a row of a matrix, or of a number of a vector.
    pub(super) unit: usize,
    pub(super) pieces: Vec<Piece<'a>>,
}

/// A tensor of the plan as a part of one of the file.
pub(super) struct Piece<'a> {
    pub(super) id: TensorId,
    /// Where it is in the file's tensor.
    pub(super) to: &'a Source,
    /// And how its rows are ordered before that.
    pub(super) order: Option<&'a Order>,
    /// How many rows, or numbers of a vector.
    pub(super) count: usize,
}

/// The type of a tensor with parts of two types: of quantised ones the wider, else float32.
pub(super) fn common(a: Dtype, b: Dtype) -> Dtype {
    match (a, b) {
        _ if a == b => a,
        (Dtype::Block(x), Dtype::Block(y)) if x.block_len() > 1 && y.block_len() > 1 => {
            Dtype::Block(quant::wider(x, y))
        }
        _ => Dtype::Block(Format::F32),
    }
}

/// Numbers of one of the formats with single numbers.
fn encoded(numbers: &[f32], dtype: Dtype) -> Vec<u8> {
    let format = match dtype {
        Dtype::Block(format) => format,
        _ => Format::F32,
    };
    let mut bytes = vec![0; numbers.len() * format.block_bytes()];
    // Floats are encoded one by one, whatever they are.
    let _ = format.encode(numbers, &mut bytes);
    bytes
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
    pub(super) fn finish(&mut self, plan: &Plan, types: &Types<'_>) -> Result<(), ExportError> {
        let numbers: usize = self.shape.iter().product();
        let role = plan.tensors[self.pieces[0].id].role;
        let width = match role {
            Role::Vector => 1,
            _ => self.shape.last().copied().unwrap_or(1),
        };
        let parts = self.pieces.iter().map(|piece| plan.tensors[piece.id].count());
        let filled = parts.sum::<u64>();
        let unit = match self.dtype {
            Dtype::Block(format) => format.row_bytes(width),
            Dtype::I64 => Some(8 * width),
            _ => Some(4 * width),
        };
        let fail = |why: String| Err(ExportError::Tensor { name: self.name.to_string(), why });
        let Some(unit) = unit else {
            return fail(format!("rows of {width} numbers are no whole blocks of {}", self.dtype));
        };
        let columns = self.pieces.iter().any(|piece| matches!(piece.order, Some(Order::Columns(_))));
        let movable = match self.dtype {
            // What is quantised here is put in order before.
            Dtype::Block(format) => {
                format.block_len() == 1 || types.quantising().is_some() && format != Format::MXFP4
            }
            _ => false,
        };
        if columns && !movable {
            return fail(format!("the columns of {} blocks cannot change places", self.dtype));
        }
        if filled != numbers as u64 {
            return fail(format!("its parts have {filled} numbers, its shape {:?} {numbers}", self.shape));
        }
        self.unit = unit;
        Ok(())
    }

    /// Gives a tensor of float32 the narrower type `main` if no number changes by that.
    pub(super) fn narrow(
        &mut self,
        checkpoint: &Checkpoint,
        plan: &Plan,
        types: &Types<'_>,
    ) -> Result<(), ExportError> {
        let Types::Safetensors { main, .. } = *types else { return Ok(()) };
        let wide = Dtype::Block(Format::F32);
        if self.dtype != wide || main == Format::F32 {
            return Ok(());
        }
        let mut kept = true;
        for piece in &self.pieces {
            let bytes = self.read(checkpoint, piece, &plan.tensors[piece.id], types)?;
            let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            let mut again = vec![0.0; numbers.len()];
            main.decode(&encoded(&numbers, Dtype::Block(main)), &mut again);
            kept &= numbers == again;
        }
        if kept {
            self.dtype = Dtype::Block(main);
            self.finish(plan, types)?;
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        // Sizes were checked in `finish`.
        self.dtype.size(&self.shape).ok().flatten().unwrap_or_default() as u64
    }

    /// Whether every piece follows the one before.
    fn in_order(&self) -> bool {
        let mut next = 0;
        self.pieces.iter().all(|piece| {
            let start = next;
            next += piece.count;
            let rows = &piece.to.rows;
            !piece.to.transposed && rows.consecutive() && rows.index(0) == start
        })
    }

    pub(super) fn write(
        &self,
        checkpoint: &Checkpoint,
        plan: &Plan,
        types: &Types<'_>,
        append: Append<'_>,
    ) -> Result<(), ExportError> {
        let four_bits = self.four_bits(types);
        let streamed = self.in_order() && four_bits.is_none();
        let mut whole = vec![0; if streamed { 0 } else { self.bytes() as usize }];
        for piece in &self.pieces {
            let spec = &plan.tensors[piece.id];
            let bytes = self.read(checkpoint, piece, spec, types)?;
            match streamed {
                true => append(self.name, &bytes)?,
                false => self.place(piece, spec, &bytes, &mut whole),
            }
        }
        match four_bits {
            Some((codes, scales)) => {
                let blocks = whole.chunks_exact(Format::MXFP4.block_bytes());
                append(&scales, &blocks.clone().map(|block| block[0]).collect::<Vec<u8>>())?;
                append(&codes, &blocks.flat_map(neighbours).collect::<Vec<u8>>())?;
            }
            None if !streamed => append(self.name, &whole)?,
            None => {}
        }
        Ok(())
    }

    /// Where codes and scales go, if the tensor is stored so.
    fn four_bits(&self, types: &Types<'_>) -> Option<(String, String)> {
        let Types::Safetensors { four_bits: Some(kind), .. } = types else { return None };
        if self.dtype != Dtype::Block(Format::MXFP4) {
            return None;
        }
        let name = self.name;
        Some(match kind {
            FourBits::Blocks => (format!("{name}_blocks"), format!("{name}_scales")),
            FourBits::Scale => {
                (name.to_owned(), format!("{}.scale", name.strip_suffix(".weight").unwrap_or(name)))
            }
        })
    }

    /// The tensors that it is in the file.
    pub(super) fn listed(&self, types: &Types<'_>) -> Vec<(String, Vec<usize>, Dtype)> {
        let (Some((codes, scales)), Types::Safetensors { four_bits: Some(kind), .. }) =
            (self.four_bits(types), types)
        else {
            return vec![(self.name.to_owned(), self.shape.clone(), self.dtype)];
        };
        let (rows, cols) = (&self.shape[..self.shape.len() - 1], self.shape.last().copied().unwrap_or(0));
        let with = |more: &[usize]| [rows, more].concat();
        let (codes_shape, types) = match kind {
            FourBits::Blocks => (with(&[cols / 32, 16]), (Dtype::U8, Dtype::U8)),
            FourBits::Scale => (with(&[cols / 2]), (Dtype::I8, Dtype::F8E8M0)),
        };
        vec![(codes, codes_shape, types.0), (scales, with(&[cols / 32]), types.1)]
    }

    /// Puts a piece where it belongs in the whole tensor.
    fn place(&self, piece: &Piece<'_>, spec: &TensorSpec, bytes: &[u8], whole: &mut [u8]) {
        let Source { rows, columns, transposed, .. } = piece.to;
        if !transposed {
            for (i, row) in bytes.chunks_exact(self.unit).enumerate() {
                whole[rows.index(i) * self.unit..][..self.unit].copy_from_slice(row);
            }
            return;
        }
        let (height, width) = spec.rows_cols();
        let size = self.unit / self.shape.last().copied().unwrap_or(1).max(1);
        for line in 0..width {
            let to = &mut whole[rows.index(line) * self.unit..][..self.unit];
            for row in 0..height {
                let from = &bytes[(row * width + line) * size..][..size];
                to[columns.index(row) * size..][..size].copy_from_slice(from);
            }
        }
    }

    /// A tensor of the plan in the file's type and order.
    fn read<'c>(
        &self,
        checkpoint: &'c Checkpoint,
        piece: &Piece<'_>,
        spec: &TensorSpec,
        types: &Types<'_>,
    ) -> Result<Cow<'c, [u8]>, ExportError> {
        let fail = |why: String| ExportError::Tensor { name: self.name.to_string(), why };
        let bytes = match (spec.role, self.dtype) {
            (Role::Vector, dtype) => {
                let map = piece.to.map;
                let numbers = source::vector(checkpoint, spec)?;
                let numbers = numbers.into_iter().map(|x| {
                    map.invert(x)
                        .ok_or_else(|| fail(format!("{} has {x}, which no number stands for", spec.name)))
                });
                Cow::Owned(encoded(&numbers.collect::<Result<Vec<f32>, _>>()?, dtype))
            }
            (Role::Ids, dtype) => {
                let ids = source::ids(checkpoint, spec)?;
                Cow::Owned(match dtype {
                    Dtype::I64 => ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect(),
                    _ => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
                })
            }
            (_, Dtype::Block(format)) => {
                let gone = || LoadError::Gone { name: spec.name.clone() };
                let tensor = checkpoint.tensor(&spec.name).ok_or_else(gone)?;
                let stays = format == spec.format || matches!(types, Types::Safetensors { .. });
                if !stays && spec.format == Format::MXFP4 {
                    return Err(fail(format!("{} is MXFP4, others of its parts are not", spec.name)));
                }
                let wanted = TensorSpec { format, ..spec.clone() };
                match types.quantising().filter(|_| source::to_be_quantised(&tensor, &wanted)) {
                    None => source::matrix(checkpoint, &tensor, &wanted)?,
                    Some(quantising) => {
                        let bytes = Cow::Owned(piece.quantised(checkpoint, &tensor, &wanted, &quantising)?);
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

/// The codes of a block of MXFP4 with neighbours in a byte, the low half first.
fn neighbours(block: &[u8]) -> impl Iterator<Item = u8> {
    let code = |i: usize| if i < 16 { block[1 + i] & 15 } else { block[1 + i - 16] >> 4 };
    (0..16).map(move |i| code(2 * i) | code(2 * i + 1) << 4)
}
