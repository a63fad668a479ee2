//! Activations as int8 blocks, and the products of integers that fast kernels compute.
//!
//! Two block lengths are in use: 32 (as Q8_0 stores weights) and 256 (for the K-quants, whose weights share an outer scale over 256
//! values). The products of a block are integers and exact, so kernels must agree with these functions up to the rounding of one f32
//! multiplication and addition per block.

use super::matmul::parts;
use crate::format::Format;

/// One block of activations: `x ≈ scale * code`.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivationBlock {
    /// `max |x| / 127`; 0 for a block of zeros.
    pub scale: f32,
    /// Each -127..=127.
    pub codes: Vec<i8>,
}

/// `x` in blocks of `len`; the last block may be shorter. `code = round(x * (127 / max |x|))`, ties to even.
///
/// A block that holds an infinity or a NaN has scale NaN, so that products show it. A block whose largest magnitude is
/// so small that `127 / max |x|` is not finite counts as zeros.
pub fn quantize_activations(x: &[f32], len: usize) -> Vec<ActivationBlock> {
    let block = |x: &[f32]| {
        let max = x.iter().fold(0.0f32, |max, x| if x.abs() > max || x.is_nan() { x.abs() } else { max });
        let inverse = 127.0 / max;
        if !max.is_finite() || !inverse.is_finite() {
            let scale = if max.is_finite() { 0.0 } else { f32::NAN };
            return ActivationBlock { scale, codes: vec![0; x.len()] };
        }
        let codes = x.iter().map(|x| (x * inverse).round_ties_even() as i8).collect();
        ActivationBlock { scale: max / 127.0, codes }
    };
    x.chunks(len).map(block).collect()
}

/// The product of one row of weights and one row of activations.
///
/// With weights `scale_j * q + offset_j` in sub-blocks `j` and activations `s_b * a` in blocks `b`:
/// `Σ_j s_b * (scale_j * Σ q a + offset_j * Σ a)`, where both inner sums are integers. `None` for floating formats.
///
/// # Panics
/// When the two rows differ in length, or a sub-block straddles two activation blocks.
pub fn dot_quantized(format: Format, row: &[u8], x: &[ActivationBlock]) -> Option<f64> {
    let weights = parts(format, row)?;
    let len = x.first().map_or(1, |block| block.codes.len());
    let columns: usize = x.iter().map(|block| block.codes.len()).sum();
    assert_eq!(weights.codes.len(), columns, "columns of weights and activations");
    assert!(
        len.is_multiple_of(weights.sub_len.max(1)),
        "sub-blocks of {} in blocks of {len}",
        weights.sub_len
    );
    let mut sum = 0.0;
    for (j, codes) in weights.codes.chunks(weights.sub_len).enumerate() {
        let start = j * weights.sub_len;
        let block = &x[start / len];
        let (mut products, mut total) = (0i32, 0i32);
        for (&q, &a) in codes.iter().zip(&block.codes[start % len..]) {
            products += i32::from(q) * i32::from(a);
            total += i32::from(a);
        }
        let scaled = f64::from(weights.scales[j]) * f64::from(products);
        let offset = f64::from(weights.offsets[j]) * f64::from(total);
        sum += f64::from(block.scale) * (scaled + offset);
    }
    Some(sum)
}

/// `n x rows` products of `x` (`n x cols`), quantised in blocks of `block`, and weights in a block format.
/// `None` for floating formats.
pub fn matmul_quantized(
    x: &[f32],
    format: Format,
    weights: &[u8],
    rows: usize,
    cols: usize,
    block: usize,
) -> Option<Vec<f32>> {
    let row_bytes = format.row_bytes(cols).expect("a row is a whole number of blocks");
    assert_eq!(weights.len(), rows * row_bytes, "{rows} x {cols} weights in {format}");
    let mut out = Vec::with_capacity(x.len() / cols * rows);
    for x in x.chunks_exact(cols) {
        let x = quantize_activations(x, block);
        for row in weights.chunks_exact(row_bytes) {
            out.push(dot_quantized(format, row, &x)? as f32);
        }
    }
    Some(out)
}
