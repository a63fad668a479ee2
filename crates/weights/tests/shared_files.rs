//! Opens every model file of the development folder, where that is present.

use sampan_weights::{Checkpoint, Dtype, Kind};
use std::path::{Path, PathBuf};

fn shared(part: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(part);
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the test's own files and tensors")
        .map(|e| e.expect("the test's own files and tensors").path())
        .collect();
    paths.sort();
    paths
}

/// Every tensor of a known type can be read as its own kind of number.
fn read_all(path: &Path) -> Checkpoint {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|e| panic!("{e}"));
    for tensor in checkpoint.tensors() {
        let found = checkpoint.tensor(tensor.name).expect("a listed tensor is found by name");
        assert_eq!(found.place(), tensor.place());
        let count = match tensor.dtype {
            Dtype::I32 | Dtype::I64 | Dtype::U64 => {
                tensor.to_i64s().expect("the test's own files and tensors").len()
            }
            _ => tensor.to_f32().unwrap_or_else(|e| panic!("{e}")).len(),
        };
        assert_eq!(count, tensor.count());
    }
    checkpoint
}

#[test]
fn golden_folders() {
    let Some(folder) = shared("golden") else { return };
    let mut models = 0;
    for model in entries(&folder).into_iter().filter(|path| path.is_dir()) {
        let checkpoint = read_all(&model);
        assert_eq!(checkpoint.kind(), Kind::Safetensors);
        assert!(checkpoint.tensors().count() > 10);
        let config = checkpoint.config().expect("read with the folder");
        assert!(config.get("model_type").is_some(), "{}", model.display());
        let golden = read_all(&model.join("golden.safetensors"));
        let ids = golden.tensor("ids").expect("every golden has ids").to_i64s().unwrap();
        let logits = golden.tensor("logits").expect("every golden has logits");
        assert_eq!(logits.shape[0], ids.len());
        models += 1;
    }
    assert!(models > 20);
}

#[test]
fn golden_gguf() {
    let Some(folder) = shared("golden-gguf") else { return };
    let mut models = 0;
    for path in entries(&folder) {
        let checkpoint = read_all(&path);
        if checkpoint.kind() == Kind::Gguf {
            let metadata = checkpoint.metadata();
            let arch = metadata.need_str("general.architecture").unwrap();
            let width = metadata.need_usize(&format!("{arch}.embedding_length")).unwrap();
            let embedding = checkpoint.tensor("token_embd.weight").expect("every model has one");
            assert_eq!(embedding.shape[1], width, "GGUF's dimensions are turned round");
            models += 1;
        }
    }
    assert!(models > 4);
}

#[test]
fn vocabularies() {
    let Some(folder) = shared("data/vocab") else { return };
    let mut vocabularies = 0;
    for path in entries(&folder).iter().filter(|p| p.extension().is_some_and(|e| e == "gguf")) {
        let checkpoint = read_all(path);
        let vocab = checkpoint.tokenizer().unwrap().gguf.expect("a vocabulary file has a vocabulary");
        assert!(vocab.tokens.len() > 30_000, "{}: {}", path.display(), vocab.tokens.len());
        assert_eq!(vocab.token_types.len(), vocab.tokens.len());
        assert!(vocab.merges.len() + vocab.scores.len() > 0 && vocab.eos.is_some());
        vocabularies += 1;
    }
    assert!(vocabularies > 0);
}
