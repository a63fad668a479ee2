//! What this machine could do at best: the reference that speeds are compared with.

use std::time::{Duration, Instant};

use crate::isa::buffer::Buffer;
use crate::isa::peak::{Peak, peaks};
use crate::isa::product::{Method, method};
use crate::isa::stream::{Way, read};
use crate::pool::Pool;
use crate::{Format, Isa, Kernels, Matrix};

/// The most bytes of a pass: more than caches hold.
const BYTES: usize = 256 << 20;
/// Bytes of a chunk.
const CHUNK: usize = 1 << 20;
/// How long passes are repeated.
const TIME: Duration = Duration::from_millis(50);

/// Bytes per second at which the pool's threads read memory, by vector loads from huge pages where there are any: the
/// best of the passes that fit into some 50 ms, with and without prefetch. Holds 256 MiB meanwhile.
pub fn measure_read_bandwidth(pool: &Pool) -> f64 {
    let mut bytes = Buffer::zeroed(BYTES);
    // Pages that were never written are all the same page of zeros.
    pool.run_slices(&mut bytes, CHUNK, |_, chunk| chunk.fill(1));
    best_rate(pool, &bytes.chunks(CHUNK).collect::<Vec<_>>())
}

/// As [`measure_read_bandwidth`], of the memory in which `matrices` lie, or of their first 256 MiB: what a model reads.
/// Takes no memory. Few weights are read from a cache, as the model will read them.
pub fn measure_bandwidth_of<'a>(pool: &Pool, matrices: impl Iterator<Item = &'a Matrix>) -> f64 {
    let data: Vec<&[u8]> = matrices.map(Matrix::data).collect();
    let bytes: usize = data.iter().map(|data| data.len()).sum();
    // As many chunks of a small model that every thread has some.
    let chunk = CHUNK.min(bytes / (4 * pool.threads())).max(4096);
    let chunks: Vec<&[u8]> = data.iter().flat_map(|data| data.chunks(chunk)).take(BYTES / chunk).collect();
    best_rate(pool, &chunks)
}

/// Bytes per second of the best pass over `chunks`.
fn best_rate(pool: &Pool, chunks: &[&[u8]]) -> f64 {
    let bytes: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let begin = Instant::now();
    let (mut best, mut passes) = (0.0f64, 0);
    while begin.elapsed() < TIME || passes < 6 {
        let way = [Way::Plain, Way::Asking][passes % 2];
        let start = Instant::now();
        pool.run(chunks.len(), &|chunk| {
            std::hint::black_box(read(chunks[chunk], way));
        });
        best = best.max(bytes as f64 / start.elapsed().as_secs_f64());
        passes += 1;
    }
    best
}

/// What the numbers are that a product multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Bytes, summed up in 32 bits.
    Int8,
    /// bfloat16, summed up in float32.
    Bf16,
    /// float32.
    F32,
}

impl Arithmetic {
    /// Every kind, the cheapest first.
    pub const ALL: [Arithmetic; 3] = [Arithmetic::Int8, Arithmetic::Bf16, Arithmetic::F32];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::Int8 => "int8",
            Arithmetic::Bf16 => "bf16",
            Arithmetic::F32 => "f32",
        }
    }
}

impl Kernels {
    /// What products with weights in `format` multiply here.
    pub fn arithmetic(&self, format: Format) -> Arithmetic {
        match method(self.isa(), self.exact(), format) {
            Method::Float => Arithmetic::F32,
            Method::Bf16 | Method::TilesBf16 => Arithmetic::Bf16,
            Method::Int | Method::TilesInt => Arithmetic::Int8,
        }
    }
}

/// The most that a machine's multipliers do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DotPeak {
    /// Multiplications and additions per second, on all threads of a pool together.
    pub operations_per_s: f64,
    /// The instructions that do them, in words.
    pub instructions: &'static str,
}

/// How many operations per second the pool's threads do with the best instructions that `isa` has for numbers of a
/// kind, when nothing has to be loaded: the best of the passes that fit into some 50 ms.
pub fn measure_dot_peak(pool: &Pool, isa: Isa, arithmetic: Arithmetic) -> DotPeak {
    let best = |peak: Peak| {
        let calls = 2 * pool.threads();
        let begin = Instant::now();
        let mut best = 0.0f64;
        while begin.elapsed() < TIME || best == 0.0 {
            let start = Instant::now();
            pool.run(calls, &|_| (peak.run)());
            best = best.max((calls * peak.operations) as f64 / start.elapsed().as_secs_f64());
        }
        DotPeak { operations_per_s: best, instructions: peak.instructions }
    };
    let all = peaks(isa, arithmetic).into_iter().map(best);
    all.max_by(|a, b| a.operations_per_s.total_cmp(&b.operations_per_s)).expect("every level has a way")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_that_of_a_memory() {
        let kernels = Kernels::new(crate::Options { threads: 2, ..Default::default() }).expect("a level");
        let small = kernels.pack(Format::F32, 16, 64, &[0; 4 * 16 * 64]).expect("a matrix");
        for rate in [
            measure_read_bandwidth(kernels.pool()),
            measure_bandwidth_of(kernels.pool(), std::iter::once(&small)),
        ] {
            assert!((1e8..1e13).contains(&rate), "{rate} bytes per second");
        }
    }

    #[test]
    fn narrow_numbers_are_multiplied_at_least_about_as_fast_as_wide_ones() {
        let pool = Pool::new(1);
        for isa in Isa::available() {
            let peaks = Arithmetic::ALL.map(|kind| measure_dot_peak(&pool, isa, kind));
            println!("{isa}: {peaks:?}");
            assert!(peaks.iter().all(|p| (1e7..1e15).contains(&p.operations_per_s)), "{isa}: {peaks:?}");
            // Somebody else may take the core in the middle of it, so no more than half is asked for.
            let [int8, bf16, f32s] = peaks.map(|peak| peak.operations_per_s);
            assert!(int8 > bf16 / 2.0 || isa == Isa::Portable, "{isa}: {peaks:?}");
            assert!(bf16 > f32s / 2.0, "{isa}: {peaks:?}");
        }
    }

    #[test]
    fn formats_are_multiplied_as_the_table_says() {
        for isa in Isa::available() {
            for exact in [false, true] {
                let kernels = Kernels::new(crate::Options { isa: Some(isa), threads: 1, exact });
                let kernels = kernels.expect("an available level");
                for format in Format::ALL {
                    let said = kernels.table().describe(format);
                    let word = match kernels.arithmetic(format) {
                        Arithmetic::Int8 => "int",
                        Arithmetic::Bf16 => "bf16 ",
                        Arithmetic::F32 => "activations float32",
                    };
                    assert!(said.contains(word), "{isa}, {format:?}: {said}");
                }
            }
        }
    }
}
