//! Every operation at every level against f64, and the same bits however a sequence is cut, whatever else is in the
//! batch, and on any number of threads.

use super::{ConvSpan, DeltaShape, DeltaSpan, KeyHeads};
use crate::{Isa, Kernels, Options, reference};

fn kernels(isa: Isa, threads: usize) -> Kernels {
    Kernels::new(Options { isa: Some(isa), threads, ..Options::default() }).expect("an available level")
}

/// Numbers in -1..1 times `size`.
fn numbers(n: usize, seed: u64, size: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * size
    };
    (0..n).map(|_| next()).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * e.abs().max(1.0), "{what}[{i}]: {a} for {e}");
    }
}

/// Sizes of the pieces that a sequence of `n` tokens is fed in.
fn cuts(n: usize) -> Vec<Vec<usize>> {
    let mut odd = vec![];
    while odd.iter().sum::<usize>() < n {
        odd.push([3, 1, 9, 2, 17][odd.len() % 5].min(n - odd.iter().sum::<usize>()));
    }
    vec![vec![n], vec![1; n], odd, vec![n / 2, n - n / 2]]
}

const SHAPES: [DeltaShape; 7] = [
    shape(1, 1, 1, 1, KeyHeads::Grouped),
    shape(2, 4, 16, 8, KeyHeads::Grouped),
    shape(2, 4, 16, 8, KeyHeads::Tiled),
    shape(3, 3, 17, 40, KeyHeads::Grouped),
    shape(2, 6, 128, 128, KeyHeads::Tiled),
    shape(1, 2, 65, 33, KeyHeads::Grouped),
    shape(1, 1, 300, 32, KeyHeads::Grouped),
];

const fn shape(
    key_heads: usize,
    value_heads: usize,
    key_dim: usize,
    value_dim: usize,
    order: KeyHeads,
) -> DeltaShape {
    DeltaShape { key_heads, value_heads, key_dim, value_dim, order }
}

/// A sequence of a shape's tokens.
struct Sequence {
    shape: DeltaShape,
    qkv: Vec<f32>,
    decay: Vec<f32>,
    beta: Vec<f32>,
}

impl Sequence {
    /// `n` tokens whose decays are `e^-x`, `x` in 0..`strength`.
    fn new(shape: DeltaShape, n: usize, seed: u64, strength: f32) -> Sequence {
        let gates = n * shape.value_heads;
        let half = |x: Vec<f32>| x.into_iter().map(|x| 0.5 + 0.5 * x).collect::<Vec<f32>>();
        let decay = half(numbers(gates, seed + 1, 1.0)).iter().map(|x| (-x * strength).exp()).collect();
        let beta = half(numbers(gates, seed + 2, 1.0));
        Sequence { shape, qkv: numbers(n * shape.channels(), seed, 2.0), decay, beta }
    }

    fn tokens(&self) -> usize {
        self.beta.len() / self.shape.value_heads
    }

    fn expected(&self) -> Vec<f32> {
        let (s, n) = (self.shape, self.tokens());
        let column = |x: &[f32], width: usize, at: usize, dim: usize| -> Vec<f32> {
            x.chunks(width).flat_map(|row| row[at..at + dim].to_vec()).collect()
        };
        let mut out = vec![0.0; n * s.outputs()];
        for head in 0..s.value_heads {
            let key = match s.order {
                KeyHeads::Grouped => head * s.key_heads / s.value_heads,
                KeyHeads::Tiled => head % s.key_heads,
            };
            let (keys, c) = (s.key_heads * s.key_dim, s.channels());
            let mut q = reference::l2_norm(&column(&self.qkv, c, key * s.key_dim, s.key_dim), s.key_dim);
            q.iter_mut().for_each(|q| *q /= (s.key_dim as f32).sqrt());
            let k = reference::l2_norm(&column(&self.qkv, c, keys + key * s.key_dim, s.key_dim), s.key_dim);
            let v = column(&self.qkv, c, 2 * keys + head * s.value_dim, s.value_dim);
            let decay = column(&self.decay, s.value_heads, head, 1);
            let beta = column(&self.beta, s.value_heads, head, 1);
            let mut state = vec![0.0; s.key_dim * s.value_dim];
            let o = reference::delta_rule(&q, &k, &v, &decay, &beta, &mut state);
            for (out, o) in out.chunks_mut(s.outputs()).zip(o.chunks(s.value_dim)) {
                out[head * s.value_dim..][..s.value_dim].copy_from_slice(o);
            }
        }
        out
    }

