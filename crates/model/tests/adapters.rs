//! Adapters: what PEFT computes with one, what merged weights compute, and nothing for rows without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Run, difference, load, load_with};
use sampan_fixtures::{Family, Kind};
use sampan_kernels::{Format, Options};
use sampan_model::export::ExportOptions;
use sampan_model::{Adapter, Cache, CacheSizes, Chunk, KvFormat, Logits, Model, Scratch};
use sampan_weights::{AdapterFiles, Checkpoint, Dtype, safetensors};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/adapters")
}

fn checkpoint(family: &Family) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    family.write_checkpoint(dir.path()).unwrap();
    dir
}

/// `base`: what the model was loaded from.
fn adapter(folder: &Path, model: &Model, base: &Path) -> Arc<Adapter> {
    let files = AdapterFiles::open(folder).unwrap();
    let adapter = Adapter::load(&files, model, &Checkpoint::open(base).unwrap());
    Arc::new(adapter.unwrap_or_else(|e| panic!("{}: {e}", folder.display())))
}

/// The model of a folder as a GGUF file.
fn converted(folder: &Path, path: &Path) -> Model {
    let options = ExportOptions { exact: true, ..ExportOptions::default() };
    let opened = Checkpoint::open(folder).unwrap();
    sampan_model::export::gguf(&opened, path, &options, &mut |_, _| {}).unwrap();
    load(path)
}

/// Logits of all tokens of several sequences, each with its adapter, in one batch, and before it a batch with their
/// beginnings.
fn forward(model: &Model, sequences: &[(&[u32], Option<&Arc<Adapter>>)]) -> Vec<Vec<f32>> {
    let sizes = CacheSizes { format: KvFormat::F32, pages: 4 * sequences.len(), slots: sequences.len() };
    let mut cache = Cache::new(model.plan(), sizes);
    let pages: Vec<Vec<u32>> = (0..sequences.len() as u32).map(|i| (4 * i..4 * i + 4).collect()).collect();
    let (mut scratch, mut rows, mut out) =
        (Scratch::default(), Vec::new(), vec![Vec::new(); sequences.len()]);
    let vocab = model.plan().vocab;
    for part in 0..2 {
        let cut =
            |tokens: &[u32]| if part == 0 { 0..tokens.len() / 3 } else { tokens.len() / 3..tokens.len() };
        let chunks: Vec<Chunk<'_>> = (0..sequences.len())
            .map(|i| {
                let ((tokens, adapter), pages) = (sequences[i], &pages[i]);
                let cut = cut(tokens);
                let (tokens, start) = (&tokens[cut.clone()], cut.start);
                Chunk { tokens, start, pages, slot: i as u32, logits: Logits::All, adapter }
            })
            .collect();
        model.forward(&chunks, &mut cache, &mut scratch, &mut rows);
        let mut rest = &rows[..];
        for (out, chunk) in out.iter_mut().zip(&chunks) {
            let (own, others) = rest.split_at(chunk.tokens.len() * vocab);
            out.extend_from_slice(own);
            rest = others;
        }
    }
    out
}

#[test]
fn logits_are_those_of_peft() {
    for name in ["llama", "qwen3", "qwen3_moe", "gemma3"] {
        let dir = checkpoint(&Family::load(name).unwrap());
        let model = load(dir.path());
        let golden = Checkpoint::open(&root().join(name).join("golden.safetensors")).unwrap();
        let ids = golden.tensor("ids").unwrap().to_i64s().unwrap();
        let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
        let want = golden.tensor("logits").unwrap().to_f32().unwrap();
        let adapter = adapter(&root().join(name), &model, dir.path());
        let got = forward(&model, &[(&ids, Some(&adapter))]);
        let off = difference(&got[0], &want);
        println!("{name}: {off:.1e} from PEFT");
        assert!(off < 2e-4, "{name}: {off}");
        assert!(
            difference(&forward(&model, &[(&ids, None)])[0], &want) > 0.1,
            "{name}: it changes something"
        );
    }
}

