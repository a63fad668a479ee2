//! From tokens into the residual stream, and one layer after the other through it.

use super::attention::AttentionRows;
use super::compressed::CompressedRows;
use super::delta::DeltaRows;
use super::latent::LatentRows;
use super::moe::MoeRows;
use super::{Pass, Scratch};
use crate::cache::Cache;
use crate::load::Model;
use crate::plan::{Ffn, LayerPlan, Mixer, PerLayerGate, PerLayerInputs, RouterInput, Sublayer};

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

    fn per_layer_inputs(&self, plan: &PerLayerInputs, n: usize, scratch: &mut Scratch) {
        let kernels = self.kernels();
        let width = plan.projection.rows;
        scratch.per_layer.resize(n * width, 0.0);
        let job = self.job(&plan.projection, &mut scratch.per_layer);
        kernels.matmul(&scratch.residual, n, &mut scratch.matmul, &mut [job]);
        kernels.scale(&mut scratch.per_layer, plan.projection_scale);
        self.norm_rows(&plan.norm, plan.width, &mut scratch.per_layer);
        let table = self.matrix(plan.table);
        let mut row = vec![0.0; width];
        for (inputs, &token) in scratch.per_layer.chunks_exact_mut(width).zip(&scratch.tokens) {
            let token = if (token as usize) < plan.rows { token as usize } else { 0 };
            kernels.decode_row(table, token, &mut row);
            kernels.add_scaled(inputs, &row, plan.table_scale);
        }
        kernels.scale(&mut scratch.per_layer, std::f32::consts::FRAC_1_SQRT_2);
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
        let Scratch { residual, normed, input, result, tokens, matmul, .. } = scratch;
        let kernels = self.kernels();
        match ffn {
            Ffn::Gated(plan) => {
                let out = if added { residual } else { result };
                self.gated(plan, n, normed, out, added, &mut scratch.gated, matmul);
            }
            Ffn::Moe(plan) => {
                let rows = MoeRows { tokens, router: None, x: normed, out: result };
                self.moe(plan, rows, &mut scratch.moe, matmul);
                if added {
                    kernels.add(residual, result);
                }
            }
            Ffn::Parallel { dense, dense_post, experts, experts_pre, experts_post } => {
                self.gated(dense, n, normed, result, false, &mut scratch.gated, matmul);
                self.norm_rows(dense_post, self.plan().hidden, result);
                self.norm(experts_pre, residual, normed);
                // The gate's room is free again, and the router's input is as wide as the residual stream.
                let router = match experts.router.input {
                    RouterInput::Normed => None,
                    RouterInput::Residual { norm, factor } => {
                        self.norm(&norm, residual, input);
                        kernels.scale(input, factor);
                        Some(&input[..])
                    }
                };
                let out = scratch.gated.room(result.len());
                let rows = MoeRows { tokens, router, x: normed, out };
                self.moe(experts, rows, &mut scratch.moe, matmul);
                self.norm_rows(experts_post, self.plan().hidden, out);
                kernels.add(result, out);
                if added {
                    kernels.add(residual, result);
                }
            }
        }
    }

    /// `result = norm(projection(gelu(gate x) * input))`
    fn per_layer_gate(&self, index: usize, plan: &PerLayerGate, n: usize, scratch: &mut Scratch) {
        let kernels = self.kernels();
        let (width, all) = (plan.gate.rows, scratch.per_layer.len() / n.max(1));
        let Scratch { residual, result, per_layer, matmul, .. } = scratch;
        let (gate, inputs) = scratch.gated.both(n * width);
        kernels.matmul(residual, n, matmul, &mut [self.job(&plan.gate, gate)]);
        for (to, row) in inputs.chunks_exact_mut(width).zip(per_layer.chunks_exact(all.max(1))) {
            to.copy_from_slice(&row[index * width..][..width]);
        }
        kernels.gelu_tanh_mul(gate, inputs);
        kernels.matmul(gate, n, matmul, &mut [self.job(&plan.projection, result)]);
        self.norm_rows(&plan.norm, self.plan().hidden, result);
    }
}

impl Sublayer {
    /// Whether the result can be added to the residual stream as it is.
    fn adds_at_once(&self) -> bool {
        self.post.is_none() && self.hyper.is_none()
    }
}
