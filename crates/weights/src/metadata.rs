//! GGUF key-values: typed, ordered, and read through getters that say what is wrong.

use crate::Error;
use crate::index::NameIndex;
use std::path::{Path, PathBuf};

/// One value of a GGUF key.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    Array(Array),
}

/// An array of one element type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Str(Vec<String>),
    Nested(Vec<Array>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Str(v) => v.len(),
            Array::Nested(v) => v.len(),
        }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as integers; `None` when they are not integers or exceed `i64`.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        match self {
            Array::U8(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::I8(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::U16(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::I16(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::U32(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::I32(v) => Some(v.iter().map(|&x| x.into()).collect()),
            Array::U64(v) => v.iter().map(|&x| i64::try_from(x).ok()).collect(),
            Array::I64(v) => Some(v.clone()),
            _ => None,
        }
    }

    /// The elements as F32 (F64 is rounded); `None` when they are not floats.
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        match self {
            Array::F32(v) => Some(v.clone()),
            Array::F64(v) => Some(v.iter().map(|&x| x as f32).collect()),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Array::Str(_) => "an array of strings",
            Array::F32(_) | Array::F64(_) => "an array of floats",
            Array::Bool(_) => "an array of booleans",
            Array::Nested(_) => "an array of arrays",
            _ => "an array of integers",
        }
    }
}

impl Value {
    /// The value as an integer of any sign; `None` when it is not an integer or exceeds `i64`.
    pub fn to_i64(&self) -> Option<i64> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => return i64::try_from(v).ok(),
            Value::I64(v) => v,
            _ => return None,
        })
    }

    /// The value as an unsigned integer; `None` when it is not one.
    pub fn to_u64(&self) -> Option<u64> {
        match *self {
            Value::U64(v) => Some(v),
            _ => self.to_i64().and_then(|v| u64::try_from(v).ok()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Value::Str(_) => "a string",
            Value::F32(_) | Value::F64(_) => "a float",
            Value::Bool(_) => "a boolean",
            Value::Array(array) => array.kind(),
            _ => "an integer",
        }
    }
}

/// The key-values of a GGUF file in file order; empty for safetensors.
///
/// Getters return `Ok(None)` for an absent key and an error for one of another type:
/// a value is never ignored because it was spelt unexpectedly.
#[derive(Debug, Default)]
pub struct Metadata {
    file: PathBuf,
    entries: Vec<(String, Value)>,
    index: NameIndex,
}

impl Metadata {
    /// Metadata read from `file`; the error is a repeated key and its second position.
    pub(crate) fn new(file: &Path, mut entries: Vec<(String, Value)>) -> Result<Metadata, (usize, String)> {
        match NameIndex::new(entries.len(), |i| &entries[i].0) {
            Ok(index) => Ok(Metadata { file: file.to_path_buf(), entries, index }),
            Err((_, second)) => Err((second, entries.swap_remove(second).0)),
        }
    }

    /// The file that the keys come from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All keys and values, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, of whatever type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let at = self.index.find(key, |i| &self.entries[i].0)?;
        Some(&self.entries[at].1)
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// An error about `key`, with the file.
    pub fn error(&self, key: &str, what: impl Into<String>) -> Error {
        Error::metadata(&self.file, key, what)
    }

    /// The error for a key that must be there and is not.
    pub fn missing(&self, key: &str) -> Error {
        self.error(key, "missing, and needed")
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.error(key, format!("{} where {wanted} is needed", value.kind()))),
        }
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a string", |value| match value {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An unsigned integer, whatever its width in the file.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "an integer of at least 0", Value::to_u64)
    }

    /// An unsigned integer that fits `usize`.
    pub fn usize(&self, key: &str) -> Result<Option<usize>, Error> {
        self.typed(key, "an integer of at least 0", |value| usize::try_from(value.to_u64()?).ok())
    }

    /// A float; integers and F64 are converted.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "a number", |value| match *value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            ref other => other.to_i64().map(|v| v as f32),
        })
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strs(&self, key: &str) -> Result<Option<&[String]>, Error> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::Str(v)) => Some(v.as_slice()),
            Value::Array(empty) if empty.is_empty() => Some(&[][..]),
            _ => None,
        })
    }

    /// An array of integers, whatever their width in the file.
    pub fn i64s(&self, key: &str) -> Result<Option<Vec<i64>>, Error> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(array) => array.to_i64s().or_else(|| array.is_empty().then(Vec::new)),
            _ => None,
        })
    }

    /// An array of floats.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        self.typed(key, "an array of floats", |value| match value {
            Value::Array(array) => array.to_f32s().or_else(|| array.is_empty().then(Vec::new)),
            _ => None,
        })
    }

    /// An integer for each of `layers` layers: one for all, or an array with exactly one per layer.
    pub fn per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<u64>>, Error> {
        self.layer_limit(key, layers)?;
        let wanted = "an integer of at least 0, or an array of them,";
        let values = self.typed(key, wanted, |value| match value {
            Value::Array(array) => {
                array.to_i64s()?.into_iter().map(|v| u64::try_from(v).ok()).collect::<Option<Vec<_>>>()
            }
            one => one.to_u64().map(|v| vec![v; layers]),
        })?;
        self.one_per_layer(key, layers, values)
    }

    /// As [`Metadata::per_layer`], for booleans.
    pub fn per_layer_bool(&self, key: &str, layers: usize) -> Result<Option<Vec<bool>>, Error> {
        self.layer_limit(key, layers)?;
        let values = self.typed(key, "a boolean, or an array of them,", |value| match value {
            Value::Array(Array::Bool(v)) => Some(v.clone()),
            Value::Bool(v) => Some(vec![*v; layers]),
            _ => None,
        })?;
        self.one_per_layer(key, layers, values)
    }

    /// As [`Metadata::per_layer`], for floats.
    pub fn per_layer_f32(&self, key: &str, layers: usize) -> Result<Option<Vec<f32>>, Error> {
        self.layer_limit(key, layers)?;
        let values = self.typed(key, "a float, or an array of them,", |value| match value {
            Value::Array(array) => array.to_f32s(),
            Value::F32(v) => Some(vec![*v; layers]),
            Value::F64(v) => Some(vec![*v as f32; layers]),
            _ => None,
        })?;
        self.one_per_layer(key, layers, values)
    }

    /// The number of layers usually comes from the same file: it must not decide how much is allocated.
    fn layer_limit(&self, key: &str, layers: usize) -> Result<(), Error> {
        const LIMIT: usize = 1 << 16;
        if layers > LIMIT {
            return Err(self.error(key, format!("{layers} layers; at most {LIMIT} can be")));
        }
        Ok(())
    }

    fn one_per_layer<T>(
        &self,
        key: &str,
        layers: usize,
        values: Option<Vec<T>>,
    ) -> Result<Option<Vec<T>>, Error> {
        match values {
            Some(values) if values.len() != layers => {
                Err(self.error(key, format!("{} values for {layers} layers", values.len())))
            }
            values => Ok(values),
        }
    }

    /// A string that must be there.
    pub fn need_str(&self, key: &str) -> Result<&str, Error> {
        self.str(key)?.ok_or_else(|| self.missing(key))
    }

    /// An integer that must be there.
    pub fn need_usize(&self, key: &str) -> Result<usize, Error> {
        self.usize(key)?.ok_or_else(|| self.missing(key))
    }

    /// A float that must be there.
    pub fn need_f32(&self, key: &str) -> Result<f32, Error> {
        self.f32(key)?.ok_or_else(|| self.missing(key))
    }
}
