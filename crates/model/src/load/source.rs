//! From tensors of a file to those of the model: rows are chosen, transposed, and brought into the held format.

use crate::error::LoadError;
use crate::plan::{Rows, Source, Storage, TensorSpec};
use sampan_kernels::{Format, Pool};
use sampan_weights::{Checkpoint, Dtype, Tensor};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Rows that are read at once.
const PART: usize = 256;

/// A tensor of the file; the plan was made from the same checkpoint.
pub(crate) fn find<'a>(checkpoint: &'a Checkpoint, name: &str) -> Result<Tensor<'a>, LoadError> {
    checkpoint.tensor(name).ok_or_else(|| LoadError::Gone { name: name.to_string() })
}

/// Whole numbers below 2^32, all of them below `limit`.
pub(crate) fn ids(checkpoint: &Checkpoint, spec: &TensorSpec) -> Result<Vec<u32>, LoadError> {
    let tensor = find(checkpoint, &spec.name)?;
    let ids = tensor.to_i64s()?;
    let wrong = |id: i64| tensor.error(format!("{id} is not a number of an expert"));
    Ok(ids
        .into_iter()
        .map(|id| u32::try_from(id).map_err(|_| wrong(id)))
        .collect::<Result<_, sampan_weights::Error>>()?)
}

/// The numbers of a vector.
pub(crate) fn vector(checkpoint: &Checkpoint, spec: &TensorSpec) -> Result<Vec<f32>, LoadError> {
    let all = find(checkpoint, &spec.name)?.to_f32()?;
    let Source { rows, map, .. } = &spec.source;
    let len = spec.count() as usize;
    match rows {
        Rows::All if all.len() == len => Ok(all.into_iter().map(|x| map.apply(x)).collect()),
        _ => Ok((0..len).map(|i| map.apply(all[rows.index(i)])).collect()),
    }
}

/// Where a matrix that the file stores as the model holds it begins in its tensor; `None` for any other.
pub(crate) fn start_as_stored(tensor: &Tensor<'_>, spec: &TensorSpec) -> Option<usize> {
    let Source { rows, storage: Storage::Plain, transposed: false, .. } = &spec.source else { return None };
    let same = tensor.dtype == Dtype::Block(spec.format) && rows.consecutive();
    same.then(|| rows.index(0) * row_bytes(tensor))
}

/// The bytes of a matrix in its held format, row-major.
pub(crate) fn matrix<'a>(
    checkpoint: &'a Checkpoint,
    tensor: &Tensor<'a>,
    spec: &TensorSpec,
) -> Result<Cow<'a, [u8]>, LoadError> {
    let (rows, cols) = spec.rows_cols();
    let source = &spec.source;
    match (&source.storage, tensor.dtype) {
        (Storage::Plain, Dtype::Block(format)) if !source.transposed => match format == spec.format {
            true => lines(tensor, row_bytes(tensor), &source.rows, 0..rows),
            false => Ok(Cow::Owned(converted(tensor, format, spec)?)),
        },
        (Storage::Fp4 { scale } | Storage::Mxfp4 { scale }, _) => {
            let scale = find(checkpoint, scale)?;
            Ok(Cow::Owned(mxfp4(tensor, &scale, &source.rows, rows, cols / 32)?))
        }
        _ => {
            let mut floats = match source.transposed {
                false => numbers(checkpoint, tensor, source, 0..rows)?,
                true => numbers(checkpoint, tensor, source, 0..cols)?,
            };
            if source.transposed {
                floats = transposed(&floats, &source.columns, rows, cols);
            }
            let mut out = Vec::new();
            encode(spec.format, &floats, &mut out);
            Ok(Cow::Owned(out))
        }
    }
}

/// Whether the file's numbers are floats and the model's a quantised format.
pub(crate) fn to_be_quantised(tensor: &Tensor<'_>, spec: &TensorSpec) -> bool {
    let floats = [Format::F32, Format::F16, Format::BF16];
    let float = match (&spec.source.storage, tensor.dtype) {
        (Storage::Plain, Dtype::Block(format)) => floats.contains(&format),
        (Storage::Fp8 { .. }, _) => true,
        _ => false,
    };
    float && !floats.contains(&spec.format)
}

