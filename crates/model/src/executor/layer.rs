//! From tokens into the residual stream, and one layer after the other through it.

use super::attention::AttentionRows;
use super::compressed::CompressedRows;
use super::delta::DeltaRows;
use super::latent::LatentRows;
use super::moe::MoeRows;
use super::{Pass, Scratch};
use crate::cache::Cache;
use crate::load::Model;
use crate::plan::{Ffn, LayerPlan, Mixer, Sublayer};

impl Model {
    /// `x = table[token] * scale`, in every residual stream, and the inputs of the layers' own embedding.
    pub(super) fn embed(&self, pass: &Pass<'_>, scratch: &mut Scratch) {
        let (plan, kernels) = (self.plan(), self.kernels());
        let tokens = pass.chunks.iter().flat_map(|chunk| chunk.tokens);
        scratch.tokens.clear();
        scratch.tokens.extend(tokens);
        scratch.positions.clear();
        for chunk in pass.chunks {
            scratch.positions.extend((chunk.start..chunk.start + chunk.tokens.len()).map(|p| p as u32));
        }
        let table = self.matrix(plan.embedding);
        let width = scratch.residual.len() / pass.n.max(1);
        for (row, &token) in scratch.residual.chunks_exact_mut(width.max(1)).zip(&scratch.tokens) {
            let (first, others) = row.split_at_mut(plan.hidden);
            kernels.decode_row(table, token as usize, first);
            others.chunks_exact_mut(plan.hidden).for_each(|stream| stream.copy_from_slice(first));
        }
        if plan.embedding_scale != 1.0 {
            kernels.scale(&mut scratch.residual, plan.embedding_scale);
        }
        if let Some(inputs) = &plan.per_layer {
            self.per_layer_inputs(inputs, pass.n, scratch);
        }
        if let Some(altup) = &plan.altup {
            self.spread(altup, pass.n, scratch);
        }
    }

    pub(super) fn layer(
        &self,
        index: usize,
        layer: &LayerPlan,
        pass: &Pass<'_>,
        cache: &mut Cache,
        scratch: &mut Scratch,
    ) {
        let altup = self.plan().altup.as_ref().zip(layer.altup.as_ref());
        if let Some((altup, own)) = altup {
            self.predict(altup, own, pass.n, scratch);
        }
        self.before(&layer.mixer_at, scratch);
        let added = layer.mixer_at.adds_at_once();
        self.mixer(index, &layer.mixer, pass, cache, scratch, added);
        self.after(&layer.mixer_at, pass.n, scratch);
        self.before(&layer.ffn_at, scratch);
        self.ffn(&layer.ffn, pass.n, scratch, layer.ffn_at.adds_at_once());
        self.after(&layer.ffn_at, pass.n, scratch);
        if let Some((altup, own)) = altup {
            self.correct(altup, own, pass.n, scratch);
        }
        if let Some(gate) = &layer.per_layer {
            self.per_layer_gate(index, gate, pass.n, scratch);
            match altup {
                Some((altup, _)) => self.add_to_further_streams(altup, scratch),
                None => self.kernels().add(&mut scratch.residual, &scratch.result),
            }
        }
        if let Some(scale) = layer.output_scale {
            let scale = self.vector(scale).first().copied().unwrap_or(1.0);
            self.kernels().scale(&mut scratch.residual, scale);
        }
    }

    /// What a sublayer reads: the normed residual stream, or a mix of several.
    fn before(&self, at: &Sublayer, scratch: &mut Scratch) {
        match (&self.plan().hyper, &at.hyper) {
            (Some(hyper), Some(mix)) => {
                let Scratch { residual, input, matmul, .. } = scratch;
                self.enter(hyper, mix, residual, &mut scratch.hyper, matmul, input);
                self.norm(&at.norm, input, &mut scratch.normed);
            }
            _ => self.norm(&at.norm, &scratch.residual, &mut scratch.normed),
        }
    }

    /// Brings a sublayer's result into the residual stream, unless it was added at once.
    fn after(&self, at: &Sublayer, n: usize, scratch: &mut Scratch) {
        if let Some(norm) = &at.post {
            self.norm_rows(norm, self.plan().hidden, &mut scratch.result);
        }
        match &self.plan().hyper {
            Some(hyper) if at.hyper.is_some() => {
                self.leave(hyper, &scratch.result, &scratch.hyper, &mut scratch.residual);
            }
            _ if at.post.is_some() => self.kernels().add(&mut scratch.residual, &scratch.result),
            _ => {}
        }
        if let Some(laurel) = &at.laurel {
            self.laurel(laurel, n, scratch);
        }
    }

    /// Runs a mixer; its result is added to the residual stream (`added`) or left in `scratch.result`.
    fn mixer(
        &self,
        index: usize,
        mixer: &Mixer,
        pass: &Pass<'_>,
        cache: &mut Cache,
        scratch: &mut Scratch,
        added: bool,
    ) {
        let Scratch { residual, normed, result, angles, matmul, .. } = scratch;
        let slots = || pass.chunks.iter().map(|chunk| chunk.slot);
        let x = &normed[..];
        match mixer {
            Mixer::Attention(plan) => {
                let out = if added { &mut *residual } else { &mut *result };
                let rows = AttentionRows { index, pass, angles: &angles[plan.rope], x, out, added };
                return self.attention(plan, rows, cache, &mut scratch.attention, matmul);
            }
            Mixer::Latent(plan) => {
                let (stores, _) = cache.layer(index).parts(std::iter::empty());
                let [store, index @ ..] = stores else { unreachable!("a store for the latent vectors") };
                let angles = &angles[plan.rope];
                let index = index.first_mut();
                let rows = LatentRows { spans: &pass.spans, angles, store, index, x, out: result };
                self.latent(plan, rows, &mut scratch.latent, matmul);
            }
            Mixer::Compressed(plan) => {
                let (stores, states) = cache.layer(index).parts(slots());
                let angles = &angles[plan.rope];
                let rows = CompressedRows { spans: &pass.spans, angles, states, stores, x, out: result };
                self.compressed(plan, rows, &mut scratch.compressed, matmul);
            }
            Mixer::Delta(plan) => {
                let (_, states) = cache.layer(index).parts(slots());
                let rows = DeltaRows { spans: &pass.spans, states, x, out: result };
                self.delta(plan, rows, &mut scratch.delta, matmul);
            }
        }
        if added {
            self.kernels().add(residual, result);
        }
    }

    /// Runs a feed-forward part; its result is added to the residual stream (`added`) or left in `scratch.result`.
    fn ffn(&self, ffn: &Ffn, n: usize, scratch: &mut Scratch, added: bool) {
        let Scratch { residual, normed, result, tokens, matmul, .. } = scratch;
        match ffn {
            Ffn::Gated(plan) => {
                let out = if added { residual } else { result };
                self.gated(plan, n, normed, out, added, &mut scratch.gated, matmul);
            }
            Ffn::Moe(plan) => {
                let rows = MoeRows { tokens, router: None, x: normed, out: result };
                self.moe(plan, rows, &mut scratch.moe, matmul);
                if added {
                    self.kernels().add(residual, result);
                }
            }
            Ffn::Parallel(plan) => {
                self.parallel(plan, n, scratch);
                if added {
                    self.kernels().add(&mut scratch.residual, &scratch.result);
                }
            }
        }
    }
}

impl Sublayer {
    /// Whether the result can be added to the residual stream as it is.
    fn adds_at_once(&self) -> bool {
        self.post.is_none() && self.hyper.is_none()
    }
}
