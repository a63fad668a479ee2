//! Latent attention, absorbed: queries are brought into the latent space and meet the latent vectors in the cache.

use super::product::Products;
use crate::load::Model;
use crate::plan::{Index, Latent, Linear};
use sampan_kernels::attention::{AttentionSpec, Indexed, KvStore, Listed, PAGE, Span};
use sampan_kernels::ops::{Pairing, RopeAngles};
use sampan_kernels::{Floats, GroupedJob};
use std::ops::Range;

/// Rows whose absorbed queries are in memory at once: these are several times as wide as the queries.
const BLOCK: usize = 32;

/// Activations of latent attention, kept between calls.
#[derive(Debug, Default)]
pub(super) struct LatentScratch {
    down: Floats,    // [n, rank of the queries]
    q: Floats,       // [n, heads * (plain + rotated)]
    kv: Floats,      // [n, rank + rotated]
    mixed: Floats,   // [n, heads * value_dim]
    narrow: Floats,  // [heads, BLOCK, plain or value_dim]
    wide: Floats,    // [heads, BLOCK, rank]
    queries: Floats, // [BLOCK, heads * (rank + rotated)]
    latents: Floats, // [BLOCK, heads * rank]
    index: IndexScratch,
}

/// Activations of an index.
#[derive(Debug, Default)]
struct IndexScratch {
    q: Floats,       // [n, heads * dim]
    k: Floats,       // [n, dim]
    weights: Floats, // [n, heads]
}

/// What latent attention reads and writes.
pub(super) struct LatentRows<'a> {
    pub(super) spans: &'a [Span<'a>],
    pub(super) angles: &'a RopeAngles,
    /// Latent vectors and rotated keys.
    pub(super) store: &'a mut KvStore,
    /// Keys of the index, if there is one.
    pub(super) index: Option<&'a mut KvStore>,
    /// `[n, hidden]`
    pub(super) x: &'a [f32],
    /// The result: `[n, hidden]`.
    pub(super) out: &'a mut [f32],
}

impl LatentScratch {
    /// Numbers per token, and numbers once.
    pub(super) fn numbers(plan: &Latent) -> (usize, usize) {
        let index = plan.index.as_ref().map_or(0, |index| index.q.rows + index.k.rows + index.weights.rows);
        let down = plan.q_down.map_or(0, |down| down.linear.rows);
        let narrow = plan.plain.max(plan.value_dim);
        let block = plan.heads * (narrow + 2 * plan.rank + plan.rank + plan.rotated);
        let listed = plan.index.as_ref().map_or(0, |index| index.top_k);
        (down + plan.q.rows + plan.kv.rows + plan.o.cols + index, BLOCK * (block + listed))
    }

    fn resize(&mut self, plan: &Latent, n: usize) {
        let block = n.min(BLOCK);
        self.down.resize(n * plan.q_down.map_or(0, |down| down.linear.rows));
        self.q.resize(n * plan.q.rows);
        self.kv.resize(n * plan.kv.rows);
        self.mixed.resize(n * plan.o.cols);
        self.narrow.resize(block * plan.heads * plan.plain.max(plan.value_dim));
        self.wide.resize(block * plan.heads * plan.rank);
        self.queries.resize(block * plan.heads * plan.kv.rows);
        self.latents.resize(block * plan.heads * plan.rank);
        if let Some(index) = &plan.index {
            self.index.q.resize(n * index.q.rows);
            self.index.k.resize(n * index.k.rows);
            self.index.weights.resize(n * index.weights.rows);
        }
    }
}

