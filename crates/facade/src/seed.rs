//! Seeds for answers that name none.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

/// The standard library seeds its hash tables from the system's randomness; that is enough here. Kept below 2^53
/// so that every JSON reader gets it exactly.
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(Instant::now()) >> 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_and_are_exact_in_json() {
        let seeds: std::collections::BTreeSet<u64> = (0..100).map(|_| random_seed()).collect();
        assert!(seeds.len() == 100 && seeds.iter().all(|s| *s < 1 << 53));
    }
}
