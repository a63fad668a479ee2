//! Outcomes of decoding and encoding, over all formats.

use std::path::PathBuf;

use super::*;

/// Bits, so that -0.0 and 0.0 differ and a message shows what went wrong.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn golden(format: Format, extension: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/formats")
        .join(format!("{format}.{extension}"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn decodes_the_golden_blocks_bit_for_bit() {
    for format in Format::ALL {
        let blocks = golden(format, "blocks");
        let mut expected = vec![0.0; golden(format, "f32").len() / 4];
        Format::F32.decode(&golden(format, "f32"), &mut expected);
        assert!(expected.len() >= 5 * format.block_len(), "{format}: too few golden blocks");
        let mut values = vec![0.0; expected.len()];
        format.decode(&blocks, &mut values);
        assert_eq!(bits(&values), bits(&expected), "{format}");
    }
}

/// Standard normal numbers (Box-Muller over a 64-bit mixer); the same on every run.
fn gaussian(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed >> 40) as f32 + 0.5) / (1u64 << 24) as f32
    };
    (0..count).map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos()).collect()
}

/// Gaussian rows in which one value in 250 is twenty times larger.
fn heavy_tailed(count: usize, seed: u64) -> Vec<f32> {
    let mut values = gaussian(count, seed);
    values.iter_mut().step_by(250).for_each(|value| *value *= 20.0);
    values
}

fn encoded(format: Format, values: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0xA5; format.row_bytes(values.len()).expect("whole blocks")];
    format
        .encode_weighted(values, importance, &mut bytes)
        .unwrap_or_else(|error| panic!("{format}: {error}"));
    bytes
}

fn round_trip(format: Format, values: &[f32]) -> Vec<f32> {
    let mut decoded = vec![f32::NAN; values.len()];
    format.decode(&encoded(format, values, None), &mut decoded);
    decoded
}

/// Weighted root of the mean squared error, relative to the values' own.
fn relative_error(values: &[f32], decoded: &[f32], weight: impl Fn(usize) -> f32) -> f64 {
    let mut sums = [0.0, 0.0];
    for (i, (&x, &y)) in values.iter().zip(decoded).enumerate() {
        sums[0] += f64::from(weight(i)) * (f64::from(x) - f64::from(y)).powi(2);
        sums[1] += f64::from(weight(i)) * f64::from(x).powi(2);
    }
    if sums[0] == 0.0 { 0.0 } else { (sums[0] / sums[1]).sqrt() }
}

/// Relative errors allowed on Gaussian and on heavy-tailed rows: just above what the encoders reach, and below what ggml's reach on the same
/// kind of rows.
const ALLOWED: [(Format, f64, f64); 15] = [
    (Format::F32, 0.0, 0.0),
    (Format::F16, 2.2e-4, 2.2e-4),
    (Format::BF16, 1.8e-3, 1.8e-3),
    (Format::Q8_0, 0.0050, 0.0103),
    (Format::Q4_0, 0.0820, 0.140),
    (Format::Q4_1, 0.0705, 0.093),
    (Format::Q5_0, 0.0405, 0.083),
    (Format::Q5_1, 0.0340, 0.046),
    (Format::Q2_K, 0.267, 0.240),
    (Format::Q3_K, 0.146, 0.160),
    (Format::Q4_K, 0.0708, 0.094),
    (Format::Q5_K, 0.0350, 0.0465),
    (Format::Q6_K, 0.0170, 0.0300),
    (Format::IQ4_NL, 0.0742, 0.115),
    (Format::MXFP4, 0.1130, 0.160),
];

#[test]
fn encoders_stay_within_their_error() {
    for (format, on_gaussian, on_heavy_tails) in ALLOWED {
        for (kind, values, allowed) in [
            ("gaussian", gaussian(64 * 512, 1), on_gaussian),
            ("heavy-tailed", heavy_tailed(64 * 512, 2), on_heavy_tails),
        ] {
            let error = relative_error(&values, &round_trip(format, &values), |_| 1.0);
            assert!(error <= allowed, "{format}, {kind}: relative error {error:.5}, allowed {allowed}");
        }
    }
    assert_eq!(ALLOWED.len(), Format::ALL.iter().filter(|format| format.can_encode()).count());
}

