//! The one executor: walks the plan for a ragged batch of sequences.

use crate::cache::Cache;
use crate::load::Model;
use crate::plan::{Activation, Attention, Ffn, LayerPlan, Linear, Mixer, Norm, Plan};
use sampan_kernels::attention::{AttentionSpec, Span};
use sampan_kernels::ops::RopeAngles;
use sampan_kernels::{Job, MatmulScratch};

/// Which rows of a chunk need logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None: more of the prompt follows.
    None,
    /// The last token's.
    Last,
    /// Every token's.
    All,
}

/// Consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The tokens; each below [`Plan::vocab`].
    pub tokens: &'a [u32],
    /// Position of the first token. Positions before it are in the cache.
    pub start: usize,
    /// The sequence's pages, covering all positions up to the chunk's end.
    pub pages: &'a [u32],
    /// Which rows need logits.
    pub logits: Logits,
}

/// Activations, kept between calls so that they are allocated once.
#[derive(Debug, Default)]
pub struct Scratch {
    residual: Vec<f32>, // [n, hidden]
    normed: Vec<f32>,   // [n, hidden]
    q: Vec<f32>,        // [n, heads * key_dim]
    k: Vec<f32>,        // [n, kv_heads * key_dim]
    v: Vec<f32>,        // [n, kv_heads * value_dim]
    mixed: Vec<f32>,    // [n, heads * value_dim]
    gate: Vec<f32>,     // [n, ffn]
    up: Vec<f32>,       // [n, ffn]
    positions: Vec<u32>,
    angles: Vec<RopeAngles>,
    matmul: MatmulScratch,
}

/// The widest buffers that any layer of a plan needs, per token.
struct Widths {
    q: usize,
    k: usize,
    v: usize,
    mixed: usize,
    ffn: usize,
}

impl Widths {
    fn of(plan: &Plan) -> Widths {
        let widest = |f: &dyn Fn(&Attention) -> usize| plan.attentions().map(f).max().unwrap_or(0);
        Widths {
            q: widest(&|a| a.heads * a.key_dim),
            k: widest(&|a| a.kv_heads * a.key_dim),
            v: widest(&|a| a.kv_heads * a.value_dim),
            mixed: widest(&|a| a.heads * a.value_dim),
            ffn: plan.layers.iter().map(|layer| ffn_width(&layer.ffn)).max().unwrap_or(0),
        }
    }

    fn total(&self) -> usize {
        self.q + self.k + self.v + self.mixed + 2 * self.ffn
    }
}

fn ffn_width(ffn: &Ffn) -> usize {
    match ffn {
        Ffn::Gated { gate, .. } => gate.rows,
    }
}

impl Scratch {
    /// Bytes of activations for a batch of `tokens`, its quantised copies included.
    pub(crate) fn bytes(plan: &Plan, tokens: usize) -> usize {
        let widths = Widths::of(plan);
        let widest = plan.hidden.max(widths.mixed).max(widths.ffn);
        let floats = 2 * plan.hidden + widths.total();
        // One int8 copy and one bf16 copy of the widest input at most, and a row of logits.
        tokens * (floats * size_of::<f32>() + widest * 3) + plan.vocab * size_of::<f32>()
    }

    fn resize(&mut self, plan: &Plan, n: usize) {
        let widths = Widths::of(plan);
        let set = |buffer: &mut Vec<f32>, width: usize| buffer.resize(n * width, 0.0);
        set(&mut self.residual, plan.hidden);
        set(&mut self.normed, plan.hidden);
        set(&mut self.q, widths.q);
        set(&mut self.k, widths.k);
        set(&mut self.v, widths.v);
        set(&mut self.mixed, widths.mixed);
        set(&mut self.gate, widths.ffn);
        set(&mut self.up, widths.ffn);
        self.angles.resize_with(plan.ropes.len(), RopeAngles::new);
    }
}

