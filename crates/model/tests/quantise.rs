//! Checkpoints of every family, written with fewer bits per weight.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Golden, Run, UNSAID, load};
use sampan_fixtures::Family;
use sampan_kernels::{Format, Pool};
use sampan_model::export::{self, ExportError, ExportOptions, Quantising};
use sampan_model::{KvFormat, Quant};
use sampan_weights::{Checkpoint, Dtype};
use std::path::Path;

/// Writes the checkpoint at `from`, a folder or a GGUF file, to `to`; `quant` or as it is.
fn write(from: &Path, to: &Path, quant: Option<Quant>, again: bool) -> Result<(), ExportError> {
    let checkpoint = Checkpoint::open(from).unwrap();
    let pool = Pool::new(2);
    let quantising = quant.map(|quant| Quantising { quant, again, importance: None, pool: &pool });
    match quantising {
        Some(quantising) if from.is_file() => {
            export::quantise(&checkpoint, to, quantising, &mut |_, _| {}).map(drop)
        }
        _ => {
            let options = ExportOptions { exact: true, quantising, ..ExportOptions::default() };
            export::gguf(&checkpoint, to, &options, &mut |_, _| {}).map(drop)
        }
    }
}

/// Cosine of the angle between two lists of logits.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Whatever way a family takes to a quantised file, it arrives at the same one, and the model in it is near the
/// original (not nearer in some, where rounding sends a token to another expert): heads change places before blocks
/// are made of their columns, and experts are found in their stacks.
#[test]
fn a_folder_and_its_gguf_file_are_quantised_alike() {
    for family in Family::all().unwrap() {
        if UNSAID.contains(&family.name.as_str()) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        family.write_checkpoint(dir.path()).unwrap();
        let (whole, direct, late) =
            (dir.path().join("whole.gguf"), dir.path().join("direct.gguf"), dir.path().join("late.gguf"));
        write(dir.path(), &whole, None, false).unwrap();
        for (quant, least) in [(Quant::Q8_0, 0.85), (Quant::Q4_K_M, 0.6)] {
            write(dir.path(), &direct, Some(quant), false).unwrap();
            write(&whole, &late, Some(quant), false).unwrap();
            let (a, b) = (Checkpoint::open(&direct).unwrap(), Checkpoint::open(&late).unwrap());
            let mut quantised = 0;
            for tensor in a.tensors() {
                let other = b.tensor(tensor.name).unwrap();
                assert_eq!(
                    (tensor.shape, tensor.dtype),
                    (other.shape, other.dtype),
                    "{}: {}",
                    family.name,
                    tensor.name
                );
                assert!(
                    tensor.bytes().unwrap() == other.bytes().unwrap(),
                    "{}: {}",
                    family.name,
                    tensor.name
                );
                let blocks = matches!(tensor.dtype, Dtype::Block(format) if format.block_len() > 1);
                quantised += usize::from(blocks);
            }
            assert!(quantised > 0 && a.tensors().count() == b.tensors().count(), "{}", family.name);
            let golden = Golden::read(&family.golden);
            let logits = |path: &Path| {
                let model = load(path);
                Run::new(&model, KvFormat::F32, golden.ids.len()).feed(&golden.ids)
            };
            let near = cosine(&logits(&whole), &logits(&late));
            println!("{} {quant}: {quantised} tensors, cosine {near:.5}", family.name);
            assert!(near > least, "{} {quant}: cosine {near}", family.name);
        }
    }
}

#[test]
fn what_is_quantised_is_quantised_again_only_on_demand_and_never_widened() {
    let dir = tempfile::tempdir().unwrap();
    Family::load("qwen3").unwrap().write_checkpoint(dir.path()).unwrap();
    let (first, second) = (dir.path().join("first.gguf"), dir.path().join("second.gguf"));
    write(dir.path(), &first, Some(Quant::Q5_0), false).unwrap();
    let refused = write(&first, &second, Some(Quant::Q4_0), false).unwrap_err().to_string();
    assert!(refused.contains("quantised already"), "{refused}");
    assert!(!second.exists());
    let format = |path: &Path, name: &str| Checkpoint::open(path).unwrap().tensor(name).unwrap().dtype;
    for (quant, found) in [(Quant::Q4_0, Format::Q4_0), (Quant::Q8_0, Format::Q5_0)] {
        write(&first, &second, Some(quant), true).unwrap();
        assert_eq!(format(&second, "blk.0.attn_q.weight"), Dtype::Block(found), "{quant}");
        assert_eq!(format(&second, "blk.0.attn_norm.weight"), Dtype::Block(Format::F32));
    }
}
