//! Writing GGUF version 3.

use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, kind};
use crate::error::Quoted;
use crate::metadata::{Array, Value};
use crate::output::{Output, Slot};
use crate::parts::{Part, Parts, placed};
use crate::{Dtype, Error, split};
use std::collections::HashSet;
use std::path::Path;

/// What a GGUF file will hold: key-values in order, and the tensors' names, shapes and types.
///
/// Their data follows through the [`TensorWriter`] that [`Writer::create`] returns, so that no more than one
/// tensor needs to be in memory.
///
/// ```
/// use sampan_weights::{Checkpoint, Dtype, Value, gguf};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("tiny.gguf");
/// let mut writer = gguf::Writer::new();
/// writer.set("general.architecture", Value::Str("llama".into()))?;
/// writer.tensor("output_norm.weight", &[2], Dtype::from_ggml(0))?;
/// let mut file = writer.create(&path)?;
/// file.append("output_norm.weight", &[0, 0, 128, 63, 0, 0, 0, 64])?;
/// file.finish()?;
/// let model = Checkpoint::open(&path)?;
/// assert_eq!(model.tensor("output_norm.weight").map(|t| t.to_f32()).transpose()?, Some(vec![1.0, 2.0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    entries: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<usize>, Dtype, usize)>,
    names: HashSet<String>,
}

/// An open GGUF file that waits for its tensors' data. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct TensorWriter(Parts<File>);

/// One of the files.
#[derive(Debug)]
struct File(Output);

