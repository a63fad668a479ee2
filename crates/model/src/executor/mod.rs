//! The one executor: walks the plan for a ragged batch of sequences.

mod altup;
mod attention;
mod compressed;
mod delta;
mod ffn;
mod hyper;
mod latent;
mod layer;
mod moe;
mod parallel;
mod per_layer;
mod product;
mod router;
mod scratch;

pub use scratch::Scratch;

use crate::adapter::Adapter;
use crate::cache::{Cache, PASS};
use crate::load::Model;
use crate::plan::Norm;
use sampan_kernels::attention::Span;
use std::sync::Arc;

/// Which rows of a chunk are wanted.
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
    /// The tokens; each below [`Plan::vocab`](crate::Plan::vocab).
    pub tokens: &'a [u32],
    /// Position of the first token. Positions before it are in the cache.
    pub start: usize,
    /// The sequence's pages, covering all positions up to the chunk's end.
    pub pages: &'a [u32],
    /// The sequence's slot; no two chunks of a call share one.
    pub slot: u32,
    /// Which rows are wanted.
    pub logits: Logits,
    /// What changes the model for this sequence; loaded for this model.
    pub adapter: Option<&'a Arc<Adapter>>,
}

impl Chunk<'_> {
    /// Which of its rows are wanted.
    fn wanted(&self) -> std::ops::Range<usize> {
        let n = self.tokens.len();
        match self.logits {
            Logits::None => n..n,
            Logits::Last => n.saturating_sub(1)..n,
            Logits::All => 0..n,
        }
    }
}

/// One pass over the layers: the chunks and where they lie.
pub(crate) struct Pass<'a> {
    chunks: &'a [Chunk<'a>],
    spans: Vec<Span<'a>>,
    /// For every ring size, the page tables of the chunks' slots.
    rings: &'a [(usize, Vec<Vec<u32>>)],
    /// Rows.
    n: usize,
}

impl Pass<'_> {
    /// The spans in the pages of a ring.
    fn ring_spans(&self, ring: usize) -> Vec<Span<'_>> {
        let tables = self.rings.iter().find(|(size, _)| *size == ring).map(|(_, tables)| tables);
        let tables = tables.expect("a table for every ring of the cache");
        self.spans.iter().zip(tables).map(|(span, pages)| Span { pages, ..span.clone() }).collect()
    }
}

