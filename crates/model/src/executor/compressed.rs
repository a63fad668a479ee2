//! Attention over a window of tokens and compressed entries (DeepSeek V4).
//!
//! Between steps a sequence carries the keys of its window and, of every entry under way, a running softmax per
//! channel, so that entries are the same however a prompt is cut. Closed entries are in pages, an entry in the page
//! of the token that closes it, and so are shared where prompts share a prefix.

use super::product::Products;
use crate::load::Model;
use crate::plan::{Compressed, Compressor, Entries, EntryIndex};
use crate::rope::Rope;
use sampan_kernels::Floats;
use sampan_kernels::attention::{AttentionSpec, Indexed, KvStore, Listed, PAGE, Span};
use sampan_kernels::ops::{Pairing, RopeAngles};
use std::borrow::Cow;

/// The running maximum before any logit; finite, so that differences from it are numbers.
const LOWEST: f32 = -3.0e38;

/// Activations of compressed attention, kept between calls.
#[derive(Debug, Default)]
pub(super) struct CompressedScratch {
    down: Floats,   // [n, rank of the queries]
    q: Floats,      // [n, heads * head_dim], then what attention mixed by groups of heads
    kv: Floats,     // [n, head_dim]
    near: Vec<f32>, // [n + spans * ring, head_dim]: of each span the window before it and its rows
    mixed: Floats,  // [n, heads * head_dim]
    low: Floats,    // [groups, n, rows of a group]
    joined: Floats, // [n, groups * rows of a group]
    entries: EntryScratch,
    index: EntryScratch,
    index_q: Floats,       // [n, heads * dim]
    index_weights: Floats, // [n, heads]
}

/// What a compressor reads and makes.
#[derive(Debug, Default)]
struct EntryScratch {
    kv: Floats,     // [n, parts * dim]
    gate: Floats,   // [n, parts * dim]
    made: Vec<f32>, // [entries, dim]
}

/// What compressed attention reads and writes.
pub(super) struct CompressedRows<'a, 's> {
    pub(super) spans: &'a [Span<'a>],
    pub(super) angles: &'a RopeAngles,
    /// What each span's sequence carries, [`Compressed::state`] numbers.
    pub(super) states: Vec<&'s mut [f32]>,
    /// Closed entries, then those of the index, as far as there are any.
    pub(super) stores: &'a mut [KvStore],
    /// `[n, hidden]`
    pub(super) x: &'a [f32],
    /// The result: `[n, hidden]`.
    pub(super) out: &'a mut [f32],
}

impl CompressedScratch {
    /// Numbers per token.
    pub(super) fn numbers(plan: &Compressed) -> usize {
        let entries: usize = plan.compressors().map(|c| 2 * c.kv.rows + c.dim).sum();
        let index = plan.entries.as_ref().and_then(|entries| entries.index.as_ref());
        let index = index.map_or(0, |index| index.q.rows + index.weights.rows);
        plan.q_down.linear.rows + 2 * plan.q.rows + 2 * plan.kv.rows + 2 * plan.o.cols + entries + index
    }

    /// Entries that a row lists at most in a context: those that an index chooses, or all.
    pub(super) fn listed(plan: &Compressed, context: usize) -> usize {
        let Some(Entries { compressor, index }) = &plan.entries else { return 0 };
        index.as_ref().map_or(usize::MAX, |index| index.top_k).min(context / compressor.ratio)
    }

    fn resize(&mut self, plan: &Compressed, n: usize) {
        self.down.resize(n * plan.q_down.linear.rows);
        self.q.resize(n * plan.q.rows);
        self.kv.resize(n * plan.head_dim);
        self.mixed.resize(n * plan.q.rows);
        self.low.resize(n * plan.o.cols);
        self.joined.resize(n * plan.o.cols);
        let Some(entries) = &plan.entries else { return };
        self.entries.resize(&entries.compressor, n);
        if let Some(index) = &entries.index {
            self.index.resize(&index.compressor, n);
            self.index_q.resize(n * index.q.rows);
            self.index_weights.resize(n * index.weights.rows);
        }
    }
}