/// Rows that break naive encoders, with the largest error allowed in any value, relative to the row's largest magnitude.
#[test]
fn encoders_hold_on_extreme_rows() {
    let row = |f: &dyn Fn(usize) -> f32| (0..512).map(f).collect::<Vec<f32>>();
    let cases = [
        ("zero", row(&|_| 0.0), 0.0),
        ("negative zero", row(&|_| -0.0), 0.0),
        ("constant", row(&|_| 0.375), 0.01),
        ("negative constant", row(&|_| -0.375), 0.01),
        ("one value", row(&|i| if i == 300 { 3.0 } else { 0.0 }), 0.01),
        ("one negative value", row(&|i| if i == 300 { -3.0 } else { 0.0 }), 0.01),
        ("signs", row(&|i| if i % 3 == 0 { -1.0 } else { 1.0 }), 0.26),
        ("huge", row(&|i| if i % 2 == 0 { 6e4 } else { -3e4 }), 0.34),
        ("rising", row(&|i| i as f32 - 256.0), 0.26),
        ("small", row(&|i| (i as f32 - 256.0) * 1e-4), 0.26),
    ];
    for format in Format::ALL.into_iter().filter(|format| format.can_encode()) {
        for (name, values, allowed) in &cases {
            let decoded = round_trip(format, values);
            let largest = values.iter().fold(0.0f32, |max, value| max.max(value.abs()));
            for (i, (x, y)) in values.iter().zip(&decoded).enumerate() {
                let error = (x - y).abs();
                assert!(error <= allowed * largest, "{format}, {name}: value {i} is {x}, decoded {y}");
            }
        }
    }
}

/// Magnitudes at which scales leave the range of half precision, or squares that of f32.
#[test]
fn encoders_hold_at_every_magnitude() {
    let shape = gaussian(256, 5);
    for format in Format::ALL.into_iter().filter(|format| format.can_encode()) {
        for exponent in -149..=127 {
            let unit = 2.0f64.powi(exponent);
            let values: Vec<f32> = shape.iter().map(|x| (f64::from(*x) * unit / 4.0) as f32).collect();
            let mut bytes = vec![0; format.row_bytes(256).expect("whole blocks")];
            match format.encode(&values, &mut bytes) {
                Ok(()) => {
                    let mut decoded = vec![f32::NAN; 256];
                    format.decode(&bytes, &mut decoded);
                    assert!(decoded.iter().all(|y| y.is_finite()), "{format} at 2^{exponent}: {decoded:?}");
                    let error = relative_error(&values, &decoded, |_| 1.0);
                    let allowed = if (-6..=14).contains(&exponent) { 0.3 } else { 1.01 };
                    assert!(error <= allowed, "{format} at 2^{exponent}: relative error {error}");
                }
                Err(EncodeError::TooLarge { value, limit, .. }) => {
                    assert!(value.abs() > limit && limit >= 65_504.0, "{format} at 2^{exponent}");
                }
                Err(other) => panic!("{format} at 2^{exponent}: {other}"),
            }
        }
    }
}

#[test]
fn importance_moves_the_error_to_where_it_matters_least() {
    let values = gaussian(16 * 512, 3);
    let importance: Vec<f32> = gaussian(512, 4).iter().map(|x| x * x * x * x + 1e-3).collect();
    for format in Format::ALL.into_iter().filter(|format| format.can_encode() && format.block_len() > 1) {
        let mut decoded = vec![0.0; values.len()];
        format.decode(&encoded(format, &values, Some(&importance)), &mut decoded);
        let weight = |i: usize| importance[i % 512];
        let weighted = relative_error(&values, &decoded, weight);
        let plain = relative_error(&values, &round_trip(format, &values), weight);
        assert!(weighted < 0.99 * plain, "{format}: weighted {weighted}, plain {plain}");
        let flat = encoded(format, &values, Some(&[0.0; 512]));
        assert_eq!(
            flat,
            encoded(format, &values, None),
            "{format}: weights that are all zero count as equal"
        );
    }
}

