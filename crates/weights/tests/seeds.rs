//! Keeps the fuzz targets' seeds equal to what this file describes.

mod common;

use common::{RawGguf, array, raw_safetensors, small_gguf, small_safetensors, string, strings};
use std::path::{Path, PathBuf};

/// Each seed's place under `fuzz/weights/seeds`, and its bytes. `valid*` is accepted, the rest is not.
fn seeds() -> Vec<(PathBuf, Vec<u8>)> {
    let key = |kind: u32, value: &[u8]| RawGguf::default().key("k", kind, value).bytes();
    let two = RawGguf { version: 2, ..RawGguf::default() };
    let named = [
        ("gguf/valid-every-kind", small_gguf()),
        ("gguf/valid-empty", RawGguf::default().bytes()),
        ("gguf/valid-version-2", two.tensor("t", &[8], 0, 0).data(32).bytes()),
        ("gguf/valid-words", key(9, &strings(&["a", "", "ü"]))),
        ("gguf/nested-too-deep", key(9, &[array(9, 1).repeat(9), array(0, 0)].concat())),
        ("gguf/alignment-0", RawGguf::default().key("general.alignment", 4, &[0; 4]).bytes()),
        ("gguf/offset-overflows", RawGguf::default().tensor("t", &[8], 0, u64::MAX - 31).data(32).bytes()),
        ("gguf/overlap", RawGguf::default().tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 0).data(32).bytes()),
        ("gguf/not-text", key(8, &string(b"\xff"))),
        ("safetensors/valid-small", small_safetensors()),
        ("safetensors/valid-empty", raw_safetensors("{}", 0)),
        (
            "safetensors/valid-half-bytes",
            raw_safetensors(r#"{"t":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}}"#, 3),
        ),
        ("safetensors/header-too-long", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        (
            "safetensors/overflow",
            raw_safetensors(
                r#"{"t":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,0]}}"#,
                0,
            ),
        ),
        ("safetensors/gap", raw_safetensors(r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, 2)),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/weights/seeds");
    named.into_iter().map(|(name, bytes)| (folder.join(name), bytes)).collect()
}

/// A stale seed is written anew, so that the next run passes; this one fails, so that nobody overlooks the change.
#[test]
fn seeds_are_current() {
    for (path, bytes) in seeds() {
        if std::fs::read(&path).is_ok_and(|found| found == bytes) {
            continue;
        }
        std::fs::create_dir_all(path.parent().expect("in a folder")).unwrap();
        std::fs::write(&path, bytes).unwrap();
        panic!("{} was stale and has been written anew: look at it and commit it", path.display());
    }
}