impl EntryScratch {
    fn resize(&mut self, plan: &Compressor, n: usize) {
        self.kv.resize(n * plan.kv.rows);
        self.gate.resize(n * plan.gate.rows);
    }
}

impl Model {
    /// `out = o(groups(unrotate(attend(q, window and entries))))`
    pub(super) fn compressed(
        &self,
        plan: &Compressed,
        rows: CompressedRows<'_, '_>,
        scratch: &mut CompressedScratch,
        matmul: &mut Products,
    ) {
        let CompressedRows { spans, angles, mut states, stores, x, out } = rows;
        let kernels = self.kernels();
        let n = spans.last().map_or(0, |span| span.rows.end);
        scratch.resize(plan, n);
        self.compressed_inputs(plan, x, n, scratch, matmul);
        let still = plan.head_dim - plan.rotated;
        kernels.rope(&mut scratch.q, plan.heads, plan.head_dim, angles, Pairing::Pairs, still);
        kernels.rope(&mut scratch.kv, 1, plan.head_dim, angles, Pairing::Pairs, still);
        if let Some(index) = plan.entries.as_ref().and_then(|entries| entries.index.as_ref()) {
            let (dim, q) = (index.compressor.dim, &mut scratch.index_q);
            kernels.rope(q, index.heads, dim, angles, Pairing::Pairs, dim - plan.rotated);
            kernels.scale(&mut scratch.index_weights, index.scale());
        }
        for (span, state) in spans.iter().zip(&mut states) {
            self.advance(plan, span, state, stores, scratch);
        }
        self.attend_compressed(plan, spans, stores, scratch);
        self.join_heads(plan, n, angles, scratch, matmul);
        self.products(&scratch.joined, n, matmul, &mut [self.job(&plan.o, out)]);
    }

    /// Everything that is a product of the layer's input or of the query latent, and norms.
    fn compressed_inputs(
        &self,
        plan: &Compressed,
        x: &[f32],
        n: usize,
        scratch: &mut CompressedScratch,
        matmul: &mut Products,
    ) {
        let CompressedScratch { down, q, kv, entries, index, index_q, index_weights, .. } = scratch;
        let mut jobs = vec![self.job(&plan.q_down.linear, down), self.job(&plan.kv, kv)];
        let chooser = plan.entries.as_ref().and_then(|entries| entries.index.as_ref());
        if let Some(Entries { compressor, .. }) = &plan.entries {
            jobs.push(self.job(&compressor.kv, &mut entries.kv));
            jobs.push(self.job(&compressor.gate, &mut entries.gate));
        }
        if let Some(EntryIndex { compressor, weights, .. }) = chooser {
            jobs.push(self.job(&compressor.kv, &mut index.kv));
            jobs.push(self.job(&compressor.gate, &mut index.gate));
            jobs.push(self.job(weights, index_weights));
        }
        self.products(x, n, matmul, &mut jobs);
        self.norm_rows(&plan.q_down.norm, plan.q_down.linear.rows, down);
        let mut jobs = vec![self.job(&plan.q, q)];
        if let Some(index) = chooser {
            jobs.push(self.job(&index.q, index_q));
        }
        self.products(down, n, matmul, &mut jobs);
        self.norm_rows(&plan.q_norm, plan.head_dim, q);
        self.norm_rows(&plan.kv_norm, plan.head_dim, kv);
    }

    /// Takes a span's tokens into what its sequence carries, and writes the entries that they close.
    fn advance(
        &self,
        plan: &Compressed,
        span: &Span<'_>,
        state: &mut [f32],
        stores: &mut [KvStore],
        scratch: &mut CompressedScratch,
    ) {
        let (ring, mut running) = state.split_at_mut(plan.ring() * plan.head_dim);
        scratch.keep_near(plan, span, ring);
        let scratches = [&mut scratch.entries, &mut scratch.index];
        for ((compressor, store), scratch) in plan.compressors().zip(stores).zip(scratches) {
            let (own, rest) = running.split_at_mut(compressor.state());
            running = rest;
            self.close_entries(plan, compressor, span, own, store, scratch);
        }
    }

