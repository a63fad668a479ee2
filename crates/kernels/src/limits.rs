//! What this machine could do at best: the reference that speeds are compared with.

use std::time::{Duration, Instant};

use crate::pool::Pool;

/// Bytes per second at which the pool's threads read memory that no cache holds; takes about 50 ms.
///
/// Several streams per thread over twice the size of most last-level caches' share; the best of the passes
/// that fit into the time.
pub fn measure_read_bandwidth(pool: &Pool) -> f64 {
    const CHUNK: usize = 1 << 18;
    let bytes = vec![1u8; 256 << 20];
    let chunks = bytes.len() / CHUNK;
    let begin = Instant::now();
    let mut best = 0.0f64;
    while begin.elapsed() < Duration::from_millis(50) || best == 0.0 {
        let start = Instant::now();
        pool.run(chunks, &|chunk| {
            std::hint::black_box(sum(&bytes[chunk * CHUNK..][..CHUNK]));
        });
        best = best.max(bytes.len() as f64 / start.elapsed().as_secs_f64());
    }
    best
}

fn sum(bytes: &[u8]) -> u64 {
    bytemuck::cast_slice::<u8, u64>(bytes).iter().fold(0, |sum, &x| sum ^ x)
}
