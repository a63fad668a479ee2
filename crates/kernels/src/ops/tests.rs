//! Every operation at every level against f64, on ragged lengths, and the same whatever the threads.

use super::{Pairing, RopeAngles};
use crate::{Isa, Kernels, Options};

/// Lengths around every vector's and every piece's border.
const LENGTHS: [usize; 12] = [1, 2, 7, 8, 15, 16, 17, 33, 64, 100, 1000, 151_937];

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

/// Runs `actual` at every level, on one and on three threads, and compares with `expected` number by number:
/// within `relative` of it or within `absolute`. Thread counts must agree bit for bit.
fn check(
    name: &str,
    expected: &[f64],
    (relative, absolute): (f64, f64),
    actual: impl Fn(&Kernels) -> Vec<f32>,
) {
    for isa in Isa::available() {
        let one = actual(&kernels(isa, 1));
        let many = actual(&kernels(isa, 3));
        assert!(
            one.iter().map(|x| x.to_bits()).eq(many.iter().map(|x| x.to_bits())),
            "{isa} {name}: threads differ"
        );
        assert_eq!(one.len(), expected.len());
        for (i, (a, e)) in one.iter().zip(expected).enumerate() {
            let error = (f64::from(*a) - e).abs();
            assert!(error <= absolute.max(relative * e.abs()), "{isa} {name}[{i}]: {a} for {e}");
        }
    }
}

/// Checks an operation on one number of `x` and one of `y` at every length.
fn check_map(
    name: &str,
    size: f32,
    tolerance: (f64, f64),
    expected: impl Fn(f64, f64) -> f64,
    actual: impl Fn(&Kernels, &mut [f32], &[f32]),
) {
    for n in LENGTHS {
        let (x, y) = (numbers(n, 1, size), numbers(n, 2, 2.0));
        let expected: Vec<f64> = x.iter().zip(&y).map(|(x, y)| expected((*x).into(), (*y).into())).collect();
        check(name, &expected, tolerance, |kernels| {
            let mut x = x.clone();
            actual(kernels, &mut x, &y);
            x
        });
    }
}

#[test]
fn products_sums_and_caps() {
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let gelu = |x: f64| {
        let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        0.5 * x * (1.0 + y.tanh())
    };
    for size in [0.01, 1.0, 20.0] {
        check_map("silu_mul", size, (1e-6, 1e-12), |x, y| silu(x) * y, |k, x, y| k.silu_mul(x, y));
        // Far below zero gelu is tiny and its exponent large: what counts is the error against 1.
        check_map("gelu_tanh_mul", size, (1e-6, 1e-8), |x, y| gelu(x) * y, |k, x, y| k.gelu_tanh_mul(x, y));
        check_map(
            "softcap",
            size,
            (1e-7, 1e-5),
            |x, _| 30.0 * (x / 30.0).tanh(),
            |k, x, _| k.softcap(x, 30.0),
        );
    }
    check_map(
        "sigmoid_mul",
        5.0,
        (1e-6, 1e-12),
        |x, y| x / (1.0 + (-y).exp()),
        |k, x, y| k.sigmoid_mul(x, y),
    );
    for limit in [0.5_f32, 1.0, 7.0] {
        let (bound, alpha) = (f64::from(limit), 1.702_f32);
        let oai = |x: f64, y: f64| {
            let x = x.min(bound);
            (y.clamp(-bound, bound) + 1.0) * x / (1.0 + (-f64::from(alpha) * x).exp())
        };
        check_map("swiglu_oai", 10.0, (1e-6, 1e-9), oai, |k, x, y| k.swiglu_oai(x, y, alpha, limit));
        check_map(
            "swiglu_clamped",
            10.0,
            (1e-6, 1e-12),
            |x, y| silu(x.min(bound)) * y.clamp(-bound, bound),
            |k, x, y| k.swiglu_clamped(x, y, limit),
        );
    }
    check_map("add", 1.0, (1e-7, 0.0), |x, y| x + y, |k, x, y| k.add(x, y));
    // The sum may cancel: what counts is the error against its terms.
    check_map(
        "add_scaled",
        1.0,
        (1e-7, 2e-7),
        |x, y| x + 0.3_f32 as f64 * y,
        |k, x, y| k.add_scaled(x, y, 0.3),
    );
    check_map("scale", 1.0, (1e-7, 0.0), |x, _| x * 0.3_f32 as f64, |k, x, _| k.scale(x, 0.3));
}

