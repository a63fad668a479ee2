//! Softmax attention with grouped heads over paged keys and values.
//!
//! A row's result is a function of its query, of the keys and values that it sees and of their positions, and of
//! nothing else: not of how a prompt was cut into chunks, of the other rows of the batch, of page numbers or of
//! the number of threads. Every reduction runs in an order fixed by absolute position.

mod store;

pub use store::{KvFormat, KvShape, KvStore, PAGE};

use crate::Kernels;
use std::ops::Range;
use store::put;

/// One run of consecutive query rows of one sequence.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// The sequence's pages in order: position `p` is in page `pages[p / PAGE]`.
    pub pages: &'a [u32],
    /// The rows in the batch.
    pub rows: Range<usize>,
    /// Position of the first row in the sequence.
    pub start: usize,
}

/// One layer's attention, apart from its cache.
#[derive(Clone, Debug)]
pub struct AttentionSpec<'a> {
    /// Query heads; head `h` reads key/value head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A row sees itself and `window - 1` positions before.
    pub window: Option<usize>,
    /// One learned logit per head that takes part in the softmax and brings no value.
    pub sinks: Option<&'a [f32]>,
}

impl Kernels {
    /// Writes the keys (`n x kv_heads * key_dim`) and values (`n x kv_heads * value_dim`) of a batch's rows to
    /// their positions.
    ///
    /// # Panics
    /// If a span's page table does not cover its rows, or the slices are too short.
    pub fn kv_write(&self, store: &mut KvStore, spans: &[Span<'_>], k: &[f32], v: &[f32]) {
        let shape = store.shape();
        let (kd, vd) = (shape.key_dim, shape.value_dim);
        let (ks, vs) = (shape.key_stride(), shape.value_stride());
        let pairs = shape.format == KvFormat::Bf16;
        for span in spans {
            for (i, row) in span.rows.clone().enumerate() {
                let position = span.start + i;
                let (page, t) = (span.pages[position / PAGE] as usize, position % PAGE);
                for head in 0..shape.kv_heads {
                    let key = &k[(row * shape.kv_heads + head) * kd..][..kd];
                    let value = &v[(row * shape.kv_heads + head) * vd..][..vd];
                    let at = page * shape.page_bytes() + head * shape.head_bytes();
                    let bytes = &mut store.data_mut()[at..at + shape.head_bytes()];
                    let (keys, values) = bytes.split_at_mut(shape.key_bytes());
                    for d in 0..ks {
                        let index = if pairs { (d / 2 * PAGE + t) * 2 + d % 2 } else { d * PAGE + t };
                        put(shape.format, keys, index, key.get(d).copied().unwrap_or(0.0));
                    }
                    for d in 0..vs {
                        let index = if pairs { (t / 2 * vs + d) * 2 + t % 2 } else { t * vs + d };
                        put(shape.format, values, index, value.get(d).copied().unwrap_or(0.0));
                    }
                }
            }
        }
    }

    /// Copies a page, for a sequence that continues a shared page on its own.
    ///
    /// # Panics
    /// If a page number is beyond the store.
    pub fn kv_copy_page(&self, store: &mut KvStore, from: u32, to: u32) {
        let bytes = store.shape().page_bytes();
        let (from, to) = (from as usize * bytes, to as usize * bytes);
        store.data_mut().copy_within(from..from + bytes, to);
    }

    /// Causal attention of a batch: the row at position `p` sees `max(0, p - window + 1)..=p`.
    ///
    /// `q` is `n x heads * key_dim`, `out` is `n x heads * value_dim`; keys and values of the batch's own rows
    /// must have been written before. Pages that lie wholly before every row's window are not read.
    ///
    /// # Panics
    /// If a span's page table does not cover its rows, or the slices are too short.
    pub fn attend(
        &self,
        spec: &AttentionSpec<'_>,
        store: &KvStore,
        spans: &[Span<'_>],
        q: &[f32],
        out: &mut [f32],
    ) {
        let shape = store.shape();
        let (kd, vd) = (shape.key_dim, shape.value_dim);
        let group = spec.heads / shape.kv_heads;
        for span in spans {
            for (i, row) in span.rows.clone().enumerate() {
                let position = span.start + i;
                let first = spec.window.map_or(0, |w| (position + 1).saturating_sub(w));
                for head in 0..spec.heads {
                    let at = row * spec.heads + head;
                    let query = &q[at * kd..][..kd];
                    let sink = spec.sinks.map(|s| s[head]);
                    let to = &mut out[at * vd..][..vd];
                    let page = |t: usize| store.head(span.pages[t / PAGE], head / group);
                    one_row(spec, shape, first..position + 1, query, sink, to, &page);
                }
            }
        }
    }
}

/// Element `index` of `bytes`.
fn get(format: KvFormat, bytes: &[u8], index: usize) -> f32 {
    let half = || u16::from_ne_bytes([bytes[index * 2], bytes[index * 2 + 1]]);
    match format {
        KvFormat::F32 => bytemuck::pod_read_unaligned(&bytes[index * 4..index * 4 + 4]),
        KvFormat::F16 => half::f16::from_bits(half()).to_f32(),
        KvFormat::Bf16 => half::bf16::from_bits(half()).to_f32(),
    }
}

fn one_row<'a>(
    spec: &AttentionSpec<'_>,
    shape: KvShape,
    seen: Range<usize>,
    query: &[f32],
    sink: Option<f32>,
    out: &mut [f32],
    page: &dyn Fn(usize) -> (&'a [u8], &'a [u8]),
) {
    let pairs = shape.format == KvFormat::Bf16;
    let score = |t: usize| {
        let keys = page(t).0;
        let t = t % PAGE;
        let dot: f32 = query.iter().enumerate().fold(0.0, |sum, (d, q)| {
            let index = if pairs { (d / 2 * PAGE + t) * 2 + d % 2 } else { d * PAGE + t };
            sum + q * get(shape.format, keys, index)
        });
        let score = dot * spec.scale;
        spec.softcap.map_or(score, |cap| cap * (score / cap).tanh())
    };
    let mut scores: Vec<f32> = seen.clone().map(score).collect();
    let max = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|s| *s = (*s - max).exp());
    let sum: f32 = scores.iter().copied().chain(sink.map(|s| (s - max).exp())).sum();
    out.fill(0.0);
    for (t, p) in seen.zip(&scores) {
        let values = page(t).1;
        let (t, stride) = (t % PAGE, shape.value_stride());
        for (d, o) in out.iter_mut().enumerate() {
            let index = if pairs { (t / 2 * stride + d) * 2 + t % 2 } else { t * stride + d };
            *o += p / sum * get(shape.format, values, index);
        }
    }
}
