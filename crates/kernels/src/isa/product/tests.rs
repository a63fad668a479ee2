//! Ways that are chosen by what the core is, which one machine's tests would not all take.

use crate::cpu::{Avx512, PRETENDED, Units};
use crate::{Format, Isa, Job, Kernels, MatmulScratch, Options};

/// Row counts around the borders of register tiles, tiles, slabs, and of what is streamed.
const BATCHES: [usize; 9] = [1, 2, 3, 5, 8, 17, 31, 257, 300];
const ROWS: usize = 83;
const COLS: usize = 1280;

#[test]
fn whatever_the_units_of_a_core_a_row_gets_what_it_gets_alone() {
    if Avx512::detect().is_none() {
        return; // There is nothing to choose between.
    }
    let kernels =
        Kernels::new(Options { isa: Some(Isa::Avx512), threads: 2, exact: false }).expect("it is there");
    let most = BATCHES.into_iter().max().expect("some");
    let x: Vec<f32> = (0..most * COLS).map(|i| (i * 37 % 1009) as f32 / 504.0 - 1.0).collect();
    for format in Format::ALL {
        let bytes = format.row_bytes(COLS).expect("whole blocks") * ROWS;
        // Finite scales in every format.
        let data: Vec<u8> = (0..bytes).map(|i| 0x23 ^ (i * 7 % 13) as u8).collect();
        let weights = kernels.pack(format, ROWS, COLS, &data).expect("a matrix");
        let product = |units: Units, x: &[f32]| {
            PRETENDED.set(Some(units));
            let n = x.len() / COLS;
            let mut out = vec![0.0; n * ROWS];
            let job = Job { weights: &weights, bias: None, out: &mut out, accumulate: false };
            kernels.matmul(x, n, &mut MatmulScratch::default(), &mut [job]);
            PRETENDED.set(None);
            out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        let alone: Vec<u32> = x.chunks(COLS).flat_map(|row| product(Units::Halves, row)).collect();
        for units in [Units::Shared, Units::Halves, Units::Whole] {
            for n in BATCHES {
                let got = product(units, &x[..n * COLS]);
                assert!(got == alone[..n * ROWS], "{format} for {n} rows on {units:?}");
            }
        }
    }
}
