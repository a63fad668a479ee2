//! The memory that is planned is the memory that is taken.

use crate::support::{Folder, tokenizer};
use sampan_fixtures::Family;

/// Peak and plan of a prompt that fills the context, in bytes.
fn peak_and_plan(family: Family, context: usize) -> (f64, f64) {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("model")).unwrap();
    family.write_checkpoint(&folder.path("model")).unwrap();
    folder.write("model/tokenizer.json", tokenizer(&[]).to_string());
    let arguments =
        format!("run model --raw --json --kv f32 --max-tokens 1 --speculate 0 --context {context}");
    let answer = folder.sampan_with(&arguments, "abcdefgh".repeat(context / 8 - 1)).json();
    let bytes = |name: &str| answer["memory"][name].as_f64().unwrap();
    (bytes("peak_bytes"), bytes("planned_bytes"))
}

/// Attention of every kind, experts, recurrent layers: tens of megabytes of weights, and a full context in float32.
#[cfg(target_os = "linux")]
#[test]
fn the_plan_is_within_five_percent_of_the_peak() {
    let (peak, plan) = peak_and_plan(Family::load("qwen3").unwrap().with_vocab(512), 64);
    // The program itself is larger here than as it is published.
    let program = peak - plan;
    assert!((-6e6..20e6).contains(&program), "{program}");
    // The plan counts a tokenizer with as many words as the model has rows; this one has few.
    let words = 240.0 * (250_000.0 - 512.0);
    for name in ["qwen3", "gemma3", "qwen3_moe", "qwen3_next", "deepseek_v2_lite"] {
        let (peak, plan) = peak_and_plan(Family::load(name).unwrap().with_vocab(250_000), 4096);
        let plan = plan - words;
        let off = (peak - program - plan) / plan;
        println!(
            "{name}: planned {plan}, measured {} beside the program: {:+.1} %",
            peak - program,
            100.0 * off
        );
        assert!(off.abs() < 0.05, "{name}: planned {plan}, measured {} beside the program", peak - program);
    }
}
