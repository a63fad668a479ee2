//! `sampan quantize`: what is written, what is said, and what is refused.

use crate::support::Folder;
use sampan_weights::{Checkpoint, Dtype};
use serde_json::Value;
use std::collections::BTreeSet;

/// The tiny model with a vocabulary that a GGUF file can hold: one with merges.
pub(crate) fn speaking_model(folder: &Folder) {
    folder.model();
    let path = folder.path("model/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    tokenizer["model"]["vocab"]["th"] = 300.into();
    tokenizer["model"]["merges"] = serde_json::json!(["t h"]);
    std::fs::write(path, tokenizer.to_string()).unwrap();
}

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
    speaking_model(&folder);
    folder.sampan("convert model whole.gguf --quiet").success();
    for from in ["model", "whole.gguf"] {
        let made = folder.sampan(&format!("quantize {from} small.gguf --to Q4_K --force"));
        assert_eq!(made.code, 0, "{made:#?}");
        for said in ["perplexity", "KL divergence", "same likeliest token"] {
            assert!(made.stdout.contains(said), "{said:?} is not in {made:#?}");
        }
        for said in ["rows of 64 numbers, which are no blocks of Q4_K: Q5_0", "Q4_K_M, ", "bits per weight"] {
            assert!(made.stderr.contains(said), "{said:?} is not in {made:#?}");
        }
        let expected = ["F32", "Q5_0", "Q8_0"].map(str::to_owned);
        assert_eq!(types(&folder, "small.gguf"), expected.into(), "{from}");
        let shown = folder.sampan("show small.gguf --json").json();
        assert!(shown["template_sha256"].is_string(), "{shown:#}");
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
    speaking_model(&folder);
    folder.sampan("quantize model q8.gguf --to q8_0 --quiet --no-report").success();
    folder.write("there.gguf", "something else");
    let before = listed(&folder);
    for (arguments, parts, hint) in [
        ("model out.bin --to q8_0", &["out.bin does not end in .gguf"][..], "name the file"),
        ("model there.gguf --to q8_0", &["there.gguf is already there"], "--force"),
        ("q8.gguf ./q8.gguf --to q4_0 --force --requantize", &["is the model that is read"], "another name"),
        ("q8.gguf out.gguf --to q4_0", &["quantised already", "Q8_0"], "--requantize"),
        ("model no/such/folder/out.gguf --to q8_0", &["no/such/folder"], "path"),
        ("nothing out.gguf --to q8_0", &["there is no model at nothing"], "folder"),
    ] {
        folder.sampan(&format!("quantize {arguments}")).mistake(parts, hint).unwrap();
        assert_eq!(listed(&folder), before, "{arguments}");
    }
    let unknown = folder.sampan("quantize model out.gguf --to q9_k");
    assert!(unknown.code == 1 && unknown.stderr.contains("q4_k_m"), "{unknown:#?}");
    folder.sampan("quantize q8.gguf out.gguf --to q4_0 --requantize --quiet --no-report").success();
    assert!(types(&folder, "out.gguf").contains("Q4_0"));
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let folder = Folder::new();
    speaking_model(&folder);
    let path = folder.path("model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    // The first tensor, a matrix, begins behind the header and its length.
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    bytes[8 + header as usize..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
    let damaged = folder.sampan("quantize model out.gguf --to q4_0 --no-report");
    damaged.mistake(&["tensor model.", "NaN"], "damaged").unwrap();
    assert_eq!(listed(&folder), ["model".to_owned()].into());
}

/// What is measured behaves as losses do: less with more bits, none without a loss, and less with importance on the
/// text that it was taken from.
#[test]
fn losses_are_measured() {
    let folder = Folder::new();
    speaking_model(&folder);
    let text = "the cat sat on the mat, and the dog sat on the log. ".repeat(20);
    folder.write("text.txt", &text);
    let damage = |arguments: &str| {
        let made =
            folder.sampan(&format!("quantize model out.gguf --force --quiet --json {arguments}")).json();
        made["damage"].clone()
    };
    let kl = |arguments: &str| damage(arguments)["mean_kl"].as_f64().unwrap();
    let (eight, four) = (kl("--to q8_0 --eval text.txt"), kl("--to q4_0 --eval text.txt"));
    let weighted = kl("--to q4_0 --eval text.txt --calibrate text.txt");
    assert!(0.0 < eight && eight < four / 10.0, "{eight} {four}");
    assert!(weighted < four, "with importance {weighted}, without {four}");
    let built_in = damage("--to q8_0");
    assert!(built_in["tokens"].as_u64().unwrap() > 1000, "{built_in:#}");
    assert!(built_in["same_top"].as_f64().unwrap() > 0.9, "{built_in:#}");
    assert_eq!(damage("--to q8_0 --no-report"), Value::Null);
    assert_eq!(listed(&folder), ["model", "out.gguf", "text.txt"].map(str::to_owned).into());
    for (arguments, parts, hint) in [
        ("--calibrate none.txt", &["cannot read none.txt"][..], "spelling"),
        ("--eval model/model.safetensors", &["not UTF-8"], "iconv"),
        ("--eval empty.txt", &["the text has 0 tokens"], "longer"),
    ] {
        folder.write("empty.txt", "");
        let refused = folder.sampan(&format!("quantize model other.gguf --to q8_0 {arguments}"));
        refused.mistake(parts, hint).unwrap();
        assert!(!folder.path("other.gguf").exists());
    }
}

#[test]
fn a_model_without_words_is_quantised_and_not_measured() {
    let folder = Folder::new();
    folder.family("llama");
    let made = folder.sampan("quantize model out.gguf --to q8_0");
    assert_eq!((made.code, made.stdout.as_str()), (0, ""), "{made:#?}");
    assert!(made.stderr.contains("what is lost is not measured"), "{made:#?}");
    let asked = folder.sampan("quantize model other.gguf --to q8_0 --eval out.gguf");
    assert!(asked.code == 1 && !folder.path("other.gguf").exists(), "{asked:#?}");
}
