//! Development tasks. `tidy` polices what ARCHITECTURE.md promises; it runs as an ordinary test.

#![forbid(unsafe_code)]

pub mod tidy;
