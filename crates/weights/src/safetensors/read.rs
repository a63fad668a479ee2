//! Reading the header of a safetensors file.

use super::MAX_HEADER;
use crate::error::Quoted;
use crate::file::ModelFile;
use crate::index::NameIndex;
use crate::json::Unique;
use crate::tensor::TensorInfo;
use crate::{Dtype, Error, sniff};
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::path::Path;

/// What a safetensors file says about itself, checked against its size.
#[derive(Debug)]
pub struct Header {
    /// The free-form texts under `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Tensors in header order; offsets count from the start of the file.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensors' data starts.
    pub data_start: usize,
}

/// One tensor as the JSON says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header's object, in order and with repetitions.
struct Entries {
    metadata: Option<BTreeMap<String, String>>,
    tensors: Vec<(String, Raw)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Entries { metadata: None, tensors: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name != "__metadata__" {
                        entries.tensors.push((name, map.next_value()?));
                    } else if entries.metadata.replace(map.next_value::<Unique<String>>()?.0).is_some() {
                        return Err(A::Error::custom("__metadata__ is there twice"));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Walk)
    }
}

/// Reads the header of the safetensors file whose whole content is `bytes`; `file` is for messages.
///
/// # Errors
/// [`Error::NotAModel`] when this is another kind of file; [`Error::Malformed`] when it contradicts the
/// format or its own size. Data must be without gaps, overlaps and trailing bytes.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Header, Error> {
    parse_head(file, bytes, bytes.len())
}

/// Reads the header of a safetensors file.
pub(crate) fn header(file: &ModelFile) -> Result<Header, Error> {
    let start = file.head(sniff::HEAD)?;
    let stated = start.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
    // What is longer than this is refused below by what it states.
    let length = 8 + stated.min(MAX_HEADER as u64) as usize;
    parse_head(file.path(), &file.head(length.max(sniff::HEAD))?, file.len())
}

/// Reads the header of the file of `size` bytes that begins with `bytes`, which hold the header if it is not too long.
fn parse_head(file: &Path, bytes: &[u8], size: usize) -> Result<Header, Error> {
    let wrong = |field: &str, at: usize, what: String| Error::malformed(file, field, at, what);
    let foreign =
        || Error::not_a_model(file, format!("not a safetensors file: {}", sniff::describe(bytes, size)));
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Err(foreign()) };
    if rest.first().is_some_and(|&b| b != b'{') {
        return Err(foreign());
    }
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER as u64 {
        return Err(wrong("header length", 0, format!("{length} bytes; at most {MAX_HEADER} are read")));
    }
    let length = length as usize; // at most MAX_HEADER
    let room = size - 8;
    if length > room {
        let what = format!("{length} bytes, but the file has {room} more; it is truncated or damaged");
        return Err(wrong("header length", 0, what));
    }
    let (json, data) = (&rest[..length], room - length);
    let data_start = 8 + length;
    let entries: Entries = serde_json::from_slice(json)
        .map_err(|e| wrong("header", 8 + offset_of(json, e.line(), e.column()), e.to_string()))?;

    let mut tensors = Vec::with_capacity(entries.tensors.len());
    for (name, raw) in entries.tensors {
        // The header has no offset per field; that of its start is the nearest.
        let field = |field: &str| format!("tensor {}: {field}", Quoted(&name));
        let Some(dtype) = Dtype::from_safetensors(&raw.dtype) else {
            return Err(wrong(&field("dtype"), 8, format!("{:?} is not known", raw.dtype)));
        };
        let (start, end) = raw.data_offsets;
        if start > end || end > data {
            let what = format!(
                "[{start}, {end}] is not within the {data} bytes of data; the file is truncated or damaged"
            );
            return Err(wrong(&field("data_offsets"), data_start, what));
        }
        let size = dtype.size(&raw.shape).map_err(|what| wrong(&field("shape"), 8, what))?;
        if size != Some(end - start) {
            let what = format!(
                "{dtype} {:?} takes {} bytes, not the {} of data_offsets",
                raw.shape,
                size.unwrap_or_default(),
                end - start
            );
            return Err(wrong(&field("shape"), 8, what));
        }
        let offset = data_start + start;
        tensors.push(TensorInfo { name, shape: raw.shape, dtype, offset, size: end - start });
    }
    if let Err((_, second)) = NameIndex::new(tensors.len(), |i| &tensors[i].name) {
        let field = format!("tensor {}", Quoted(&tensors[second].name));
        return Err(wrong(&field, 8, "the name is there twice".into()));
    }
    check_no_gaps(&tensors, data_start, size).map_err(|(field, at, what)| wrong(&field, at, what))?;
    Ok(Header { metadata: entries.metadata.unwrap_or_default(), tensors, data_start })
}

/// The data must be exactly the tensors, one after another: bytes that belong to nobody could hide anything.
fn check_no_gaps(
    tensors: &[TensorInfo],
    data_start: usize,
    end: usize,
) -> Result<(), (String, usize, String)> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| (t.offset, t.size));
    let mut at = data_start;
    for tensor in order {
        if tensor.offset != at {
            let relation = if tensor.offset < at { "overlaps" } else { "leaves a gap after" };
            let what = format!("starts at byte {} and {relation} the data that ends at {at}", tensor.offset);
            return Err((format!("tensor {}: data_offsets", Quoted(&tensor.name)), tensor.offset, what));
        }
        at += tensor.size;
    }
    if at != end {
        return Err((
            "end of data".into(),
            at,
            format!("{} bytes follow that belong to no tensor", end - at),
        ));
    }
    Ok(())
}

/// The byte offset of a line and column (both from 1) that the JSON parser named.
fn offset_of(json: &[u8], line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match json[start..].iter().position(|&b| b == b'\n') {
            Some(newline) => start += newline + 1,
            None => break,
        }
    }
    (start + column.saturating_sub(1)).min(json.len())
}
