//! Times the gated delta rule: `cargo run --release --example delta [key heads] [value heads] [tokens] [at a time]`.
//!
//! Prints microseconds per token of one layer with heads of 128, for a prompt at once and for single tokens, or for as many at a time as asked for (a divisor).

use sampan_kernels::delta::{DeltaShape, DeltaSpan, KeyHeads};
use sampan_kernels::{Kernels, Options};
use std::time::Instant;

/// Enough states that no cache close to a core holds them.
const LAYERS: usize = 24;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |i: usize, default: usize| std::env::args().nth(i).map_or(Ok(default), |arg| arg.parse());
    let (key_heads, value_heads, n) = (number(1, 16)?, number(2, 32)?, number(3, 512)?);
    let shape = DeltaShape { key_heads, value_heads, key_dim: 128, value_dim: 128, order: KeyHeads::Grouped };
    let kernels = Kernels::new(Options::default())?;
    let qkv: Vec<f32> = (0..n * shape.channels()).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let gates = vec![0.9; n * value_heads];
    let (len, mut out) = (shape.state_len(), vec![0.0; n * shape.outputs()]);
    let mut states = vec![0.0; LAYERS * len];
    let steps = match std::env::args().nth(4) {
        Some(step) => vec![step.parse()?],
        None => vec![n, 1],
    };
    for step in steps {
        let mut best = f64::MAX;
        for _ in 0..7 {
            let start = Instant::now();
            for t in (0..n).step_by(step) {
                let rows = qkv.chunks(step * shape.channels()).nth(t / step).ok_or("rows")?;
                let gates = &gates[t * value_heads..(t + step) * value_heads];
                let out = &mut out[t * shape.outputs()..(t + step) * shape.outputs()];
                let mut spans = [DeltaSpan { rows: 0..step, state: &mut states[t % LAYERS * len..][..len] }];
                kernels.delta_rule(&shape, &mut spans, rows, (gates, gates), out);
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!(
            "{n} tokens, {step} at a time, {key_heads}/{value_heads} heads: {:.2} us/token",
            best / n as f64 * 1e6
        );
    }
    Ok(())
}
