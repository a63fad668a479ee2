//! Attention over lists of keys, and the index that makes them.

/// Softmax attention where row `i` of `q` (`n x heads * key_dim`) sees exactly the keys `lists[i]` (`key_dim` numbers
/// each), whose first `value_dim` numbers are their values. `sinks` are one logit per head without a value. Returns
/// `n x heads * value_dim`.
pub fn attention_listed(
    heads: usize,
    key_dim: usize,
    value_dim: usize,
    scale: f32,
    sinks: Option<&[f32]>,
    q: &[f32],
    lists: &[Vec<f32>],
) -> Vec<f32> {
    assert_eq!(q.len(), lists.len() * heads * key_dim, "queries");
    let mut out = Vec::with_capacity(lists.len() * heads * value_dim);
    for (i, query) in q.chunks_exact(key_dim).enumerate() {
        let keys = || lists[i / heads].chunks_exact(key_dim);
        let scores: Vec<f64> = keys().map(|key| dot(query, key) * f64::from(scale)).collect();
        let sink = sinks.map(|sinks| f64::from(sinks[i % heads]));
        let max = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().copied().chain(sink).map(|score| (score - max).exp()).sum();
        out.extend((0..value_dim).map(|d| {
            let mixed: f64 =
                scores.iter().zip(keys()).map(|(score, key)| (score - max).exp() * f64::from(key[d])).sum();
            (mixed / sum) as f32
        }));
    }
    out
}

/// `sum_h weights[h] * max(0, q_h * k_s)` for every key `s` (DeepSeek-AI, "DeepSeek-V3.2", 2025): `q` is
/// `heads x dim`, `keys` is `n x dim`.
pub fn index_scores(dim: usize, q: &[f32], weights: &[f32], keys: &[f32]) -> Vec<f32> {
    assert_eq!(q.len(), weights.len() * dim, "index queries");
    let score = |key: &[f32]| {
        let heads = q.chunks_exact(dim).zip(weights);
        heads.map(|(q, w)| f64::from(*w) * dot(q, key).max(0.0)).sum::<f64>() as f32
    };
    keys.chunks_exact(dim).map(score).collect()
}

/// The indices of the `k` largest numbers in ascending order, the first among equals.
pub fn top_k(x: &[f32], k: usize) -> Vec<u32> {
    let better =
        |i: usize| x.iter().enumerate().filter(|(j, y)| **y > x[i] || (**y == x[i] && *j < i)).count();
    (0..x.len()).filter(|i| better(*i) < k).map(|i| i as u32).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
