//! Plain loops, never optimised: the specification and the oracle of every kernel.
//!
//! Inputs and outputs are f32; sums run in f64 in index order, so that a reference result is the exact value up to one
//! rounding of each elementary function. What a kernel may differ by is stated where it is tested. Matrices are row-major; a shape is
//! written `rows x cols`. Functions panic when slices do not have the stated shapes.

mod activation;
mod attention;
mod delta;
mod elementwise;
mod matmul;
mod sparse;

pub use activation::{ActivationBlock, dot_quantized, matmul_quantized, quantize_activations};
pub use attention::{AttentionParams, attention};
pub use delta::{causal_conv_silu, delta_gates, delta_rule, l2_norm};
pub use elementwise::{
    gelu_tanh_mul, layer_norm, rms_norm, rope_half, rope_pairs, sigmoid_mul, silu_mul, softcap, softmax,
    swiglu_clamped, swiglu_oai,
};
pub use matmul::{Parts, decode_matrix, matmul, parts};
pub use sparse::{attention_listed, index_scores, top_k};

#[cfg(test)]
mod tests;
