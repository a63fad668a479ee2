//! Running a model the plain ways, for comparison with golden logits and with itself.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use sampan_kernels::{Kernels, Options};
use sampan_model::{Cache, CacheSizes, Chunk, KvFormat, Logits, Model, PAGE, Plan, PlanOptions, Scratch};
use sampan_weights::Checkpoint;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fixtures that have what their family has no key for in GGUF.
pub const UNSAID: [&str; 2] = ["qwen3_windows", "qwen2_moe_windows"];

/// The folder of shared test material, beside the repository; absent in a plain clone.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no folder {}", path.display());
    None
}

/// Loads a model on the float32 path.
pub fn load(path: &Path) -> Model {
    load_with(path, Options { threads: 2, exact: true, ..Options::default() })
}

/// Loads a model with the kernels that `options` choose.
pub fn load_with(path: &Path, options: Options) -> Model {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let exact = PlanOptions { exact: options.exact, ..PlanOptions::default() };
    let plan =
        Plan::from_checkpoint(&checkpoint, exact).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kernels = Arc::new(Kernels::new(options).unwrap());
    Model::load(&checkpoint, plan, kernels, &mut |_, _| {}).unwrap()
}

/// Reference outputs of a model.
pub struct Golden {
    pub ids: Vec<u32>,
    /// Of the positions that the file lists, else of all.
    pub logits: Vec<f32>,
    positions: Vec<usize>,
    pub greedy: Vec<u32>,
}

impl Golden {
    pub fn read(path: &Path) -> Golden {
        let file = Checkpoint::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensor =
            |name: &str| file.tensor(name).unwrap_or_else(|| panic!("no {name} in {}", path.display()));
        let ids = |name: &str| -> Vec<u32> {
            tensor(name).to_i64s().unwrap().iter().map(|&id| id as u32).collect()
        };
        let all = ids("ids");
        let positions = match file.tensor("positions") {
            Some(_) => ids("positions").into_iter().map(|at| at as usize).collect(),
            None => (0..all.len()).collect(),
        };
        Golden { ids: all, logits: tensor("logits").to_f32().unwrap(), positions, greedy: ids("greedy") }
    }

    /// Largest difference from `logits` of all ids, at the positions that the file has.
    pub fn difference(&self, logits: &[f32]) -> f32 {
        let vocab = self.logits.len() / self.positions.len();
        assert_eq!(logits.len(), self.ids.len() * vocab);
        let rows = self.positions.iter().flat_map(|at| &logits[at * vocab..][..vocab]);
        difference(&rows.copied().collect::<Vec<f32>>(), &self.logits)
    }
}

/// One sequence with its own cache, fed in chunks of any size.
pub struct Run<'a> {
    model: &'a Model,
    cache: Cache,
    scratch: Scratch,
    pages: Vec<u32>,
    start: usize,
}

impl<'a> Run<'a> {
    pub fn new(model: &'a Model, kv: KvFormat, capacity: usize) -> Run<'a> {
        let pages = capacity.div_ceil(PAGE);
        // Descending page numbers: a page table that is the identity would hide mistakes.
        let table = (0..pages as u32).rev().collect();
        let cache = Cache::new(model.plan(), CacheSizes { format: kv, pages, slots: 2 });
        Run { model, cache, scratch: Scratch::default(), pages: table, start: 0 }
    }

    /// Logits of all `tokens`, `[n, vocab]`.
    pub fn feed(&mut self, tokens: &[u32]) -> Vec<f32> {
        let mut logits = Vec::new();
        let chunk = Chunk {
            tokens,
            start: self.start,
            pages: &self.pages,
            slot: 1,
            logits: Logits::All,
            adapter: None,
        };
        self.model.forward(&[chunk], &mut self.cache, &mut self.scratch, &mut logits);
        self.start += tokens.len();
        logits
    }
}

pub fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32
}

/// Largest absolute difference; NaN counts as infinite.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |max, d| if d.is_nan() { f32::INFINITY } else { max.max(d) })
}

/// Family, what is spoiled, and what the error must contain.
pub type Spoiled<'a> = (&'a str, &'a [(&'a str, Value)], &'a [&'a str]);

/// Plans a shared golden model after its configuration, `file`, was spoiled: the error must contain every word.
#[track_caller]
pub fn refused(file: &str, (family, spoil, words): &Spoiled<'_>) {
    let Some(root) = shared("golden") else { return };
    let from = root.join(family);
    let dir = tempfile::tempdir().unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(from.join(file)).unwrap()).unwrap();
    for (key, value) in *spoil {
        config[*key] = value.clone();
    }
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(from.join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let error = match Plan::from_checkpoint(&checkpoint, PlanOptions::default()) {
        Ok(_) => panic!("{family} {spoil:?}: planned"),
        Err(error) => error.to_string(),
    };
    for word in *words {
        assert!(error.contains(word), "{family} {spoil:?}: {word:?} is not in {error:?}");
    }
}