/// The importance of the columns in a row of a matrix, if it is known.
pub(crate) type RowWeights<'a> = &'a (dyn Fn(usize) -> Option<&'a [f32]> + Sync);

/// The bytes of a matrix in a quantised format, from what it is in the file: rows in parallel, so that no more than the
/// result and a few rows are in memory (of a transposed matrix, all of it in f32). Column `i` becomes column `places[i]`
/// where there are `places`. `weights` gives, for a row of the matrix, the importance of its columns as they will be.
pub(crate) fn quantised(
    checkpoint: &Checkpoint,
    tensor: &Tensor<'_>,
    spec: &TensorSpec,
    places: Option<&[usize]>,
    weights: RowWeights<'_>,
    pool: &Pool,
) -> Result<Vec<u8>, LoadError> {
    /// Rows of a task.
    const TASK: usize = 16;
    let (rows, cols) = spec.rows_cols();
    let Source { transposed: turned, columns, .. } = &spec.source;
    let whole = match turned {
        true => {
            let lines = numbers(checkpoint, tensor, &spec.source, 0..cols)?;
            Some(transposed(&lines, columns, rows, cols))
        }
        false => None,
    };
    let width = spec.format.row_bytes(cols).unwrap_or(0); // whole blocks: decided in the plan
    let mut out = vec![0; rows * width];
    let failure = Mutex::new(None);
    pool.run_slices(&mut out, TASK * width, |task, out| {
        let row = task * TASK;
        let taken = row..(row + TASK).min(rows);
        let floats = match &whole {
            Some(floats) => Ok(Cow::Borrowed(&floats[taken.start * cols..taken.end * cols])),
            None => numbers(checkpoint, tensor, &spec.source, taken).map(Cow::Owned),
        };
        let encoded = floats.and_then(|floats| {
            let floats = match places {
                Some(places) => Cow::Owned(placed(&floats, places)),
                None => floats,
            };
            let rows = floats.chunks_exact(cols.max(1)).zip(out.chunks_exact_mut(width.max(1)));
            for (row, (floats, out)) in (row..).zip(rows) {
                let wrong = |source| LoadError::Encode { name: spec.name.clone(), row, source };
                spec.format.encode_weighted(floats, weights(row), out).map_err(wrong)?;
            }
            Ok(())
        });
        if let Err(error) = encoded {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(out),
    }
}

/// Rows with number `i` of each at `places[i]`.
pub(crate) fn placed(floats: &[f32], places: &[usize]) -> Vec<f32> {
    let mut out = vec![0.0; floats.len()];
    let rows = floats.chunks_exact(places.len().max(1)).zip(out.chunks_exact_mut(places.len().max(1)));
    for (from, to) in rows {
        from.iter().zip(places).for_each(|(x, &place)| to[place] = *x);
    }
    out
}

/// Bytes of a row of the file.
fn row_bytes(tensor: &Tensor<'_>) -> usize {
    let width = tensor.shape.last().copied().unwrap_or(1);
    tensor.size() / (tensor.count() / width.max(1)).max(1)
}

/// Rows `wanted` of the model, which are rows of `bytes` bytes in the file.
fn lines<'a>(
    tensor: &Tensor<'a>,
    bytes: usize,
    which: &Rows,
    wanted: Range<usize>,
) -> Result<Cow<'a, [u8]>, LoadError> {
    if wanted.is_empty() {
        return Ok(Cow::Borrowed(&[]));
    }
    let places = || wanted.clone().map(|i| which.index(i));
    let (first, last) = places().fold((usize::MAX, 0), |(low, high), at| (low.min(at), high.max(at)));
    let span = first * bytes..(last + 1) * bytes;
    if which.consecutive() {
        return Ok(tensor.part(span)?);
    }
    let mut out = Vec::with_capacity(wanted.len() * bytes);
    // Rows that lie close together, such as every second, are read with those between them.
    if last - first < 4 * wanted.len() {
        let all = tensor.part(span)?;
        places().for_each(|at| out.extend_from_slice(&all[(at - first) * bytes..][..bytes]));
    } else {
        for at in places() {
            out.extend_from_slice(&tensor.part(at * bytes..(at + 1) * bytes)?);
        }
    }
    Ok(Cow::Owned(out))
}

/// Rows in another format, some at a time.
fn converted(tensor: &Tensor<'_>, from: Format, spec: &TensorSpec) -> Result<Vec<u8>, LoadError> {
    let (rows, cols) = spec.rows_cols();
    let bytes = row_bytes(tensor);
    let (mut floats, mut out) = (vec![0.0; cols], Vec::new());
    for first in (0..rows).step_by(PART) {
        let part = lines(tensor, bytes, &spec.source.rows, first..(first + PART).min(rows))?;
        for row in part.chunks_exact(bytes.max(1)) {
            from.decode(row, &mut floats);
            encode(spec.format, &floats, &mut out);
        }
    }
    Ok(out)
}

fn encode(format: Format, floats: &[f32], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + format.row_bytes(floats.len()).unwrap_or(0), 0);
    format
        .encode(floats, &mut out[start..])
        .expect("the plan holds only formats with an encoder in whole blocks");
}

