//! Checkpoints of every family, written as GGUF and read back: the same logits.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Golden, Run, argmax, load, shared};
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
    let tolerance = if name.starts_with("qwen3_next") || name.starts_with("qwen3_5") { 1e-3 } else { 2e-4 };
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
        // Its layers have parts that the plan does not know.
        if !dir.is_dir() || name == "gemma3n" {
            continue;
        }
        failed.extend(round_trip("gguf", &name, &dir, &dir.join("golden.safetensors")));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
