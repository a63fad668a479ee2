//! F32, F16 and BF16: a "block" is one number, little endian.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

pub(super) fn decode_f32(bytes: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *out = f32::from_le_bytes(*bytes);
    }
}

/// In runs, because the conversion of a slice asks only once whether the CPU has an instruction for it.
pub(super) fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    const RUN: usize = 128;
    for (out, bytes) in out.chunks_mut(RUN).zip(bytes.chunks(2 * RUN)) {
        let mut run = [f16::ZERO; RUN];
        for (half, bytes) in run.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        run[..out.len()].convert_to_f32_slice(out);
    }
}

pub(super) fn decode_bf16(bytes: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *out = bf16::from_le_bytes(*bytes).to_f32();
    }
}
