//! The plan, one file per family, the executor, the caches a layer needs.
