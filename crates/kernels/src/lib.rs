//! Numbers: block formats, matrix products, attention, norms, rope, thread pool.
//!
//! Depends on nothing of ours. [`Kernels`] is the handle through which everything runs: it owns the
//! functions chosen for this CPU and the threads they run on.

pub mod attention;
pub mod cpu;
pub mod format;
pub mod ops;
pub mod pool;
pub mod reference;

pub use cpu::Isa;
pub use format::Format;
pub use pool::Pool;

/// The functions chosen for this CPU, and the threads they run on.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    pool: Pool,
}

impl Kernels {
    /// Kernels at `isa` (default: the best this CPU offers) on `threads` threads.
    pub fn new(isa: Option<Isa>, threads: usize) -> Result<Kernels, String> {
        let best = Isa::detect();
        let isa = isa.unwrap_or(best);
        if isa > best {
            return Err(format!("this CPU offers {best}, not {isa}"));
        }
        Ok(Kernels { isa, pool: Pool::new(threads) })
    }

    /// The instruction-set level in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads that the kernels run on.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}
