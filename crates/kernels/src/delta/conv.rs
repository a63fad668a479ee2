//! Causal depthwise convolution over the rows of a sequence.

use crate::Kernels;
use crate::isa::conv::conv_silu;
use std::ops::Range;

/// Taps of the longest convolution.
pub const MAX_TAPS: usize = 16;

/// One run of consecutive rows of one sequence.
#[derive(Debug)]
pub struct ConvSpan<'a> {
    /// The rows in the batch.
    pub rows: Range<usize>,
    /// The `K - 1` rows before the first, `(K - 1) x channels`, oldest first; zeros at the start of a sequence.
    pub state: &'a mut [f32],
}

/// f32 numbers that a sequence keeps for a convolution with `taps` taps.
pub fn conv_state_len(taps: usize, channels: usize) -> usize {
    (taps - 1) * channels
}

impl Kernels {
    /// `out[t][c] = silu(Σ_j taps[j][c] * x[t - (K - 1) + j][c])` within each span, whose state then becomes its last
    /// `K - 1` rows of `x`.
    ///
    /// `x` and `out` are `n x channels`; there are `K` taps, each one number per channel, the last on the row itself.
    ///
    /// # Panics
    /// If there are no taps or more than [`MAX_TAPS`], or their lengths differ; if a state does not fit them, or a span's rows are
    /// beyond `x`.
    pub fn causal_conv_silu(&self, taps: &[&[f32]], spans: &mut [ConvSpan<'_>], x: &[f32], out: &mut [f32]) {
        let kernel = taps.len();
        assert!((1..=MAX_TAPS).contains(&kernel), "{kernel} taps");
        let channels = taps[0].len();
        assert_eq!(x.len(), out.len(), "input and output of a convolution");
        let level = self.level();
        for span in spans {
            let keep = conv_state_len(kernel, channels);
            assert_eq!(span.state.len(), keep, "state of a convolution with {kernel} taps");
            let rows = span.rows.start * channels..span.rows.end * channels;
            let (x, state) = (&x[rows.clone()], &*span.state);
            self.split_rows(&mut out[rows], channels, 2 * kernel, &|at, out| {
                for (i, out) in out.chunks_exact_mut(channels).enumerate() {
                    let mut seen: [&[f32]; MAX_TAPS] = [&[]; MAX_TAPS];
                    for (j, seen) in seen[..kernel].iter_mut().enumerate() {
                        // Row t - (K - 1) + j, where the rows before the first are the state's.
                        let from = at + (i + j) * channels;
                        *seen = match from.checked_sub(keep) {
                            Some(from) => &x[from..][..channels],
                            None => &state[from..][..channels],
                        };
                    }
                    conv_silu(level, &seen[..kernel], taps, out);
                }
            });
            remember(x, span.state);
        }
    }
}

/// Moves the end of `x` into the state, behind what remains of it.
fn remember(x: &[f32], state: &mut [f32]) {
    let new = x.len().min(state.len());
    state.copy_within(new.., 0);
    let old = state.len() - new;
    state[old..].copy_from_slice(&x[x.len() - new..]);
}
