//! Mixtures of experts: rows of activations go to the experts of their tokens, all experts in one task.
//!
//! Several rows are gathered by expert, so that an expert's weights are read once for all of its tokens. A single
//! row is read by its experts where it lies. Only the chosen experts' weights are touched in either case. A token's
//! results are summed in the order of its own choice, never of the experts' work: nothing depends on the batch.

use super::product::{Product, Products};
use super::router::{Pick, Routing};
use crate::load::Model;
use crate::plan::{Activation, Expert, Linear, Moe, Router};
use sampan_kernels::{Floats, GroupedJob};
use std::ops::Range;

/// Activations of a mixture, kept between calls.
#[derive(Debug, Default)]
pub(super) struct MoeScratch {
    logits: Floats,      // [n, experts]
    picks: Vec<Pick>,    // [n, top_k], best first
    places: Vec<usize>,  // [n, top_k], the row of each pick
    tokens: Vec<usize>,  // [n * top_k], the token of each row
    rows: Floats,        // [n * top_k, hidden], by expert: inputs, then results
    gate: Floats,        // [n * top_k, width]
    up: Floats,          // [n * top_k, width]
    shared_gate: Floats, // [n, shared width]
    shared_up: Floats,   // [n, shared width]
    share: Floats,       // [n]
}

/// What a mixture reads and where its result goes.
pub(super) struct MoeRows<'a> {
    /// The tokens, for routers that go by them.
    pub(super) tokens: &'a [u32],
    /// What the router reads, where that is not what the experts read: `[n, hidden]`.
    pub(super) router: Option<&'a [f32]>,
    /// What the experts read: `[n, hidden]`.
    pub(super) x: &'a [f32],
    /// The result: `[n, hidden]`.
    pub(super) out: &'a mut [f32],
}

impl MoeScratch {
    /// Numbers per token that a mixture needs, in units of 4 bytes.
    pub(super) fn numbers(plan: &Moe) -> usize {
        let (hidden, width) = plan.experts.first().map_or((0, 0), |e| (e.gate.cols, e.gate.rows));
        let shared = plan.shared.as_ref().map_or(0, |shared| 2 * shared.mlp.gate.rows + 1);
        let pick = size_of::<Pick>() + 2 * size_of::<usize>();
        plan.experts.len() + plan.top_k * (pick / size_of::<f32>() + hidden + 2 * width) + shared
    }

    fn resize(&mut self, plan: &Moe, n: usize) {
        let (hidden, width) = plan.experts.first().map_or((0, 0), |e| (e.gate.cols, e.gate.rows));
        let rows = n * plan.top_k;
        self.logits.resize(n * plan.experts.len());
        self.picks.resize(rows, Pick::default());
        self.places.resize(rows, 0);
        self.tokens.resize(rows, 0);
        self.rows.resize(rows * hidden);
        self.gate.resize(rows * width);
        self.up.resize(rows * width);
        let shared = plan.shared.as_ref().map_or(0, |shared| shared.mlp.gate.rows);
        self.shared_gate.resize(n * shared);
        self.shared_up.resize(n * shared);
        self.share.resize(n);
    }
}

impl Model {
    /// `out = sum of weight_e * expert_e(x) over a token's experts, + share * shared(x)`
    pub(super) fn moe(&self, plan: &Moe, rows: MoeRows<'_>, scratch: &mut MoeScratch, matmul: &mut Products) {
        let MoeRows { tokens, router, x, out } = rows;
        let n = tokens.len();
        if n == 0 {
            return;
        }
        scratch.resize(plan, n);
        self.first_products(plan, router, x, n, scratch, matmul);
        self.route(&plan.router, tokens, plan.top_k, scratch);
        let groups = scratch.group(plan.experts.len(), plan.top_k);
        self.experts(plan, &groups, x, n, scratch, matmul);
        self.combine(plan, n, scratch, out);
        self.add_shared(plan, n, scratch, matmul, out);
    }

