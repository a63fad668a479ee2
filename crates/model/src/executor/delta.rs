//! Linear attention by the gated delta rule.

use super::product::Products;
use crate::load::Model;
use crate::plan::Delta;
use sampan_kernels::Floats;
use sampan_kernels::attention::Span;
use sampan_kernels::delta::{ConvSpan, DeltaSpan};

/// Activations of the rule, kept between calls.
#[derive(Debug, Default)]
pub(super) struct DeltaScratch {
    qkv: Floats,       // [n, channels]
    convolved: Floats, // [n, channels]
    z: Floats,         // [n, outputs]
    mixed: Floats,     // [n, outputs]
    a: Floats,         // [n, value heads]
    b: Floats,         // [n, value heads]
}

/// What the rule reads and where its result goes.
pub(super) struct DeltaRows<'a> {
    /// The sequences, in the order of their rows.
    pub(super) spans: &'a [Span<'a>],
    /// The state of each sequence before its first row, [`Delta::state_len`] numbers; becomes the state after its last.
    pub(super) states: Vec<&'a mut [f32]>,
    /// `[n, hidden]`
    pub(super) x: &'a [f32],
    /// The result: `[n, hidden]`.
    pub(super) out: &'a mut [f32],
}

impl DeltaScratch {
    /// Numbers per token.
    pub(super) fn numbers(plan: &Delta) -> usize {
        2 * (plan.shape.channels() + plan.shape.outputs() + plan.shape.value_heads)
    }

    fn resize(&mut self, plan: &Delta, n: usize) {
        let shape = &plan.shape;
        self.qkv.resize(n * shape.channels());
        self.convolved.resize(n * shape.channels());
        self.z.resize(n * shape.outputs());
        self.mixed.resize(n * shape.outputs());
        self.a.resize(n * shape.value_heads);
        self.b.resize(n * shape.value_heads);
    }
}

impl Model {
    /// `out = o(norm(rule(silu(conv(qkv x)))) * silu(z x))`
    pub(super) fn delta(
        &self,
        plan: &Delta,
        rows: DeltaRows<'_>,
        scratch: &mut DeltaScratch,
        matmul: &mut Products,
    ) {
        let DeltaRows { spans, states, x, out } = rows;
        let (kernels, n) = (self.kernels(), spans.last().map_or(0, |span| span.rows.end));
        scratch.resize(plan, n);
        let mut jobs = [
            self.job(&plan.qkv, &mut scratch.qkv),
            self.job(&plan.z, &mut scratch.z),
            self.job(&plan.a, &mut scratch.a),
            self.job(&plan.b, &mut scratch.b),
        ];
        self.products(x, n, matmul, &mut jobs);
        let (rate, bias) = (self.vector(plan.neg_exp_a), self.vector(plan.dt_bias));
        kernels.delta_gates(&mut scratch.a, &mut scratch.b, rate, bias);

        let taps: Vec<&[f32]> = plan.taps.iter().map(|&id| self.vector(id)).collect();
        let (mut inputs, mut tokens): (Vec<ConvSpan<'_>>, Vec<DeltaSpan<'_>>) = spans
            .iter()
            .zip(states)
            .map(|(span, state)| {
                let (inputs, state) = state.split_at_mut(plan.conv_len());
                (
                    ConvSpan { rows: span.rows.clone(), state: inputs },
                    DeltaSpan { rows: span.rows.clone(), state },
                )
            })
            .unzip();
        kernels.causal_conv_silu(&taps, &mut inputs, &scratch.qkv, &mut scratch.convolved);
        let gates = (&scratch.a[..], &scratch.b[..]);
        kernels.delta_rule(&plan.shape, &mut tokens, &scratch.convolved, gates, &mut scratch.mixed);

        let weight = plan.norm.weight.map(|id| self.vector(id));
        let (mixed, z) = (&mut scratch.mixed, &mut scratch.z);
        kernels.gated_rms_norm(mixed, z, plan.shape.value_dim, weight, plan.norm.eps);
        self.products(z, n, matmul, &mut [self.job(&plan.o, out)]);
    }
}