    fn close_entries(
        &self,
        plan: &Compressed,
        compressor: &Compressor,
        span: &Span<'_>,
        state: &mut [f32],
        store: &mut KvStore,
        scratch: &mut EntryScratch,
    ) {
        let kernels = self.kernels();
        if span.start == 0 {
            compressor.reset(state);
        }
        let (width, dim) = (compressor.kv.rows, compressor.dim);
        let rows = span.rows.start * width..span.rows.end * width;
        let (kv, gate) = (&scratch.kv[rows.clone()], &scratch.gate[rows]);
        scratch.made.clear();
        compressor.take(kv, gate, self.vector(compressor.places), span.start, state, &mut scratch.made);
        self.norm_rows(&compressor.norm, dim, &mut scratch.made);
        let first = span.start / compressor.ratio;
        let entries = first..first + scratch.made.len() / dim;
        let positions: Vec<u32> = entries.clone().map(|entry| (entry * compressor.ratio) as u32).collect();
        let Rope { frequencies, attention_factor, .. } = &self.plan().ropes[plan.rope];
        let mut angles = RopeAngles::new();
        kernels.rope_angles(frequencies, &positions, *attention_factor, &mut angles);
        kernels.rope(&mut scratch.made, 1, dim, &angles, Pairing::Pairs, dim - plan.rotated);
        let pages = compressor.pages(span.pages);
        let span = Span { pages: &pages, rows: 0..entries.len(), start: first };
        kernels.kv_write(store, &[span], &scratch.made, &[]);
    }

    /// One softmax over a row's window and the entries that it sees.
    fn attend_compressed(
        &self,
        plan: &Compressed,
        spans: &[Span<'_>],
        stores: &[KvStore],
        scratch: &mut CompressedScratch,
    ) {
        let kernels = self.kernels();
        let chosen = self.chosen_entries(plan, spans, stores, scratch);
        let mut lists = Vec::with_capacity(chosen.len());
        let mut before = 0; // numbers of `near` before the span's
        let mut chosen = chosen.iter();
        for span in spans {
            let old = span.start.min(plan.ring());
            for (i, stored) in (0..span.rows.len()).zip(&mut chosen) {
                let first = (old + i + 1).saturating_sub(plan.window);
                let near = &scratch.near[before..][first * plan.head_dim..(old + i + 1) * plan.head_dim];
                lists.push(Listed { near, stored });
            }
            before += (old + span.rows.len()) * plan.head_dim;
        }
        let spec = AttentionSpec {
            heads: plan.heads,
            scale: plan.scale,
            softcap: None,
            window: None,
            sinks: Some(self.vector(plan.sinks)),
        };
        kernels.attend_listed(&spec, &stores[0], &lists, &scratch.q, &mut scratch.mixed);
    }

    /// The entries that each row attends to, as numbers of the store.
    fn chosen_entries(
        &self,
        plan: &Compressed,
        spans: &[Span<'_>],
        stores: &[KvStore],
        scratch: &CompressedScratch,
    ) -> Vec<Vec<u32>> {
        let n = spans.last().map_or(0, |span| span.rows.end);
        let Some(Entries { compressor, index }) = &plan.entries else { return vec![Vec::new(); n] };
        let tables: Vec<Cow<'_, [u32]>> = spans.iter().map(|span| compressor.pages(span.pages)).collect();
        let rows = || {
            spans.iter().zip(&tables).flat_map(|(span, pages)| {
                let seen = move |i| (span.start + i + 1) / compressor.ratio;
                (0..span.rows.len()).map(move |i| Indexed { pages, keys: seen(i) })
            })
        };
        let mut chosen: Vec<Vec<u32>> = match index {
            None => rows().map(|row| (0..row.keys as u32).collect()).collect(),
            Some(index) => {
                let rows: Vec<Indexed<'_>> = rows().collect();
                let (q, weights) = (&scratch.index_q, &scratch.index_weights);
                self.kernels().index_top(&stores[1], &rows, index.heads, q, weights, index.top_k)
            }
        };
        let per_page = stores[0].shape().per_page();
        for (row, chosen) in rows().zip(&mut chosen) {
            for entry in chosen {
                let at = *entry as usize;
                *entry = row.pages[at / per_page] * per_page as u32 + (at % per_page) as u32;
            }
        }
        chosen
    }

    /// Rotates back what attention mixed and applies each group's projection to its heads.
    fn join_heads(
        &self,
        plan: &Compressed,
        n: usize,
        angles: &RopeAngles,
        scratch: &mut CompressedScratch,
        matmul: &mut Products,
    ) {
        let CompressedScratch { q, mixed, low, joined, .. } = scratch;
        let still = plan.head_dim - plan.rotated;
        let back = angles.conjugate();
        self.kernels().rope(mixed, plan.heads, plan.head_dim, &back, Pairing::Pairs, still);
        let groups = plan.o_groups.len();
        let (wide, narrow) = (plan.q.rows / groups, plan.o.cols / groups);
        let places = || (0..groups).flat_map(|group| (0..n).map(move |row| row * groups + group));
        for (to, place) in q.chunks_exact_mut(wide).zip(places()) {
            to.copy_from_slice(&mixed[place * wide..][..wide]);
        }
        self.per_head(&plan.o_groups, n, q, low, matmul);
        for (from, place) in low.chunks_exact(narrow).zip(places()) {
            joined[place * narrow..][..narrow].copy_from_slice(from);
        }
    }
}

impl CompressedScratch {
    /// Appends the keys before a span that its rows may see, then the span's own, and keeps the last for later.
    fn keep_near(&mut self, plan: &Compressed, span: &Span<'_>, ring: &mut [f32]) {
        let (dim, len) = (plan.head_dim, plan.ring());
        if span.rows.start == 0 {
            self.near.clear();
        }
        for position in span.start.saturating_sub(len)..span.start {
            self.near.extend_from_slice(&ring[position % len * dim..][..dim]);
        }
        let own = &self.kv[span.rows.start * dim..span.rows.end * dim];
        self.near.extend_from_slice(own);
        let end = span.start + span.rows.len();
        for position in span.start.max(end.saturating_sub(len))..end {
            let from = &own[(position - span.start) * dim..][..dim];
            ring[position % len * dim..][..dim].copy_from_slice(from);
        }
    }
}

impl EntryIndex {
    /// Factor on the scores.
    fn scale(&self) -> f32 {
        1.0 / (self.heads as f32).sqrt() / (self.compressor.dim as f32).sqrt()
    }
}

impl Compressor {
    /// The pages of a sequence's entries, from its pages of tokens.
    fn pages<'p>(&self, pages: &'p [u32]) -> Cow<'p, [u32]> {
        match self.ratio / PAGE {
            0 | 1 => Cow::Borrowed(pages),
            step => pages.iter().skip(step - 1).step_by(step).copied().collect(),
        }
    }

