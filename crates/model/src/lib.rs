//! The plan, one file per family, the executor, and the caches that a layer needs.
//!
//! A family is a translation of a configuration into a [`Plan`]. Everything else reads the plan: [`Model::load`]
//! takes names and shapes from it, [`Model::forward`] walks it, [`memory`] counts its bytes, [`Operations`] its multiplications.

#![forbid(unsafe_code)]

mod adapter;
pub mod cache;
pub mod config;
pub mod error;
mod executor;
pub mod export;
pub mod family;
mod importance;
mod labels;
mod load;
pub mod memory;
mod names;
mod operations;
pub mod plan;
pub mod quant;
pub mod rope;
mod sample;

pub use adapter::Adapter;
pub use cache::{Cache, CacheSizes};
pub use error::{AdapterError, LoadError, PlanError};
pub use executor::{Chunk, Logits, Scratch};
pub use importance::Importance;
pub use labels::labels;
pub use load::Model;
pub use memory::Memory;
pub use operations::Operations;
pub use plan::{Plan, PlanOptions};
pub use quant::Quant;
pub use sampan_kernels::attention::{KvFormat, PAGE};
