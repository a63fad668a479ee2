//! Activations, kept between calls so that they are allocated once.

use super::altup::AltUpScratch;
use super::attention::AttentionScratch;
use super::compressed::CompressedScratch;
use super::delta::DeltaScratch;
use super::ffn::GatedScratch;
use super::hyper::HyperScratch;
use super::latent::LatentScratch;
use super::moe::MoeScratch;
use super::product::Products;
use crate::plan::{Ffn, Mixer, Parallel, Plan};
use sampan_kernels::ops::RopeAngles;
use sampan_kernels::{Floats, InputSquares};

/// Memory that forward passes reuse.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) residual: Floats,  // [n, streams * hidden]
    pub(super) input: Floats,     // [n, hidden]: the streams mixed, where there are several
    pub(super) normed: Floats,    // [n, hidden]
    pub(super) result: Floats,    // [n, hidden]: of a sublayer, where it is not added at once
    pub(super) per_layer: Floats, // [n, layers * width]
    pub(super) tokens: Vec<u32>,
    pub(super) positions: Vec<u32>,
    pub(super) angles: Vec<RopeAngles>,
    pub(super) matmul: Products,
    pub(super) attention: AttentionScratch,
    pub(super) latent: LatentScratch,
    pub(super) compressed: CompressedScratch,
    pub(super) delta: DeltaScratch,
    pub(super) gated: GatedScratch,
    pub(super) moe: MoeScratch,
    pub(super) hyper: HyperScratch,
    pub(super) altup: AltUpScratch,
}

impl Scratch {
    /// Records what every matrix is multiplied with from now on, for [`Model::importance`](crate::Model::importance).
    pub fn record_inputs(&mut self) {
        self.matmul.scratch.record_inputs();
    }

    /// What was recorded; recording ends.
    pub fn take_inputs(&mut self) -> InputSquares {
        self.matmul.scratch.take_inputs()
    }

    /// Bytes of activations for a batch of `tokens` in a context, its quantised copies and lists of entries included.
    pub(crate) fn bytes(plan: &Plan, tokens: usize, context: usize) -> usize {
        // Numbers per token and numbers once, of the widest layer of each kind.
        let (mut kinds, mut once) = ([0; 6], 0);
        // Numbers per token that go into a product at once.
        let mut widest = plan.hidden;
        for layer in &plan.layers {
            let (kind, numbers) = match &layer.mixer {
                Mixer::Attention(a) => {
                    widest = widest.max(a.o.cols);
                    (0, AttentionScratch::numbers(a))
                }
                Mixer::Latent(l) => {
                    let (numbers, block) = LatentScratch::numbers(l);
                    once = once.max(block);
                    widest = widest.max(l.o.cols);
                    (1, numbers)
                }
                // Entries are listed in numbers of as many bytes.
                Mixer::Compressed(c) => {
                    (2, CompressedScratch::numbers(c) + CompressedScratch::listed(c, context))
                }
                Mixer::Delta(d) => {
                    widest = widest.max(d.o.cols);
                    (3, DeltaScratch::numbers(d))
                }
            };
            kinds[kind] = kinds[kind].max(numbers);
            if let Ffn::Gated(gated) | Ffn::Parallel(Parallel { dense: gated, .. }) = &layer.ffn {
                kinds[4] = kinds[4].max(2 * gated.gate.rows);
                widest = widest.max(gated.gate.rows);
            }
            if let Some(moe) = layer.ffn.moe() {
                kinds[5] = kinds[5].max(MoeScratch::numbers(moe));
                let inputs = moe.experts.iter().map(|expert| expert.gate.cols.max(expert.down.cols)).max();
                widest = widest.max(moe.top_k * inputs.unwrap_or(0));
            }
        }
        let streams = plan.hyper.as_ref().map_or(1, |hyper| hyper.streams);
        let hyper = plan.hyper.as_ref().map_or(0, |hyper| HyperScratch::numbers(hyper, plan.hidden));
        let per_layer = plan.per_layer.map_or(0, |inputs| inputs.projection.rows);
        let altup = plan.altup.as_ref().map_or(0, |altup| AltUpScratch::numbers(altup, plan.hidden));
        let stream = (streams + 3) * plan.hidden + hyper + altup + per_layer;
        let per_token = stream + kinds.iter().sum::<usize>();
        // One int8 copy and one bf16 copy of the widest input at most, and a row of logits.
        tokens * (per_token * size_of::<f32>() + widest * 3) + (once + plan.vocab) * size_of::<f32>()
    }

    pub(super) fn resize(&mut self, plan: &Plan, n: usize) {
        let streams = plan.hyper.as_ref().map_or(1, |hyper| hyper.streams);
        self.residual.resize(n * streams * plan.hidden);
        for buffer in [&mut self.input, &mut self.normed, &mut self.result] {
            buffer.resize(n * plan.hidden);
        }
        self.angles.resize_with(plan.ropes.len(), RopeAngles::new);
    }
}