    /// What needs no routing: router logits, and gate and up of the shared expert.
    fn first_products(
        &self,
        plan: &Moe,
        router: Option<&[f32]>,
        x: &[f32],
        n: usize,
        scratch: &mut MoeScratch,
        matmul: &mut Products,
    ) {
        let logits = self.job(&plan.router.linear, &mut scratch.logits);
        let mut jobs: Vec<Product<'_>> = Vec::with_capacity(4);
        match router {
            Some(router) => self.products(router, n, matmul, &mut [logits]),
            None => jobs.push(logits),
        }
        if let Some(shared) = &plan.shared {
            jobs.push(self.job(&shared.mlp.gate, &mut scratch.shared_gate));
            jobs.push(self.job(&shared.mlp.up, &mut scratch.shared_up));
            if let Some(gate) = &shared.gate {
                jobs.push(self.job(gate, &mut scratch.share));
            }
        }
        self.products(x, n, matmul, &mut jobs);
    }

    fn route(&self, router: &Router, tokens: &[u32], top_k: usize, scratch: &mut MoeScratch) {
        let routing = Routing {
            score: router.score,
            bias: router.selection_bias.map(|id| self.vector(id)),
            groups: router.groups,
            renormalize: router.renormalize,
            scale: router.scale,
            expert_scale: router.expert_scale.map(|id| self.vector(id)),
        };
        let table = router.table.map(|id| self.ids(id));
        let experts = router.linear.rows;
        // Some tens of thousands of logits per piece.
        let piece = (1 << 14) / experts.max(1) + 1;
        let logits = &scratch.logits;
        self.kernels().pool().run_slices(&mut scratch.picks, piece * top_k, |index, picks| {
            let mut scores = vec![0.0; experts];
            for (i, picks) in picks.chunks_exact_mut(top_k).enumerate() {
                let token = index * piece + i;
                scores.copy_from_slice(&logits[token * experts..][..experts]);
                let chosen = table.map(|table| &table[tokens[token] as usize * top_k..][..top_k]);
                routing.pick(self.kernels(), &mut scores, chosen, picks);
            }
        });
    }

    /// `rows = down(activation(gate x, up x))` for every row and its expert.
    fn experts(
        &self,
        plan: &Moe,
        groups: &[(usize, Range<usize>)],
        x: &[f32],
        n: usize,
        scratch: &mut MoeScratch,
        matmul: &mut Products,
    ) {
        let kernels = self.kernels();
        let first = plan.experts.first();
        let Some((hidden, width)) = first.map(|expert| (expert.gate.cols, expert.gate.rows)) else { return };
        let MoeScratch { tokens, rows, gate, up, .. } = scratch;
        // One row lies where it is; several are brought into the order of the experts.
        let (x, count) =
            if n == 1 { (x, 1) } else { (&*gather(self, x, hidden, tokens, rows), n * plan.top_k) };
        let from = |group: &Range<usize>| if n == 1 { 0..1 } else { group.clone() };
        let (mut gates, mut ups) = (&mut gate[..], &mut up[..]);
        let mut jobs = Vec::with_capacity(2 * groups.len());
        for (expert, group) in groups {
            let Expert { gate, up, .. } = &plan.experts[*expert];
            jobs.push(self.grouped(gate, from(group), cut(&mut gates, group.len() * gate.rows)));
            jobs.push(self.grouped(up, from(group), cut(&mut ups, group.len() * up.rows)));
        }
        kernels.matmul_grouped(x, count, &mut matmul.scratch, &mut jobs);
        self.activate(plan.activation, width, gate, up);
        let mut results = &mut rows[..];
        let mut jobs = Vec::with_capacity(groups.len());
        for (expert, group) in groups {
            let down = &plan.experts[*expert].down;
            jobs.push(self.grouped(down, group.clone(), cut(&mut results, group.len() * down.rows)));
        }
        kernels.matmul_grouped(gate, n * plan.top_k, &mut matmul.scratch, &mut jobs);
    }

    fn combine(&self, plan: &Moe, n: usize, scratch: &MoeScratch, out: &mut [f32]) {
        let (hidden, top_k) = (out.len() / n, plan.top_k);
        // Some ten microseconds per piece.
        let piece = (1 << 15) / (hidden * top_k).max(1) + 1;
        self.kernels().pool().run_slices(out, piece * hidden, |index, out| {
            for (i, out) in out.chunks_exact_mut(hidden).enumerate() {
                let token = index * piece + i;
                out.fill(0.0);
                for rank in token * top_k..(token + 1) * top_k {
                    let row = &scratch.rows[scratch.places[rank] * hidden..][..hidden];
                    self.kernels().add_scaled(out, row, scratch.picks[rank].weight);
                }
            }
        });
    }

