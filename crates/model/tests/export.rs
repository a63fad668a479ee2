//! Checkpoints of every family, written as GGUF and read back: the same logits.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Golden, Run, UNSAID, argmax, load, shared};
use sampan_fixtures::Family;
use sampan_model::export::{self, ExportOptions, Exported};
use sampan_model::{KvFormat, Model};
use sampan_weights::Checkpoint;
use std::path::Path;

/// Writes the checkpoint in `dir` as GGUF.
fn export(dir: &Path, file: &Path) -> Exported {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let options = ExportOptions { exact: true, ..ExportOptions::default() };
    export::gguf(&checkpoint, file, &options, &mut |_, _| {})
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

/// The file gives the golden logits and greedy tokens; its largest difference.
fn agrees(model: &Model, golden: &Golden, tolerance: f32) -> Result<f32, String> {
    let mut run = Run::new(model, KvFormat::F32, golden.ids.len() + golden.greedy.len());
    let logits = run.feed(&golden.ids);
    let max = golden.difference(&logits);
    if max > tolerance {
        return Err(format!("logits differ by {max}"));
    }
    let mut row = logits[logits.len() - model.plan().vocab..].to_vec();
    for (step, &token) in golden.greedy.iter().enumerate() {
        if argmax(&row) != token {
            return Err(format!("greedy token {step} is {} instead of {token}", argmax(&row)));
        }
        row = run.feed(&[token]);
    }
    Ok(max)
}

/// What went wrong with one family, if anything. The file stays in cargo's folder for what tests leave, where
/// `tools/peers/gguf_check.py` finds it.
fn round_trip(kind: &str, name: &str, dir: &Path, golden: &Path) -> Option<String> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(kind);
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join(format!("{name}.gguf"));
    let written = export(dir, &file);
    let amplifies = ["qwen3_next", "qwen3_5", "gemma3n"].iter().any(|family| name.starts_with(family));
    let tolerance = if amplifies { 1e-3 } else { 2e-4 };
    match agrees(&load(&file), &Golden::read(golden), tolerance) {
        Ok(max) => {
            println!("{name}: {} with {} tensors, max difference {max:.1e}", written.arch, written.tensors);
            None
        }
        Err(why) => Some(format!("{name}: {why}")),
    }
}

#[test]
fn generated_fixtures() {
    let failed: Vec<String> = Family::all()
        .unwrap()
        .iter()
        .filter(|family| !UNSAID.contains(&family.name.as_str()))
        .filter_map(|family| {
            let dir = tempfile::tempdir().unwrap();
            family.write_checkpoint(dir.path()).unwrap();
            let golden = Family::root().join(&family.name).join("golden.safetensors");
            round_trip("gguf-fixtures", &family.name, dir.path(), &golden)
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn goldens() {
    let Some(root) = shared("golden") else { return };
    let mut failed = Vec::new();
    for entry in std::fs::read_dir(&root).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_str().unwrap().to_string();
        if !dir.is_dir() {
            continue;
        }
        failed.extend(round_trip("gguf", &name, &dir, &dir.join("golden.safetensors")));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Why a checkpoint is refused; nothing may be left in the folder of the file.
fn refused(source: &Path) -> String {
    let out = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(source).unwrap();
    let file = out.path().join("out.gguf");
    let why = export::gguf(&checkpoint, &file, &ExportOptions::default(), &mut |_, _| {}).unwrap_err();
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    why.to_string()
}

#[test]
fn what_gguf_cannot_say_is_refused() {
    for name in UNSAID {
        let dir = tempfile::tempdir().unwrap();
        Family::load(name).unwrap().write_checkpoint(dir.path()).unwrap();
        let why = refused(dir.path());
        let words = "cannot say the mixer of layer 0 of this model: window: Some(6) would be read back as window: None";
        assert!(why.contains(words), "{name}: {why}");
    }
}

#[test]
fn a_gguf_file_is_no_source() {
    let dir = tempfile::tempdir().unwrap();
    Family::load("llama").unwrap().write_checkpoint(dir.path()).unwrap();
    let file = dir.path().join("llama.gguf");
    export(dir.path(), &file);
    let why = refused(&file);
    assert!(why.contains("llama.gguf is no safetensors checkpoint"), "{why}");
}

/// A file of float weights holds each of them in the type of the checkpoint.
#[test]
fn float_types_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    Family::load("qwen3").unwrap().write_checkpoint(dir.path()).unwrap();
    let file = dir.path().join("qwen3.gguf");
    export(dir.path(), &file);
    let (from, to) = (Checkpoint::open(dir.path()).unwrap(), Checkpoint::open(&file).unwrap());
    for (ours, theirs) in [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight"),
        ("model.layers.2.input_layernorm.weight", "blk.2.attn_norm.weight"),
    ] {
        let (ours, theirs) = (from.tensor(ours).unwrap(), to.tensor(theirs).unwrap());
        assert_eq!((ours.shape, ours.dtype, ours.data), (theirs.shape, theirs.dtype, theirs.data));
    }
    let said = |key: &str| to.metadata().str(key).unwrap().map(str::to_owned);
    assert_eq!(said("general.architecture").as_deref(), Some("qwen3"));
    assert_eq!(said("tokenizer.ggml.model").as_deref(), Some("none"));
}