#[test]
fn gates_at_the_ends_of_the_range() {
    for isa in Isa::available() {
        let kernels = kernels(isa, 1);
        let mut x = [-1e30, -1000.0, -90.0, 0.0, 90.0, 1000.0, 1e30, f32::NAN];
        let mut y = x;
        kernels.silu_mul(&mut x, &[1.0; 8]);
        kernels.gelu_tanh_mul(&mut y, &[1.0; 8]);
        for out in [x, y] {
            assert!(out[..4].iter().all(|x| x.abs() < 1e-30), "{isa}: {out:?}");
            assert_eq!(out[4..7], [90.0, 1000.0, 1e30], "{isa}");
            assert!(out[7].is_nan(), "{isa}: NaN stays visible");
        }
        for oai in [false, true] {
            let apply = |kernels: &Kernels, x: &mut [f32], y: &[f32]| match oai {
                false => kernels.swiglu_clamped(x, y, 7.0),
                true => kernels.swiglu_oai(x, y, 1.702, 7.0),
            };
            let (mut gates, mut ups) = ([-1e30, -90.0, 1e30, f32::INFINITY, f32::NAN], [2.0; 5]);
            apply(&kernels, &mut gates, &[1e30, -1e30, 1e30, f32::INFINITY, 1.0]);
            assert!(gates[..2].iter().all(|x| x.abs() < 1e-30), "{isa}: {gates:?}");
            assert!(gates[2..4].iter().all(|x| (48.0..57.0).contains(x)), "{isa}: {gates:?}");
            assert!(gates[4].is_nan(), "{isa}: NaN stays visible");
            apply(&kernels, &mut ups, &[f32::NAN; 5]);
            assert!(ups.iter().all(|x| x.is_nan()), "{isa}: NaN stays visible");
        }
    }
}

#[test]
fn norms_of_rows() {
    for (rows, dim) in [(1, 1), (3, 7), (1, 64), (5, 80), (16, 128), (2, 1000), (130, 1024)] {
        for weighted in [false, true] {
            let (x, weight) = (numbers(rows * dim, 3, 5.0), numbers(dim, 4, 1.0));
            let weight = weighted.then_some(&weight[..]);
            let mut expected = Vec::new();
            for row in x.chunks(dim) {
                let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / dim as f64;
                let factor = 1.0 / (mean + 1e-6).sqrt();
                let weights = (0..dim).map(|i| weight.map_or(1.0, |w| f64::from(w[i])));
                expected.extend(row.iter().zip(weights).map(|(x, w)| f64::from(*x) * factor * w));
            }
            let name = format!("rms_norm of {rows} x {dim}");
            check(&name, &expected, (1e-6, 1e-9), |kernels| {
                let mut out = vec![f32::NAN; x.len()];
                kernels.rms_norm(&x, dim, weight, 1e-6, &mut out);
                out
            });
            check(&name, &expected, (1e-6, 1e-9), |kernels| {
                let mut x = x.clone();
                kernels.rms_norm_inplace(&mut x, dim, weight, 1e-6);
                x
            });
        }
    }
}

#[test]
fn rope_turns_pairs_of_dims() {
    let positions = [0_u32, 1, 2, 777, 40_959, 262_143];
    for (heads, head_dim, half, offset) in
        [(1, 2, 1, 0), (3, 64, 32, 0), (2, 80, 10, 0), (2, 96, 16, 64), (130, 128, 64, 0)]
    {
        let frequencies: Vec<f32> = (0..half).map(|i| 1e6_f32.powf(-(i as f32) / half as f32)).collect();
        let x = numbers(positions.len() * heads * head_dim, 5, 1.0);
        for pairing in [Pairing::Half, Pairing::Pairs] {
            let mut expected: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            for (r, row) in expected.chunks_mut(heads * head_dim).enumerate() {
                for head in row.chunks_mut(head_dim) {
                    for (i, frequency) in frequencies.iter().enumerate() {
                        let (a, b) = match pairing {
                            Pairing::Half => (offset + i, offset + i + half),
                            Pairing::Pairs => (offset + 2 * i, offset + 2 * i + 1),
                        };
                        let (sin, cos) = f64::from(positions[r] as f32 * frequency).sin_cos();
                        let (x, y) = (head[a], head[b]);
                        head[a] = 1.5 * (x * cos - y * sin);
                        head[b] = 1.5 * (y * cos + x * sin);
                    }
                }
            }
            check(
                &format!("rope {pairing:?} {head_dim} {half} {offset}"),
                &expected,
                (0.0, 4e-7),
                |kernels| {
                    let (mut x, mut angles) = (x.clone(), RopeAngles::new());
                    kernels.rope_angles(&frequencies, &positions, 1.5, &mut angles);
                    assert_eq!((angles.rows(), angles.rotated()), (positions.len(), 2 * half));
                    kernels.rope(&mut x, heads, head_dim, &angles, pairing, offset);
                    x
                },
            );
        }
    }
}

