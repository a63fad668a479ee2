//! Writing safetensors files.

use crate::error::Quoted;
use crate::output::{Output, Slot, write_whole};
use crate::parts::{Part, Parts, placed};
use crate::{Dtype, Error};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::Path;

/// What a safetensors file will hold. Data follows through the [`TensorWriter`] of [`Writer::create`].
#[derive(Debug, Default)]
pub struct Writer {
    metadata: Map<String, Value>,
    tensors: Vec<(String, Vec<usize>, Dtype, usize)>,
    names: HashSet<String>,
}

/// An open safetensors file that waits for its tensors' data. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct TensorWriter(Output);

/// The safetensors files of a model folder. Dropped unfinished, they leave nothing behind.
#[derive(Debug)]
pub struct FolderWriter(Parts<TensorWriter>);

impl Writer {
    /// A file without tensors.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Sets a text under `__metadata__`. Readers in Python expect `format` to be `pt`.
    pub fn set(&mut self, key: &str, text: &str) {
        self.metadata.insert(key.to_owned(), Value::String(text.to_owned()));
    }

    /// Declares a tensor; `shape` is row-major, outermost dimension first.
    ///
    /// # Errors
    /// When the name is taken or `__metadata__`, the size overflows, or safetensors has no such type.
    pub fn tensor(&mut self, name: &str, shape: &[usize], dtype: Dtype) -> Result<(), Error> {
        let refuse = |what: String| {
            Err(Error::write(Path::new("safetensors"), format!("tensor {}: {what}", Quoted(name))))
        };
        if name == "__metadata__" || !self.names.insert(name.to_owned()) {
            return refuse("the name is taken".into());
        }
        if dtype.safetensors_name().is_none() {
            return refuse(format!("safetensors has no type {dtype}"));
        }
        match dtype.size(shape) {
            Ok(size) => self.tensors.push((name.to_owned(), shape.to_vec(), dtype, size.unwrap_or_default())),
            Err(what) => return refuse(what),
        }
        Ok(())
    }

    /// The files of the model folder `dir`: `model.safetensors`, or with a `limit` in bytes that is exceeded several
    /// and the index that says which tensor is where.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn create_in(self, dir: &Path, limit: Option<u64>) -> Result<FolderWriter, Error> {
        let places = placed(self.tensors.iter().map(|(.., size)| *size as u64), limit);
        let count = places.last().map_or(1, |last| last + 1);
        let name = |part: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", part + 1),
        };
        let total: u64 = self.tensors.iter().map(|(.., size)| *size as u64).sum();
        let mut writers: Vec<Writer> =
            (0..count).map(|_| Writer { metadata: self.metadata.clone(), ..Writer::default() }).collect();
        let mut map = Map::new();
        let mut by_name = std::collections::HashMap::new();
        for (tensor, part) in self.tensors.into_iter().zip(places) {
            map.insert(tensor.0.clone(), name(part).into());
            by_name.insert(tensor.0.clone(), part);
            writers[part].tensors.push(tensor);
        }
        if count > 1 {
            let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
            write_whole(&dir.join("model.safetensors.index.json"), format!("{index:#}\n").as_bytes())?;
        }
        let files =
            writers.into_iter().enumerate().map(|(part, writer)| writer.create(&dir.join(name(part))));
        Ok(FolderWriter(Parts { files: files.collect::<Result<_, _>>()?, places: by_name }))
    }

    /// Writes the header. The file gets its name when it is finished.
    pub fn create(mut self, path: &Path) -> Result<TensorWriter, Error> {
        // Wide types first, as others write it: then every tensor is aligned to its own type.
        self.tensors.sort_by_key(|(_, _, dtype, _)| std::cmp::Reverse(dtype.bits()));
        let mut header = Map::new();
        if !self.metadata.is_empty() {
            header.insert("__metadata__".into(), Value::Object(self.metadata));
        }
        let mut slots = Vec::new();
        let mut end = 0u64;
        for (name, shape, dtype, size) in self.tensors {
            let start = end;
            end += size as u64;
            let entry = json!({
                "dtype": dtype.safetensors_name(), "shape": shape, "data_offsets": [start, end]
            });
            header.insert(name.clone(), entry);
            slots.push(Slot { name, offset: start, size: size as u64, written: 0 });
        }
        let mut json = Value::Object(header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json);
        let start = bytes.len() as u64;
        for slot in &mut slots {
            slot.offset += start;
        }
        Ok(TensorWriter(Output::create(path, &bytes, slots, start + end)?))
    }
}

impl TensorWriter {
    /// Adds the next piece of a declared tensor's data. Tensors may come in any order, whole or in pieces.
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

impl Part for TensorWriter {
    fn append(&mut self, name: &str, piece: &[u8]) -> Result<(), Error> {
        self.0.append(name, piece)
    }

    fn finish(self) -> Result<(), Error> {
        self.0.finish()
    }
}

impl FolderWriter {
    /// As [`TensorWriter::append`].
    ///
    /// # Errors
    /// When the name was not declared, the tensor would get too long, or the disk refuses.
    pub fn append(&mut self, name: &str, piece: &[u8]) -> Result<(), Error> {
        self.0.append(name, piece)
    }

    /// Checks that all tensors are whole, then gives the files their names.
    ///
    /// # Errors
    /// When a tensor is not whole, or the disk refuses.
    pub fn finish(self) -> Result<(), Error> {
        self.0.finish()
    }
}
