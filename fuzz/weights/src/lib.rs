//! Fuzz targets for the parsers of model files; they are in `tests/`.
//!
//! `cargo test` here runs the seeds and some thousand damaged variants of them on the stable toolchain.
//! `cargo bolero test gguf` (with cargo-bolero) lets a coverage-guided engine search from the same seeds.
