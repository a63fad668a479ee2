//! Ways that are chosen by what the core is, which one machine's tests would not all take.

use super::{Activations, Product};
use crate::cpu::{Avx512, Units};
use crate::isa::level::Level;
use crate::{Format, Isa, Kernels, Options};

/// Row counts around the borders of register tiles, tiles, slabs, and of what is streamed.
const BATCHES: [usize; 9] = [1, 2, 3, 5, 8, 17, 31, 257, 300];
const ROWS: usize = 83;
const COLS: usize = 1280;

#[test]
fn whatever_the_units_of_a_core_a_row_gets_what_it_gets_alone() {
    // Other levels have nothing to choose between.
    let Some(token) = Avx512::detect() else { return };
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
            let n = x.len() / COLS;
            let mut out = vec![0.0; n * ROWS];
            let product =
                Product { rows: 0..n, weights: &weights, bias: None, out: &mut out, accumulate: false };
            let level = Level::Avx512(token.with(units));
            let products = std::iter::once(product);
            Activations::default().run_at(level, Isa::Avx512, false, kernels.pool(), x, products);
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
