//! The oracle against values worked out by hand, and against itself written another way.

use super::*;
use crate::Format;

fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance, "value {i}: {got}, expected {expected}");
    }
}

/// Numbers in -1..1 that repeat after 251 steps.
fn wave(count: usize, phase: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 97 + phase * 31) % 251) as f32 / 125.5 - 1.0).collect()
}

#[test]
fn matmul_multiplies_by_the_transpose() {
    let x = [1.0, 2.0, 3.0, -1.0, 0.5, 4.0];
    let weights = [1.0, 0.0, -1.0, 2.0, 2.0, 2.0];
    assert_eq!(matmul(&x, &weights, 2, 2, 3), [-2.0, 12.0, -5.0, 7.0]);
}

#[test]
fn elementwise_functions_match_known_values() {
    assert_close(&rms_norm(&[3.0, 4.0], 2, Some(&[1.0, 2.0]), 0.0), &[0.848_528_1, 2.262_741_7], 1e-7);
    assert_close(&rms_norm(&[0.0, 0.0], 2, None, 1e-6), &[0.0, 0.0], 0.0);
    assert_close(&silu_mul(&[1.0, -20.0, 0.0], &[2.0, 1.0, 5.0]), &[1.462_117_2, -4.122_307e-8, 0.0], 1e-7);
    assert_close(&gelu_tanh_mul(&[1.0, -1.0, 10.0], &[1.0, 1.0, 1.0]), &[0.841_192, -0.158_808, 10.0], 1e-6);
    let (gate, up) = ([9.0, -20.0, 0.5], [-9.0, 0.5, 1.0]);
    assert_close(&swiglu_clamped(&gate, &up, 1.0), &[-0.731_058_6, -2.061_154e-8, 0.311_229_7], 1e-7);
    assert_close(&swiglu_oai(&gate, &up, 2.0, 1.0), &[0.0, 0.0, 0.731_058_6], 1e-7);
    assert_close(&sigmoid_mul(&[2.0, -3.0, 4.0], &[0.0, 3f32.ln(), -80.0]), &[1.0, -2.25, 0.0], 1e-6);
    assert_close(&softcap(&[1e9, 5.0, 0.0], 50.0), &[50.0, 4.983_4, 0.0], 1e-4);
    assert_close(&softmax(&[0.0, 3.0f32.ln(), f32::NEG_INFINITY]), &[0.25, 0.75, 0.0], 1e-7);
    assert_eq!(softmax(&[f32::NEG_INFINITY; 2]), [0.0; 2]);
}

#[test]
fn rope_rotates_its_pairs_and_leaves_the_rest() {
    // A quarter turn at position 1: (x, y) -> (-y, x).
    let quarter = [std::f32::consts::FRAC_PI_2, 0.0];
    let mut x = [1.0, 2.0, 3.0, 4.0, 5.0];
    rope_half(&mut x, 1, &quarter, 1.0);
    assert_close(&x, &[-3.0, 2.0, 1.0, 4.0, 5.0], 1e-6);
    let mut x = [1.0, 2.0, 3.0, 4.0, 5.0];
    rope_pairs(&mut x, 1, &quarter, 2.0);
    assert_close(&x, &[-4.0, 2.0, 6.0, 8.0, 5.0], 1e-6);
}

fn plain(heads: usize, kv_heads: usize) -> AttentionParams<'static> {
    AttentionParams {
        heads,
        kv_heads,
        key_dim: 4,
        value_dim: 3,
        scale: 0.5,
        causal: true,
        window: None,
        softcap: None,
        sinks: None,
    }
}

