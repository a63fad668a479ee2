//! Fuzz targets for what clients send and models write; they are in `tests/`.
//!
//! `cargo test` here runs some thousand inputs of each on the stable toolchain. `cargo bolero test bodies` (with
//! cargo-bolero) lets a coverage-guided engine search.
