//! The gated delta rule with its convolution and gates, token by token.

/// Depthwise causal convolution along the rows of `x` (`n x channels`), then SiLU:
/// `y[t][c] = silu(Σ_j taps[j][c] * x[t - (K - 1) + j][c])` with `taps` `K x channels`, the last tap on the row itself.
/// Rows before the first are `state` (`K - 1 x channels`, oldest first), which becomes the last `K - 1` rows.
pub fn causal_conv_silu(x: &[f32], taps: &[f32], channels: usize, state: &mut [f32]) -> Vec<f32> {
    let kernel = taps.len() / channels;
    assert!(taps.len() == kernel * channels && state.len() + channels == taps.len(), "{kernel} taps");
    let all = [&*state, x].concat();
    let mut out = Vec::with_capacity(x.len());
    for t in 0..x.len() / channels {
        for c in 0..channels {
            let product =
                |j: usize| f64::from(taps[j * channels + c]) * f64::from(all[(t + j) * channels + c]);
            let sum: f64 = (0..kernel).map(product).sum();
            out.push((sum / (1.0 + (-sum).exp())) as f32);
        }
    }
    state.copy_from_slice(&all[all.len() - state.len()..]);
    out
}

/// `(e^g, β)` with `g = neg_exp_a * softplus(a + dt_bias)` and `β = sigmoid(b)`; `a` and `b` are `n x heads`.
/// Beyond 20, softplus is the identity.
pub fn delta_gates(a: &[f32], b: &[f32], neg_exp_a: &[f32], dt_bias: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let heads = neg_exp_a.len();
    let decay = a.iter().enumerate().map(|(i, &a)| {
        let x = f64::from(a) + f64::from(dt_bias[i % heads]);
        let softplus = if x > 20.0 { x } else { x.exp().ln_1p() };
        (f64::from(neg_exp_a[i % heads]) * softplus).exp() as f32
    });
    let beta = b.iter().map(|&b| (1.0 / (1.0 + (-f64::from(b)).exp())) as f32);
    (decay.collect(), beta.collect())
}

/// `x / sqrt(Σ x² + 1e-6)` for each row of `dim`.
pub fn l2_norm(x: &[f32], dim: usize) -> Vec<f32> {
    let norm = |row: &[f32]| (row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() + 1e-6).sqrt();
    x.chunks_exact(dim).flat_map(|row| row.iter().map(move |&x| (f64::from(x) / norm(row)) as f32)).collect()
}

/// One head of the gated delta rule (Yang, Kautz and Hatamizadeh, "Gated Delta Networks", 2024):
/// `S <- e^g S; u = S^T k; S <- S + k ⊗ β(v - u); o = S^T q` for each token in turn.
///
/// `q` and `k` are `n x key_dim` as they enter the rule, `v` is `n x value_dim`, `decay` is `e^g`, `state` is
/// `key_dim x value_dim`. Returns `o`, `n x value_dim`.
pub fn delta_rule(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    decay: &[f32],
    beta: &[f32],
    state: &mut [f64],
) -> Vec<f32> {
    let n = decay.len();
    let (key_dim, value_dim) = (k.len() / n.max(1), v.len() / n.max(1));
    let mut out = Vec::with_capacity(v.len());
    for t in 0..n {
        let (q, k) = (&q[t * key_dim..][..key_dim], &k[t * key_dim..][..key_dim]);
        state.iter_mut().for_each(|s| *s *= f64::from(decay[t]));
        for j in 0..value_dim {
            let u: f64 = (0..key_dim).map(|i| state[i * value_dim + j] * f64::from(k[i])).sum();
            let delta = f64::from(beta[t]) * (f64::from(v[t * value_dim + j]) - u);
            (0..key_dim).for_each(|i| state[i * value_dim + j] += f64::from(k[i]) * delta);
            let o: f64 = (0..key_dim).map(|i| state[i * value_dim + j] * f64::from(q[i])).sum();
            out.push(o as f32);
        }
    }
    out
}
