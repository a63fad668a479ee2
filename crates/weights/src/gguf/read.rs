//! Reading the header of a GGUF file: everything but the tensors' data.

use super::cursor::Cursor;
use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_NESTING, kind};
use crate::error::Quoted;
use crate::file::ModelFile;
use crate::index::NameIndex;
use crate::metadata::{Array, Metadata, Value};
use crate::tensor::TensorInfo;
use crate::{Dtype, Error, sniff};
use std::fmt::Display;
use std::path::Path;

/// What a GGUF file says about itself, checked against its size.
#[derive(Debug)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Tensor data starts at multiples of this many bytes; a power of two.
    pub alignment: usize,
    /// Key-values in file order.
    pub metadata: Metadata,
    /// Tensors in file order; offsets count from the start of the file.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensors' data starts.
    pub data_start: usize,
}

/// Name length, dimension count, one dimension, type, offset.
const LEAST_TENSOR: usize = 8 + 4 + 8 + 4 + 8;

/// Key length, type, one byte.
const LEAST_KEY_VALUE: usize = 8 + 4 + 1;

/// Room is made for at most so many items before they are read: a count is bounded by the file, which may be large and lie.
const AT_ONCE: usize = 1 << 16;

/// Reads the header of the GGUF file whose whole content is `bytes`; `file` is for messages.
///
/// Allocates in proportion to the header, never by what the header claims.
///
/// # Errors
/// [`Error::NotAModel`] when this is another kind of file; [`Error::Malformed`] when it contradicts the
/// format or its own size.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Header, Error> {
    parse_from(Cursor::over(file, bytes))
}

/// Reads the header of a GGUF file.
pub(crate) fn header(file: &ModelFile) -> Result<Header, Error> {
    parse_from(Cursor::reading(file, 1 << 20)?)
}

fn parse_from(mut cur: Cursor<'_>) -> Result<Header, Error> {
    if !cur.ahead().starts_with(&MAGIC) {
        let what = format!("not a GGUF file: {}", sniff::describe(cur.ahead(), cur.size));
        return Err(Error::not_a_model(cur.file, what));
    }
    cur.take(MAGIC.len(), "magic")?;
    let version = read_version(&mut cur)?;
    let tensor_count = cur.count(LEAST_TENSOR, "tensor count")?;
    let key_count = cur.count(LEAST_KEY_VALUE, "key-value count")?;
    let metadata = read_metadata(&mut cur, key_count)?;
    let alignment = read_alignment(&cur, &metadata)?;

    let mut tensors = Vec::with_capacity(tensor_count.min(AT_ONCE));
    let mut places = Vec::with_capacity(tensors.capacity());
    for i in 0..tensor_count {
        let start = cur.at;
        let (tensor, offset_at) = read_tensor(&mut cur, i)?;
        if !tensor.offset.is_multiple_of(alignment) {
            let what = format!("{} is not a multiple of the alignment {alignment}", tensor.offset);
            return Err(cur.error(Field(i, &tensor.name, "offset"), offset_at, what));
        }
        tensors.push(tensor);
        places.push((start, offset_at));
    }
    if let Err((first, second)) = NameIndex::new(tensors.len(), |i| &tensors[i].name) {
        let what = format!("tensor {first} has the same name");
        return Err(cur.error(Field(second, &tensors[second].name, "name"), places[second].0, what));
    }
    let data_start = match cur.at.checked_next_multiple_of(alignment) {
        Some(start) if start <= cur.size => start,
        _ if tensors.is_empty() => cur.size, // a vocabulary alone may end without padding
        _ => return Err(cur.error("tensor data", cur.at, "the file ends before it; it is truncated")),
    };
    let offsets: Vec<usize> = places.iter().map(|place| place.1).collect();
    place_tensors(&cur, &mut tensors, &offsets, data_start)?;
    Ok(Header { version, alignment, metadata, tensors, data_start })
}

fn read_version(cur: &mut Cursor<'_>) -> Result<u32, Error> {
    let at = cur.at;
    let version = cur.u32("version")?;
    match version {
        2 | 3 => Ok(version),
        1 => Err(cur.error(
            "version",
            at,
            "version 1 is from before the format settled; convert the model again",
        )),
        v if (1..=0xff).contains(&v.swap_bytes()) => {
            Err(cur.error("version", at, "the file is big endian; convert the model again as little endian"))
        }
        v => Err(cur.error("version", at, format!("version {v} is not known; versions 2 and 3 are"))),
    }
}

fn read_metadata(cur: &mut Cursor<'_>, count: usize) -> Result<Metadata, Error> {
    let mut entries = Vec::with_capacity(count.min(AT_ONCE));
    let mut starts = Vec::with_capacity(count.min(AT_ONCE));
    for i in 0..count {
        starts.push(cur.at);
        let key = cur.str(format_args!("key {i}"))?;
        let name = format_args!("key {i} ({})", Quoted(&key));
        let kind_at = cur.at;
        let kind = cur.u32(format_args!("{name}: type"))?;
        let value = read_value(cur, kind, kind_at, &name)?;
        entries.push((key, value));
    }
    Metadata::new(cur.file, entries).map_err(|(second, key)| {
        cur.error(format_args!("key {second} ({})", Quoted(&key)), starts[second], "the key is there twice")
    })
}