#[test]
fn bad_values_are_refused_with_their_place() {
    let check = |format: Format, values: &[f32], importance: Option<&[f32]>, bytes: usize, message: &str| {
        let error = format.encode_weighted(values, importance, &mut vec![0; bytes]).expect_err(message);
        assert_eq!(error.to_string(), message);
    };
    let with = |index: usize, value: f32| {
        let mut values = vec![1.0; 256];
        values[index] = value;
        values
    };
    let finite = "only finite numbers can be encoded";
    check(Format::Q4_K, &with(77, f32::NAN), None, 144, &format!("value 77 is NaN; {finite}"));
    check(Format::F16, &with(3, f32::INFINITY), None, 512, &format!("value 3 is inf; {finite}"));
    let most = "F16 holds at most 65504 in magnitude";
    check(Format::F16, &with(9, 1e6), None, 512, &format!("value 9 is 1000000; {most}"));
    let most = "Q4_0 holds at most 458528 in magnitude";
    check(Format::Q4_0, &with(200, -1e6), None, 144, &format!("value 200 is -1000000; {most}"));
    let lengths = "do not fit together";
    let message = format!("Q8_0: 256 values, None importance weights and 271 bytes {lengths}");
    check(Format::Q8_0, &with(0, 0.0), None, 271, &message);
    let message = format!("Q8_0: 256 values, Some(96) importance weights and 272 bytes {lengths}");
    check(Format::Q8_0, &with(0, 0.0), Some(&[1.0; 96]), 272, &message);
    let message = "importance weight 2 is -1; weights are finite and not negative";
    check(Format::Q6_K, &with(0, 0.0), Some(&with(2, -1.0)), 210, message);
    let message = "IQ4_XS can be read but not written; choose another format";
    check(Format::IQ4_XS, &with(0, 0.0), None, 136, message);
}

#[test]
fn names_and_numbers_find_their_format() {
    for format in Format::ALL {
        assert_eq!(Format::from_ggml(format.ggml_id()), Some(format));
        assert_eq!(Format::from_name(&format.to_string().to_lowercase()), Some(format));
    }
    assert_eq!(Format::from_name("q4_k_m"), None);
    assert_eq!(Format::from_ggml(4), None);
    assert_eq!(Format::Q4_K.row_bytes(257), None);
    assert_eq!(Format::F32.row_bytes(usize::MAX), None);
}

proptest::proptest! {
    /// Whatever a file holds, decoding fills every place and does not panic; infinite and NaN scales are among
    /// random halves often enough.
    #[test]
    fn any_bytes_decode(bytes in proptest::collection::vec(proptest::num::u8::ANY, 4 * 210)) {
        for format in Format::ALL {
            let count = bytes.len() / format.block_bytes();
            let sentinel = f32::from_bits(0x7FC1_2345);
            let mut out = vec![sentinel; count * format.block_len()];
            format.decode(&bytes[..count * format.block_bytes()], &mut out);
            proptest::prop_assert!(out.iter().all(|value| value.to_bits() != sentinel.to_bits()), "{}", format);
        }
    }

    /// Blocks that a file holds keep their meaning when they are written again.
    #[test]
    fn scales_and_minimums_pack_losslessly(
        scales in proptest::array::uniform8(0u8..64),
        mins in proptest::array::uniform8(0u8..64),
    ) {
        let packed = q4_k::pack_scales_mins(&scales, &mins);
        for j in 0..8 {
            proptest::prop_assert_eq!(q4_k::scale_min(&packed, j), (scales[j], mins[j]));
        }
    }

    /// No finite row within the limits panics or decodes to anything but finite numbers.
    #[test]
    fn any_finite_row_encodes(
        bits in proptest::collection::vec(proptest::num::u32::ANY, 256),
        limit in 1u32..0x4780_0000,
    ) {
        // Bit patterns below that of 65,536, any sign: from subnormal to huge in one row.
        let finite = |bits: u32| f32::from_bits(((bits & 0x7FFF_FFFF) % limit) | (bits & 0x8000_0000));
        let values: Vec<f32> = bits.into_iter().map(finite).map(|x| x.clamp(-65_504.0, 65_504.0)).collect();
        for format in Format::ALL.into_iter().filter(|format| format.can_encode()) {
            let decoded = round_trip(format, &values);
            proptest::prop_assert!(decoded.iter().all(|y| y.is_finite()), "{}: {:?}", format, decoded);
            let error = relative_error(&values, &decoded, |_| 1.0);
            proptest::prop_assert!(error <= 1.01, "{}: relative error {}", format, error);
        }
    }
}