    fn add_shared(
        &self,
        plan: &Moe,
        n: usize,
        scratch: &mut MoeScratch,
        matmul: &mut Products,
        out: &mut [f32],
    ) {
        let Some(shared) = &plan.shared else { return };
        let hidden = shared.mlp.down.rows;
        let width = shared.mlp.gate.rows;
        self.activate(shared.mlp.activation, width, &mut scratch.shared_gate, &scratch.shared_up);
        if shared.gate.is_none() {
            let job = self.job(&shared.mlp.down, out).added(true);
            return self.products(&scratch.shared_gate, n, matmul, &mut [job]);
        }
        // The experts' results are not needed any more, and there is room for one row per token at least.
        let result = &mut scratch.rows[..n * hidden];
        let job = self.job(&shared.mlp.down, result);
        self.products(&scratch.shared_gate, n, matmul, &mut [job]);
        let piece = (1 << 15) / hidden.max(1) + 1;
        self.kernels().pool().run_slices(out, piece * hidden, |index, out| {
            let rows =
                result[index * piece * hidden..].chunks_exact(hidden).zip(&scratch.share[index * piece..]);
            for (out, (result, share)) in out.chunks_exact_mut(hidden).zip(rows) {
                self.kernels().add_scaled(out, result, 1.0 / (1.0 + (-share).exp()));
            }
        });
    }

    /// `gate = activation(gate, up)`, rows of `width` numbers.
    pub(super) fn activate(&self, activation: Activation, width: usize, gate: &mut [f32], up: &[f32]) {
        let kernels = self.kernels();
        match activation {
            Activation::Silu => kernels.silu_mul(gate, up),
            Activation::GeluTanh => kernels.gelu_tanh_mul(gate, up),
            Activation::GeluTanhTopK { deviations } => {
                self.keep_outliers(deviations, width, gate);
                kernels.gelu_tanh_mul(gate, up);
            }
            Activation::SiluClamped { limit } => kernels.swiglu_clamped(gate, up, limit),
            Activation::SwigluOai { alpha, limit } => kernels.swiglu_oai(gate, up, alpha, limit),
        }
    }

    fn grouped<'a>(&'a self, linear: &Linear, rows: Range<usize>, out: &'a mut [f32]) -> GroupedJob<'a> {
        let bias = linear.bias.map(|bias| self.vector(bias));
        GroupedJob { rows, weights: self.matrix(linear.weight), bias, out }
    }
}

impl MoeScratch {
    /// Gives every pick a row, by expert and then by token: the experts in use with their rows.
    fn group(&mut self, experts: usize, top_k: usize) -> Vec<(usize, Range<usize>)> {
        let mut ends = vec![0; experts];
        self.picks.iter().for_each(|pick| ends[pick.expert] += 1);
        let mut groups = Vec::new();
        let mut first = 0;
        for (expert, end) in ends.iter_mut().enumerate() {
            let rows = first..first + *end;
            *end = first;
            first = rows.end;
            if !rows.is_empty() {
                groups.push((expert, rows));
            }
        }
        for (index, pick) in self.picks.iter().enumerate() {
            let row = ends[pick.expert];
            ends[pick.expert] += 1;
            self.places[index] = row;
            self.tokens[row] = index / top_k;
        }
        groups
    }
}

/// Copies the rows of `x` into the order that `tokens` gives.
fn gather<'a>(
    model: &Model,
    x: &[f32],
    hidden: usize,
    tokens: &[usize],
    rows: &'a mut [f32],
) -> &'a mut [f32] {
    let piece = (1 << 15) / hidden.max(1) + 1;
    model.kernels().pool().run_slices(rows, piece * hidden, |index, rows| {
        for (row, &token) in rows.chunks_exact_mut(hidden).zip(&tokens[index * piece..]) {
            row.copy_from_slice(&x[token * hidden..][..hidden]);
        }
    });
    rows
}

/// Takes the first `len` numbers off.
fn cut<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    head
}