impl Writer {
    /// A file without keys and tensors.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Adds a key, or gives it another value in its old place.
    ///
    /// # Errors
    /// When the value is an array whose elements cannot be told apart on reading (nested too deep), or the
    /// key is `general.alignment`, which is always 32 here.
    pub fn set(&mut self, key: &str, value: Value) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::write(Path::new("GGUF"), format!("key {key:?}: {what}")));
        if key == "general.alignment" {
            return refuse("the alignment is always 32");
        }
        if let Value::Array(array) = &value
            && depth(array) > super::MAX_NESTING
        {
            return refuse("the array nests too deep");
        }
        match self.entries.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key.to_owned(), value)),
        }
        Ok(())
    }

    /// Declares a tensor; `shape` is row-major, outermost dimension first.
    ///
    /// # Errors
    /// When the name is taken, the shape has not 1 to 4 dimensions of at least 1, rows are not whole blocks,
    /// or GGUF has no such type.
    pub fn tensor(&mut self, name: &str, shape: &[usize], dtype: Dtype) -> Result<(), Error> {
        let refuse =
            |what: String| Err(Error::write(Path::new("GGUF"), format!("tensor {}: {what}", Quoted(name))));
        if !self.names.insert(name.to_owned()) {
            return refuse("declared twice".into());
        }
        if shape.is_empty() || shape.len() > MAX_DIMS || shape.contains(&0) {
            return refuse(format!("the shape {shape:?} has not 1 to {MAX_DIMS} dimensions of at least 1"));
        }
        if dtype.ggml_id().is_none() {
            return refuse(format!("GGUF has no type {dtype}"));
        }
        match dtype.size(shape) {
            Ok(Some(size)) => self.tensors.push((name.to_owned(), shape.to_vec(), dtype, size)),
            Ok(None) => return refuse(format!("the size of {dtype} is not known")),
            Err(what) => return refuse(what),
        }
        Ok(())
    }

    /// The bytes up to the tensors' data, padded, and where each tensor's data goes.
    fn header(&self) -> (Vec<u8>, Vec<Slot>, u64) {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            put_str(&mut out, key);
            put_value(&mut out, value);
        }
        let align = |n: u64| n.next_multiple_of(DEFAULT_ALIGNMENT as u64);
        let mut slots = Vec::new();
        let mut end = 0u64;
        for (name, shape, dtype, size) in &self.tensors {
            put_str(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for &dim in shape.iter().rev() {
                out.extend((dim as u64).to_le_bytes());
            }
            out.extend(dtype.ggml_id().unwrap_or_default().to_le_bytes()); // `tensor` refused the others
            out.extend(end.to_le_bytes());
            slots.push(Slot { name: name.clone(), offset: end, size: *size as u64, written: 0 });
            end = align(end + *size as u64);
        }
        let start = align(out.len() as u64);
        out.resize(start as usize, 0);
        for slot in &mut slots {
            slot.offset += start;
        }
        (out, slots, start + end)
    }

    /// Writes everything but the tensors' data. The file gets its name when it is finished.
    pub fn create(self, path: &Path) -> Result<TensorWriter, Error> {
        self.create_split(path, None)
    }

    /// [`Writer::create`], where tensors take more than `limit` bytes over several files `NAME-00001-of-00003.gguf`
    /// instead of `NAME.gguf`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn create_split(mut self, path: &Path, limit: Option<u64>) -> Result<TensorWriter, Error> {
        let parts = placed(self.tensors.iter().map(|(.., size)| *size as u64), limit);
        let count = parts.last().map_or(1, |last| last + 1);
        let mut files = Vec::new();
        let places =
            self.tensors.iter().zip(&parts).map(|((name, ..), &part)| (name.clone(), part)).collect();
        let (tensors, mut from) = (std::mem::take(&mut self.tensors), 0);
        for number in 0..count {
            let to = parts.partition_point(|&part| part <= number);
            let mut part = Writer { tensors: tensors[from..to].to_vec(), ..Writer::default() };
            from = to;
            if number == 0 {
                part.entries = std::mem::take(&mut self.entries);
            }
            if count > 1 {
                for (key, value) in split::keys(number, count, tensors.len()) {
                    part.set(key, value)?;
                }
            }
            let path = if count > 1 { split::part(path, number, count) } else { path.to_path_buf() };
            let (header, slots, end) = part.header();
            files.push(File(Output::create(&path, &header, slots, end)?));
        }
        Ok(TensorWriter(Parts { files, places }))
    }

    /// A whole file in memory, for small ones; `data` is called for each tensor in the declared order.
    ///
    /// # Errors
    /// When `data` gives another number of bytes than the tensor has.
    pub fn to_bytes(&self, mut data: impl FnMut(&str) -> Vec<u8>) -> Result<Vec<u8>, Error> {
        let (mut out, slots, end) = self.header();
        out.resize(end as usize, 0);
        for slot in slots {
            let bytes = data(&slot.name);
            if bytes.len() as u64 != slot.size {
                let what = format!("tensor {:?} has {} bytes, not {}", slot.name, slot.size, bytes.len());
                return Err(Error::write(Path::new("GGUF"), what));
            }
            out[slot.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        Ok(out)
    }
}

impl TensorWriter {
    /// Adds the next piece of a declared tensor's data. Tensors may come in any order, whole or in pieces;
    /// the declared order is the fast one.
    ///
    /// # Errors
    /// When the name was not declared, the tensor would get too long, or the disk refuses.
    pub fn append(&mut self, name: &str, piece: &[u8]) -> Result<(), Error> {
        self.0.append(name, piece)
    }

    /// Checks that all tensors are whole, then gives the file its name (replacing an older one).
    pub fn finish(self) -> Result<(), Error> {
        self.0.finish()
    }
}

impl Part for File {
    fn append(&mut self, name: &str, piece: &[u8]) -> Result<(), Error> {
        self.0.append(name, piece)
    }

    fn finish(self) -> Result<(), Error> {
        self.0.finish()
    }
}

fn depth(array: &Array) -> usize {
    match array {
        Array::Nested(inner) => 1 + inner.iter().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(v) => put(kind::U8, &v.to_le_bytes()),
        Value::I8(v) => put(kind::I8, &v.to_le_bytes()),
        Value::U16(v) => put(kind::U16, &v.to_le_bytes()),
        Value::I16(v) => put(kind::I16, &v.to_le_bytes()),
        Value::U32(v) => put(kind::U32, &v.to_le_bytes()),
        Value::I32(v) => put(kind::I32, &v.to_le_bytes()),
        Value::U64(v) => put(kind::U64, &v.to_le_bytes()),
        Value::I64(v) => put(kind::I64, &v.to_le_bytes()),
        Value::F32(v) => put(kind::F32, &v.to_le_bytes()),
        Value::F64(v) => put(kind::F64, &v.to_le_bytes()),
        Value::Bool(v) => put(kind::BOOL, &[u8::from(*v)]),
        Value::Str(text) => {
            put(kind::STR, &[]);
            put_str(out, text);
        }
        Value::Array(array) => {
            put(kind::ARRAY, &[]);
            put_array(out, array);
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    fn numbers<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], to: impl Fn(T) -> [u8; N]) {
        out.extend(values.iter().flat_map(|&v| to(v)));
    }
    let kind = match array {
        Array::U8(_) => kind::U8,
        Array::I8(_) => kind::I8,
        Array::U16(_) => kind::U16,
        Array::I16(_) => kind::I16,
        Array::U32(_) => kind::U32,
        Array::I32(_) => kind::I32,
        Array::U64(_) => kind::U64,
        Array::I64(_) => kind::I64,
        Array::F32(_) => kind::F32,
        Array::F64(_) => kind::F64,
        Array::Bool(_) => kind::BOOL,
        Array::Str(_) => kind::STR,
        Array::Nested(_) => kind::ARRAY,
    };
    out.extend(kind.to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => numbers(out, v, i8::to_le_bytes),
        Array::U16(v) => numbers(out, v, u16::to_le_bytes),
        Array::I16(v) => numbers(out, v, i16::to_le_bytes),
        Array::U32(v) => numbers(out, v, u32::to_le_bytes),
        Array::I32(v) => numbers(out, v, i32::to_le_bytes),
        Array::U64(v) => numbers(out, v, u64::to_le_bytes),
        Array::I64(v) => numbers(out, v, i64::to_le_bytes),
        Array::F32(v) => numbers(out, v, f32::to_le_bytes),
        Array::F64(v) => numbers(out, v, f64::to_le_bytes),
        Array::Bool(v) => out.extend(v.iter().map(|&v| u8::from(v))),
        Array::Str(v) => v.iter().for_each(|text| put_str(out, text)),
        Array::Nested(v) => v.iter().for_each(|inner| put_array(out, inner)),
    }
}
