//! Values out of pages that hold keys only.

use crate::attention::{KvFormat, KvShape, PAGE};

/// The values of a page that holds keys only, in the layout of values.
#[inline(always)]
pub(super) fn turn(shape: &KvShape, keys: &[u8], to: &mut [u32]) {
    let stride = shape.value_stride();
    let dims = shape.key_stride().min(stride);
    match shape.format {
        KvFormat::F32 => turn_columns::<u32>(bytemuck::cast_slice(keys), dims, stride, to),
        KvFormat::F16 => {
            let to = bytemuck::cast_slice_mut(to);
            turn_columns::<u16>(bytemuck::cast_slice(keys), dims, stride, to);
        }
        KvFormat::Bf16 => turn_pairs(bytemuck::cast_slice(keys), dims, stride, to),
        KvFormat::I16 | KvFormat::Q8_0 => unreachable!("latent vectors are floats"),
    }
}

/// Dims that are turned together: a cache line of each row that is written.
const TURN: usize = 16;

/// Columns of `dims` numbers as rows of `stride`.
#[inline(always)]
fn turn_columns<T: Copy + Default>(keys: &[T], dims: usize, stride: usize, to: &mut [T]) {
    assert!(keys.len() >= dims * PAGE && to.len() >= PAGE * stride && dims <= stride);
    let mut blocks = keys[..dims * PAGE].chunks_exact(TURN * PAGE);
    for (i, block) in blocks.by_ref().enumerate() {
        for (token, to) in to.chunks_exact_mut(stride).take(PAGE).enumerate() {
            let mut row = [T::default(); TURN];
            for (to, dim) in row.iter_mut().zip(block.chunks_exact(PAGE)) {
                *to = dim[token];
            }
            to[i * TURN..(i + 1) * TURN].copy_from_slice(&row);
        }
    }
    let whole = dims - dims % TURN;
    for (dim, tokens) in blocks.remainder().chunks_exact(PAGE).enumerate() {
        for (to, token) in to.chunks_exact_mut(stride).zip(tokens) {
            to[whole + dim] = *token;
        }
    }
}

/// Pairs of dims of tokens as pairs of tokens of dims; dims come in whole blocks.
#[inline(always)]
fn turn_pairs(keys: &[u32], dims: usize, stride: usize, to: &mut [u32]) {
    assert!(keys.len() >= dims / 2 * PAGE && to.len() >= PAGE / 2 * stride && dims <= stride);
    for (i, block) in keys[..dims / 2 * PAGE].chunks_exact(TURN / 2 * PAGE).enumerate() {
        for (pair, to) in to.chunks_exact_mut(stride).take(PAGE / 2).enumerate() {
            let mut row = [0; TURN];
            for (to, dim) in row.chunks_exact_mut(2).zip(block.chunks_exact(PAGE)) {
                let (first, second) = (dim[2 * pair], dim[2 * pair + 1]);
                to[0] = first & 0xffff | second << 16;
                to[1] = first >> 16 | second & 0xffff_0000;
            }
            to[i * TURN..(i + 1) * TURN].copy_from_slice(&row);
        }
    }
}
