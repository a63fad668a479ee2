//! The targets are in `tests/`.
