//! Numbers: block formats, matrix products, attention, norms, rope, thread pool.
//!
//! Depends on nothing of ours. [`Kernels`] is the handle through which everything runs: it owns the
//! functions chosen for this CPU and the threads they run on.

pub mod attention;
pub mod cpu;
pub mod delta;
pub mod format;
mod inputs;
mod isa;
mod layout;
pub mod limits;
mod matmul;
mod matrix;
pub mod ops;
pub mod pool;
pub mod reference;
mod table;

pub use cpu::Isa;
pub use format::Format;
pub use inputs::InputSquares;
pub use isa::buffer::{Arena, Floats};
pub use isa::widest;
pub use matmul::{GroupedJob, Job, MatmulScratch};
pub use matrix::{Matrix, PackError};
pub use pool::Pool;
pub use table::Table;

use isa::attention::Bf16Products;
use isa::level::Level;

/// How to set up [`Kernels`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Instruction-set level; `None` takes the best this CPU offers.
    pub isa: Option<Isa>,
    /// Threads to work with, the caller's among them; see [`cpu::default_threads`].
    pub threads: usize,
    /// Keep activations in float32 and decode weights to float32, whatever their format. Slow; for comparison
    /// with float references.
    pub exact: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { isa: None, threads: cpu::default_threads(), exact: false }
    }
}

/// The level asked for is not one that this CPU can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this CPU cannot run the instruction set {wanted}; the best it offers is {best}")]
pub struct IsaUnavailable {
    /// The level asked for.
    pub wanted: Isa,
    /// The best level of this CPU.
    pub best: Isa,
}

/// The functions chosen for this CPU, and the threads they run on.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    exact: bool,
    pool: Pool,
    table: Table,
    level: Level,
    bf16: Bf16Products,
    attention: attention::ScratchPool,
}

impl Kernels {
    /// Kernels as `options` say.
    ///
    /// # Errors
    /// When this CPU lacks the level asked for.
    pub fn new(options: Options) -> Result<Kernels, IsaUnavailable> {
        let best = Isa::detect();
        let isa = options.isa.unwrap_or(best);
        if isa > best {
            return Err(IsaUnavailable { wanted: isa, best });
        }
        let table = Table::new(isa, options.exact);
        let (pool, attention) = (Pool::new(options.threads), Default::default());
        let (level, bf16) = (Level::of(isa), Bf16Products::of(isa));
        Ok(Kernels { isa, exact: options.exact, pool, table, level, bf16, attention })
    }

    /// The instruction-set level in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether products are in float32 throughout; see [`Options::exact`].
    pub fn exact(&self) -> bool {
        self.exact
    }

    /// The threads that the kernels run on.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What was detected and chosen; prints itself.
    pub fn table(&self) -> &Table {
        &self.table
    }
}
