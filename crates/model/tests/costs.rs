//! Bytes and operations that the plan counts, against counts by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sampan_fixtures::Family;
use sampan_kernels::limits::Arithmetic;
use sampan_kernels::{Kernels, Options};
use sampan_model::plan::{Mixer, Role};
use sampan_model::{KvFormat, Plan, PlanOptions};
use sampan_weights::Checkpoint;

fn plan(family: &str) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    Family::load(family).unwrap().write_checkpoint(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    Plan::from_checkpoint(&checkpoint, PlanOptions::default()).unwrap()
}

fn kernels() -> Kernels {
    Kernels::new(Options { threads: 1, ..Options::default() }).unwrap()
}

/// Weights of the matrices that every token passes.
fn passed(plan: &Plan) -> u64 {
    let matrices = plan.tensors.iter().filter(|tensor| tensor.role == Role::Matrix);
    let head = plan.head.map(|head| head.weight);
    let apart = [Some(plan.embedding), head.filter(|&id| id != plan.embedding)].into_iter().flatten();
    let apart: u64 = apart.map(|id| plan.tensors[id].count()).sum();
    matrices.map(|tensor| tensor.count()).sum::<u64>() - apart
}

#[test]
fn a_dense_prompt_takes_its_matrices_its_scores_and_one_head() {
    let plan = plan("qwen3");
    let head = plan.head.unwrap();
    let (start, tokens) = (40, 9);
    // Positions 40 to 48 see 41 to 49 tokens.
    let seen: u64 = (41..=49).sum();
    let scores: u64 = plan.attentions().map(|a| seen * (a.heads * (a.key_dim + a.value_dim)) as u64).sum();
    let products = 9 * passed(&plan) + (head.rows * head.cols) as u64;
    let counted = plan.operations(&kernels(), KvFormat::F16, start, tokens);
    assert_eq!((counted.int8, counted.bf16, counted.f32), (0, 2 * scores, 2 * products));
    let exact = plan.operations(&kernels(), KvFormat::F32, start, tokens);
    assert_eq!((exact.bf16, exact.f32), (0, 2 * (scores + products)));
    assert_eq!(counted.total(), exact.total());
}

#[test]
fn operations_go_by_the_format_and_add_up_over_the_parts_of_a_prompt() {
    for family in ["qwen3", "qwen3_moe", "gemma3", "qwen3_next", "deepseek_v2", "deepseek_v32", "deepseek_v4"]
    {
        let plan = plan(family);
        let kernels = kernels();
        let of = |start, tokens| plan.operations(&kernels, KvFormat::F16, start, tokens);
        let (whole, first, rest) = (of(0, 100), of(0, 60), of(60, 40));
        let head = of(0, 0);
        for kind in Arithmetic::ALL {
            assert_eq!(whole.of(kind) + head.of(kind), first.of(kind) + rest.of(kind), "{family}: {kind:?}");
        }
        let recurrent = plan.layers.iter().all(|layer| matches!(layer.mixer, Mixer::Delta(_)));
        assert!(rest.bf16 * 3 > first.bf16 * 2 || recurrent, "{family}: later tokens see more");
    }
}

#[test]
fn a_token_passes_the_experts_that_it_chooses() {
    let plan = plan("qwen3_moe");
    let idle: u64 = plan.mixtures().map(|moe| moe.idle(|e| 3 * (e.gate.rows * e.gate.cols) as u64)).sum();
    assert!(idle > 0);
    let head = plan.head.unwrap();
    let counted = plan.operations(&kernels(), KvFormat::F16, 0, 10);
    assert_eq!(counted.f32, 2 * (10 * (passed(&plan) - idle) + (head.rows * head.cols) as u64));
}

#[test]
fn a_step_of_many_streams_reads_weights_once_and_more_experts() {
    let kernels = kernels();
    let bytes = |plan: &Plan, context, streams| plan.step_bytes(&kernels, KvFormat::F16, context, streams);
    let dense = plan("qwen3");
    let kv = bytes(&dense, 320, 1) - bytes(&dense, 0, 1);
    assert_eq!(kv, 10 * dense.kv_bytes_per_page(KvFormat::F16) as u64);
    assert_eq!(bytes(&dense, 320, 8), bytes(&dense, 0, 1) + 8 * kv);
    assert_eq!(bytes(&dense, 320, 1), dense.decode_bytes(&kernels, KvFormat::F16, 320));
    let mixed = plan("qwen3_moe");
    let steps: Vec<u64> = [1, 2, 8, 1000].map(|streams| bytes(&mixed, 0, streams)).into();
    assert!(steps.is_sorted() && steps[0] < steps[1] && steps[1] < steps[2], "{steps:?}");
    let all: usize = mixed.memory(&kernels, KvFormat::F16, 32, 1).weights;
    assert!(steps[3] <= all as u64, "{steps:?} and {all}");
}
