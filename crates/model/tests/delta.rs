//! Models with layers of gated delta rule: their state is saved, restored and kept apart from other sequences'.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Golden, Run, difference, load, shared};
use sampan_fixtures::Family;
use sampan_model::{Cache, CacheSizes, Chunk, KvFormat, Logits, Model, PAGE, Plan, PlanOptions, Scratch};
use sampan_weights::Checkpoint;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// Goldens that stand in for the family where the shared folder is there.
const GOLDENS: &[&str] = &["qwen3_next", "qwen3_5_moe_mm"];

/// Calls `test` with each model and two pages and a bit of tokens.
fn each_model(test: impl Fn(&Model, &[u32])) {
    let check = |model: &Path, golden: &Path| {
        let golden = Golden::read(golden);
        let tokens: Vec<u32> = golden.ids.iter().chain(&golden.greedy).chain(&golden.ids).copied().collect();
        test(&load(model), &tokens[..2 * PAGE + 9]);
    };
    let (dir, family) = fixture();
    check(dir.path(), &family.golden);
    let Some(root) = shared("golden") else { return };
    for family in GOLDENS {
        check(&root.join(family), &root.join(family).join("golden.safetensors"));
    }
}

fn fixture() -> (TempDir, Family) {
    let (dir, family) = (tempfile::tempdir().unwrap(), Family::load("qwen3_5").unwrap());
    family.write_checkpoint(dir.path()).unwrap();
    (dir, family)
}

/// One model with a cache that several sequences share.
struct Sequences<'a> {
    model: &'a Model,
    cache: Cache,
    scratch: Scratch,
}

