//! A checkpoint that contradicts itself gets no plan, and the error names what is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sampan_fixtures::Family;
use sampan_model::{Plan, PlanOptions};
use sampan_weights::Checkpoint;
use serde_json::{Value, json};
use std::path::Path;

/// Plans a fixture after `spoil` changed its configuration; the error must contain every one of `words`.
fn refused(family: &str, spoil: &[(&str, Value)], words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::load(family).unwrap();
    family.write_checkpoint(dir.path()).unwrap();
    let mut config = family.config.clone();
    for (key, value) in spoil {
        config[*key] = value.clone();
    }
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    names(dir.path(), words, &format!("{spoil:?}"));
}

fn names(path: &Path, words: &[&str], case: &str) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let error = match Plan::from_checkpoint(&checkpoint, PlanOptions::default()) {
        Ok(_) => panic!("{case}: planned"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(error.contains(word), "{case}: {word:?} is not in {error:?}");
    }
}

/// What is spoiled, and what the error must contain.
type Case<'a> = (&'a [(&'a str, Value)], &'a [&'a str]);

#[test]
fn configurations_that_make_no_sense() {
    let cases: &[Case<'_>] = &[
        (&[("model_type", json!("warbler"))], &["warbler", "model_type", "llama, qwen2, qwen2_moe"]),
        (&[("model_type", json!(7))], &["model_type", "7", "a string"]),
        (&[("hidden_size", json!(0))], &["hidden_size = 0"]),
        (&[("hidden_size", json!(-64))], &["hidden_size = -64"]),
        (&[("hidden_size", json!(1e30))], &["hidden_size"]),
        (&[("hidden_size", Value::Null)], &["hidden_size is missing"]),
        (&[("hidden_size", json!(96))], &["model.embed_tokens.weight", "64]", "96]"]),
        (&[("num_key_value_heads", json!(3))], &["num_key_value_heads = 3"]),
        (&[("head_dim", json!(33))], &["head_dim = 33", "even"]),
        (&[("num_hidden_layers", json!(5))], &["model.layers.", "is missing", "more"]),
        (&[("num_hidden_layers", json!(1))], &["not used", "model.layers.1."]),
        (&[("hidden_act", json!("xielu"))], &["hidden_act", "xielu", "not supported"]),
        (&[("rms_norm_eps", json!("small"))], &["rms_norm_eps", "small", "number"]),
        (
            &[
                ("rope_parameters", Value::Null),
                ("rope_scaling", json!({"rope_type": "spiral", "factor": 2.0})),
            ],
            &["rope_scaling.rope_type", "spiral"],
        ),
        (
            &[("rope_parameters", Value::Null), ("rope_scaling", json!({"type": "yarn"}))],
            &["rope_scaling.factor is missing"],
        ),
    ];
    for (spoil, words) in cases {
        refused("qwen3", spoil, words);
    }
}

#[test]
fn streams_and_sparse_gates_that_make_no_sense() {
    let pattern = "activation_sparsity_pattern";
    let cases: &[Case<'_>] = &[
        (&[("altup_num_inputs", json!(1))], &["altup_num_inputs = 1", "2 to 64"]),
        (&[("altup_num_inputs", json!(3))], &["altup.modality_router.weight", "[4, 64]", "[3, 64]"]),
        (&[("altup_num_inputs", json!(5))], &["altup.modality_router.weight", "[4, 64]", "[5, 64]"]),
        (&[("altup_active_idx", json!(4))], &["altup_active_idx = 4", "altup_num_inputs"]),
        (&[("laurel_rank", json!(7))], &["model.layers.0.laurel.linear_left.weight", "[8, 64]", "[7, 64]"]),
        (&[(pattern, json!([0.95, 0.95, 0.0]))], &[pattern, "for each layer"]),
        (&[(pattern, json!([0.95, 0.95, 0.0, 1.0]))], &[pattern, "from 0 to below 1"]),
        (&[(pattern, json!([0.95, "few", 0.0, 0.0]))], &[pattern, "few", "number"]),
        (&[("hidden_activation", json!("silu"))], &["hidden_activation", "silu", "not supported"]),
        (&[("hidden_size_per_layer_input", json!(0))], &["hidden_size_per_layer_input", "not supported"]),
        (&[("num_kv_shared_layers", json!(3))], &["num_kv_shared_layers = 3", "of each kind"]),
        (&[("num_kv_shared_layers", json!(4))], &["num_kv_shared_layers = 4", "number of layers"]),
        (&[("attention_bias", json!(true))], &["attention_bias", "not supported"]),
    ];
    for (spoil, words) in cases {
        refused("gemma3n", spoil, words);
    }
}

/// Values of keys that would change what is computed, and that no translation knows.
#[test]
fn what_is_not_implemented_is_named() {
    let nested =
        |kind: &str| json!({"full_attention": {"rope_type": kind, "rope_theta": 1e6, "factor": 2.0}});
    let listed = |kind: &str| json!([kind, "full_attention", kind]);
    let cases: &[(&str, &str, Value, &[&str])] = &[
        ("llama", "use_sliding_window", json!(true), &[]),
        ("llama", "layer_types", listed("sliding_attention"), &[]),
        ("llama", "partial_rotary_factor", json!(0.5), &[]),
        ("llama", "rope_parameters", json!({"rope_theta": 1e4, "partial_rotary_factor": 0.5}), &["0.5"]),
        ("llama", "rope_parameters", nested("default"), &["for all layers"]),
        (
            "llama",
            "rope_scaling",
            json!({"type": "dynamic", "factor": 2.0}),
            &["rope_scaling.type", "dynamic"],
        ),
        ("llama", "rope_scaling", json!({"rope_type": "longrope"}), &["rope_scaling.rope_type", "longrope"]),
        (
            "llama",
            "rope_scaling",
            json!({"type": "yarn", "factor": 2.0, "truncate": 1}),
            &["truncate", "true or false"],
        ),
        ("llama", "is_causal", json!(false), &[]),
        ("llama", "hidden_act", json!("gelu"), &[]),
        ("qwen2", "use_mrope", json!(true), &[]),
        ("qwen2", "layer_types", listed("linear_attention"), &["linear_attention"]),
        ("qwen2", "layer_types", listed("sliding_attention"), &["sliding_attention"]),
        ("qwen2", "layer_types", json!(["full_attention"]), &["for each layer"]),
        ("qwen2_moe", "layer_types", listed("chunked_attention"), &["chunked_attention"]),
        ("qwen2_moe", "mlp_only_layers", json!("1"), &["layer numbers"]),
        ("qwen3_moe", "decoder_sparse_step", json!(0), &["above 0"]),
        ("qwen3_next", "mlp_only_layers", json!("1"), &["layer numbers"]),
        ("qwen3_next", "attention_bias", json!(true), &[]),
        ("qwen3_next", "layer_types", listed("mamba"), &["mamba"]),
        ("qwen3_5", "output_gate_type", json!("swish"), &["swish"]),
        ("qwen3_5", "attn_output_gate", json!(false), &["false"]),
        ("qwen3_5", "hidden_act", json!("gelu"), &["gelu"]),
        ("deepseek_v2", "norm_topk_prob", json!(true), &[]),
        ("deepseek_v2", "topk_method", json!("best"), &["best"]),
        ("deepseek_v3", "rope_interleave", json!(false), &["false"]),
        ("deepseek_v3", "scoring_func", json!("tanh"), &["tanh"]),
        ("deepseek_v3", "hidden_act", json!("relu"), &["relu"]),
        ("deepseek_v3", "attention_bias", json!(true), &[]),
        ("deepseek_v3", "mlp_layer_types", json!(["dense", "hash"]), &["hash"]),
        ("deepseek_v32", "layer_types", listed("indexed_attention"), &["full_attention"]),
        ("deepseek_v4", "hidden_act", json!("gelu"), &["gelu"]),
        ("deepseek_v4", "topk_method", json!("greedy"), &["greedy"]),
        ("deepseek_v4", "scoring_func", json!("softmax"), &["softmax"]),
        ("deepseek_v4", "num_key_value_heads", json!(2), &["2"]),
        ("gemma2", "layer_types", json!(["full_attention", "mamba", "mamba", "mamba"]), &["mamba"]),
        ("gemma2", "hidden_activation", json!("relu"), &["relu"]),
        ("gemma2", "partial_rotary_factor", json!(0.5), &[]),
        ("gemma3", "attn_logit_softcapping", json!(50.0), &["50"]),
        ("gemma3", "rope_parameters", nested("spiral"), &["full_attention.rope_type", "spiral"]),
        ("gemma3", "use_bidirectional_attention", json!(true), &[]),
        ("gpt_oss", "hidden_act", json!("gelu"), &["gelu"]),
        ("gpt_oss", "layer_types", listed("chunked_attention"), &["layer_types"]),
    ];
    for (family, key, value, words) in cases {
        let mut words = words.to_vec();
        words.push(key);
        refused(family, &[(key, value.clone())], &words);
    }
}

#[test]
fn tensors_of_a_type_that_no_matrix_can_have() {
    let dir = tempfile::tempdir().unwrap();
    let family = Family::load("qwen3").unwrap();
    family.write_checkpoint(dir.path()).unwrap();
    let file = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    // The header is JSON: one tensor's type can be changed in place for another of the same size.
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let at = header.find("self_attn.q_proj.weight").unwrap();
    let spoiled = format!("{}{}", &header[..at], header[at..].replacen("F32", "I32", 1));
    bytes[8..8 + length].copy_from_slice(spoiled.as_bytes());
    std::fs::write(&file, bytes).unwrap();
    names(dir.path(), &["self_attn.q_proj.weight", "I32", "F32 F16 BF16"], "an integer matrix");
}
