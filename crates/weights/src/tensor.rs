//! A named tensor in a file, and its values.

use crate::error::Quoted;
use crate::file::ModelFile;
use crate::{Dtype, Error};
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

/// One tensor of a [`Checkpoint`](crate::Checkpoint): where its data lies.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    /// The name in the file.
    pub name: &'a str,
    /// Row-major, outermost dimension first, also for GGUF (whose files say it the other way round).
    pub shape: &'a [usize],
    /// What the data consists of.
    pub dtype: Dtype,
    data: Data<'a>,
}

#[derive(Clone, Copy)]
enum Data<'a> {
    Memory(&'a [u8]),
    File { file: &'a ModelFile, offset: usize, size: usize },
}

impl<'a> Tensor<'a> {
    /// A tensor that lies in memory, for tests and conversions.
    ///
    /// # Errors
    /// When `data` is not exactly as long as `shape` and `dtype` demand.
    pub fn new(name: &'a str, shape: &'a [usize], dtype: Dtype, data: &'a [u8]) -> Result<Tensor<'a>, Error> {
        let tensor = Tensor { name, shape, dtype, data: Data::Memory(data) };
        match dtype.size(shape) {
            Ok(Some(size)) if size == data.len() => Ok(tensor),
            Ok(Some(size)) => Err(tensor.error(format!("{} bytes of data, not {size}", data.len()))),
            Ok(None) => Err(tensor.error(format!("the size of {dtype} is not known"))),
            Err(what) => Err(tensor.error(what)),
        }
    }

    /// What a header says of a tensor in `file`.
    pub(crate) fn of(file: &'a ModelFile, info: &'a TensorInfo) -> Tensor<'a> {
        let TensorInfo { name, shape, dtype, offset, size } = info;
        Tensor { name, shape, dtype: *dtype, data: Data::File { file, offset: *offset, size: *size } }
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product() // checked when the file was read
    }

    /// The file this tensor lies in and the offset of its data there.
    pub fn place(&self) -> (&'a Path, u64) {
        match self.data {
            Data::Memory(_) => (Path::new("memory"), 0),
            Data::File { file, offset, .. } => (file.path(), offset as u64),
        }
    }

    /// Bytes of the data. Of a [`Dtype::Unsupported`] of unknown size: everything up to the next tensor.
    pub fn size(&self) -> usize {
        match self.data {
            Data::Memory(data) => data.len(),
            Data::File { size, .. } => size,
        }
    }

    /// The data as it lies in the file; not aligned in memory.
    ///
    /// # Errors
    /// When the file cannot be read, or is shorter than it was when it was opened.
    pub fn bytes(&self) -> Result<Cow<'a, [u8]>, Error> {
        self.part(0..self.size())
    }

    /// A part of the data.
    ///
    /// # Errors
    /// As [`Tensor::bytes`].
    ///
    /// # Panics
    /// If the range ends beyond [`Tensor::size`].
    pub fn part(&self, range: Range<usize>) -> Result<Cow<'a, [u8]>, Error> {
        match self.data {
            Data::Memory(data) => Ok(Cow::Borrowed(&data[range])),
            Data::File { file, offset, size } => {
                assert!(range.end <= size, "{self:?} has no bytes up to {}", range.end);
                file.read(&Titled(self.name), offset + range.start..offset + range.end)
            }
        }
    }

    /// The data, some megabytes at a time, for those who pass it on.
    pub fn pieces(&self) -> impl Iterator<Item = Result<Cow<'a, [u8]>, Error>> {
        const PIECE: usize = 8 << 20;
        let (tensor, size) = (*self, self.size());
        (0..size).step_by(PIECE).map(move |start| tensor.part(start..size.min(start + PIECE)))
    }

    /// Fills `out` with the data from byte `start` on.
    ///
    /// # Errors
    /// As [`Tensor::bytes`].
    ///
    /// # Panics
    /// If that ends beyond [`Tensor::size`].
    pub fn read_into(&self, start: usize, out: &mut [u8]) -> Result<(), Error> {
        match self.data {
            Data::Memory(data) => {
                out.copy_from_slice(&data[start..start + out.len()]);
                Ok(())
            }
            Data::File { file, offset, size } => {
                assert!(start + out.len() <= size, "{self:?} has no bytes up to {}", start + out.len());
                file.read_into(&Titled(self.name), offset + start, out)
            }
        }
    }

    /// An error about this tensor, with its file, name and offset.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::Tensor {
            file: self.place().0.to_path_buf(),
            tensor: self.name.to_owned(),
            offset: self.place().1,
            what: what.into(),
        }
    }

    /// All values as F32, in row-major order.
    ///
    /// # Errors
    /// When the data cannot be read, or the type is unsupported, not a number of at most 32 bits exactness, or not real.
    /// F64 is rounded; integers of 32 bits and more go through [`Tensor::to_i64s`].
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let data = &*self.bytes()?;
        Ok(match self.dtype {
            Dtype::Block(format) => {
                let mut out = vec![0.0; self.count()];
                format.decode(data, &mut out);
                out
            }
            Dtype::F64 => numbers(data).map(|b| f64::from_le_bytes(b) as f32).collect(),
            Dtype::I8 => data.iter().map(|&b| f32::from(b as i8)).collect(),
            Dtype::U8 | Dtype::Bool => data.iter().map(|&b| f32::from(b)).collect(),
            Dtype::I16 => numbers(data).map(|b| f32::from(i16::from_le_bytes(b))).collect(),
            Dtype::U16 => numbers(data).map(|b| f32::from(u16::from_le_bytes(b))).collect(),
            Dtype::F8E4M3 | Dtype::F8E5M2 | Dtype::F8E8M0 | Dtype::F8E4M3Fnuz | Dtype::F8E5M2Fnuz => {
                let table: Vec<f32> =
                    (0..=255).map(|b| self.dtype.f8_to_f32(b).unwrap_or(f32::NAN)).collect();
                data.iter().map(|&b| table[usize::from(b)]).collect()
            }
            other => return Err(self.error(format!("{} cannot be read as F32", describe(other)))),
        })
    }

    /// All values as integers, in row-major order.
    ///
    /// # Errors
    /// When the data cannot be read, or the type is not an integer or boolean, or a value exceeds `i64`.
    pub fn to_i64s(&self) -> Result<Vec<i64>, Error> {
        let data = &*self.bytes()?;
        Ok(match self.dtype {
            Dtype::I8 => data.iter().map(|&b| i64::from(b as i8)).collect(),
            Dtype::U8 | Dtype::Bool => data.iter().map(|&b| i64::from(b)).collect(),
            Dtype::I16 => numbers(data).map(|b| i64::from(i16::from_le_bytes(b))).collect(),
            Dtype::U16 => numbers(data).map(|b| i64::from(u16::from_le_bytes(b))).collect(),
            Dtype::I32 => numbers(data).map(|b| i64::from(i32::from_le_bytes(b))).collect(),
            Dtype::U32 => numbers(data).map(|b| i64::from(u32::from_le_bytes(b))).collect(),
            Dtype::I64 => numbers(data).map(i64::from_le_bytes).collect(),
            Dtype::U64 => numbers(data)
                .map(u64::from_le_bytes)
                .map(|v| i64::try_from(v).map_err(|_| self.error(format!("the value {v} exceeds i64"))))
                .collect::<Result<_, _>>()?,
            other => return Err(self.error(format!("{} cannot be read as integers", describe(other)))),
        })
    }
}

/// Little-endian numbers of `N` bytes; `data` is a whole number of them.
fn numbers<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

fn describe(dtype: Dtype) -> String {
    match dtype {
        Dtype::Unsupported(id) => format!("{dtype} (GGUF tensor type {id}) is not supported: it"),
        other => other.to_string(),
    }
}

impl std::fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({:?} {:?} {}, {} bytes)", self.name, self.shape, self.dtype, self.size())
    }
}

/// `tensor "blk.0.attn_q.weight"`, put together only when it is shown.
struct Titled<'a>(&'a str);

impl std::fmt::Display for Titled<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tensor {}", Quoted(self.0))
    }
}

/// Where a file says that a tensor lies, checked against the file's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// Row-major, outermost dimension first.
    pub shape: Vec<usize>,
    /// What the data consists of.
    pub dtype: Dtype,
    /// Offset of the data from the start of the file, in bytes.
    pub offset: usize,
    /// Length of the data in bytes.
    pub size: usize,
}
