//! Products of bf16 weights and bf16 activations (AVX-512 BF16).

use std::arch::x86_64::*;

use super::quantise::{AHEAD, Line, Row, TILE_ROWS};
use super::{Inputs, Output, Panel, prefetch};

/// Rounds a row of activations to bf16 into its lines; columns that pad the last line are zero.
///
/// # Safety
/// The lines are there, and nobody else uses them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
pub(super) unsafe fn row(x: &[f32], lines: Row<Line>) {
    let (chunks, rest) = x.as_chunks::<32>();
    let mut padded = [0.0f32; 32];
    padded[..rest.len()].copy_from_slice(rest);
    let padded = (!rest.is_empty()).then_some(&padded);
    for (i, x) in chunks.iter().chain(padded).enumerate() {
        // SAFETY: the caller's promise; 32 numbers are read; a line has room for 32 bf16.
        unsafe {
            let line = lines.at(i);
            prefetch::<_MM_HINT_T0>(x.as_ptr().wrapping_add(AHEAD).cast(), size_of_val(x));
            let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
            let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(line.0.as_mut_ptr().cast(), pairs);
        }
    }
}

/// All activation rows times one panel.
///
/// # Safety
/// The panel, the inputs and the output have one shape.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
pub(super) unsafe fn panel(panel: &Panel<'_>, x: &Inputs<'_>, out: &Output<'_>) {
    let tiling = x.tiling;
    for tile in 0..tiling.tiles() {
        // SAFETY: the caller's promise; pieces of a tile stay within its rows in use.
        unsafe {
            let lines = x.lines16.as_ptr().add(tile * x.tile_lines16());
            let mut t = 0;
            while t < tiling.used(tile) {
                let (left, row) = (tiling.used(tile) - t, tile * TILE_ROWS + t);
                t += match left {
                    16.. => piece::<16>(panel, lines.add(t), tiling.tile_rows(), row, out),
                    8.. => piece::<8>(panel, lines.add(t), tiling.tile_rows(), row, out),
                    4.. => piece::<4>(panel, lines.add(t), tiling.tile_rows(), row, out),
                    _ => piece::<1>(panel, lines.add(t), tiling.tile_rows(), row, out),
                };
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
unsafe fn piece<const T: usize>(
    panel: &Panel<'_>,
    lines: *const Line,
    stride: usize,
    row: usize,
    out: &Output<'_>,
) -> usize {
    // SAFETY: the caller's promise; the two register types are both 512 bits without invalid values.
    unsafe {
        let pairs = |v: __m512i| std::mem::transmute::<__m512i, __m512bh>(v);
        let mut y = [_mm512_setzero_ps(); T];
        for chunk in 0..panel.cols.div_ceil(32) {
            let x = lines.add(chunk * stride).cast::<i32>();
            for pair in 0..16 {
                let at = panel.start.add(1024 * chunk + 64 * pair);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(2048).cast());
                let weights = pairs(_mm512_loadu_si512(at.cast()));
                for (t, y) in y.iter_mut().enumerate() {
                    *y = _mm512_dpbf16_ps(*y, weights, pairs(_mm512_set1_epi32(*x.add(16 * t + pair))));
                }
            }
        }
        for (t, y) in y.into_iter().enumerate() {
            let mut values = [0.0; 16];
            _mm512_storeu_ps(values.as_mut_ptr(), y);
            out.put(row + t, panel.first_row, values);
        }
    }
    T
}