    /// The state of a sequence's start.
    fn reset(&self, state: &mut [f32]) {
        for part in state.chunks_exact_mut(3 * self.dim) {
            part[..self.dim].fill(LOWEST);
            part[self.dim..].fill(0.0);
        }
    }

    /// Takes tokens from position `start` on into the entries under way; appends the means of those that they close.
    ///
    /// A token's first numbers go to the entry after its own where tokens take part in two.
    fn take(
        &self,
        kv: &[f32],
        gate: &[f32],
        places: &[f32],
        start: usize,
        state: &mut [f32],
        made: &mut Vec<f32>,
    ) {
        let width = self.kv.rows;
        let (now, next) = state.split_at_mut(3 * self.dim);
        for (i, (kv, gate)) in kv.chunks_exact(width).zip(gate.chunks_exact(width)).enumerate() {
            let place = (start + i) % self.ratio;
            let own = width - self.dim;
            let places = &places[place * width..][..width];
            if self.overlap {
                add(next, &kv[..own], &gate[..own], &places[..own]);
            }
            add(now, &kv[own..], &gate[own..], &places[own..]);
            if place + 1 == self.ratio {
                let (sums, means) = now[self.dim..].split_at(self.dim);
                made.extend(means.iter().zip(sums).map(|(mean, sum)| mean / sum));
                if self.overlap {
                    now.copy_from_slice(next);
                    self.reset(next);
                } else {
                    self.reset(now);
                }
            }
        }
    }
}

