//! Norms, rotary embedding, activations and softmax of one row or a few.

/// `out_i = weight_i * x_i / sqrt(mean(x²) + eps)` for each row of `dim` values (Zhang and Sennrich, "Root Mean Square Layer
/// Normalization", 2019). Without `weight`, every weight is 1.
pub fn rms_norm(x: &[f32], dim: usize, weight: Option<&[f32]>, eps: f32) -> Vec<f32> {
    assert!(x.len().is_multiple_of(dim) && weight.is_none_or(|weight| weight.len() == dim), "rows of {dim}");
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(dim) {
        let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let factor = 1.0 / (squares / dim as f64 + f64::from(eps)).sqrt();
        for (i, &x) in row.iter().enumerate() {
            let weight = weight.map_or(1.0, |weight| weight[i]);
            out.push((f64::from(weight) * f64::from(x) * factor) as f32);
        }
    }
    out
}

/// `out_i = weight_i * (x_i - mean(x)) / sqrt(variance(x) + eps) + bias_i` for each row of `dim` values (Ba et al., "Layer
/// Normalization", 2016).
pub fn layer_norm(x: &[f32], dim: usize, weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    assert!(x.len().is_multiple_of(dim) && weight.len() == dim && bias.len() == dim, "rows of {dim}");
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(dim) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / dim as f64;
        let variance =
            row.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>() / dim as f64;
        let factor = 1.0 / (variance + f64::from(eps)).sqrt();
        for (i, &x) in row.iter().enumerate() {
            out.push(((f64::from(x) - mean) * factor * f64::from(weight[i]) + f64::from(bias[i])) as f32);
        }
    }
    out
}

/// Rotary embedding (Su et al., "RoFormer", 2021), half-split: dim `i` is paired with `i + d_rot / 2`, where `d_rot` is twice
/// the number of `frequencies`.
///
/// `x` is one head at `position`; dims from `d_rot` on pass through. With angle `a = position * frequencies[i]`:
/// `(x, y) -> (x cos a - y sin a, x sin a + y cos a)`, cosine and sine times `factor`.
pub fn rope_half(x: &mut [f32], position: usize, frequencies: &[f32], factor: f32) {
    let half = frequencies.len();
    for (i, &frequency) in frequencies.iter().enumerate() {
        rotate(x, i, i + half, position, frequency, factor);
    }
}

/// As [`rope_half`], but dim `2 i` is paired with `2 i + 1`.
pub fn rope_pairs(x: &mut [f32], position: usize, frequencies: &[f32], factor: f32) {
    for (i, &frequency) in frequencies.iter().enumerate() {
        rotate(x, 2 * i, 2 * i + 1, position, frequency, factor);
    }
}

/// The angle is rounded to f32, as the implementations that train models do: at long positions the rounding is larger than any
/// other, and belongs to the model.
fn rotate(x: &mut [f32], i: usize, j: usize, position: usize, frequency: f32, factor: f32) {
    let angle = f64::from(position as f32 * frequency);
    let (sin, cos) = (angle.sin() * f64::from(factor), angle.cos() * f64::from(factor));
    let (a, b) = (f64::from(x[i]), f64::from(x[j]));
    x[i] = (a * cos - b * sin) as f32;
    x[j] = (a * sin + b * cos) as f32;
}

/// `silu(gate) * up`, `silu(x) = x / (1 + e^-x)`.
pub fn silu_mul(gate: &[f32], up: &[f32]) -> Vec<f32> {
    assert_eq!(gate.len(), up.len(), "gate and up");
    let product = |(&gate, &up): (&f32, &f32)| {
        let gate = f64::from(gate);
        (gate / (1.0 + (-gate).exp()) * f64::from(up)) as f32
    };
    gate.iter().zip(up).map(product).collect()
}

/// `gelu(gate) * up` with `gelu(x) = x/2 * (1 + tanh(sqrt(2/π) * (x + 0.044715 x³)))` (Hendrycks and Gimpel, 2016).
pub fn gelu_tanh_mul(gate: &[f32], up: &[f32]) -> Vec<f32> {
    assert_eq!(gate.len(), up.len(), "gate and up");
    let product = |(&gate, &up): (&f32, &f32)| {
        let gate = f64::from(gate);
        let inner = std::f64::consts::FRAC_2_PI.sqrt() * (gate + 0.044_715 * gate * gate * gate);
        (0.5 * gate * (1.0 + inner.tanh()) * f64::from(up)) as f32
    };
    gate.iter().zip(up).map(product).collect()
}

/// `silu(min(gate, limit)) * clamp(up, -limit, limit)`: the bounded gate of DeepSeek V4.
pub fn swiglu_clamped(gate: &[f32], up: &[f32], limit: f32) -> Vec<f32> {
    assert_eq!(gate.len(), up.len(), "gate and up");
    let gate: Vec<f32> = gate.iter().map(|&gate| if gate > limit { limit } else { gate }).collect();
    let up: Vec<f32> = up.iter().map(|up| up.clamp(-limit, limit)).collect();
    silu_mul(&gate, &up)
}

/// `(u + 1) * g * sigmoid(alpha * g)` with `g = min(gate, limit)` and `u = clamp(up, -limit, limit)`: the gate of gpt-oss.
pub fn swiglu_oai(gate: &[f32], up: &[f32], alpha: f32, limit: f32) -> Vec<f32> {
    assert_eq!(gate.len(), up.len(), "gate and up");
    let product = |(&gate, &up): (&f32, &f32)| {
        let gate = f64::from(if gate > limit { limit } else { gate });
        let up = f64::from(up.clamp(-limit, limit));
        ((up + 1.0) * gate / (1.0 + (-f64::from(alpha) * gate).exp())) as f32
    };
    gate.iter().zip(up).map(product).collect()
}

/// `x * sigmoid(gate)`, `sigmoid(g) = 1 / (1 + e^-g)`.
pub fn sigmoid_mul(x: &[f32], gate: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), gate.len(), "numbers and gates");
    let product = |(&x, &gate): (&f32, &f32)| (f64::from(x) / (1.0 + (-f64::from(gate)).exp())) as f32;
    x.iter().zip(gate).map(product).collect()
}

/// `cap * tanh(x / cap)`.
pub fn softcap(x: &[f32], cap: f32) -> Vec<f32> {
    x.iter().map(|&x| (f64::from(cap) * (f64::from(x) / f64::from(cap)).tanh()) as f32).collect()
}

/// `e^(x_i - max) / Σ e^(x_j - max)`; zeros when no value is above negative infinity.
pub fn softmax(x: &[f32]) -> Vec<f32> {
    let max = f64::from(x.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x)));
    if max == f64::NEG_INFINITY {
        return vec![0.0; x.len()];
    }
    let weights: Vec<f64> = x.iter().map(|&x| (f64::from(x) - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}