impl Model {
    /// `out = o(expand(attend(absorb(q), latents)))`
    pub(super) fn latent(
        &self,
        plan: &Latent,
        rows: LatentRows<'_>,
        scratch: &mut LatentScratch,
        matmul: &mut Products,
    ) {
        let LatentRows { spans, angles, store, mut index, x, out } = rows;
        let kernels = self.kernels();
        let n = spans.last().map_or(0, |span| span.rows.end);
        scratch.resize(plan, n);
        self.latent_inputs(plan, x, n, scratch, matmul);
        let norm = plan.kv_norm;
        for row in scratch.kv.chunks_exact_mut(plan.kv.rows) {
            let weight = norm.weight.map(|id| self.vector(id));
            kernels.rms_norm_inplace(&mut row[..plan.rank], plan.rank, weight, norm.eps);
        }
        let head = plan.plain + plan.rotated;
        kernels.rope(&mut scratch.kv, 1, plan.kv.rows, angles, Pairing::Pairs, plan.rank);
        kernels.rope(&mut scratch.q, plan.heads, head, angles, Pairing::Pairs, plan.plain);
        kernels.kv_write(store, spans, &scratch.kv, &[]);
        if let (Some(plan), Some(keys)) = (&plan.index, &mut index) {
            self.index_inputs(plan, angles, &mut scratch.index);
            kernels.kv_write(keys, spans, &scratch.index.k, &[]);
        }
        for start in (0..n).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(n);
            let spans: Vec<Span<'_>> = spans.iter().filter_map(|span| part(span, &block)).collect();
            self.absorb(plan, &block, scratch, matmul);
            self.attend_latent(plan, &block, &spans, store, index.as_deref(), scratch);
            self.expand(plan, &block, scratch, matmul);
        }
        self.products(&scratch.mixed, n, matmul, &mut [self.job(&plan.o, out)]);
    }

    /// Everything that is a product of the layer's input or of the query latent.
    fn latent_inputs(
        &self,
        plan: &Latent,
        x: &[f32],
        n: usize,
        scratch: &mut LatentScratch,
        matmul: &mut Products,
    ) {
        let kernels = self.kernels();
        let LatentScratch { down, q, kv, index, .. } = scratch;
        let mut jobs = vec![self.job(&plan.kv, kv)];
        if let Some(plan) = &plan.index {
            jobs.push(self.job(&plan.k, &mut index.k));
            jobs.push(self.job(&plan.weights, &mut index.weights));
        }
        let Some(step) = &plan.q_down else {
            jobs.push(self.job(&plan.q, q));
            return self.products(x, n, matmul, &mut jobs);
        };
        jobs.push(self.job(&step.linear, down));
        self.products(x, n, matmul, &mut jobs);
        let weight = step.norm.weight.map(|id| self.vector(id));
        kernels.rms_norm_inplace(down, step.linear.rows, weight, step.norm.eps);
        let mut jobs = vec![self.job(&plan.q, q)];
        if let Some(plan) = &plan.index {
            jobs.push(self.job(&plan.q, &mut index.q));
        }
        self.products(down, n, matmul, &mut jobs);
    }

    /// Norm and rope of the index, and the factors of its scores.
    fn index_inputs(&self, plan: &Index, angles: &RopeAngles, scratch: &mut IndexScratch) {
        let kernels = self.kernels();
        let (weight, bias) = plan.k_norm;
        let (weight, bias) = (self.vector(weight), self.vector(bias));
        kernels.layer_norm_inplace(&mut scratch.k, plan.dim, weight, bias, plan.k_eps);
        kernels.rope(&mut scratch.k, 1, plan.dim, angles, plan.pairing, 0);
        kernels.rope(&mut scratch.q, plan.heads, plan.dim, angles, plan.pairing, 0);
        kernels.scale(&mut scratch.weights, plan.scale());
    }

    /// The queries of a block of rows, in the latent space.
    fn absorb(
        &self,
        plan: &Latent,
        block: &Range<usize>,
        scratch: &mut LatentScratch,
        matmul: &mut Products,
    ) {
        let LatentScratch { q, narrow, wide, queries, .. } = scratch;
        let (n, head) = (block.len(), plan.plain + plan.rotated);
        let q = &q[block.start * plan.q.rows..block.end * plan.q.rows];
        let narrow = &mut narrow[..n * plan.heads * plan.plain];
        for (to, (row, h)) in narrow.chunks_exact_mut(plan.plain).zip(by_head(n, plan.heads)) {
            to.copy_from_slice(&q[(row * plan.heads + h) * head..][..plan.plain]);
        }
        self.per_head(&plan.absorb, n, narrow, wide, matmul);
        for (from, (row, h)) in wide.chunks_exact(plan.rank).zip(by_head(n, plan.heads)) {
            let at = row * plan.heads + h;
            let (latent, rotated) = queries[at * plan.kv.rows..][..plan.kv.rows].split_at_mut(plan.rank);
            latent.copy_from_slice(from);
            rotated.copy_from_slice(&q[at * head + plan.plain..][..plan.rotated]);
        }
    }

    /// The values of a block of rows, from what attention mixed in the latent space.
    fn expand(
        &self,
        plan: &Latent,
        block: &Range<usize>,
        scratch: &mut LatentScratch,
        matmul: &mut Products,
    ) {
        let LatentScratch { mixed, narrow, wide, latents, .. } = scratch;
        let n = block.len();
        let wide = &mut wide[..n * plan.heads * plan.rank];
        for (to, (row, h)) in wide.chunks_exact_mut(plan.rank).zip(by_head(n, plan.heads)) {
            to.copy_from_slice(&latents[(row * plan.heads + h) * plan.rank..][..plan.rank]);
        }
        self.per_head(&plan.expand, n, wide, narrow, matmul);
        let mixed = &mut mixed[block.start * plan.o.cols..];
        for (from, (row, h)) in narrow.chunks_exact(plan.value_dim).zip(by_head(n, plan.heads)) {
            mixed[(row * plan.heads + h) * plan.value_dim..][..plan.value_dim].copy_from_slice(from);
        }
    }

    /// `out[h] = linears[h] x[h]`, `n` rows for every head.
    pub(super) fn per_head(
        &self,
        linears: &[Linear],
        n: usize,
        x: &[f32],
        out: &mut [f32],
        matmul: &mut Products,
    ) {
        let rows = linears.first().map_or(1, |linear| linear.rows);
        let outs = out.chunks_exact_mut(n * rows);
        let jobs = linears.iter().zip(outs).enumerate().map(|(h, (linear, out))| GroupedJob {
            rows: h * n..(h + 1) * n,
            weights: self.matrix(linear.weight),
            bias: None,
            out,
        });
        self.kernels().matmul_grouped(
            x,
            linears.len() * n,
            &mut matmul.scratch,
            &mut jobs.collect::<Vec<_>>(),
        );
    }

    /// Attention of a block of rows, to all keys or to those that the index chooses: the rows that see no more than
    /// it would choose need no index.
    fn attend_latent(
        &self,
        plan: &Latent,
        block: &Range<usize>,
        spans: &[Span<'_>],
        store: &KvStore,
        keys: Option<&KvStore>,
        scratch: &mut LatentScratch,
    ) {
        let kernels = self.kernels();
        let LatentScratch { queries, latents, index: rows, .. } = scratch;
        let spec =
            AttentionSpec { heads: plan.heads, scale: plan.scale, softcap: None, window: None, sinks: None };
        let (Some(index), Some(keys)) = (&plan.index, keys) else {
            return kernels.attend(&spec, store, spans, queries, latents);
        };
        let dense =
            |span: &Span<'_>| span.rows.start + span.rows.len().min(index.top_k.saturating_sub(span.start));
        let whole: Vec<Span<'_>> =
            spans.iter().map(|span| Span { rows: span.rows.start..dense(span), ..span.clone() }).collect();
        kernels.attend(&spec, store, &whole, queries, latents);
        for span in spans {
            let sparse = dense(span)..span.rows.end;
            if sparse.is_empty() {
                continue;
            }
            let seen = sparse.clone().map(|row| span.start + row - span.rows.start + 1);
            let indexed: Vec<Indexed<'_>> = seen.map(|keys| Indexed { pages: span.pages, keys }).collect();
            let first = block.start + sparse.start;
            let mut chosen = kernels.index_top(
                keys,
                &indexed,
                index.heads,
                &rows.q[first * index.q.rows..],
                &rows.weights[first * index.heads..],
                index.top_k,
            );
            for position in chosen.iter_mut().flatten() {
                *position = span.pages[*position as usize / PAGE] * PAGE as u32 + *position % PAGE as u32;
            }
            let lists: Vec<Listed<'_>> = chosen.iter().map(|stored| Listed { near: &[], stored }).collect();
            let (width, rank) = (plan.heads * plan.kv.rows, plan.heads * plan.rank);
            let out = &mut latents[sparse.start * rank..sparse.end * rank];
            kernels.attend_listed(&spec, store, &lists, &queries[sparse.start * width..], out);
        }
    }
}

/// The part of a span that lies in a block of rows, its rows counted from the block's first.
fn part<'a>(span: &Span<'a>, block: &Range<usize>) -> Option<Span<'a>> {
    let (first, end) = (span.rows.start.max(block.start), span.rows.end.min(block.end));
    (first < end).then(|| Span {
        pages: span.pages,
        rows: first - block.start..end - block.start,
        start: span.start + first - span.rows.start,
    })
}

/// Rows and heads in the order of heads: `(row, head)`.
fn by_head(rows: usize, heads: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..heads).flat_map(move |head| (0..rows).map(move |row| (row, head)))
}
