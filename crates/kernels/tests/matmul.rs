//! Every format at every level against plain loops.

use sampan_kernels::{
    Arena, Format, GroupedJob, Isa, Job, Kernels, MatmulScratch, Matrix, Options, PackError,
};

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// In -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// What the scales of generated weights are like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scales {
    Usual,
    /// Zero, smallest subnormal, largest finite.
    Extreme,
}

/// Random blocks of a format: every bit pattern of the codes, finite scales.
fn weights(random: &mut Random, format: Format, rows: usize, cols: usize, scales: Scales) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..rows * format.row_bytes(cols).expect("a valid shape")).map(|_| random.next() as u8).collect();
    // Offsets of the half-precision scales in a block, and of an exponent.
    let (halves, exponent): (&[usize], Option<usize>) = match format {
        Format::F32 => {
            for value in bytes.chunks_exact_mut(4) {
                value.copy_from_slice(&random.unit().to_le_bytes());
            }
            return bytes;
        }
        Format::BF16 => {
            for value in bytes.chunks_exact_mut(2) {
                value.copy_from_slice(&random.unit().to_le_bytes()[2..]);
            }
            return bytes;
        }
        Format::F16 => (&[0], None),
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 | Format::IQ4_NL | Format::IQ4_XS => (&[0], None),
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => (&[0, 2], None),
        Format::Q2_K => (&[80, 82], None),
        Format::Q3_K => (&[108], None),
        Format::Q6_K => (&[208], None),
        Format::MXFP4 => (&[], Some(0)),
    };
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for &at in halves {
            let half = match (scales, random.below(8)) {
                (Scales::Extreme, 0) => half::f16::ZERO,
                (Scales::Extreme, 1) => half::f16::from_bits(1),
                (Scales::Extreme, 2) => half::f16::MAX,
                (Scales::Extreme, 3) => half::f16::MIN,
                _ => half::f16::from_f32(random.unit() * 0.1),
            };
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
        if let Some(at) = exponent {
            block[at] = match (scales, random.below(4)) {
                (Scales::Extreme, 0) => 0,
                (Scales::Extreme, 1) => 1,
                (Scales::Extreme, 2) => 140,
                _ => 117 + random.below(10) as u8,
            };
        }
    }
    bytes
}

fn activations(random: &mut Random, n: usize, cols: usize) -> Vec<f32> {
    (0..n * cols)
        .map(|i| match (i / cols % 5, i % cols / 32 % 4) {
            (3, 1) => 0.0,
            (3, 2) => random.unit() * 1e-35,
            (4, _) => random.unit() * 1e4,
            _ => random.unit() * random.unit() * 3.0,
        })
        .collect()
}

fn kernels(isa: Isa, threads: usize, exact: bool) -> Kernels {
    Kernels::new(Options { isa: Some(isa), threads, exact }).expect("a valid shape")
}

fn decoded(format: Format, data: &[u8], rows: usize, cols: usize) -> Vec<f32> {
    let mut values = vec![0.0; rows * cols];
    for (row, out) in data.chunks_exact(data.len() / rows).zip(values.chunks_exact_mut(cols)) {
        format.decode(row, out);
    }
    values
}

/// Rounds to bytes with a scale per `block`, as the products do, and back.
fn rounded_to_bytes(x: &[f32], block: usize) -> Vec<f32> {
    x.chunks(block)
        .flat_map(|x| {
            let max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let (scale, inverse) = if max < 1e-30 { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) };
            x.iter().map(move |x| scale * (x * inverse).round_ties_even())
        })
        .collect()
}

/// What a native product rounds activations to.
fn rounded(format: Format, isa: Isa, x: &[f32]) -> Vec<f32> {
    match format {
        Format::F32 | Format::F16 => x.to_vec(),
        Format::BF16 if isa >= Isa::Avx512 => x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect(),
        Format::BF16 => x.to_vec(),
        _ => rounded_to_bytes(x, format.block_len()),
    }
}

/// `x * w^T` in f64, and the sum of the magnitudes of its products, to which errors are compared.
fn product(x: &[f32], w: &[f32], cols: usize) -> Vec<(f64, f64)> {
    let rows = w.chunks_exact(cols);
    x.chunks_exact(cols)
        .flat_map(|x| {
            rows.clone().map(move |w| {
                x.iter().zip(w).fold((0.0, 0.0), |(sum, size), (&x, &w)| {
                    let product = f64::from(x) * f64::from(w);
                    (sum + product, size + product.abs())
                })
            })
        })
        .collect()
}

