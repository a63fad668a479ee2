//! Loading from files that others change meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use sampan_fixtures::Family;
use sampan_kernels::{Kernels, Options};
use sampan_model::export::ExportOptions;
use sampan_model::{Model, Plan, PlanOptions};
use sampan_weights::Checkpoint;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;

/// Loads a model whose file is cut to a third as soon as its first tensor is there, and says what comes of it.
fn cut_while_loading(model: &Path, file: &Path) -> String {
    let checkpoint = Checkpoint::open(model).unwrap();
    let plan = Plan::from_checkpoint(&checkpoint, PlanOptions::default()).unwrap();
    let kernels = Arc::new(Kernels::new(Options { threads: 2, ..Options::default() }).unwrap());
    let length = file.metadata().unwrap().len();
    let mut cut = |_, _| OpenOptions::new().write(true).open(file).unwrap().set_len(length / 3).unwrap();
    Model::load(&checkpoint, plan, kernels, &mut cut).unwrap_err().to_string()
}

#[test]
fn a_file_that_is_shortened_while_it_loads_is_an_error_that_names_it() {
    // Packed as stored, in stacks of experts, cut from fused tensors, transposed.
    for name in ["llama", "qwen3_moe", "qwen3_next", "gpt_oss"] {
        let family = Family::load(name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        family.write_checkpoint(folder.path()).unwrap();
        let gguf = folder.path().join("converted.gguf");
        let opened = Checkpoint::open(folder.path()).unwrap();
        sampan_model::export::gguf(&opened, &gguf, &ExportOptions::default(), &mut |_, _| {}).unwrap();
        for (model, file) in [(folder.path(), "model.safetensors"), (&gguf, "converted.gguf")] {
            let error = cut_while_loading(model, &folder.path().join(file));
            for part in [file, "tensor ", "(byte ", "another program has shortened it", "download it again"] {
                assert!(error.contains(part), "{name}: {error:?} lacks {part:?}");
            }
        }
    }
}