/// Numbers that repeat by name and seed.
fn numbers(seed: u64, name: &str, count: usize) -> Vec<f32> {
    let spec = sampan_fixtures::TensorSpec {
        name: name.into(),
        shape: vec![count],
        kind: serde_json::from_value::<Kind>(json!({"exponent": -3})).unwrap(),
    };
    floats(&spec.bytes(seed))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

const RANK: usize = 4;
const ALPHA: usize = 6;

fn write(path: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]) {
    let mut writer = safetensors::Writer::new();
    for (name, shape, _) in tensors {
        writer.tensor(name, shape, Dtype::Block(Format::F32)).unwrap();
    }
    let mut out = writer.create(path).unwrap();
    tensors.iter().for_each(|(name, _, bytes)| out.append(name, bytes).unwrap());
    out.finish().unwrap();
}

/// A folder as PEFT writes it: `changes` are names of modules with outputs and inputs.
fn write_adapter(dir: &Path, seed: u64, changes: &[(&str, usize, usize)]) {
    let config = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"});
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    let mut tensors = Vec::new();
    for (module, outputs, inputs) in changes {
        for (half, shape) in [("A", vec![RANK, *inputs]), ("B", vec![*outputs, RANK])] {
            let name = format!("base_model.model.{module}.lora_{half}.weight");
            let values = numbers(seed, &name, shape.iter().product());
            tensors.push((name, shape, bytes(&values)));
        }
    }
    write(&dir.join("adapter_model.safetensors"), &tensors);
}

/// The modules of a family with these endings.
fn modules<'a>(family: &'a Family, endings: &[&str]) -> Vec<(&'a str, usize, usize)> {
    let module =
        |name: &'a str| name.strip_suffix(".weight").filter(|m| endings.iter().any(|e| m.ends_with(e)));
    let found =
        family.tensors.iter().filter_map(|spec| Some((module(&spec.name)?, spec.shape[0], spec.shape[1])));
    found.collect()
}

/// The model with the adapter added to its weights.
fn write_merged(dir: &Path, family: &Family, seed: u64, changes: &[(&str, usize, usize)]) {
    family.write_checkpoint(dir).unwrap();
    let tensor = |spec: &sampan_fixtures::TensorSpec| {
        let mut values = floats(&spec.bytes(family.seed));
        if let Some((module, outputs, inputs)) =
            changes.iter().find(|c| spec.name == format!("{}.weight", c.0))
        {
            let half = |half: &str, count| {
                numbers(seed, &format!("base_model.model.{module}.lora_{half}.weight"), count)
            };
            let (a, b) = (half("A", RANK * inputs), half("B", outputs * RANK));
            for (i, value) in values.iter_mut().enumerate() {
                let (row, col) = (i / inputs, i % inputs);
                let sum: f64 =
                    (0..RANK).map(|r| f64::from(b[row * RANK + r]) * f64::from(a[r * inputs + col])).sum();
                *value = (f64::from(*value) + sum * ALPHA as f64 / RANK as f64) as f32;
            }
        }
        (spec.name.clone(), spec.shape.clone(), bytes(&values))
    };
    write(&dir.join("model.safetensors"), &family.tensors.iter().map(tensor).collect::<Vec<_>>());
}