struct Case {
    format: Format,
    rows: usize,
    cols: usize,
    scales: Scales,
}

fn run(
    kernels: &Kernels,
    matrix: &Matrix,
    x: &[f32],
    n: usize,
    bias: Option<&[f32]>,
    out: &mut [f32],
    accumulate: bool,
) {
    let mut scratch = MatmulScratch::default();
    kernels.matmul(x, n, &mut scratch, &mut [Job { weights: matrix, bias, out, accumulate }]);
}

fn check(case: &Case, isa: Isa, exact: bool) {
    let Case { format, rows, cols, scales } = *case;
    let kernels = kernels(isa, 2, exact);
    let mut random = Random((rows * 1000 + cols) as u64);
    let data = weights(&mut random, format, rows, cols, scales);
    let matrix = kernels.pack(format, rows, cols, &data).expect("a valid shape");
    assert_eq!(matrix.bytes(), kernels.packed_bytes(format, rows, cols));
    let w = decoded(format, &data, rows, cols);
    let bias: Vec<f32> = (0..rows).map(|_| random.unit()).collect();
    for n in [1, 2, 3, 5, 16, 17, 40] {
        let x = activations(&mut random, n, cols);
        let seen = if exact { x.clone() } else { rounded(format, isa, &x) };
        let expected = product(&seen, &w, cols);
        let check = |what: &str, out: &[f32], extra: &dyn Fn(usize) -> f64| {
            for (i, (&out, &(sum, size))) in out.iter().zip(&expected).enumerate() {
                let sum = sum + extra(i);
                // One rounding per block or column, each to half a unit in the last place of a partial sum.
                let bound = (size + extra(i).abs()) * 2e-6 + 1e-30;
                let error = (f64::from(out) - sum).abs();
                assert!(
                    error <= bound,
                    "{format} {rows}x{cols} {scales:?} {isa} exact={exact} n={n} {what}: [{}, {}] is {out}, not {sum} ({error:e} > {bound:e})",
                    i / rows,
                    i % rows,
                );
            }
        };
        let mut out = vec![f32::NAN; n * rows];
        run(&kernels, &matrix, &x, n, None, &mut out, false);
        check("plain", &out, &|_| 0.0);
        run(&kernels, &matrix, &x, n, Some(&bias), &mut out, false);
        check("bias", &out, &|i| f64::from(bias[i % rows]));
        out.fill(3.0);
        run(&kernels, &matrix, &x, n, None, &mut out, true);
        check("accumulate", &out, &|_| 3.0);
    }
}

#[test]
fn every_format_at_every_level_is_the_reference() {
    for isa in Isa::available() {
        for format in Format::ALL {
            let block = format.block_len();
            for (rows, cols) in
                [(1, block), (16, 3 * block.max(8)), (37, if block == 1 { 301 } else { 512 + block % 256 })]
            {
                for exact in [false, true] {
                    check(&Case { format, rows, cols, scales: Scales::Usual }, isa, exact);
                    check(&Case { format, rows, cols, scales: Scales::Extreme }, isa, exact);
                }
            }
        }
    }
}

#[test]
fn rows_decode_bit_for_bit() {
    let kernels = kernels(Isa::Portable, 2, false);
    let mut random = Random(7);
    for format in Format::ALL {
        for (rows, cols) in [(1, 256), (16, 256), (21, 768)] {
            let mut data = weights(&mut random, format, rows, cols, Scales::Extreme);
            if format.block_len() > 1 {
                // Any bytes at all: infinite and NaN scales too.
                data.iter_mut().step_by(3).for_each(|byte| *byte = random.next() as u8);
            }
            let matrix = kernels.pack(format, rows, cols, &data).expect("a valid shape");
            let expected = decoded(format, &data, rows, cols);
            for (row, expected) in expected.chunks_exact(cols).enumerate() {
                let mut out = vec![0.0; cols];
                kernels.decode_row(&matrix, row, &mut out);
                let same = out
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
                assert!(same, "{format} row {row} of {rows}x{cols}");
            }
        }
    }
}

