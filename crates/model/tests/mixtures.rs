//! Configurations of mixtures of experts that make no sense get no plan, and the error names what is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Spoiled, refused};
use serde_json::{Value, json};

#[test]
fn configurations_that_make_no_sense() {
    let none = Value::Null;
    let cases: &[Spoiled<'_>] = &[
        ("qwen3_moe", &[("norm_topk_prob", json!("yes"))], &["norm_topk_prob", "yes", "true or false"]),
        ("qwen3_moe", &[("num_experts_per_tok", json!(17))], &["num_experts_per_tok", "17", "at most"]),
        ("qwen3_moe", &[("num_experts_per_tok", json!(0))], &["num_experts_per_tok", "0"]),
        ("qwen3_moe", &[("num_local_experts", json!(15))], &["mlp.gate.weight", "[16, 64]", "[15, 64]"]),
        ("qwen3_moe", &[("decoder_sparse_step", json!(0))], &["decoder_sparse_step", "0"]),
        ("qwen3_moe", &[("mlp_only_layers", json!("all"))], &["mlp_only_layers", "all", "a list"]),
        ("qwen3_moe", &[("mlp_only_layers", json!([1]))], &["layers.1.mlp.gate_proj.weight", "missing"]),
        ("qwen3_moe", &[("hidden_act", json!("relu"))], &["hidden_act", "relu", "not supported"]),
        ("qwen3_moe", &[("moe_intermediate_size", none.clone())], &["moe_intermediate_size", "missing"]),
        ("qwen2_moe", &[("mlp_only_layers", json!([]))], &["layers.1.mlp.gate.weight", "missing"]),
        ("qwen2_moe", &[("shared_expert_intermediate_size", json!(48))], &["shared_expert", "96", "48"]),
        ("gpt_oss", &[("hidden_act", json!("gelu"))], &["hidden_act", "gelu", "not supported"]),
        ("gpt_oss", &[("layer_types", json!(["full_attention"]))], &["layer_types", "4 names"]),
        (
            "gpt_oss",
            &[("layer_types", json!(["full_attention", "spiral", "full_attention", "full_attention"]))],
            &["layer_types", "spiral", "not supported"],
        ),
        ("gpt_oss", &[("sliding_window", none.clone())], &["sliding_window", "missing"]),
        ("gpt_oss", &[("swiglu_limit", json!("none"))], &["swiglu_limit", "none", "number"]),
        ("gpt_oss", &[("rope_parameters", none)], &["rope_scaling", "missing"]),
        ("gpt_oss", &[("intermediate_size", json!(40))], &["gate_up_proj", "[8, 64, 96]", "[8, 64, 80]"]),
        ("gpt_oss_mxfp4", &[("intermediate_size", json!(96))], &["gate_up_proj_blocks", "128", "192"]),
    ];
    cases.iter().for_each(|case| refused("config.json", case));
}
