//! What quantising a checkpoint takes of memory.

#![allow(clippy::unwrap_used, reason = "tests")]

use peak_alloc::PeakAlloc;
use sampan_fixtures::Family;
use sampan_kernels::Pool;
use sampan_model::Quant;
use sampan_model::export::{self, ExportOptions, Quantising};
use sampan_weights::Checkpoint;
use std::path::Path;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Writes the checkpoint at `from`, a folder or a GGUF file, to `to`, as it is or in Q8_0; the memory that this took.
fn write(from: &Path, to: &Path, quantise: bool) -> usize {
    let pool = Pool::new(2);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let checkpoint = Checkpoint::open(from).unwrap();
    let quantising =
        quantise.then_some(Quantising { quant: Quant::Q8_0, again: false, importance: None, pool: &pool });
    if let Some(quantising) = quantising.filter(|_| from.is_file()) {
        export::quantise(&checkpoint, to, quantising, &mut |_, _| {}).unwrap();
    } else {
        let options = ExportOptions { exact: true, quantising, ..ExportOptions::default() };
        export::gguf(&checkpoint, to, &options, &mut |_, _| {}).unwrap();
    }
    MEMORY.peak_usage() - before
}

/// Memory is taken for the largest tensor and a few rows, not for the model.
#[test]
fn memory_is_bounded_by_one_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let mut family = Family::load("qwen3_untied").unwrap().with_vocab(1 << 16);
    let layers = 40;
    // The same layers once more and again: many tensors, none of them large.
    let first: Vec<_> = family.tensors.iter().filter(|t| t.name.contains("layers.0.")).cloned().collect();
    family.tensors.retain(|tensor| !tensor.name.contains("layers."));
    for layer in 0..layers {
        family.tensors.extend(first.iter().cloned().map(|mut tensor| {
            tensor.name = tensor.name.replace("layers.0.", &format!("layers.{layer}."));
            tensor
        }));
    }
    family.config["num_hidden_layers"] = layers.into();
    family.config["layer_types"] = serde_json::Value::Null;
    family.config["max_window_layers"] = layers.into();
    family.write_checkpoint(dir.path()).unwrap();
    let (whole, quantised) = (dir.path().join("whole.gguf"), dir.path().join("quantised.gguf"));
    write(dir.path(), &whole, false);
    let rest = |path: &Path| {
        let file = Checkpoint::open(path).unwrap();
        let largest = file.tensors().map(|tensor| tensor.size()).max().unwrap();
        (file.file_bytes() as usize, largest)
    };
    for from in [whole.as_path(), dir.path()] {
        let taken = write(from, &quantised, true);
        let (all, largest) = rest(&quantised);
        println!("{taken} bytes taken for {all} of which {largest} are one tensor");
        assert!(all > largest + (6 << 20), "the test needs a model of several parts");
        assert!(taken < largest + (3 << 20), "{taken} bytes taken, the largest tensor has {largest}");
    }
}
