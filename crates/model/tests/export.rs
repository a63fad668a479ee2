//! Checkpoints of every family, written as GGUF and as a folder again, and read back: the same logits.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Golden, Run, UNSAID, argmax, load, shared};
use sampan_fixtures::Family;
use sampan_kernels::{Format, Kernels, Options};
use sampan_model::export::{self, ExportOptions, Exported, FolderOptions, Quantising};
use sampan_model::{KvFormat, Model, Quant};
use sampan_weights::{Checkpoint, Dtype};
use std::path::{Path, PathBuf};

/// Writes the checkpoint in `dir` as GGUF.
fn export(dir: &Path, file: &Path) -> Exported {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let options = ExportOptions { exact: true, ..ExportOptions::default() };
    export::gguf(&checkpoint, file, &options, &mut |_, _| {})
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

/// Writes a GGUF file as a folder.
fn folder(file: &Path, dir: &Path, options: &FolderOptions) -> Exported {
    std::fs::create_dir_all(dir).unwrap();
    let checkpoint = Checkpoint::open(file).unwrap();
    export::folder(&checkpoint, dir, options, &mut |_, _| {})
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()))
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

/// The first tensor that has another name or shape than in the original, whatever prefix a class puts before names; experts
/// may be stacked there and not here.
fn published_otherwise(from: &Path, again: &Path) -> Option<String> {
    let (from, again) = (Checkpoint::open(from).unwrap(), Checkpoint::open(again).unwrap());
    let bare = |name: &str| {
        name.trim_start_matches("model.")
            .trim_start_matches("language_model.")
            .trim_start_matches("model.")
            .to_owned()
    };
    let known: std::collections::HashMap<String, &[usize]> =
        from.tensors().map(|tensor| (bare(tensor.name), tensor.shape)).collect();
    again.tensors().find_map(|tensor| match known.get(&bare(tensor.name)) {
        Some(shape) if *shape == tensor.shape => None,
        None if tensor.name.contains("experts") => None,
        other => Some(format!("{} is {:?}, there {other:?}", tensor.name, tensor.shape)),
    })
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
    let golden = Golden::read(golden);
    match agrees(&load(&file), &golden, tolerance) {
        Ok(max) => {
            println!("{name}: {} with {} tensors, max difference {max:.1e}", written.arch, written.tensors);
        }
        Err(why) => return Some(format!("{name}: {why}")),
    }
    let again = out.join(format!("{name}.folder"));
    let written = folder(&file, &again, &FolderOptions::default());
    if let Some(why) = published_otherwise(dir, &again) {
        return Some(format!("{name} as a folder: {why}"));
    }
    match agrees(&load(&again), &golden, tolerance) {
        Ok(max) => {
            println!("{name}: {} with {} tensors, max difference {max:.1e}", written.arch, written.tensors);
            None
        }
        Err(why) => Some(format!("{name} as a folder: {why}")),
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

/// A model quantised to `quant`, in a file.
fn quantised(name: &str, quant: Quant, dir: &Path) -> PathBuf {
    let (from, file) = (dir.join(name), dir.join(format!("{name}.gguf")));
    std::fs::create_dir_all(&from).unwrap();
    Family::load(name).unwrap().write_checkpoint(&from).unwrap();
    let kernels = Kernels::new(Options::default()).unwrap();
    let quantising = Quantising { quant, again: false, importance: None, pool: kernels.pool() };
    let options = ExportOptions { quantising: Some(quantising), ..ExportOptions::default() };
    export::gguf(&Checkpoint::open(&from).unwrap(), &file, &options, &mut |_, _| {}).unwrap();
    file
}

/// All logits of a short prompt.
fn logits(path: &Path) -> Vec<f32> {
    let model = load(path);
    let ids: Vec<u32> = (0..40).map(|i| i * 37 % 256).collect();
    Run::new(&model, KvFormat::F32, ids.len()).feed(&ids)
}

/// What is quantised means the same numbers in float32, and in shorter types these rounded.
#[test]
fn quantised_files_become_floats() {
    for name in ["llama", "qwen3_moe", "qwen3_5_moe", "deepseek_v2", "gemma4_26b_a4b", "gpt_oss"] {
        let dir = tempfile::tempdir().unwrap();
        let file = quantised(name, Quant::Q8_0, dir.path());
        let original = logits(&file);
        let spread = original.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let made = |dtype: Option<Format>| {
            let out = dir.path().join(format!("{dtype:?}"));
            folder(&file, &out, &FolderOptions { dtype, ..FolderOptions::default() });
            out
        };
        let exact = made(Some(Format::F32));
        let difference = common::difference(&original, &logits(&exact)) / spread;
        assert!(difference <= 1e-4, "{name}: {difference}");
        let exact = Checkpoint::open(&exact).unwrap();
        assert!(exact.tensors().all(|t| t.dtype == Dtype::Block(Format::F32)), "{name}");
        for dtype in [None, Some(Format::BF16), Some(Format::F16)] {
            let (short, out) = (dtype.unwrap_or(Format::BF16), Checkpoint::open(&made(dtype)).unwrap());
            let narrow = out.tensors().filter(|t| t.dtype == Dtype::Block(short));
            assert!(narrow.map(|t| t.count()).sum::<usize>() > 90_000, "{name} {dtype:?}");
            for tensor in out.tensors() {
                let other = exact.tensor(tensor.name).unwrap();
                let (a, b) = (tensor.to_f32().unwrap(), other.to_f32().unwrap());
                let most = b.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 256.0;
                assert!(common::difference(&a, &b) <= most, "{name} {dtype:?} {}", tensor.name);
            }
        }
    }
}

/// Several files hold what one does, both ways, and are as small as wished.
#[test]
fn shards_are_one_model() {
    const SHARD: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("qwen3");
    std::fs::create_dir_all(&from).unwrap();
    Family::load("qwen3").unwrap().write_checkpoint(&from).unwrap();
    let checkpoint = Checkpoint::open(&from).unwrap();
    let options = ExportOptions { shard: Some(SHARD), ..ExportOptions::default() };
    export::gguf(&checkpoint, &dir.path().join("m.gguf"), &options, &mut |_, _| {}).unwrap();
    let parts = |dir: &Path, end: &str| {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut parts: Vec<PathBuf> =
            names.filter(|path| path.is_file() && path.to_str().unwrap().ends_with(end)).collect();
        parts.sort();
        parts
    };
    let files = parts(dir.path(), ".gguf");
    assert!(
        files.len() > 2 && files[0].ends_with(format!("m-00001-of-{:05}.gguf", files.len())),
        "{files:?}"
    );
    let out = dir.path().join("out");
    folder(&files[0], &out, &FolderOptions { shard: Some(SHARD), ..FolderOptions::default() });
    let shards = parts(&out, ".safetensors");
    assert!(shards.len() > 2 && out.join("model.safetensors.index.json").is_file(), "{shards:?}");
    let again = Checkpoint::open(&out).unwrap();
    for (name, files) in [("GGUF", files), ("safetensors", shards)] {
        for file in files {
            let size = std::fs::metadata(&file).unwrap().len();
            assert!(size < SHARD + 20_000, "{name} {}: {size}", file.display());
        }
    }
    assert_eq!(again.tensors().count(), checkpoint.tensors().count());
    for tensor in checkpoint.tensors() {
        let other = again.tensor(tensor.name).unwrap_or_else(|| panic!("no {}", tensor.name));
        assert_eq!((tensor.shape, tensor.dtype), (other.shape, other.dtype));
        assert_eq!(tensor.bytes().unwrap(), other.bytes().unwrap());
    }
    assert_eq!(logits(&out), logits(&from));
}

/// Every number of a checkpoint comes back, names and shapes too; only experts are stacked otherwise in some.
#[test]
fn a_folder_comes_back_as_it_was() {
    for name in ["llama", "llama3_rope", "qwen2", "qwen3_moe", "gemma3", "deepseek_v2_lite", "gemma4_e2b"] {
        let dir = tempfile::tempdir().unwrap();
        let (from, file, out) = (dir.path().join("from"), dir.path().join("m.gguf"), dir.path().join("out"));
        std::fs::create_dir_all(&from).unwrap();
        let family = Family::load(name).unwrap();
        family.write_checkpoint(&from).unwrap();
        export(&from, &file);
        folder(&file, &out, &FolderOptions::default());
        let (from, again) = (Checkpoint::open(&from).unwrap(), Checkpoint::open(&out).unwrap());
        for tensor in again.tensors() {
            let bare = tensor.name.strip_prefix("model.").unwrap_or(tensor.name);
            let same = from.tensors().filter(|other| other.name.ends_with(bare));
            let other = same.min_by_key(|other| other.name.len());
            let other = other.unwrap_or_else(|| panic!("{name}: no {}", tensor.name));
            assert_eq!(tensor.shape, other.shape, "{name} {}", tensor.name);
            let (a, b) = (tensor.to_f32().unwrap(), other.to_f32().unwrap());
            assert!(common::difference(&a, &b) < 1e-6, "{name} {}", tensor.name);
        }
        for key in ["hidden_size", "num_hidden_layers", "rope_scaling", "vocab_size"] {
            let was = family.config.get("text_config").unwrap_or(&family.config).get(key);
            let Some(was) = was.filter(|was| !was.is_object()) else { continue };
            assert_eq!(again.config().unwrap().get(key), Some(was), "{name} {key}");
        }
    }
}

#[test]
fn only_a_gguf_file_becomes_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    Family::load("llama").unwrap().write_checkpoint(dir.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let refused = export::folder(&checkpoint, out.path(), &FolderOptions::default(), &mut |_, _| {});
    assert!(refused.unwrap_err().to_string().contains("is no GGUF file"));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
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
        assert_eq!((ours.shape, ours.dtype), (theirs.shape, theirs.dtype));
        assert_eq!(ours.bytes().unwrap(), theirs.bytes().unwrap());
    }
    let said = |key: &str| to.metadata().str(key).unwrap().map(str::to_owned);
    assert_eq!(said("general.architecture").as_deref(), Some("qwen3"));
    assert_eq!(said("tokenizer.ggml.model").as_deref(), Some("none"));
}