fn read_value(cur: &mut Cursor<'_>, kind: u32, kind_at: usize, name: &dyn Display) -> Result<Value, Error> {
    Ok(match kind {
        kind::U8 => Value::U8(u8::from_le_bytes(cur.array(name)?)),
        kind::I8 => Value::I8(i8::from_le_bytes(cur.array(name)?)),
        kind::U16 => Value::U16(u16::from_le_bytes(cur.array(name)?)),
        kind::I16 => Value::I16(i16::from_le_bytes(cur.array(name)?)),
        kind::U32 => Value::U32(u32::from_le_bytes(cur.array(name)?)),
        kind::I32 => Value::I32(i32::from_le_bytes(cur.array(name)?)),
        kind::U64 => Value::U64(u64::from_le_bytes(cur.array(name)?)),
        kind::I64 => Value::I64(i64::from_le_bytes(cur.array(name)?)),
        kind::F32 => Value::F32(f32::from_le_bytes(cur.array(name)?)),
        kind::F64 => Value::F64(f64::from_le_bytes(cur.array(name)?)),
        kind::BOOL => {
            let at = cur.at;
            let [byte] = cur.array(name)?;
            Value::Bool(boolean(byte).ok_or_else(|| cur.error(name, at, not_boolean(byte)))?)
        }
        kind::STR => Value::Str(cur.str(name)?),
        kind::ARRAY => Value::Array(read_array(cur, name, 1)?),
        other => return Err(cur.error(name, kind_at, format!("value type {other} is not known"))),
    })
}

fn read_array(cur: &mut Cursor<'_>, name: &dyn Display, depth: usize) -> Result<Array, Error> {
    let kind_at = cur.at;
    if depth > MAX_NESTING {
        return Err(cur.error(name, kind_at, format!("arrays nest deeper than {MAX_NESTING}")));
    }
    let kind = cur.u32(format_args!("{name}: element type"))?;
    let length = format_args!("{name}: array length");
    Ok(match kind {
        kind::U8 => Array::U8(fixed(cur, &length, u8::from_le_bytes)?),
        kind::I8 => Array::I8(fixed(cur, &length, i8::from_le_bytes)?),
        kind::U16 => Array::U16(fixed(cur, &length, u16::from_le_bytes)?),
        kind::I16 => Array::I16(fixed(cur, &length, i16::from_le_bytes)?),
        kind::U32 => Array::U32(fixed(cur, &length, u32::from_le_bytes)?),
        kind::I32 => Array::I32(fixed(cur, &length, i32::from_le_bytes)?),
        kind::U64 => Array::U64(fixed(cur, &length, u64::from_le_bytes)?),
        kind::I64 => Array::I64(fixed(cur, &length, i64::from_le_bytes)?),
        kind::F32 => Array::F32(fixed(cur, &length, f32::from_le_bytes)?),
        kind::F64 => Array::F64(fixed(cur, &length, f64::from_le_bytes)?),
        kind::BOOL => {
            let bytes = fixed(cur, &length, u8::from_le_bytes)?;
            let start = cur.at - bytes.len();
            let mut out = Vec::with_capacity(bytes.len());
            for (i, byte) in bytes.into_iter().enumerate() {
                let element = format_args!("{name}[{i}]");
                out.push(boolean(byte).ok_or_else(|| cur.error(element, start + i, not_boolean(byte)))?);
            }
            Array::Bool(out)
        }
        kind::STR => {
            let count = cur.count(8, length)?;
            let mut out = Vec::with_capacity(count.min(AT_ONCE));
            for i in 0..count {
                out.push(cur.str(format_args!("{name}[{i}]"))?);
            }
            Array::Str(out)
        }
        kind::ARRAY => {
            let count = cur.count(4 + 8, length)?;
            let mut out = Vec::with_capacity(count.min(AT_ONCE));
            for i in 0..count {
                out.push(read_array(cur, &format_args!("{name}[{i}]"), depth + 1)?);
            }
            Array::Nested(out)
        }
        other => return Err(cur.error(name, kind_at, format!("element type {other} is not known"))),
    })
}

/// An array of `N`-byte numbers, after its length.
fn fixed<T, const N: usize>(
    cur: &mut Cursor<'_>,
    length: &dyn Display,
    from: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, Error> {
    let count = cur.count(N, length)?;
    let bytes = cur.take(count * N, length)?; // no overflow: `count` numbers fit what is left
    Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| from(chunk)).collect())
}

