//! How fast this machine multiplies with weights of a format: measured with the products that models run on, on made-up
//! weights. What a processor reaches of its own limits differs from format to format; this does not have to know how.

use sampan_kernels::{Format, Job, Kernels, MatmulScratch, PackError};
use sampan_model::Plan;
use sampan_model::plan::Role;
use std::time::{Duration, Instant};

/// Bytes of the made-up matrix that one token is multiplied with: more than most caches hold.
const BYTES: usize = 96 << 20;
/// Columns of made-up matrices.
const COLS: usize = 2_048;
/// Rows of the one that a prompt is multiplied with.
const FEWER: usize = 2_048;
/// Tokens of the prompt.
const TOKENS: usize = 256;
/// How long passes are repeated.
const TIME: Duration = Duration::from_millis(150);

/// What products with weights of one format reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Bytes of weights per second with one token at a time.
    pub bytes_per_s: f64,
    /// Multiplications and additions per second with many tokens at a time.
    pub operations_per_s: f64,
}

/// The rates of the formats that were asked for so far.
#[derive(Debug)]
pub struct Rates<'k> {
    kernels: &'k Kernels,
    known: Vec<(Format, Rate)>,
}

/// Shares of a model's weights that are worth a measurement.
const WORTH: f64 = 0.03;

impl<'k> Rates<'k> {
    /// The rates that were measured before, if any were.
    pub fn new(kernels: &'k Kernels, known: Vec<(Format, Rate)>) -> Rates<'k> {
        Rates { kernels, known }
    }

    /// Those that are known by now.
    pub fn known(&self) -> &[(Format, Rate)] {
        &self.known
    }

    /// The rate of a format, measured when it is asked for the first time: for about half a second and with 200 MiB.
    ///
    /// # Errors
    /// A format that this CPU has no kernels for.
    pub fn of(&mut self, format: Format) -> Result<Rate, PackError> {
        if let Some((_, rate)) = self.known.iter().find(|(known, _)| *known == format) {
            return Ok(*rate);
        }
        let rate = measure(self.kernels, format)?;
        self.known.push((format, rate));
        Ok(rate)
    }

    /// The rate of a model: of its formats, each by its share.
    ///
    /// # Errors
    /// As [`Rates::of`].
    pub fn of_plan(&mut self, plan: &Plan) -> Result<Rate, PackError> {
        let (mut bytes, mut numbers) = ((0.0, 0.0), (0.0, 0.0));
        for format in Format::ALL {
            let same = plan.tensors.iter().filter(|t| t.role == Role::Matrix && t.format == format);
            let count = same.map(|tensor| tensor.count()).sum::<u64>() as f64;
            if count < WORTH * plan.parameters() as f64 {
                continue;
            }
            let rate = self.of(format)?;
            let size = count * format.block_bytes() as f64 / format.block_len() as f64;
            bytes = (bytes.0 + size, bytes.1 + size / rate.bytes_per_s);
            numbers = (numbers.0 + count, numbers.1 + count / rate.operations_per_s);
        }
        Ok(Rate { bytes_per_s: bytes.0 / bytes.1, operations_per_s: numbers.0 / numbers.1 })
    }
}

fn measure(kernels: &Kernels, format: Format) -> Result<Rate, PackError> {
    // Any bytes do that make finite scales; of floats, small numbers.
    let byte = |i: usize| if format.block_len() == 1 { 0x11 } else { 0x23 ^ (i % 7) as u8 };
    let width = format.row_bytes(COLS).unwrap_or(1);
    let matrix = |rows: usize| {
        let data: Vec<u8> = (0..rows * width).map(byte).collect();
        kernels.pack(format, rows, COLS, &data)
    };
    let time = |rows: usize, tokens: usize| {
        let weights = matrix(rows)?;
        let x: Vec<f32> = (0..tokens * COLS).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let (mut out, mut scratch) = (vec![0.0; tokens * rows], MatmulScratch::default());
        let (begin, mut best) = (Instant::now(), f64::INFINITY);
        let mut passes = 0;
        while passes < 2 || begin.elapsed() < TIME {
            let start = Instant::now();
            let job = Job { weights: &weights, bias: None, out: &mut out, accumulate: false };
            kernels.matmul(&x, tokens, &mut scratch, &mut [job]);
            best = best.min(start.elapsed().as_secs_f64());
            passes += 1;
        }
        Ok((best, weights.bytes()))
    };
    let (one, bytes) = time((BYTES / width).next_multiple_of(16), 1)?;
    let (many, _) = time(FEWER, TOKENS)?;
    let operations = (2 * FEWER * COLS * TOKENS) as f64;
    Ok(Rate { bytes_per_s: bytes as f64 / one, operations_per_s: operations / many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_kernels::Options;

    #[test]
    fn rates_are_measured_once() {
        let kernels = Kernels::new(Options::default()).unwrap();
        let mut rates = Rates::new(&kernels, Vec::new());
        let rate = rates.of(Format::Q8_0).unwrap();
        assert!(
            (1e7..1e13).contains(&rate.bytes_per_s) && (1e8..1e16).contains(&rate.operations_per_s),
            "{rate:?}"
        );
        assert_eq!(rates.of(Format::Q8_0).unwrap(), rate);
        let mut later = Rates::new(&kernels, rates.known().to_vec());
        assert_eq!(later.of(Format::Q8_0).unwrap(), rate);
    }
}
