//! What this machine could do at best: the reference that speeds are compared with.

use std::time::{Duration, Instant};

use crate::isa::buffer::Buffer;
use crate::isa::stream::read;
use crate::pool::Pool;

/// Bytes that are read: more than most caches hold.
const BYTES: usize = 256 << 20;
/// Bytes of a chunk. Each is read as several streams.
const CHUNK: usize = 1 << 20;
/// How long passes are repeated.
const TIME: Duration = Duration::from_millis(50);

/// Bytes per second at which the pool's threads read memory, by vector loads with prefetch from huge pages where
/// there are any: the best of the passes that fit into some 50 ms. Holds 256 MiB meanwhile.
pub fn measure_read_bandwidth(pool: &Pool) -> f64 {
    let mut bytes = Buffer::zeroed(BYTES);
    // Pages that were never written are all the same page of zeros.
    pool.run_slices(&mut bytes, CHUNK, |_, chunk| chunk.fill(1));
    let begin = Instant::now();
    let mut best = 0.0f64;
    while begin.elapsed() < TIME || best == 0.0 {
        let start = Instant::now();
        pool.run(BYTES / CHUNK, &|chunk| {
            std::hint::black_box(read(&bytes[chunk * CHUNK..][..CHUNK]));
        });
        best = best.max(BYTES as f64 / start.elapsed().as_secs_f64());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_that_of_a_memory() {
        let rate = measure_read_bandwidth(&Pool::new(2));
        assert!((1e8..1e13).contains(&rate), "{rate} bytes per second");
    }
}