#[test]
fn softmax_of_a_row() {
    for n in LENGTHS {
        for size in [0.0, 1.0, 200.0] {
            let x = numbers(n, 6, size);
            let max = x.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = x.iter().map(|x| f64::from(x - max).exp()).sum();
            let soft: Vec<f64> = x.iter().map(|x| f64::from(x - max).exp() / sum).collect();
            let log: Vec<f64> = x.iter().map(|x| f64::from(x - max) - sum.ln()).collect();
            check("softmax", &soft, (2e-6, 1e-37), |kernels| {
                let mut x = x.clone();
                kernels.softmax(&mut x);
                x
            });
            check("log_softmax", &log, (2e-6, 2e-6), |kernels| {
                let mut x = x.clone();
                kernels.log_softmax(&mut x);
                x
            });
        }
    }
}

#[test]
fn softmax_of_banned_and_huge_logits() {
    const BAN: f32 = f32::NEG_INFINITY;
    for isa in Isa::available() {
        let kernels = kernels(isa, 1);
        let mut x = [BAN, 3e38, BAN, 3e38, -3e38];
        kernels.softmax(&mut x);
        assert_eq!(x, [0.0, 0.5, 0.0, 0.5, 0.0], "{isa}");
        let mut x = [BAN; 20];
        kernels.softmax(&mut x);
        assert_eq!(x, [0.0; 20], "{isa}");
    }
}

#[test]
fn argmax_takes_the_lowest_of_equals() {
    for isa in Isa::available() {
        let kernels = kernels(isa, 1);
        for n in LENGTHS {
            for at in [0, n / 2, n - 1] {
                let mut x = numbers(n, 7, 1.0);
                x[at] = 5.0;
                x[n - 1] = 5.0;
                assert_eq!(kernels.argmax(&x), Some(at), "{isa} {n}");
            }
        }
        assert_eq!(kernels.argmax(&[]), None);
        assert_eq!(kernels.argmax(&[f32::NAN, -1.0, f32::NAN, 2.0, 2.0]), Some(3));
        assert_eq!(kernels.argmax(&[f32::NAN, f32::NEG_INFINITY]), Some(1));
        assert_eq!(kernels.argmax(&[f32::NAN, f32::NAN]), Some(0));
    }
}

/// The exponential that everything rests on, through the sum of a softmax: the first number is the largest, so
/// every other one is e^x over the sum.
#[test]
fn exponentials_are_right_to_the_last_bits() {
    let x: Vec<f32> = (0..40_000).map(|i| -(i as f32) * 0.002_18).collect();
    let sum: f64 = x.iter().map(|x| f64::from(*x).exp()).sum();
    let expected: Vec<f64> = x.iter().map(|x| f64::from(*x).exp() / sum).collect();
    check("exponential", &expected, (5e-7, 1e-37), |kernels| {
        let mut x = x.clone();
        kernels.softmax(&mut x);
        x
    });
}

#[test]
fn layer_norm_subtracts_the_mean() {
    for (rows, dim) in [(1, 7), (3, 32), (300, 128)] {
        // A mean far from zero beside a small spread.
        let x: Vec<f32> = numbers(rows * dim, 5, 0.1).iter().map(|x| x + 30.0).collect();
        let (weight, bias) = (numbers(dim, 6, 2.0), numbers(dim, 7, 1.0));
        let expected = crate::reference::layer_norm(&x, dim, &weight, &bias, 1e-6);
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        check(&format!("layer_norm of {rows} x {dim}"), &expected, (1e-6, 1e-6), |kernels| {
            let mut x = x.clone();
            kernels.layer_norm_inplace(&mut x, dim, &weight, &bias, 1e-6);
            x
        });
    }
}

#[test]
fn conjugate_angles_rotate_back() {
    let (heads, dim) = (3, 24);
    let x = numbers(5 * heads * dim, 8, 1.0);
    for pairing in [Pairing::Half, Pairing::Pairs] {
        check(
            "rope and back",
            &x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(),
            (1e-6, 1e-6),
            |kernels| {
                let (mut x, mut angles) = (x.clone(), RopeAngles::new());
                kernels.rope_angles(&[1.0, 0.3, 0.01], &[0, 1, 7, 1000, 99_999], 1.0, &mut angles);
                kernels.rope(&mut x, heads, dim, &angles, pairing, 18);
                kernels.rope(&mut x, heads, dim, &angles.conjugate(), pairing, 18);
                x
            },
        );
    }
}