fn bits(out: &[f32]) -> Vec<u32> {
    out.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_result_does_not_depend_on_batch_threads_or_tiles() {
    let mut random = Random(11);
    let (rows, n) = (70, 333);
    for isa in Isa::available() {
        let (one, two) = (kernels(isa, 1, false), kernels(isa, 2, false));
        for format in Format::ALL {
            let cols = if format.block_len() == 1 { 770 } else { 768 };
            let data = weights(&mut random, format, rows, cols, Scales::Usual);
            let x = activations(&mut random, n, cols);
            let matrix = one.pack(format, rows, cols, &data).expect("a valid shape");
            let mut whole = vec![f32::NAN; n * rows];
            run(&two, &matrix, &x, n, None, &mut whole, false);
            for batch in [1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 33] {
                let mut parts = vec![f32::NAN; n * rows];
                for (x, out) in x.chunks(batch * cols).zip(parts.chunks_mut(batch * rows)) {
                    run(&one, &matrix, x, x.len() / cols, None, out, false);
                }
                assert!(bits(&parts) == bits(&whole), "{format} at {isa} in batches of {batch}");
            }
        }
    }
}

#[test]
fn dot_instructions_and_tiles_agree_to_the_bit() {
    let levels: Vec<Isa> = Isa::available().into_iter().filter(|&isa| isa >= Isa::Avx2).collect();
    let mut random = Random(13);
    let (rows, cols, n) = (48, 1024, 40);
    for format in Format::ALL.into_iter().filter(|format| format.block_len() > 1) {
        let data = weights(&mut random, format, rows, cols, Scales::Usual);
        let x = activations(&mut random, n, cols);
        let results: Vec<Vec<u32>> = levels
            .iter()
            .map(|&isa| {
                let kernels = kernels(isa, 2, false);
                let matrix = kernels.pack(format, rows, cols, &data).expect("a valid shape");
                let mut out = vec![f32::NAN; n * rows];
                run(&kernels, &matrix, &x, n, None, &mut out, false);
                bits(&out)
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{format} at {levels:?}");
    }
}

#[test]
fn jobs_of_several_formats_share_their_activations() {
    let mut random = Random(17);
    let (cols, n) = (512, 3);
    for isa in Isa::available() {
        let kernels = kernels(isa, 2, false);
        let x = activations(&mut random, n, cols);
        let matrices: Vec<Matrix> = Format::ALL
            .into_iter()
            .enumerate()
            .map(|(i, format)| {
                let data = weights(&mut random, format, 5 + 13 * i, cols, Scales::Usual);
                kernels.pack(format, 5 + 13 * i, cols, &data).expect("a valid shape")
            })
            .collect();
        let mut together: Vec<Vec<f32>> = matrices.iter().map(|m| vec![f32::NAN; n * m.rows()]).collect();
        let mut jobs: Vec<Job<'_>> = matrices
            .iter()
            .zip(&mut together)
            .map(|(weights, out)| Job { weights, bias: None, out, accumulate: false })
            .collect();
        let mut scratch = MatmulScratch::default();
        kernels.matmul(&x, n, &mut scratch, &mut jobs);
        for (matrix, together) in matrices.iter().zip(&together) {
            let mut alone = vec![f32::NAN; n * matrix.rows()];
            run(&kernels, matrix, &x, n, None, &mut alone, false);
            assert!(bits(&alone) == bits(together), "{matrix:?} at {isa}");
        }
    }
}

#[test]
fn infinite_and_nan_activations_show_in_the_result() {
    for isa in Isa::available() {
        let kernels = kernels(isa, 1, false);
        for format in Format::ALL {
            let data = weights(&mut Random(3), format, 16, 256, Scales::Usual);
            let matrix = kernels.pack(format, 16, 256, &data).expect("a valid shape");
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = vec![0.5; 512];
                x[200] = bad;
                let mut out = vec![0.0; 32];
                run(&kernels, &matrix, &x, 2, None, &mut out, false);
                assert!(
                    out[..16].iter().all(|y| !y.is_finite()),
                    "{format} at {isa} with {bad}: {:?}",
                    &out[..16]
                );
                assert!(out[16..].iter().all(|y| y.is_finite()), "{format} at {isa}: other rows");
            }
        }
    }
}

#[test]
fn data_of_the_wrong_size_is_refused() {
    let kernels = kernels(Isa::Portable, 1, false);
    let refused = |format: Format, rows: usize, cols: usize, len: usize| {
        kernels.pack(format, rows, cols, &vec![0; len]).unwrap_err()
    };
    assert_eq!(refused(Format::Q8_0, 1, 33, 34), PackError::RaggedRow { format: Format::Q8_0, cols: 33 });
    let wrong = PackError::Length { format: Format::Q4_K, rows: 2, cols: 256, expected: 288, found: 287 };
    assert_eq!(refused(Format::Q4_K, 2, 256, 287), wrong);
    let large = PackError::TooLarge { format: Format::F32, rows: usize::MAX, cols: 1 << 20 };
    assert_eq!(refused(Format::F32, usize::MAX, 1 << 20, 0), large);
    for (rows, cols) in [(0, 256), (3, 0), (0, 0)] {
        let matrix = kernels.pack(Format::Q4_K, rows, cols, &[]).expect("a valid shape");
        let (x, mut out) = (vec![1.0; 2 * cols], vec![5.0; 2 * rows]);
        run(&kernels, &matrix, &x, 2, None, &mut out, false);
        assert!(out.iter().all(|&y| y == 0.0), "an empty sum is zero");
    }
}

/// Row ranges of a batch of `n`, some empty, some repeated, with the index of a matrix each.
fn ranges(random: &mut Random, n: usize, matrices: usize) -> Vec<(std::ops::Range<usize>, usize)> {
    let mut cuts: Vec<usize> = (0..6).map(|_| random.below(n + 1)).chain([0, n]).collect();
    cuts.sort_unstable();
    let mut ranges = Vec::new();
    for cut in cuts.windows(2) {
        for _ in 0..=random.below(2) {
            ranges.push((cut[0]..cut[1], random.below(matrices)));
        }
    }
    ranges
}

#[test]
fn a_grouped_product_is_each_of_its_products() {
    let mut random = Random(19);
    for isa in Isa::available() {
        for exact in [false, true] {
            let (one, two) = (kernels(isa, 1, exact), kernels(isa, 2, exact));
            for (format, other) in Format::ALL.into_iter().zip(Format::ALL.into_iter().rev()) {
                let cols = if format.block_len().max(other.block_len()) == 1 { 70 } else { 512 };
                let matrices: Vec<Matrix> = [(format, 1), (format, 37), (other, 20)]
                    .into_iter()
                    .map(|(format, rows)| {
                        let data = weights(&mut random, format, rows, cols, Scales::Usual);
                        one.pack(format, rows, cols, &data).expect("a valid shape")
                    })
                    .collect();
                for n in [0, 1, 2, 9, 37, 70] {
                    let x = activations(&mut random, n, cols);
                    let groups = ranges(&mut random, n, matrices.len());
                    let bias: Vec<f32> = (0..37).map(|_| random.unit()).collect();
                    let bias = |matrix: usize| (matrix != 0).then(|| &bias[..matrices[matrix].rows()]);
                    let mut together: Vec<Vec<f32>> = groups
                        .iter()
                        .map(|(rows, matrix)| vec![f32::NAN; rows.len() * matrices[*matrix].rows()])
                        .collect();
                    let mut jobs: Vec<GroupedJob<'_>> = groups
                        .iter()
                        .zip(&mut together)
                        .map(|((rows, matrix), out)| GroupedJob {
                            rows: rows.clone(),
                            weights: &matrices[*matrix],
                            bias: bias(*matrix),
                            out,
                        })
                        .collect();
                    two.matmul_grouped(&x, n, &mut MatmulScratch::default(), &mut jobs);
                    for ((rows, matrix), together) in groups.iter().zip(&together) {
                        let mut alone = vec![f32::NAN; together.len()];
                        let x = &x[rows.start * cols..rows.end * cols];
                        run(&one, &matrices[*matrix], x, rows.len(), bias(*matrix), &mut alone, false);
                        assert!(
                            bits(&alone) == bits(together),
                            "rows {rows:?} of {n} by {:?} at {isa}, exact={exact}",
                            matrices[*matrix]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn data_that_is_read_while_it_is_packed() {
    let kernels = kernels(Isa::Portable, 2, false);
    fn pack_from(
        kernels: &Kernels,
        read: impl Fn(usize, &mut [u8]) -> Result<(), String> + Sync,
    ) -> Result<Matrix, String> {
        kernels.pack_from(&mut Arena::new(0), Format::Q8_0, 777, 512, read).expect("a valid shape")
    }
    let data = weights(&mut Random(5), Format::Q8_0, 777, 512, Scales::Usual);
    let whole = kernels.pack(Format::Q8_0, 777, 512, &data).expect("a valid shape");
    let parts = pack_from(&kernels, |at, out| {
        out.copy_from_slice(&data[at..at + out.len()]);
        Ok(())
    });
    let parts = parts.expect("nothing fails");
    let row = |matrix: &Matrix, row| {
        let mut out = vec![0.0; 512];
        kernels.decode_row(matrix, row, &mut out);
        out
    };
    assert!((0..777).all(|i| row(&whole, i) == row(&parts, i)));
    let lost =
        pack_from(&kernels, |at, _| if at > 100_000 { Err(format!("nothing at {at}")) } else { Ok(()) });
    assert!(lost.unwrap_err().starts_with("nothing at "));
}
