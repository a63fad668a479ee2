//! Handing rows out to threads.

use crate::Kernels;
use crate::pool::lock;
use std::sync::Mutex;

/// Work below this (numbers touched, times their cost) stays on the caller's thread: some ten microseconds.
const SMALL: usize = 1 << 16;

/// How much of it a thread takes at a time.
const PIECE: usize = 1 << 15;

impl Kernels {
    /// Calls `work(offset, rows)` for pieces of `x`, each some whole rows of `dim` numbers. `cost` is roughly
    /// what one number costs relative to a copy. What a row becomes must not depend on how rows are grouped.
    ///
    /// # Panics
    /// If `dim` does not divide the length of `x`.
    pub(crate) fn split_rows(
        &self,
        x: &mut [f32],
        dim: usize,
        cost: usize,
        work: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        if x.is_empty() {
            return;
        }
        assert!(dim > 0 && x.len().is_multiple_of(dim), "rows of {dim} in {} numbers", x.len());
        if x.len() * cost < SMALL || self.pool().threads() == 1 {
            return work(0, x);
        }
        // Single numbers are cut at multiples of 64, so that vectors stay whole except at the very end.
        let unit = if dim == 1 { 64 } else { dim };
        let piece = (PIECE / cost).next_multiple_of(unit);
        let pieces = x.len().div_ceil(piece);
        let queue = Mutex::new(x.chunks_mut(piece).enumerate());
        self.pool().run(pieces, &|_| {
            let next = lock(&queue).next();
            if let Some((i, rows)) = next {
                work(i * piece, rows);
            }
        });
    }
}