fn boolean(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn not_boolean(byte: u8) -> String {
    format!("a boolean is 0 or 1, not {byte}")
}

fn read_alignment(cur: &Cursor<'_>, metadata: &Metadata) -> Result<usize, Error> {
    const KEY: &str = "general.alignment";
    let alignment = metadata.usize(KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || u32::try_from(alignment).is_err() {
        return Err(Error::metadata(cur.file, KEY, format!("{alignment} is not a power of two below 2^32")));
    }
    Ok(alignment)
}

/// `tensor 3 ("blk.0.attn_q.weight"): offset`, put together only when it is shown.
struct Field<'a>(usize, &'a str, &'static str);

impl Display for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tensor {} ({}): {}", self.0, Quoted(self.1), self.2)
    }
}

/// One row of the tensor table, and where its offset field lies. Here `offset` still counts from the data's start.
fn read_tensor(cur: &mut Cursor<'_>, i: usize) -> Result<(TensorInfo, usize), Error> {
    let name = cur.str(format_args!("tensor {i}: name"))?;
    let field = |field| Field(i, &name, field);
    let at = cur.at;
    let dims = cur.u32(field("dimension count"))? as usize;
    if dims == 0 || dims > MAX_DIMS {
        return Err(cur.error(field("dimension count"), at, format!("{dims} is not in 1 to {MAX_DIMS}")));
    }
    let mut shape = Vec::with_capacity(dims);
    for _ in 0..dims {
        let at = cur.at;
        match usize::try_from(cur.u64(field("dimension"))?) {
            Ok(0) => return Err(cur.error(field("dimension"), at, "is 0")),
            Ok(dim) => shape.push(dim),
            Err(_) => return Err(cur.error(field("dimension"), at, "does not fit this machine's integers")),
        }
    }
    shape.reverse();
    let type_at = cur.at;
    let dtype = Dtype::from_ggml(cur.u32(field("type"))?);
    let size = dtype.size(&shape).map_err(|what| cur.error(field("shape"), type_at, what))?;
    let offset_at = cur.at;
    let offset = cur.u64(field("offset"))?;
    let offset = usize::try_from(offset)
        .map_err(|_| cur.error(field("offset"), offset_at, format!("{offset} is beyond the file")))?;
    // `usize::MAX` marks a size that only the next tensor's place will tell.
    let size = size.unwrap_or(usize::MAX);
    Ok((TensorInfo { name, shape, dtype, offset, size }, offset_at))
}

/// Turns offsets into file offsets; checks that tensors lie in the file and do not overlap.
fn place_tensors(
    cur: &Cursor<'_>,
    tensors: &mut [TensorInfo],
    offsets_at: &[usize],
    data_start: usize,
) -> Result<(), Error> {
    let mut order: Vec<u32> = (0..tensors.len() as u32).collect();
    order.sort_by_key(|&i| tensors[i as usize].offset);
    let file_size = cur.size;
    let room = file_size - data_start;
    for k in 0..order.len() {
        let i = order[k] as usize;
        let next = order.get(k + 1).map(|&j| j as usize);
        let limit = next.map_or(room, |j| tensors[j].offset.min(room));
        let TensorInfo { ref name, offset, size, .. } = tensors[i];
        if offset > room || (size != usize::MAX && size > room - offset) {
            let size = if size == usize::MAX { String::new() } else { format!(" of {size} bytes") };
            let what = format!(
                "data{size} at byte {} ends beyond the file of {file_size} bytes; it is truncated or damaged",
                data_start.saturating_add(offset)
            );
            return Err(cur.error(Field(i, name, "offset"), offsets_at[i], what));
        }
        let known = if size == usize::MAX { limit - offset } else { size };
        if known > limit - offset || (next.is_some() && known == 0) {
            let other = next.map_or("", |j| &tensors[j].name);
            let what = format!("the data overlaps that of {}", Quoted(other));
            return Err(cur.error(Field(i, name, "offset"), offsets_at[i], what));
        }
        tensors[i].size = known;
        tensors[i].offset += data_start;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_same_however_much_of_it_is_read_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.gguf");
        let mut writer = crate::gguf::Writer::new();
        let words = (0..2000).map(|i| format!("word {i}")).collect();
        writer.set("tokenizer.ggml.tokens", Value::Array(Array::Str(words))).unwrap();
        writer.tensor("x", &[4], Dtype::Block(sampan_kernels::Format::F32)).unwrap();
        let mut file = writer.create(&path).unwrap();
        file.append("x", &[0; 16]).unwrap();
        file.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let whole = format!("{:?}", parse(&path, &bytes).unwrap());
        let file = ModelFile::open(&path).unwrap();
        for step in [4, 100, 5000, bytes.len(), 1 << 20] {
            let read = parse_from(Cursor::reading(&file, step).unwrap()).unwrap();
            assert_eq!(format!("{read:?}"), whole, "{step} bytes at a time");
        }
    }
}
