//! One target per format. The checks are those of the crate's own tests.

#[path = "../../../crates/weights/tests/common/check.rs"]
mod check;

use std::path::Path;

/// The seeds of a target: small valid files, and some that were once worth a thought.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("seeds are committed")
        .map(|e| e.expect("readable").path())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

/// An input says which seed to start from, what to replace in it, and what to append.
///
/// Starting from whole files finds more than noise would: a random header does not get past its first count.
fn mutate(seeds: &[Vec<u8>], input: &[u8]) -> Vec<u8> {
    let [which, edits, rest @ ..] = input else { return input.to_vec() };
    if usize::from(*which) >= seeds.len() {
        return input.to_vec();
    }
    let mut out = seeds[usize::from(*which)].clone();
    let count = usize::from(*edits).min(rest.len() / 3);
    let (edits, tail) = rest.split_at(count * 3);
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % out.len().max(1);
        if let Some(byte) = out.get_mut(at) {
            *byte = edit[2];
        }
    }
    out.extend(tail);
    out
}

fn run(target: &str, check: fn(&[u8]) -> bool) {
    let seeds = seeds(target);
    for seed in &seeds {
        check(seed);
    }
    bolero::check!().with_max_len(512).with_iterations(20_000).for_each(|input: &[u8]| {
        check(&mutate(&seeds, input));
    });
}

#[test]
fn gguf() {
    run("gguf", check::gguf_bytes);
}

#[test]
fn safetensors() {
    run("safetensors", check::safetensors_bytes);
}
