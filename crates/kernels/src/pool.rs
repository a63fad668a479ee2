//! The thread pool: chunks of one task, claimed dynamically.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Worker threads that share the chunks of one task at a time.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
}

impl Pool {
    /// A pool in which `threads` threads work, the caller's among them.
    pub fn new(threads: usize) -> Pool {
        Pool { threads: threads.max(1) }
    }

    /// How many threads work on a task.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `task(chunk)` once for every chunk in `0..chunks`, on any thread, and returns when all are done.
    pub fn run(&self, chunks: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    break;
                }
                task(chunk);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.min(chunks) {
                scope.spawn(work);
            }
            work();
        });
    }
}
