//! `sampan quantize`: what is written, what is said, and what is refused.

use crate::support::Folder;
use sampan_weights::{Checkpoint, Dtype};
use std::collections::BTreeSet;

/// The types of a file's tensors.
fn types(folder: &Folder, file: &str) -> BTreeSet<String> {
    let file = Checkpoint::open(&folder.path(file)).unwrap();
    file.tensors().map(|tensor| tensor.dtype.to_string()).collect()
}

/// Names of what is in the folder, hidden files too.
fn listed(folder: &Folder) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder.path("")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_folder_and_a_gguf_file_become_a_smaller_one_that_speaks() {
    let folder = Folder::new();
    folder.model();
    folder.sampan("convert model whole.gguf --quiet").success();
    for from in ["model", "whole.gguf"] {
        let made = folder.sampan(&format!("quantize {from} small.gguf --to Q4_K --force"));
        assert_eq!((made.code, made.stdout.as_str()), (0, ""), "{made:#?}");
        for said in ["rows of 64 numbers, which are no blocks of Q4_K: Q5_0", "Q4_K_M, ", "bits per weight"] {
            assert!(made.stderr.contains(said), "{said:?} is not in {made:#?}");
        }
        let expected = ["F32", "Q5_0", "Q8_0"].map(str::to_owned);
        assert_eq!(types(&folder, "small.gguf"), expected.into(), "{from}");
        let shown = folder.sampan("show small.gguf --json").json();
        assert!(shown["template"].to_string().len() > 4, "{shown:#}");
        let size = |file: &str| std::fs::metadata(folder.path(file)).unwrap().len();
        assert!(size("small.gguf") < size("whole.gguf") / 3);
        folder.sampan("run small.gguf hello --max-tokens 3").success();
    }
    let metadata = Checkpoint::open(&folder.path("small.gguf")).unwrap();
    assert_eq!(metadata.metadata().u64("general.file_type").unwrap(), Some(15));
    assert!(metadata.tensors().any(|tensor| matches!(tensor.dtype, Dtype::Block(f) if f.name() == "Q8_0")));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let folder = Folder::new();
    folder.model();
    folder.sampan("quantize model q8.gguf --to q8_0 --quiet").success();
    folder.write("there.gguf", "something else");
    let before = listed(&folder);
    for (arguments, parts, hint) in [
        ("model out.bin --to q8_0", &["out.bin does not end in .gguf"][..], "name the file"),
        ("model there.gguf --to q8_0", &["there.gguf is already there"], "--force"),
        ("q8.gguf ./q8.gguf --to q4_0 --force --requantize", &["is the model that is read"], "another name"),
        ("q8.gguf out.gguf --to q4_0", &["quantised already", "Q8_0"], "--requantize"),
        ("model no/such/folder/out.gguf --to q8_0", &["no/such/folder"], "paths"),
        ("nothing out.gguf --to q8_0", &["there is no model at nothing"], "folder"),
    ] {
        folder.sampan(&format!("quantize {arguments}")).mistake(parts, hint).unwrap();
        assert_eq!(listed(&folder), before, "{arguments}");
    }
    let unknown = folder.sampan("quantize model out.gguf --to q9_k");
    assert!(unknown.code == 1 && unknown.stderr.contains("q4_k_m"), "{unknown:#?}");
    folder.sampan("quantize q8.gguf out.gguf --to q4_0 --requantize --quiet").success();
    assert!(types(&folder, "out.gguf").contains("Q4_0"));
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let folder = Folder::new();
    folder.model();
    let path = folder.path("model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
    let damaged = folder.sampan("quantize model out.gguf --to q4_0");
    damaged.mistake(&["tensor model.", "NaN"], "damaged").unwrap();
    assert_eq!(listed(&folder), ["model".to_owned()].into());
}