#[test]
fn attention_sees_what_it_should() {
    // Keys of zeros weigh all visible values alike, so that the result is their mean.
    let (len, q, k) = (6, vec![1.0; 4 * 4], vec![0.0; 6 * 2 * 4]);
    let v: Vec<f32> = (0..len).flat_map(|s| (0..2).flat_map(move |g| [(s * 10 + g) as f32; 3])).collect();
    let check = |params: AttentionParams<'_>, start: usize, mean: [f32; 4]| {
        let expected: Vec<f32> = mean.iter().flat_map(|&mean| [mean; 3]).collect();
        assert_close(&attention(&params, start, &q, &k, &v), &expected, 1e-5);
    };
    check(plain(4, 2), 0, [0.0, 0.0, 1.0, 1.0]);
    check(plain(4, 2), 5, [25.0, 25.0, 26.0, 26.0]);
    check(AttentionParams { causal: false, ..plain(4, 2) }, 0, [25.0, 25.0, 26.0, 26.0]);
    check(AttentionParams { window: Some(2), ..plain(4, 2) }, 4, [35.0, 35.0, 36.0, 36.0]);
    check(AttentionParams { window: Some(1), ..plain(4, 2) }, 9, [0.0; 4]);
    let sinks = [f32::NEG_INFINITY, 0.0, 200.0, 2.0f32.ln()];
    check(AttentionParams { sinks: Some(&sinks), ..plain(4, 2) }, 1, [5.0, 10.0 / 3.0, 0.0, 3.0]);
}

#[test]
fn attention_weighs_by_scores() {
    let (q, k) = ([2.0, 0.0, 0.0, 0.0], [[3.0f32.ln(), 0.0, 0.0, 0.0], [0.0; 4]].concat());
    let v = [4.0, 8.0, 0.0, 0.0, 0.0, 4.0];
    assert_close(&attention(&plain(1, 1), 1, &q, &k, &v), &[3.0, 6.0, 1.0], 1e-6);
    // A cap far below the scores makes them all but equal.
    let capped = AttentionParams { softcap: Some(1e-4), ..plain(1, 1) };
    assert_close(&attention(&capped, 1, &q, &k, &v), &[2.0, 4.0, 2.0], 1e-3);
}

#[test]
fn parts_put_together_are_the_decoded_values() {
    for format in Format::ALL {
        let bytes: Vec<u8> = (0..format.block_bytes() * 3).map(|i| (i * 89 + 17) as u8 & 0x3B).collect();
        let mut values = vec![0.0; 3 * format.block_len()];
        format.decode(&bytes, &mut values);
        let Some(parts) = parts(format, &bytes) else {
            assert_eq!(format.block_len(), 1, "{format} should come apart");
            continue;
        };
        let value = |(i, &code): (usize, &i8)| {
            let j = i / parts.sub_len;
            parts.scales[j] * f32::from(code) + parts.offsets[j]
        };
        let joined: Vec<f32> = parts.codes.iter().enumerate().map(value).collect();
        assert_eq!(joined, values, "{format}");
    }
}

#[test]
fn activations_keep_within_half_a_step() {
    let x = wave(600, 1);
    for len in [32, 256] {
        let blocks = quantize_activations(&x, len);
        for (block, x) in blocks.iter().zip(x.chunks(len)) {
            for (&code, &x) in block.codes.iter().zip(x) {
                assert!((f32::from(code) * block.scale - x).abs() <= 0.5001 * block.scale);
            }
        }
    }
    for nothing in [0.0, -0.0, 1e-45] {
        let block = &quantize_activations(&[nothing; 32], 32)[0];
        assert_eq!((block.scale, block.codes.as_slice()), (0.0, [0; 32].as_slice()), "{nothing}");
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = [1.0; 32];
        x[7] = bad;
        assert!(quantize_activations(&x, 32)[0].scale.is_nan(), "{bad}");
    }
}

#[test]
fn integer_products_equal_products_of_the_decoded_numbers() {
    let (rows, cols) = (3, 512);
    let (x, weights) = (wave(2 * cols, 3), wave(rows * cols, 5));
    for format in Format::ALL.into_iter().filter(|format| format.can_encode()) {
        let mut bytes = vec![0; rows * format.row_bytes(cols).unwrap()];
        format.encode(&weights, &mut bytes).unwrap();
        let decoded = decode_matrix(format, &bytes, rows, cols);
        for block in [32, 256] {
            let Some(products) = matmul_quantized(&x, format, &bytes, rows, cols, block) else {
                assert_eq!(format.block_len(), 1, "{format}");
                continue;
            };
            let dequantized: Vec<f32> = quantize_activations(&x, block)
                .iter()
                .flat_map(|block| {
                    block.codes.iter().map(|&code| f32::from(code) * block.scale).collect::<Vec<_>>()
                })
                .collect();
            assert_close(&products, &matmul(&dequantized, &decoded, 2, rows, cols), 2e-4);
        }
    }
}
