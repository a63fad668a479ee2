//! Development tasks. `tidy` polices what ARCHITECTURE.md promises; it runs as an ordinary test. `bench` writes the
//! records below `benches/`, `record` and `picture` say what they look like.

#![forbid(unsafe_code)]

pub mod bench;
pub mod picture;
pub mod record;
pub mod tidy;
