//! The gated delta rule in place of attention.

use super::{Linear, Norm, TensorId};
use sampan_kernels::delta::{DeltaShape, conv_state_len};

/// Linear attention by the gated delta rule (Yang, Kautz and Hatamizadeh, "Gated Delta Networks", 2024), after a short
/// causal convolution: `o(norm(rule(silu(conv(qkv x)))) * silu(z x))`.
#[derive(Clone, Debug)]
pub struct Delta {
    /// Heads and widths.
    pub shape: DeltaShape,
    /// To all queries, all keys, all values.
    pub qkv: Linear,
    /// To the gate of the results, one number for each.
    pub z: Linear,
    /// To the decays, one number per value head.
    pub a: Linear,
    /// To the step sizes, one number per value head.
    pub b: Linear,
    /// Taps of the convolution, each one number per channel, the last on the token itself.
    pub taps: Vec<TensorId>,
    /// Decay rate of each value head, `-exp(A)`.
    pub neg_exp_a: TensorId,
    /// Added to the decays' projection.
    pub dt_bias: TensorId,
    /// Of each value head's result.
    pub norm: Norm,
    /// Output projection.
    pub o: Linear,
}

impl Delta {
    /// f32 numbers that a sequence keeps: the last inputs of the convolution, then the rule's state.
    pub fn state_len(&self) -> usize {
        self.conv_len() + self.shape.state_len()
    }

    pub(crate) fn conv_len(&self) -> usize {
        conv_state_len(self.taps.len(), self.shape.channels())
    }
}