impl Model {
    /// Computes a batch of chunks, writes their keys and values to the cache, and fills `logits` with the requested
    /// rows, `[rows, vocab]`, in the order of the chunks.
    ///
    /// A row's logits do not depend on the other chunks, on how a sequence is cut, or on the number of threads.
    ///
    /// # Panics
    /// If a token is not below the plan's vocab, or a chunk's pages do not cover its positions.
    pub fn forward(
        &self,
        chunks: &[Chunk<'_>],
        cache: &mut Cache,
        scratch: &mut Scratch,
        logits: &mut Vec<f32>,
    ) {
        let (plan, kernels) = (self.plan(), self.kernels());
        let spans = spans_of(chunks);
        let n = spans.last().map_or(0, |span| span.rows.end);
        scratch.resize(plan, n);
        self.embed(chunks, scratch);
        for (rope, angles) in plan.ropes.iter().zip(&mut scratch.angles) {
            kernels.rope_angles(&rope.frequencies, &scratch.positions, rope.attention_factor, angles);
        }
        for (index, layer) in plan.layers.iter().enumerate() {
            self.layer(index, layer, &spans, cache, scratch, n);
        }
        self.head(chunks, scratch, logits);
    }

    fn embed(&self, chunks: &[Chunk<'_>], scratch: &mut Scratch) {
        let (plan, kernels) = (self.plan(), self.kernels());
        let table = self.matrix(plan.embedding);
        let tokens = chunks.iter().flat_map(|chunk| chunk.tokens);
        for (row, &token) in scratch.residual.chunks_exact_mut(plan.hidden).zip(tokens) {
            kernels.decode_row(table, token as usize, row);
        }
        scratch.positions.clear();
        for chunk in chunks {
            scratch.positions.extend((chunk.start..chunk.start + chunk.tokens.len()).map(|p| p as u32));
        }
    }

    fn layer(
        &self,
        index: usize,
        layer: &LayerPlan,
        spans: &[Span<'_>],
        cache: &mut Cache,
        scratch: &mut Scratch,
        n: usize,
    ) {
        self.norm(&layer.mixer_norm, &scratch.residual, &mut scratch.normed);
        match &layer.mixer {
            Mixer::Attention(attention) => self.attention(attention, index, spans, cache, scratch, n),
        }
        self.norm(&layer.ffn_norm, &scratch.residual, &mut scratch.normed);
        match &layer.ffn {
            Ffn::Gated { gate, up, down, activation } => self.gated(gate, up, down, *activation, scratch, n),
        }
    }

    /// `residual += o(attend(rope(norm(q)), rope(norm(k)), v))`
    fn attention(
        &self,
        plan: &Attention,
        index: usize,
        spans: &[Span<'_>],
        cache: &mut Cache,
        scratch: &mut Scratch,
        n: usize,
    ) {
        let kernels = self.kernels();
        let (q, k, v) =
            (&mut scratch.q[..n * plan.q.rows], &mut scratch.k[..n * plan.k.rows], &mut scratch.v);
        let v = &mut v[..n * plan.v.rows];
        kernels.matmul(
            &scratch.normed,
            n,
            &mut scratch.matmul,
            &mut [self.job(&plan.q, q), self.job(&plan.k, k), self.job(&plan.v, v)],
        );
        if let Some(norm) = &plan.q_norm {
            kernels.rms_norm_inplace(q, plan.key_dim, Some(self.vector(norm.weight)), norm.eps);
        }
        if let Some(norm) = &plan.k_norm {
            kernels.rms_norm_inplace(k, plan.key_dim, Some(self.vector(norm.weight)), norm.eps);
        }
        let angles = &scratch.angles[plan.rope];
        kernels.rope(q, plan.heads, plan.key_dim, angles, plan.pairing, 0);
        kernels.rope(k, plan.kv_heads, plan.key_dim, angles, plan.pairing, 0);
        let store = cache.store(index);
        kernels.kv_write(store, spans, k, v);
        let spec = AttentionSpec {
            heads: plan.heads,
            scale: plan.scale,
            softcap: plan.softcap,
            window: plan.window,
            sinks: None,
        };
        let mixed = &mut scratch.mixed[..n * plan.o.cols];
        kernels.attend(&spec, store, spans, q, mixed);
        let job = Job { accumulate: true, ..self.job(&plan.o, &mut scratch.residual) };
        kernels.matmul(mixed, n, &mut scratch.matmul, &mut [job]);
    }

    /// `residual += down(activation(gate x) * up x)`
    fn gated(
        &self,
        gate: &Linear,
        up: &Linear,
        down: &Linear,
        activation: Activation,
        scratch: &mut Scratch,
        n: usize,
    ) {
        let kernels = self.kernels();
        let (wide, narrow) = (&mut scratch.gate[..n * gate.rows], &mut scratch.up[..n * up.rows]);
        kernels.matmul(
            &scratch.normed,
            n,
            &mut scratch.matmul,
            &mut [self.job(gate, wide), self.job(up, narrow)],
        );
        match activation {
            Activation::Silu => kernels.silu_mul(wide, narrow),
            Activation::GeluTanh => kernels.gelu_tanh_mul(wide, narrow),
        }
        let job = Job { accumulate: true, ..self.job(down, &mut scratch.residual) };
        kernels.matmul(wide, n, &mut scratch.matmul, &mut [job]);
    }

    /// Logits of the rows that were asked for; the head is not computed for any other row.
    fn head(&self, chunks: &[Chunk<'_>], scratch: &mut Scratch, logits: &mut Vec<f32>) {
        let plan = self.plan();
        let hidden = plan.hidden;
        let mut rows = 0;
        let mut first = 0;
        for chunk in chunks {
            let end = first + chunk.tokens.len();
            let wanted = match chunk.logits {
                Logits::None => end..end,
                Logits::Last => end.saturating_sub(1).max(first)..end,
                Logits::All => first..end,
            };
            for row in wanted {
                scratch.residual.copy_within(row * hidden..(row + 1) * hidden, rows * hidden);
                rows += 1;
            }
            first = end;
        }
        logits.clear();
        logits.resize(rows * plan.vocab, 0.0);
        if rows > 0 {
            let normed = &mut scratch.normed[..rows * hidden];
            self.norm(&plan.norm, &scratch.residual[..rows * hidden], normed);
            self.kernels().matmul(normed, rows, &mut scratch.matmul, &mut [self.job(&plan.head, logits)]);
        }
    }

    fn norm(&self, norm: &Norm, x: &[f32], out: &mut [f32]) {
        self.kernels().rms_norm(x, self.plan().hidden, Some(self.vector(norm.weight)), norm.eps, out);
    }

    fn job<'a>(&'a self, linear: &Linear, out: &'a mut [f32]) -> Job<'a> {
        Job {
            weights: self.matrix(linear.weight),
            bias: linear.bias.map(|bias| self.vector(bias)),
            out,
            accumulate: false,
        }
    }
}

fn spans_of<'a>(chunks: &[Chunk<'a>]) -> Vec<Span<'a>> {
    let mut first = 0;
    chunks
        .iter()
        .map(|chunk| {
            let rows = first..first + chunk.tokens.len();
            first = rows.end;
            Span { pages: chunk.pages, rows, start: chunk.start }
        })
        .collect()
}