const ALL: &[&str] = &["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
const ATTENTION: &[&str] = &["q_proj", "k_proj", "v_proj", "self_attn.o_proj"];

/// Families and what of them is changed.
const CASES: &[(&str, &[&str])] = &[
    ("llama", ALL),
    ("qwen2", &["q_proj", "down_proj", "lm_head"]),
    ("qwen3", ALL),
    ("qwen3_moe", ATTENTION),
    ("qwen2_moe", &["o_proj", "shared_expert.up_proj", "shared_expert.down_proj", "mlp.gate"]),
    ("gemma3", ALL),
    ("gpt_oss", ATTENTION),
    ("qwen3_next", &["q_proj", "o_proj", "in_proj_qkvz", "in_proj_ba", "linear_attn.out_proj"]),
    ("deepseek_v3", &["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj"]),
];

#[test]
fn logits_are_those_of_merged_weights() {
    for (name, endings) in CASES {
        let family = Family::load(name).unwrap();
        let changes = modules(&family, endings);
        assert!(
            endings.iter().filter(|e| **e != "lm_head").all(|e| changes.iter().any(|c| c.0.ends_with(e)))
        );
        let (plain, merged, folder) =
            (checkpoint(&family), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_adapter(folder.path(), 3, &changes);
        write_merged(merged.path(), &family, 3, &changes);
        let model = load(plain.path());
        let adapter = adapter(folder.path(), &model, plain.path());
        let tokens: Vec<u32> = (0..45).map(|i| (i * i + 7 * i) % 250).collect();
        let want = Run::new(&load(merged.path()), KvFormat::F32, 64).feed(&tokens);
        let got = forward(&model, &[(&tokens, Some(&adapter))]);
        let off = difference(&got[0], &want);
        println!("{name}: {} matrices, {off:.1e} from the merged model", adapter.matrices());
        // Merged weights are rounded once more than the sum of two products; how far that shows depends on the CPU.
        assert!(off < 2e-4, "{name}: {off}");
        let base = forward(&model, &[(&tokens, None)]);
        assert!(difference(&base[0], &want) > 0.1, "{name}: it changes something");
        // The same adapter on the model as GGUF, where tensors have other names and some another order.
        let file = folder.path().join("model.gguf");
        let gguf = converted(plain.path(), &file);
        let adapter = self::adapter(folder.path(), &gguf, &file);
        let off = difference(&forward(&gguf, &[(&tokens, Some(&adapter))])[0], &want);
        println!("{name}: {off:.1e} as GGUF");
        assert!(off < 1e-3, "{name} as GGUF: {off}");
    }
}

#[test]
fn sequences_with_other_adapters_or_none_do_not_touch_each_other() {
    for (name, endings) in [CASES[2], CASES[3], CASES[7]] {
        let family = Family::load(name).unwrap();
        let dir = checkpoint(&family);
        for exact in [true, false] {
            let model = load_with(dir.path(), Options { exact, threads: 2, ..Options::default() });
            let adapters = [4, 5].map(|seed| {
                let folder = tempfile::tempdir().unwrap();
                write_adapter(folder.path(), seed, &modules(&family, endings));
                adapter(folder.path(), &model, dir.path())
            });
            let tokens: Vec<u32> = (0..60).map(|i| (i * i + 3 * i) % 250).collect();
            let sequences = [
                (&tokens[..40], None),
                (&tokens[..40], Some(&adapters[0])),
                (&tokens[5..60], Some(&adapters[0])),
                (&tokens[..40], Some(&adapters[1])),
                (&tokens[20..23], None),
            ];
            let together = forward(&model, &sequences);
            for (sequence, got) in sequences.iter().zip(&together) {
                assert_eq!(got, &forward(&model, &[*sequence])[0], "{name}, exact {exact}: bit for bit");
            }
            assert!(together[0] != together[1] && together[1] != together[3]);
        }
    }
}

#[test]
fn a_gguf_adapter_changes_a_gguf_model() {
    let family = Family::load("qwen3").unwrap();
    let (dir, changes) = (checkpoint(&family), modules(&family, &["q_proj", "down_proj"]));
    let model = load(dir.path());
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 3, &changes);
    // The same model and adapter under GGUF's names.
    let file = folder.path().join("model.gguf");
    let gguf = converted(dir.path(), &file);
    let mut writer = sampan_weights::gguf::Writer::new();
    let text = |text: &str| sampan_weights::Value::Str(text.into());
    for (key, value) in
        [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "qwen3")]
    {
        writer.set(key, text(value)).unwrap();
    }
    writer.set("adapter.lora.alpha", sampan_weights::Value::F32(ALPHA as f32)).unwrap();
    let mut values = std::collections::BTreeMap::new();
    for (module, outputs, inputs) in &changes {
        let layer: usize = module.split('.').nth(2).unwrap().parse().unwrap();
        let part = if module.ends_with("q_proj") { "attn_q" } else { "ffn_down" };
        for (half, from, shape) in [("lora_a", "A", [RANK, *inputs]), ("lora_b", "B", [*outputs, RANK])] {
            let name = format!("blk.{layer}.{part}.weight.{half}");
            writer.tensor(&name, &shape, Dtype::Block(Format::F32)).unwrap();
            let from = format!("base_model.model.{module}.lora_{from}.weight");
            values.insert(name, bytes(&numbers(3, &from, shape[0] * shape[1])));
        }
    }
    let path = folder.path().join("adapter.gguf");
    std::fs::write(&path, writer.to_bytes(|name| values[name].clone()).unwrap()).unwrap();
    let tokens: Vec<u32> = (0..40).map(|i| (i * i + 7 * i) % 250).collect();
    let want = forward(&model, &[(&tokens, Some(&adapter(folder.path(), &model, dir.path())))]);
    let got = forward(&gguf, &[(&tokens, Some(&adapter(&path, &gguf, &file)))]);
    assert!(difference(&got[0], &want[0]) < 1e-4);
    let files = AdapterFiles::open(&path).unwrap();
    let error =
        Adapter::load(&files, &model, &Checkpoint::open(dir.path()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("convert the model to GGUF"), "{error}");
}

#[test]
fn what_cannot_be_changed_is_refused_by_name() {
    for (family, module, outputs, inputs, words) in [
        ("qwen3", "model.layers.0.self_attn.query", 64, 64, "query.weight, which this model does not have"),
        (
            "qwen3",
            "model.layers.9.self_attn.q_proj",
            128,
            64,
            "layers.9.self_attn.q_proj.weight, which this model",
        ),
        ("qwen3", "model.layers.0.self_attn.q_proj", 128, 60, "[128, 60], and the model has it as [128, 64]"),
        ("qwen3", "model.layers.0.self_attn.q_proj", 120, 64, "[120, 64], and the model has it as [128, 64]"),
        ("qwen3", "model.embed_tokens", 256, 64, "it is the embedding"),
        ("qwen3_moe", "model.layers.0.mlp.experts.3.up_proj", 48, 64, "an expert"),
        ("deepseek_v3", "model.layers.0.self_attn.kv_b_proj", 1, 1, "absorbed"),
    ] {
        let dir = checkpoint(&Family::load(family).unwrap());
        let model = load(dir.path());
        let folder = tempfile::tempdir().unwrap();
        write_adapter(folder.path(), 1, &[(module, outputs, inputs)]);
        let (files, base) = (AdapterFiles::open(folder.path()), Checkpoint::open(dir.path()));
        let error = Adapter::load(&files.unwrap(), &model, &base.unwrap()).unwrap_err().to_string();
        assert!(error.contains(words), "{module}: {error}");
    }
}

#[test]
fn kinds_of_adapters_that_are_not_low_rank_changes_are_refused() {
    let plain = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
    let refused = |changes: serde_json::Value, tensors: &[(&str, [usize; 2])], word: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = plain.clone();
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        let tensor = |(name, shape): &(&str, [usize; 2])| {
            (format!("base_model.model.{name}"), shape.to_vec(), bytes(&vec![0.5; shape[0] * shape[1]]))
        };
        let tensors: Vec<_> = tensors.iter().map(tensor).collect();
        write(&folder.path().join("adapter_model.safetensors"), &tensors);
        let opened = AdapterFiles::open(folder.path());
        let error = opened.and_then(|files| files.low_rank().map(|_| ())).unwrap_err().to_string();
        assert!(error.contains(word), "{changes} {tensors:?}: {error}");
    };
    let pair: &[(&str, [usize; 2])] = &[("q.lora_A.weight", [2, 4]), ("q.lora_B.weight", [4, 2])];
    for (changes, word) in [
        (json!({"peft_type": "IA3"}), "peft_type is \"IA3\""),
        (json!({"use_dora": true}), "use_dora is true"),
        (json!({"bias": "all"}), "trained biases"),
        (json!({"fan_in_fan_out": true}), "fan_in_fan_out"),
        (json!({"modules_to_save": ["lm_head"]}), "modules_to_save"),
        (json!({"init_lora_weights": "pissa_niter_4"}), "pissa_niter_4"),
        (json!({"alpha_pattern": {"layers\\.(1|2)": 3}}), "only plain names"),
        (json!({"lora_alpha": "x"}), "lora_alpha is \"x\""),
    ] {
        refused(changes, pair, word);
    }
    for (tensors, word) in [
        (&pair[..1], "the other half is missing: base_model.model.q.lora_B.weight"),
        (&pair[1..], "the other half is missing: base_model.model.q.lora_A.weight"),
        (
            &[("q.lora_A.weight", [2, 4]), ("q.lora_B.weight", [4, 3])][..],
            "rank 2, and its other half has rank 3",
        ),
        (&[("q.lora_embedding_A", [2, 4])], "changes an embedding"),
        (&[("q.lora_magnitude_vector.weight", [2, 4])], "DoRA"),
        (&[("lm_head.weight", [2, 4])], "no half of a low-rank change"),
        (&[], "without tensors"),
    ] {
        refused(json!({}), tensors, word);
    }
}
