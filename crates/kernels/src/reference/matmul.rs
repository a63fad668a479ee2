//! Matrix products over decoded weights, and weights taken apart into integers and scales.

use crate::format::{self, Block, Format, blocks};

/// `rows x cols` weights in `format` as f32.
pub fn decode_matrix(format: Format, bytes: &[u8], rows: usize, cols: usize) -> Vec<f32> {
    let row_bytes = format.row_bytes(cols).expect("a row is a whole number of blocks");
    assert_eq!(bytes.len(), rows * row_bytes, "{rows} x {cols} weights in {format}");
    let mut values = vec![0.0; rows * cols];
    for (values, bytes) in values.chunks_exact_mut(cols).zip(bytes.chunks_exact(row_bytes)) {
        format.decode(bytes, values);
    }
    values
}

/// `out[t][r] = Σ_c x[t][c] * weights[r][c]`, for `x` of `n x cols` and `weights` of `rows x cols`; `out` is `n x rows`.
pub fn matmul(x: &[f32], weights: &[f32], n: usize, rows: usize, cols: usize) -> Vec<f32> {
    assert_eq!(x.len(), n * cols, "activations");
    assert_eq!(weights.len(), rows * cols, "weights");
    let mut out = Vec::with_capacity(n * rows);
    for t in 0..n {
        for r in 0..rows {
            let mut sum = 0.0f64;
            for c in 0..cols {
                sum += f64::from(x[t * cols + c]) * f64::from(weights[r * cols + c]);
            }
            out.push(sum as f32);
        }
    }
    out
}

/// Blocks taken apart: value `i` of sub-block `j` is `scales[j] * codes[i] + offsets[j]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// Values that share a scale.
    pub sub_len: usize,
    /// One integer per value. Table formats have the table's value here.
    pub codes: Vec<i8>,
    /// One scale per sub-block.
    pub scales: Vec<f32>,
    /// One offset per sub-block; 0 in symmetric formats.
    pub offsets: Vec<f32>,
}

/// Takes whole blocks apart; `None` for floating formats.
pub fn parts(format: Format, bytes: &[u8]) -> Option<Parts> {
    match format {
        Format::F32 | Format::F16 | Format::BF16 => None,
        Format::Q8_0 => Some(collect(bytes, |b: &format::BlockQ8_0, p| p.push(b.d.to_f32(), 0.0, &b.qs))),
        Format::Q4_0 => {
            Some(collect(bytes, |b: &format::BlockQ4_0, p| p.push(b.d.to_f32(), 0.0, &b.codes())))
        }
        Format::Q5_0 => {
            Some(collect(bytes, |b: &format::BlockQ5_0, p| p.push(b.d.to_f32(), 0.0, &b.codes())))
        }
        Format::IQ4_NL => {
            Some(collect(bytes, |b: &format::BlockIQ4_NL, p| p.push(b.d.to_f32(), 0.0, &b.codes())))
        }
        Format::MXFP4 => {
            Some(collect(bytes, |b: &format::BlockMXFP4, p| p.push(b.half_scale(), 0.0, &b.codes())))
        }
        Format::Q4_1 => Some(collect(bytes, |b: &format::BlockQ4_1, p| {
            p.push(b.d.to_f32(), b.m.to_f32(), &b.codes().map(|q| q as i8));
        })),
        Format::Q5_1 => Some(collect(bytes, |b: &format::BlockQ5_1, p| {
            p.push(b.d.to_f32(), b.m.to_f32(), &b.codes().map(|q| q as i8));
        })),
        Format::Q2_K => Some(collect(bytes, |b: &format::BlockQ2_K, p| {
            for (j, codes) in b.codes().map(|q| q as i8).chunks_exact(16).enumerate() {
                let (scale, min) = format::q2_k::scale_min(&b.scales, j);
                p.push(b.d.to_f32() * f32::from(scale), -(b.dmin.to_f32() * f32::from(min)), codes);
            }
        })),
        Format::Q3_K => Some(collect(bytes, |b: &format::BlockQ3_K, p| {
            for (j, codes) in b.codes().chunks_exact(16).enumerate() {
                p.push(b.d.to_f32() * f32::from(format::q3_k::scale(&b.scales, j)), 0.0, codes);
            }
        })),
        Format::Q4_K => Some(collect(bytes, |b: &format::BlockQ4_K, p| {
            for (j, codes) in b.codes().map(|q| q as i8).chunks_exact(32).enumerate() {
                let (scale, min) = format::q4_k::scale_min(&b.scales, j);
                p.push(b.d.to_f32() * f32::from(scale), -(b.dmin.to_f32() * f32::from(min)), codes);
            }
        })),
        Format::Q5_K => Some(collect(bytes, |b: &format::BlockQ5_K, p| {
            for (j, codes) in b.codes().map(|q| q as i8).chunks_exact(32).enumerate() {
                let (scale, min) = format::q5_k::scale_min(&b.scales, j);
                p.push(b.d.to_f32() * f32::from(scale), -(b.dmin.to_f32() * f32::from(min)), codes);
            }
        })),
        Format::Q6_K => Some(collect(bytes, |b: &format::BlockQ6_K, p| {
            for (codes, scale) in b.codes().chunks_exact(16).zip(b.scales) {
                p.push(b.d.to_f32() * f32::from(scale), 0.0, codes);
            }
        })),
        Format::IQ4_XS => Some(collect(bytes, |b: &format::BlockIQ4_XS, p| {
            for (j, codes) in b.codes().chunks_exact(32).enumerate() {
                p.push(b.d.to_f32() * f32::from(b.scale(j)), 0.0, codes);
            }
        })),
    }
}

fn collect<B: Block>(bytes: &[u8], take: impl Fn(&B, &mut Parts)) -> Parts {
    let mut parts = Parts { sub_len: 0, codes: Vec::new(), scales: Vec::new(), offsets: Vec::new() };
    for block in blocks::<B>(bytes) {
        take(block, &mut parts);
    }
    parts
}

impl Parts {
    fn push(&mut self, scale: f32, offset: f32, codes: &[i8]) {
        self.sub_len = codes.len();
        self.codes.extend_from_slice(codes);
        self.scales.push(scale);
        self.offsets.push(offset);
    }
}
