//! Damaged files: every truncation, every byte changed, every number replaced by an extreme one, and random
//! damage. Nothing panics, what is accepted is sound, and memory stays in proportion to the file.

mod common;

use common::check::{gguf_bytes, safetensors_bytes};
use common::{RawGguf, array, raw_safetensors, small_gguf, small_safetensors, string};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

type Check = fn(&[u8]) -> bool;

/// Runs `check` and returns whether it accepted, and the most bytes that were allocated meanwhile.
fn measured(check: Check, bytes: &[u8]) -> (bool, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let accepted = check(bytes);
    (accepted, MEMORY.peak_usage().saturating_sub(before))
}

/// A file must not cost more than a few times its size, plus what messages and the checks themselves take.
fn check_frugal(check: Check, what: &str, bytes: &[u8]) -> bool {
    let (accepted, peak) = measured(check, bytes);
    assert!(peak <= bytes.len() * 10 + 32 * 1024, "{what}: {peak} bytes for a file of {}", bytes.len());
    accepted
}

fn damage_everywhere(check: Check, valid: &[u8], data_start: usize) {
    assert!(check_frugal(check, "whole", valid));
    for length in 0..valid.len() {
        let accepted = check_frugal(check, "truncated", &valid[..length]);
        assert!(!accepted, "accepted although truncated to {length}");
    }
    let mut bytes = valid.to_vec();
    let try_with = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
        let end = (at + new.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&new[..end - at]);
        check_frugal(check, "damaged", bytes);
        bytes[at..end].copy_from_slice(&valid[at..end]);
    };
    for at in 0..data_start {
        let old = valid[at];
        for new in [0, 1, b'"', b'9', 0x7f, 0x80, 0xff, old ^ 1, old ^ 0x20, old ^ 0x80, old.wrapping_add(1)]
        {
            try_with(&mut bytes, at, &[new]);
        }
        for new in [0, 1, 2, 1 << 31, u32::MAX] {
            try_with(&mut bytes, at, &u32::to_le_bytes(new));
        }
        let size = valid.len() as u64;
        for new in [0, size, size + 1, 1 << 32, 1 << 40, 1 << 62, 1 << 63, u64::MAX - 31, u64::MAX] {
            try_with(&mut bytes, at, &u64::to_le_bytes(new));
        }
    }
}

/// Files whose structure costs the most memory per byte.
fn dense_files() -> Vec<(&'static str, Check, Vec<u8>)> {
    let keys = (0..5_000).fold(RawGguf::default(), |raw, i: u32| raw.key(&format!("{i:x}"), 0, &[1]));
    let tensors = (0..5_000)
        .fold(RawGguf::default(), |raw, i: u32| raw.tensor(&format!("{i:x}"), &[1], 24, u64::from(i) * 32));
    let strings = [array(8, 50_000), string(b"").repeat(50_000)].concat();
    let nested = [array(9, 50_000), array(0, 0).repeat(50_000)].concat();
    let shapes =
        format!(r#"{{"t":{{"dtype":"U8","shape":[{}0],"data_offsets":[0,0]}}}}"#, "0,".repeat(50_000));
    let entry = |i| format!(r#""{i:x}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{}]}}"#, i + 1);
    let entries = (0..5_000).map(entry).collect::<Vec<_>>().join(",");
    vec![
        ("keys", gguf_bytes, keys.bytes()),
        ("tensors", gguf_bytes, tensors.data(5_000 * 32).bytes()),
        ("strings", gguf_bytes, RawGguf::default().key("k", 9, &strings).bytes()),
        ("nested", gguf_bytes, RawGguf::default().key("k", 9, &nested).bytes()),
        ("long shape", safetensors_bytes, raw_safetensors(&shapes, 0)),
        ("entries", safetensors_bytes, raw_safetensors(&format!("{{{entries}}}"), 5_000)),
    ]
}

/// The committed seeds of the fuzz targets.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/weights/seeds").join(target);
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("a listed file").path();
        (path.clone(), std::fs::read(path).expect("a readable seed"))
    };
    std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).map(read).collect()
}

/// Small random damage: some bytes replaced, a piece cut out, a piece repeated.
fn damaged(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = valid.len();
    let bytes = proptest::collection::vec((0..length, any::<u8>()), 0..6);
    let piece = || (0..length, 0..40usize);
    (bytes, proptest::option::of(piece()), proptest::option::of(piece())).prop_map(
        move |(bytes, cut, again)| {
            let mut out = valid.clone();
            for (at, new) in bytes {
                out[at] = new;
            }
            if let Some((at, length)) = cut {
                out.drain(at..(at + length).min(out.len()));
            }
            if let Some((at, length)) = again {
                let at = at.min(out.len());
                let piece = out[at..(at + length).min(out.len())].to_vec();
                out.splice(at..at, piece);
            }
            out
        },
    )
}

fn random_damage(check: Check, valid: Vec<u8>) {
    let config = ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(bytes in damaged(valid))| {
        check_frugal(check, "random damage", &bytes);
    });
}

/// One test, because the allocator's figures are those of the whole process.
#[test]
fn damaged_files_are_refused_or_sound_and_frugal() {
    for (name, check, bytes) in dense_files() {
        assert!(check_frugal(check, name, &bytes), "{name} is well-formed");
    }
    let (gguf, safetensors) = (small_gguf(), small_safetensors());
    damage_everywhere(gguf_bytes, &gguf, gguf.len() - 136);
    damage_everywhere(safetensors_bytes, &safetensors, safetensors.len() - 30);
    random_damage(gguf_bytes, gguf);
    random_damage(safetensors_bytes, safetensors);
    accepts_no_more_than_the_reference();
    for (target, check) in [("gguf", gguf_bytes as Check), ("safetensors", safetensors_bytes)] {
        let seeds = seeds(target);
        assert!(seeds.len() >= 3, "the fuzz target {target} has seeds");
        for (path, bytes) in seeds {
            let accepted = check_frugal(check, &path.display().to_string(), &bytes);
            let valid = path.file_stem().is_some_and(|name| name.to_string_lossy().starts_with("valid"));
            assert_eq!(accepted, valid, "{}", path.display());
        }
    }
}

/// Accepting what the reference implementation refuses would let a file mean two things.
fn accepts_no_more_than_the_reference() {
    let config = ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(bytes in damaged(small_safetensors()))| {
        if safetensors_bytes(&bytes) {
            prop_assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
        }
    });
}