impl Model {
    /// Computes a batch of chunks, writes what is to be remembered to the cache, and fills `logits` with the wanted
    /// rows, `[rows, rows of the head]`, in the order of the chunks.
    ///
    /// A row's logits do not depend on the other chunks, on how a sequence is cut, or on the number of threads.
    ///
    /// # Panics
    /// If a token is not below the plan's vocab, a chunk's pages do not cover its positions, chunks share a slot, or
    /// the model has no head.
    pub fn forward(
        &self,
        chunks: &[Chunk<'_>],
        cache: &mut Cache,
        scratch: &mut Scratch,
        logits: &mut Vec<f32>,
    ) {
        let plan = self.plan();
        let head = plan.head.as_ref().expect("a model that embeds is not asked for logits");
        let mut filled = 0;
        self.passes(chunks, cache, scratch, &mut |scratch, rows| {
            let first = filled;
            filled += rows * head.rows;
            logits.resize(logits.len().max(filled), 0.0);
            let (normed, out) = (&scratch.normed[..rows * plan.hidden], &mut logits[first..filled]);
            self.products(normed, rows, &mut scratch.matmul, &mut [self.job(head, out)]);
            if let Some(cap) = plan.final_softcap {
                self.kernels().softcap(out, cap);
            }
        });
        logits.truncate(filled);
    }

    /// As [`Model::forward`], with the last hidden states after the final norm in place of logits: `[rows, hidden]`.
    ///
    /// # Panics
    /// As [`Model::forward`], but for the head.
    pub fn hidden(
        &self,
        chunks: &[Chunk<'_>],
        cache: &mut Cache,
        scratch: &mut Scratch,
        hidden: &mut Vec<f32>,
    ) {
        let width = self.plan().hidden;
        hidden.clear();
        self.passes(chunks, cache, scratch, &mut |scratch, rows| {
            hidden.extend_from_slice(&scratch.normed[..rows * width]);
        });
    }

    /// Runs the chunks and hands the normed rows that are wanted, at the front of `scratch.normed`, to `take`.
    fn passes(
        &self,
        chunks: &[Chunk<'_>],
        cache: &mut Cache,
        scratch: &mut Scratch,
        take: &mut dyn FnMut(&mut Scratch, usize),
    ) {
        for chunk in chunks.iter().filter(|chunk| chunk.start == 0) {
            cache.clear_slot(chunk.slot);
        }
        let windows = cache.rings().next().is_some();
        if !windows || chunks.iter().all(|chunk| chunk.tokens.len() <= PASS) {
            return self.pass(chunks, cache, scratch, take);
        }
        // Windows remember no more rows than one pass has: long chunks go one after the other, in parts.
        for chunk in chunks {
            let parts = chunk.tokens.len().div_ceil(PASS);
            for (index, tokens) in chunk.tokens.chunks(PASS).enumerate() {
                let logits = match chunk.logits {
                    Logits::Last if index + 1 < parts => Logits::None,
                    wanted => wanted,
                };
                let part = Chunk { tokens, start: chunk.start + index * PASS, logits, ..*chunk };
                self.pass(&[part], cache, scratch, take);
            }
        }
    }

    fn pass(
        &self,
        chunks: &[Chunk<'_>],
        cache: &mut Cache,
        scratch: &mut Scratch,
        take: &mut dyn FnMut(&mut Scratch, usize),
    ) {
        let plan = self.plan();
        let spans = spans_of(chunks);
        let n = spans.last().map_or(0, |span| span.rows.end);
        let ends = chunks.iter().map(|chunk| (chunk.slot, chunk.start + chunk.tokens.len()));
        let rings = cache.ring_tables(ends);
        let pass = Pass { chunks, spans, rings: &rings, n };
        scratch.resize(plan, n);
        scratch.matmul.adapt(chunks, |chunk| chunk.tokens.len());
        self.embed(&pass, scratch);
        for (rope, angles) in plan.ropes.iter().zip(&mut scratch.angles) {
            self.kernels().rope_angles(&rope.frequencies, &scratch.positions, rope.attention_factor, angles);
        }
        for (index, layer) in plan.layers.iter().enumerate() {
            self.layer(index, layer, &pass, cache, scratch);
        }
        if let Some(hyper) = &plan.hyper {
            let Scratch { residual, input, matmul, .. } = scratch;
            self.merge(hyper, residual, &mut scratch.hyper, matmul, input);
            std::mem::swap(&mut scratch.residual, &mut scratch.input);
        }
        scratch.matmul.adapt(chunks, |chunk| chunk.wanted().len());
        let rows = match &plan.altup {
            None => gather_wanted(chunks, plan.hidden, &mut scratch.residual),
            Some(altup) => {
                let rows = gather_wanted(chunks, altup.streams * plan.hidden, &mut scratch.altup.streams);
                self.join(altup, rows, scratch);
                rows
            }
        };
        if rows > 0 {
            let normed = &mut scratch.normed[..rows * plan.hidden];
            self.norm(&plan.norm, &scratch.residual[..rows * plan.hidden], normed);
            take(scratch, rows);
        }
        scratch.matmul.adapt_none();
    }

    fn norm(&self, norm: &Norm, x: &[f32], out: &mut [f32]) {
        let weight = norm.weight.map(|id| self.vector(id));
        self.kernels().rms_norm(x, self.plan().hidden, weight, norm.eps, out);
    }

    /// The norm of rows of `dim` numbers, in place.
    fn norm_rows(&self, norm: &Norm, dim: usize, x: &mut [f32]) {
        self.kernels().rms_norm_inplace(x, dim, norm.weight.map(|id| self.vector(id)), norm.eps);
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

/// Moves the rows that are wanted to the front; nothing after the last layer is computed for any other row.
fn gather_wanted(chunks: &[Chunk<'_>], hidden: usize, residual: &mut [f32]) -> usize {
    let (mut rows, mut first) = (0, 0);
    for chunk in chunks {
        for row in chunk.wanted().map(|row| first + row) {
            residual.copy_within(row * hidden..(row + 1) * hidden, rows * hidden);
            rows += 1;
        }
        first += chunk.tokens.len();
    }
    rows
}
