//! Softmax attention with grouped heads.

use super::Pass;
use super::product::Products;
use crate::cache::Cache;
use crate::load::Model;
use crate::plan::{Attention, Keys};
use sampan_kernels::Floats;
use sampan_kernels::attention::AttentionSpec;
use sampan_kernels::ops::RopeAngles;

/// Activations of attention, kept between calls.
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    q: Floats,     // [n, heads * key_dim]
    k: Floats,     // [n, kv_heads * key_dim]
    v: Floats,     // [n, kv_heads * value_dim]
    mixed: Floats, // [n, heads * value_dim]
    gate: Floats,  // [n, heads * value_dim]
}

/// What attention reads and where its result goes.
pub(super) struct AttentionRows<'a> {
    /// The layer.
    pub(super) index: usize,
    pub(super) pass: &'a Pass<'a>,
    pub(super) angles: &'a RopeAngles,
    /// `[n, hidden]`
    pub(super) x: &'a [f32],
    /// The result: `[n, hidden]`.
    pub(super) out: &'a mut [f32],
    /// Whether it is added to what is there.
    pub(super) added: bool,
}

impl AttentionScratch {
    /// Numbers per token.
    pub(super) fn numbers(plan: &Attention) -> usize {
        let gate = plan.gate.map_or(0, |gate| gate.rows);
        plan.q.rows + plan.kv_heads * (plan.key_dim + plan.value_dim) + plan.o.cols + gate
    }

    fn resize(&mut self, plan: &Attention, n: usize) {
        self.q.resize(n * plan.q.rows);
        self.k.resize(n * plan.kv_heads * plan.key_dim);
        self.v.resize(n * plan.kv_heads * plan.value_dim);
        self.mixed.resize(n * plan.o.cols);
        self.gate.resize(n * plan.gate.map_or(0, |gate| gate.rows));
    }
}

impl Model {
    /// `out = o(attend(rope(norm(q)), rope(norm(k)), v) * sigmoid(gate))`
    pub(super) fn attention(
        &self,
        plan: &Attention,
        rows: AttentionRows<'_>,
        cache: &mut Cache,
        scratch: &mut AttentionScratch,
        matmul: &mut Products,
    ) {
        let (kernels, n) = (self.kernels(), rows.pass.n);
        scratch.resize(plan, n);
        self.attention_inputs(plan, rows.x, n, scratch, matmul);
        let AttentionScratch { q, k, v, mixed, gate } = scratch;
        if let Some(norm) = &plan.q_norm {
            self.norm_rows(norm, plan.key_dim, q);
        }
        kernels.rope(q, plan.heads, plan.key_dim, rows.angles, plan.pairing, 0);
        let from = match &plan.keys {
            Keys::Shared { layer } => *layer,
            Keys::Own { k_norm, v_norm, .. } => {
                if let Some(norm) = k_norm {
                    self.norm_rows(norm, plan.key_dim, k);
                }
                if let Some(norm) = v_norm {
                    self.norm_rows(norm, plan.value_dim, v);
                }
                kernels.rope(k, plan.kv_heads, plan.key_dim, rows.angles, plan.pairing, 0);
                rows.index
            }
        };
        let remembered = cache.layer(from);
        let ring = (remembered.ring > 0).then(|| rows.pass.ring_spans(remembered.ring));
        let spans = ring.as_deref().unwrap_or(&rows.pass.spans);
        let store = &mut remembered.stores[0];
        if let Keys::Own { .. } = plan.keys {
            kernels.kv_write(store, spans, k, v);
        }
        let spec = AttentionSpec {
            heads: plan.heads,
            scale: plan.scale,
            softcap: plan.softcap,
            window: plan.window,
            sinks: plan.sinks.map(|id| self.vector(id)),
        };
        kernels.attend(&spec, store, spans, q, mixed);
        if plan.gate.is_some() {
            kernels.sigmoid_mul(mixed, gate);
        }
        let job = self.job(&plan.o, rows.out).added(rows.added);
        self.products(mixed, n, matmul, &mut [job]);
    }

    /// Everything that is a product of the layer's input.
    fn attention_inputs(
        &self,
        plan: &Attention,
        x: &[f32],
        n: usize,
        scratch: &mut AttentionScratch,
        matmul: &mut Products,
    ) {
        let AttentionScratch { q, k, v, gate, .. } = scratch;
        let mut jobs = vec![self.job(&plan.q, q)];
        let mut copied = None;
        if let Keys::Own { k: keys, v: values, .. } = &plan.keys {
            jobs.push(self.job(keys, k));
            match values {
                Some(values) => jobs.push(self.job(values, v)),
                None => copied = Some(v),
            }
        }
        if let Some(linear) = &plan.gate {
            jobs.push(self.job(linear, gate));
        }
        self.products(x, n, matmul, &mut jobs);
        if let Some(v) = copied {
            v.copy_from_slice(&scratch.k);
        }
    }
}