    /// Feeds the tokens in pieces; returns the outputs and the state.
    fn run(&self, kernels: &Kernels, pieces: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let mut state = vec![0.0; self.shape.state_len()];
        let (mut out, mut at) = (Vec::new(), 0);
        for &n in pieces {
            out.extend(self.piece(kernels, at, n, &mut state));
            at += n;
        }
        (out, state)
    }

    fn piece(&self, kernels: &Kernels, at: usize, n: usize, state: &mut [f32]) -> Vec<f32> {
        let (c, h) = (self.shape.channels(), self.shape.value_heads);
        let qkv = &self.qkv[at * c..(at + n) * c];
        let mut out = vec![f32::NAN; n * self.shape.outputs()];
        let gates = (&self.decay[at * h..(at + n) * h], &self.beta[at * h..(at + n) * h]);
        let mut spans = [DeltaSpan { rows: 0..n, state }];
        kernels.delta_rule(&self.shape, &mut spans, qkv, gates, &mut out);
        out
    }
}

#[test]
fn the_rule_is_the_reference() {
    for shape in SHAPES {
        // Gentle decays keep everything; strong ones pass every threshold of the factor beside a panel.
        for strength in [0.0, 0.01, 3.0, 40.0] {
            let sequence = Sequence::new(shape, 70, 11, strength);
            let expected = sequence.expected();
            for isa in Isa::available() {
                let (out, _) = sequence.run(&kernels(isa, 2), &[70]);
                close(&format!("{isa} {shape:?} {strength}"), &out, &expected, 2e-5);
            }
        }
    }
}

