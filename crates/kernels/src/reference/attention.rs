//! Softmax attention with grouped heads.

use std::ops::Range;

/// Shapes and options of one attention; see [`attention`].
#[derive(Clone, Debug)]
pub struct AttentionParams<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; a divisor of `heads`. Query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Length of a query and of a key head.
    pub key_dim: usize,
    /// Length of a value head.
    pub value_dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Whether a query sees only positions up to its own.
    pub causal: bool,
    /// A query at position `t` sees only positions `s` with `t - s < window`.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// One logit per head that takes part in the softmax and brings no value.
    pub sinks: Option<&'a [f32]>,
}

impl AttentionParams<'_> {
    /// The positions that the query at position `t` sees, of `len`.
    fn seen(&self, t: usize, len: usize) -> Range<usize> {
        let first = self.window.map_or(0, |window| (t + 1).saturating_sub(window));
        let end = if self.causal { len.min(t + 1) } else { len };
        first.min(end)..end
    }
}

/// `out = softmax(mask(softcap(scale * q k^T))) v`, head by head (Vaswani et al., "Attention Is All You Need", 2017).
///
/// `q` is `n x heads * key_dim`, its first row at position `start`; `k` is `len x kv_heads * key_dim` and `v` is
/// `len x kv_heads * value_dim`, their first rows at position 0. Returns `n x heads * value_dim`. A query that sees nothing gives zeros.
pub fn attention(params: &AttentionParams<'_>, start: usize, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let AttentionParams { heads, kv_heads, key_dim, value_dim, .. } = *params;
    assert!(heads.is_multiple_of(kv_heads), "{heads} query heads over {kv_heads} key/value heads");
    let (n, len) = (q.len() / (heads * key_dim), k.len() / (kv_heads * key_dim));
    assert_eq!(q.len(), n * heads * key_dim, "queries");
    assert_eq!(k.len(), len * kv_heads * key_dim, "keys");
    assert_eq!(v.len(), len * kv_heads * value_dim, "values");
    let mut out = Vec::with_capacity(n * heads * value_dim);
    for t in 0..n {
        for head in 0..heads {
            let kv_head = head / (heads / kv_heads);
            let query = &q[(t * heads + head) * key_dim..][..key_dim];
            let seen = params.seen(start + t, len);
            let scores: Vec<f64> = seen
                .clone()
                .map(|s| {
                    let key = &k[(s * kv_heads + kv_head) * key_dim..][..key_dim];
                    let dot: f64 = query.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                    let score = f64::from(params.scale) * dot;
                    params.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                })
                .collect();
            let sink = params.sinks.map(|sinks| f64::from(sinks[head]));
            let max = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
            let mut sum = sink.map_or(0.0, |sink| (sink - max).exp());
            let mut mixed = vec![0.0f64; value_dim];
            for (s, score) in seen.zip(scores) {
                let weight = (score - max).exp();
                sum += weight;
                let value = &v[(s * kv_heads + kv_head) * value_dim..][..value_dim];
                for (mixed, &value) in mixed.iter_mut().zip(value) {
                    *mixed += weight * f64::from(value);
                }
            }
            out.extend(mixed.iter().map(|&mixed| if sum > 0.0 { (mixed / sum) as f32 } else { 0.0 }));
        }
    }
    out
}