impl<'a> Sequences<'a> {
    fn new(model: &'a Model, pages: usize, slots: usize) -> Sequences<'a> {
        let cache = Cache::new(model.plan(), CacheSizes { format: KvFormat::F32, pages, slots });
        Sequences { model, cache, scratch: Scratch::default() }
    }

    fn feed(&mut self, chunks: &[Chunk<'_>]) -> Vec<f32> {
        let mut logits = Vec::new();
        self.model.forward(chunks, &mut self.cache, &mut self.scratch, &mut logits);
        logits
    }
}

fn chunk<'a>(tokens: &'a [u32], start: usize, end: usize, pages: &'a [u32], slot: u32) -> Chunk<'a> {
    Chunk { tokens: &tokens[start..end], start, pages, slot, logits: Logits::All, adapter: None }
}

#[test]
fn a_state_saved_at_a_page_border_goes_on_in_another_slot() {
    each_model(|model, tokens| {
        let expected = Run::new(model, KvFormat::F32, tokens.len()).feed(tokens);
        let (border, vocab) = (PAGE, model.plan().vocab);
        let mut sequences = Sequences::new(model, 8, 4);
        sequences.feed(&[chunk(tokens, 0, 5, &[3], 2)]);
        sequences.feed(&[chunk(tokens, 5, border, &[3], 2)]);
        sequences.cache.copy_slot(model.kernels(), 2, 0);
        // The first sequence goes on with other tokens and then ends; its slot is taken by a new one.
        let other: Vec<u32> = tokens.iter().rev().copied().collect();
        sequences.feed(&[chunk(&other, border, other.len(), &[3, 4, 5], 2)]);
        sequences.feed(&[chunk(&other, 0, 7, &[6], 2)]);
        for slot in [1, 3] {
            sequences.cache.copy_slot(model.kernels(), 0, slot);
            let rest = sequences.feed(&[chunk(tokens, border, tokens.len(), &[3, 1, 2], slot)]);
            assert_eq!(
                difference(&rest, &expected[border * vocab..]),
                0.0,
                "{} slot {slot}",
                model.plan().family
            );
        }
    });
}

#[test]
fn sequences_of_a_batch_do_not_meet() {
    each_model(|model, tokens| {
        let vocab = model.plan().vocab;
        let texts = [tokens.to_vec(), tokens.iter().rev().copied().collect(), tokens[11..].to_vec()];
        let alone: Vec<Vec<f32>> =
            texts.iter().map(|text| Run::new(model, KvFormat::F32, text.len()).feed(text)).collect();
        let per = tokens.len().div_ceil(PAGE) as u32;
        let pages: Vec<Vec<u32>> = (0..3).map(|s| (0..per).map(|page| 3 * page + s).collect()).collect();
        let mut sequences = Sequences::new(model, 3 * per as usize, 3);
        let mut at = [0; 3];
        for step in 0.. {
            // Another order and other sizes in every step.
            let parts: Vec<(usize, usize)> = (0..3)
                .map(|s| (s + step) % 3)
                .map(|s| (s, [1, 9, 4, 30][(s + step) % 4].min(texts[s].len() - at[s])))
                .filter(|(_, n)| *n > 0)
                .collect();
            if parts.is_empty() {
                break;
            }
            let chunks: Vec<Chunk<'_>> =
                parts.iter().map(|&(s, n)| chunk(&texts[s], at[s], at[s] + n, &pages[s], s as u32)).collect();
            let logits = sequences.feed(&chunks);
            let mut rows = logits.chunks(vocab);
            for (s, n) in parts {
                let logits = rows.by_ref().take(n).flatten().copied().collect::<Vec<f32>>();
                let expected = &alone[s][at[s] * vocab..(at[s] + n) * vocab];
                assert_eq!(
                    difference(&logits, expected),
                    0.0,
                    "{} sequence {s} step {step}",
                    model.plan().family
                );
                at[s] += n;
            }
        }
    });
}

#[test]
fn towers_and_heads_beside_the_text_model_are_named() {
    let Some(root) = shared("golden") else { return };
    let checkpoint = Checkpoint::open(&root.join("qwen3_5_mm")).unwrap();
    let plan = Plan::from_checkpoint(&checkpoint, PlanOptions::default()).unwrap();
    let what: Vec<&str> = plan.set_aside.iter().map(|aside| aside.what).collect();
    assert_eq!(what, ["vision tower"]);
    let tensors = plan.set_aside[0].tensors;
    let visual = checkpoint.tensors().filter(|tensor| tensor.name.starts_with("model.visual.")).count();
    assert_eq!(tensors, visual);
}

#[test]
fn configurations_that_make_no_sense() {
    let kinds = json!(["full_attention", "linear_attention", "ssm"]);
    let cases: &[(&str, Value, &[&str])] = &[
        ("output_gate_type", json!("swish"), &["output_gate_type", "swish", "not supported"]),
        ("attn_output_gate", json!(false), &["attn_output_gate", "false"]),
        ("attention_bias", json!(true), &["attention_bias"]),
        ("hidden_act", json!("gelu"), &["hidden_act", "gelu"]),
        ("layer_types", kinds, &["layer_types", "ssm"]),
        ("layer_types", json!(["full_attention"]), &["layer_types", "3"]),
        ("linear_num_value_heads", json!(3), &["linear_num_value_heads", "linear_num_key_heads"]),
        ("linear_key_head_dim", json!(4096), &["linear_key_head_dim", "4096"]),
        ("linear_conv_kernel_dim", json!(100), &["linear_conv_kernel_dim", "100"]),
        ("linear_value_head_dim", json!(16), &["linear_attn.", "160", "128"]),
        ("num_key_value_heads", json!(3), &["num_key_value_heads"]),
        ("rope_parameters", json!({"partial_rotary_factor": 2.0}), &["partial_rotary_factor", "2"]),
    ];
    let (dir, family) = fixture();
    for (key, value, words) in cases {
        let mut config = family.config.clone();
        config[*key] = value.clone();
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let error = match Plan::from_checkpoint(&checkpoint, PlanOptions::default()) {
            Ok(_) => panic!("{key} = {value}: planned"),
            Err(error) => error.to_string(),
        };
        for word in *words {
            assert!(error.contains(word), "{key} = {value}: {word:?} is not in {error:?}");
        }
    }
}
