//! What differs from one instruction set to the next: thin layers under algorithms that are written once.
//!
//! `unsafe` lives here (and in the pool): raw loads, `#[target_feature]`, and questions to the kernel.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
pub(crate) mod attention;
pub(crate) mod buffer;
pub(crate) mod conv;
pub(crate) mod delta;
mod lanes;
pub(crate) mod level;
pub(crate) mod ops;
pub(crate) mod pack;
pub(crate) mod peak;
pub(crate) mod product;
pub(crate) mod stream;
mod widest;

pub use widest::widest;