#[test]
fn any_cut_and_any_threads_give_the_same_bits() {
    for shape in SHAPES {
        for strength in [0.01, 5.0] {
            let sequence = Sequence::new(shape, 67, 5, strength);
            for isa in Isa::available() {
                let (one, three) = (kernels(isa, 1), kernels(isa, 3));
                let (out, state) = sequence.run(&one, &[67]);
                for cut in cuts(67) {
                    for kernels in [&one, &three] {
                        let (o, s) = sequence.run(kernels, &cut);
                        assert!(
                            bits(&o) == bits(&out) && bits(&s) == bits(&state),
                            "{isa} {shape:?} {cut:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_copied_state_goes_on_as_the_original() {
    let sequence = Sequence::new(SHAPES[4], 40, 8, 0.5);
    let kernels = kernels(Isa::detect(), 2);
    let (out, _) = sequence.run(&kernels, &[40]);
    let (_, mut copy) = sequence.run(&kernels, &[13, 10]);
    let rest = sequence.piece(&kernels, 23, 17, &mut copy);
    assert_eq!(bits(&rest), bits(&out[23 * sequence.shape.outputs()..]));
}

#[test]
fn sequences_of_a_batch_do_not_meet() {
    let shape = SHAPES[5];
    let sequences: Vec<Sequence> =
        [1, 30, 0, 2].into_iter().zip([1, 2, 3, 4]).map(|(n, s)| Sequence::new(shape, n, s, 0.2)).collect();
    for isa in Isa::available() {
        let kernels = kernels(isa, 3);
        let join = |f: &dyn Fn(&Sequence) -> Vec<f32>| sequences.iter().flat_map(f).collect::<Vec<f32>>();
        let (qkv, decay, beta) =
            (join(&|s| s.qkv.clone()), join(&|s| s.decay.clone()), join(&|s| s.beta.clone()));
        let mut states = vec![vec![0.0; shape.state_len()]; sequences.len()];
        let mut first = 0;
        let mut spans: Vec<DeltaSpan<'_>> = sequences
            .iter()
            .zip(&mut states)
            .map(|(sequence, state)| {
                first += sequence.tokens();
                DeltaSpan { rows: first - sequence.tokens()..first, state }
            })
            .collect();
        let mut out = vec![f32::NAN; first * shape.outputs()];
        kernels.delta_rule(&shape, &mut spans, &qkv, (&decay, &beta), &mut out);
        let alone: Vec<_> = sequences.iter().map(|s| s.run(&kernels, &[s.tokens()])).collect();
        let outs: Vec<f32> = alone.iter().flat_map(|(out, _)| out.clone()).collect();
        assert_eq!(bits(&out), bits(&outs), "{isa}");
        assert!(states.iter().zip(&alone).all(|(a, (_, b))| bits(a) == bits(b)), "{isa}");
    }
}

#[test]
fn decays_to_nothing_and_numbers_that_are_none() {
    let shape = SHAPES[1];
    for isa in Isa::available() {
        let kernels = kernels(isa, 1);
        // A decay of zero forgets all: what comes after is as from the start.
        let mut sequence = Sequence::new(shape, 20, 3, 0.1);
        sequence.decay[10 * shape.value_heads..11 * shape.value_heads].fill(0.0);
        let (out, _) = sequence.run(&kernels, &[20]);
        let mut fresh = vec![0.0; shape.state_len()];
        let rest = sequence.piece(&kernels, 10, 10, &mut fresh);
        close("after a decay of zero", &out[10 * shape.outputs()..], &rest, 1e-6);
        // Thousands of tokens with strong decays: neither overflow nor drift.
        let long = Sequence::new(shape, 3000, 4, 2.0);
        close("long", &long.run(&kernels, &[3000]).0, &long.expected(), 2e-5);
        // NaN in one head's gate stays visible there and nowhere else.
        sequence.decay[4 * shape.value_heads] = f32::NAN;
        let (out, _) = sequence.run(&kernels, &[20]);
        for (t, row) in out.chunks(shape.outputs()).enumerate() {
            let (head, others) = row.split_at(shape.value_dim);
            assert!(head.iter().all(|x| x.is_nan() == (t >= 4)), "{isa} token {t}: {head:?}");
            assert!(others.iter().all(|x| !x.is_nan()), "{isa} token {t}");
        }
    }
}

#[test]
fn convolutions_of_any_cut_are_the_reference() {
    for (channels, kernel) in [(1, 4), (16, 1), (33, 2), (40, 4), (130, 5), (9000, 4)] {
        let n = 23;
        let (x, taps) = (numbers(n * channels, 1, 3.0), numbers(kernel * channels, 2, 1.0));
        let split: Vec<&[f32]> = taps.chunks(channels).collect();
        let before = numbers((kernel - 1) * channels, 3, 1.0);
        let mut kept = before.clone();
        let expected = reference::causal_conv_silu(&x, &taps, channels, &mut kept);
        for isa in Isa::available() {
            let mut first: Option<Vec<u32>> = None;
            for cut in cuts(n) {
                let kernels = kernels(isa, 1 + cut.len() % 3);
                let (mut state, mut out, mut at) = (before.clone(), vec![f32::NAN; x.len()], 0);
                for n in cut {
                    let rows = at * channels..(at + n) * channels;
                    let mut spans = [ConvSpan { rows: 0..n, state: &mut state }];
                    kernels.causal_conv_silu(&split, &mut spans, &x[rows.clone()], &mut out[rows]);
                    at += n;
                }
                close(&format!("{isa} {kernel} taps"), &out, &expected, 2e-6);
                assert_eq!(bits(&state), bits(&kept), "{isa}");
                assert_eq!(first.get_or_insert(bits(&out)), &bits(&out), "{isa}");
            }
        }
    }
}

#[test]
fn gates_and_the_gated_norm() {
    let (heads, dim) = (5, 24);
    let rates: Vec<f32> = numbers(heads, 1, 3.0).iter().map(|x| -x.exp()).collect();
    let bias = numbers(heads, 2, 5.0);
    for size in [1.0, 30.0, 1000.0] {
        let (a, b) = (numbers(40 * heads, 3, size), numbers(40 * heads, 4, size));
        let expected = reference::delta_gates(&a, &b, &rates, &bias);
        let (x, z) = (numbers(40 * dim, 5, size), numbers(40 * dim, 6, size));
        let weight = numbers(dim, 7, 1.0);
        let normed = reference::rms_norm(&x, dim, Some(&weight), 1e-6);
        for isa in Isa::available() {
            let kernels = kernels(isa, 2);
            let (mut decay, mut beta) = (a.clone(), b.clone());
            kernels.delta_gates(&mut decay, &mut beta, &rates, &bias);
            close("decay", &decay, &expected.0, 4e-6);
            close("beta", &beta, &expected.1, 1e-6);
            let (mut x, mut y) = (x.clone(), z.clone());
            kernels.gated_rms_norm(&mut x, &mut y, dim, Some(&weight), 1e-6);
            close("gated norm", &y, &reference::silu_mul(&z, &normed), 4e-6);
        }
    }
}