/// Takes one token into a softmax per channel: the largest logit so far, the sum of weights relative to it, and the
/// weighted sum.
fn add(state: &mut [f32], kv: &[f32], gate: &[f32], places: &[f32]) {
    let (most, rest) = state.split_at_mut(kv.len());
    let (sums, means) = rest.split_at_mut(kv.len());
    let channels = most.iter_mut().zip(sums).zip(means);
    for (((most, sum), mean), ((kv, gate), place)) in channels.zip(kv.iter().zip(gate).zip(places)) {
        let logit = gate + place;
        let larger = most.max(logit);
        let (old, new) = ((*most - larger).exp(), (logit - larger).exp());
        *most = larger;
        *sum = *sum * old + new;
        *mean = *mean * old + new * kv;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Linear, Norm};

    fn compressor(ratio: usize, overlap: bool, dim: usize) -> Compressor {
        let rows = if overlap { 2 * dim } else { dim };
        let linear = Linear { weight: 0, bias: None, rows, cols: 1 };
        let norm = Norm { weight: None, eps: 0.0 };
        Compressor { ratio, overlap, dim, kv: linear, gate: linear, places: 0, norm }
    }

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 200.0 - 2.5).collect()
    }

    /// Entry `w` by its definition: a softmax over the logits of the tokens that take part, in f64.
    fn entry(plan: &Compressor, w: usize, kv: &[f32], gate: &[f32], places: &[f32]) -> Vec<f32> {
        let (width, own) = (plan.kv.rows, plan.kv.rows - plan.dim);
        let block = |w: usize, offset: usize| {
            (0..plan.ratio)
                .map(move |place| ((w * plan.ratio + place) * width + offset, place * width + offset))
        };
        let before = (plan.overlap && w > 0).then(|| block(w - 1, 0)).into_iter().flatten();
        let tokens: Vec<(usize, usize)> = before.chain(block(w, own)).collect();
        let mean = |channel: usize| {
            let weights: Vec<f64> = tokens
                .iter()
                .map(|(at, place)| f64::from(gate[at + channel] + places[place + channel]).exp())
                .collect();
            let values = tokens.iter().map(|(at, _)| f64::from(kv[at + channel]));
            let sum: f64 = values.zip(&weights).map(|(value, weight)| value * weight).sum();
            (sum / weights.iter().sum::<f64>()) as f32
        };
        (0..plan.dim).map(mean).collect()
    }

    #[test]
    fn entries_are_means_of_their_blocks_however_tokens_come() {
        for (ratio, overlap) in [(4, true), (2, true), (8, false), (128, false), (1, false)] {
            let plan = compressor(ratio, overlap, 6);
            let (tokens, width) = (3 * ratio + ratio / 2, plan.kv.rows);
            let (kv, gate) = (numbers(tokens * width, 1), numbers(tokens * width, 2));
            let places = numbers(ratio * width, 3);
            let mut all: Vec<Vec<f32>> = Vec::new();
            for step in [tokens, 1, 3, 5] {
                let (mut state, mut made) = (vec![f32::NAN; plan.state()], Vec::new());
                plan.reset(&mut state);
                for start in (0..tokens).step_by(step) {
                    let rows = start * width..(start + step).min(tokens) * width;
                    plan.take(&kv[rows.clone()], &gate[rows], &places, start, &mut state, &mut made);
                }
                all.push(made);
            }
            assert!(all.iter().all(|made| *made == all[0]), "ratio {ratio}: the cut shows");
            assert_eq!(all[0].len(), 3 * plan.dim, "ratio {ratio}");
            for (w, made) in all[0].chunks_exact(plan.dim).enumerate() {
                for (made, expected) in made.iter().zip(entry(&plan, w, &kv, &gate, &places)) {
                    assert!(
                        (made - expected).abs() < 1e-5,
                        "ratio {ratio}, entry {w}: {made} for {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_entry_is_in_the_page_of_the_token_that_closes_it() {
        let pages: Vec<u32> = (100..112).collect();
        for (ratio, expected) in
            [(4, &pages[..]), (32, &pages), (64, &[101, 103, 105, 107, 109, 111]), (128, &[103, 107, 111])]
        {
            assert_eq!(&compressor(ratio, false, 1).pages(&pages)[..], expected, "ratio {ratio}");
        }
    }
}
