//! A part of a model with made-up weights.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Run;
use sampan_fixtures::Family;
use sampan_kernels::{Kernels, Options};
use sampan_model::{KvFormat, Model, Plan, PlanOptions};
use sampan_weights::Checkpoint;
use std::sync::Arc;

/// Of every family the smallest part and all of it can be computed without a file, and nothing overflows.
#[test]
fn parts_of_every_family_compute() {
    let kernels = Arc::new(Kernels::new(Options { threads: 1, ..Options::default() }).unwrap());
    for family in Family::all().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        family.write_checkpoint(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let plan = Plan::from_checkpoint(&checkpoint, PlanOptions::default()).unwrap();
        let (least, all) = (plan.sample(&kernels, 0), plan.sample(&kernels, u64::MAX));
        assert!((1..=plan.layers.len()).contains(&least.layers.len()), "{}", family.name);
        assert!(least.parameters() <= plan.parameters(), "{}", family.name);
        let figures = |plan: &Plan| {
            let memory = plan.memory(&kernels, KvFormat::I16, 64, 64);
            (memory, plan.operations(&kernels, KvFormat::I16, 0, 64), plan.layers.len())
        };
        assert_eq!(figures(&all), figures(&plan), "{}", family.name);
        for part in [least, all] {
            let vocab = part.vocab as u32;
            let model = Model::made_up(part, Arc::clone(&kernels)).unwrap();
            let mut run = Run::new(&model, KvFormat::I16, 64);
            let tokens: Vec<u32> = (0..40).map(|i| i * 7 % vocab).collect();
            let logits = [run.feed(&tokens), run.feed(&[1])].concat();
            assert!(logits.iter().all(|x| x.is_finite()), "{}", family.name);
            assert!(logits.iter().any(|&x| x != logits[0]), "{}", family.name);
        }
    }
}

/// A deep model becomes shallow, and a kind of layer that it has only once stays.
#[test]
fn every_kind_of_layer_is_in_the_smallest_part() {
    let kernels = Kernels::new(Options { threads: 1, ..Options::default() }).unwrap();
    let config = serde_json::json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 8_192,
        "max_position_embeddings": 1_024, "rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "tie_word_embeddings": true,
        "hidden_act": "silu", "torch_dtype": "bfloat16"
    });
    let checkpoint = Checkpoint::from_config("deep", config);
    let plan =
        |quant| Plan::from_config(&checkpoint, PlanOptions { quant, ..PlanOptions::default() }).unwrap();
    let (plain, mixed) = (plan(None), plan(Some(sampan_model::Quant::Q4_K_M)));
    let least = plain.sample(&kernels, 0);
    assert_eq!((least.layers.len(), least.vocab), (1, 1_024));
    // Some layers have more bits than others.
    assert_eq!(mixed.sample(&kernels, 0).layers.len(), 2);
    let half = plain.sample(&kernels, plain.decode_bytes(&kernels, KvFormat::I16, 0) / 2);
    assert_eq!((half.layers.len(), half.vocab), (16, 4_096));
}