/// Rows `wanted` of the model as the numbers that the file means, one row of the file for each.
fn numbers(
    checkpoint: &Checkpoint,
    tensor: &Tensor<'_>,
    source: &Source,
    wanted: Range<usize>,
) -> Result<Vec<f32>, LoadError> {
    let width = tensor.shape.last().copied().unwrap_or(1);
    let bytes = row_bytes(tensor);
    let mut out = Vec::with_capacity(wanted.len() * width);
    let scale = match &source.storage {
        Storage::Fp8 { scale, block } => Some((find(checkpoint, scale)?.to_f32()?, *block)),
        _ => None,
    };
    let shape = [1, width];
    for first in wanted.clone().step_by(PART) {
        let part = first..(first + PART).min(wanted.end);
        let data = lines(tensor, bytes, &source.rows, part.clone())?;
        for (row, data) in part.map(|i| source.rows.index(i)).zip(data.chunks_exact(bytes.max(1))) {
            let line = Tensor::new(tensor.name, &shape, tensor.dtype, data)?;
            let mut floats = line.to_f32()?;
            if let Some((factors, block)) = &scale {
                let factors = &factors[row / block.0 * width.div_ceil(block.1)..];
                for (part, factor) in floats.chunks_mut(block.1).zip(factors) {
                    part.iter_mut().for_each(|x| *x *= factor);
                }
            }
            out.append(&mut floats);
        }
    }
    Ok(out)
}

/// `rows x cols` from `cols` lines of a file, of which `columns` are taken.
fn transposed(lines: &[f32], columns: &Rows, rows: usize, cols: usize) -> Vec<f32> {
    let width = lines.len() / cols.max(1);
    let mut out = vec![0.0; rows * cols];
    for (col, line) in lines.chunks_exact(width.max(1)).enumerate() {
        for row in 0..rows {
            out[row * cols + col] = line[columns.index(row)];
        }
    }
    out
}

/// FP4 with neighbours in a byte, and E8M0 scales beside it, as blocks of [`Format::MXFP4`]: the same numbers.
fn mxfp4(
    codes: &Tensor<'_>,
    scales: &Tensor<'_>,
    which: &Rows,
    rows: usize,
    blocks: usize,
) -> Result<Vec<u8>, LoadError> {
    let mut out = Vec::with_capacity(rows * blocks * Format::MXFP4.block_bytes());
    for first in (0..rows).step_by(PART) {
        let part = first..(first + PART).min(rows);
        let codes = lines(codes, blocks * 16, which, part.clone())?;
        let scales = lines(scales, blocks, which, part)?;
        for (scale, codes) in scales.iter().zip(codes.chunks_exact(16)) {
            let code = |i: usize| codes[i / 2] >> (4 * (i % 2)) & 15;
            out.push(*scale);
            out.extend((0..16).map(|j| code(j) | code(j + 16) << 4));
        }
    }
    Ok(out)
}
