//! The commands that look inside: check, tokenize, template, show, doctor.

use crate::support::{Folder, tokenizer};
use serde_json::json;

#[test]
fn check_proves_the_families_and_notices_a_difference() {
    for name in ["llama", "llama3_rope", "qwen2", "qwen2_distill", "qwen3", "qwen3_untied"] {
        let folder = Folder::new();
        let family = folder.family(name);
        let golden = family.golden.canonicalize().unwrap();
        let golden = golden.display();
        let report = folder.sampan(&format!("check model {golden} --json")).json();
        assert_eq!(report["holds"], true, "{name}: {report:#}");
        let passes: Vec<_> = report["passes"].as_array().unwrap().iter().map(|p| p["pass"].clone()).collect();
        assert_eq!(passes, ["one-shot", "chunked", "cached"]);
        for pass in report["passes"].as_array().unwrap() {
            assert_eq!((&pass["top1_agreement"], &pass["not_finite"]), (&json!(1.0), &json!(0)), "{name}");
            assert_eq!(pass["greedy_equal"], report["greedy_tokens"], "{name}");
        }

        let strict = folder.sampan(&format!("check model {golden} --tolerance 0"));
        assert_eq!(strict.code, 1, "{strict:#?}");
        assert!(strict.stdout.contains("DIFFERS") && strict.stderr.contains("apart"), "{strict:#?}");
    }
}

#[test]
fn check_notices_damage() {
    let folder = Folder::new();
    let family = folder.family("qwen3");
    let golden = family.golden.canonicalize().unwrap();
    let path = folder.path("model/model.safetensors");
    let good = std::fs::read(&path).unwrap();
    for (damage, says) in [(0x7fc0_0000u32, "not finite"), (0x3f80_0000, "apart")] {
        let mut bytes = good.clone();
        let end = bytes.len();
        for value in bytes[end - 4096..].chunks_exact_mut(4) {
            value.copy_from_slice(&damage.to_le_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        let outcome = folder.sampan(&format!("check model {}", golden.display()));
        assert_eq!(outcome.code, 1, "{outcome:#?}");
        assert!(outcome.stderr.contains(says), "{outcome:#?}");
    }
}

#[test]
fn check_refuses_the_golden_file_of_another_model() {
    let folder = Folder::new();
    let family = folder.family("qwen3");
    // The same golden file, but its logits are cut to a shape that is none.
    let mut golden = std::fs::read(&family.golden).unwrap();
    let at = golden.windows(4).position(|w| w == b"256]").unwrap();
    golden[at..at + 3].copy_from_slice(b"257");
    let golden = folder.write("golden.safetensors", golden);
    let outcome = folder.sampan(&format!("check model {}", golden.display()));
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    assert!(outcome.stderr.contains("logits"), "{outcome:#?}");
}

#[test]
fn tokenize_is_exact_both_ways() {
    let folder = Folder::new();
    let file = folder.write("tokenizer.json", tokenizer(&[]).to_string());
    let file = file.display();
    for (text, ids) in [
        ("", "[]\n"),
        ("a\n", "[97, 10]\n"),
        (" a", "[32, 97]\n"),
        ("é", "[195, 169]\n"),
        ("<|im_end|>", "[60, 124, 105, 109, 95, 101, 110, 100, 124, 62]\n"),
    ] {
        assert_eq!(folder.sampan_with(&format!("tokenize {file}"), text).success(), ids, "{text:?}");
        assert_eq!(folder.sampan_with(&format!("tokenize {file} --decode"), ids).success(), text);
    }
    let special = folder.sampan_with(&format!("tokenize {file} --special"), "a<|im_end|>").success();
    assert_eq!(special, "[97, 257]\n");
    assert_eq!(folder.sampan_with(&format!("tokenize {file} --decode"), &special).success(), "a");
    assert_eq!(
        folder.sampan_with(&format!("tokenize {file} --decode --special"), &special).success(),
        "a<|im_end|>"
    );
}

#[test]
fn template_prints_the_prompt_exactly() {
    let folder = Folder::new();
    folder.model();
    folder.write("m.json", r#"[{"role": "user", "content": "hé"}]"#);
    folder.write(
        "o.json",
        r#"{"messages": [{"role": "user", "content": "hé"}], "tools": [{"function": {"name": "f"}}]}"#,
    );
    folder.write("t.json", r#"[{"function": {"name": "clock"}}]"#);
    folder.write("v.jinja", "{{ n }}{{ s }}{{ messages|length }}");
    let turn = "<|im_start|>user\nhé<|im_end|>\n";
    for (arguments, prompt) in [
        ("model --messages m.json", format!("{turn}<|im_start|>assistant\n")),
        ("model --messages m.json --no-generation-prompt", turn.to_owned()),
        ("model --messages m.json --tools t.json --no-generation-prompt", format!("{turn}[clock]")),
        ("model --messages o.json --no-generation-prompt", format!("{turn}[f]")),
        (
            "model --messages m.json --var enable_thinking=true",
            format!("{turn}<|im_start|>assistant\n<think>\n"),
        ),
        ("model/chat_template.jinja --messages m.json --no-generation-prompt", turn.to_owned()),
        ("v.jinja --messages m.json --var n=7 --var s=x=y", "7x=y1".to_owned()),
    ] {
        assert_eq!(folder.sampan(&format!("template {arguments}")).success(), prompt, "{arguments}");
    }
}

#[test]
fn show_reads_the_plan() {
    let folder = Folder::new();
    folder.model();
    folder.write("model/README.md", "---\nlicense: apache-2.0\n---\n");
    let shown = folder.sampan("show model --json --context 64 --tensors").json();
    assert_eq!(shown["family"], "qwen3");
    assert_eq!(shown["licence"], "apache-2.0");
    assert_eq!(shown["memory"]["context"], 64);
    assert_eq!(shown["tokenizer"], json!({"kind": "tokenizer.json", "size": 260}));
    assert_eq!(shown["template_sha256"].as_str().map(str::len), Some(64));
    let elements = |t: &serde_json::Value| -> u64 {
        t["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).product()
    };
    let parameters: u64 = shown["tensors"].as_array().unwrap().iter().map(elements).sum();
    assert_eq!(shown["parameters"], parameters);
    let twice = folder.sampan("show model --json --context 128").json();
    assert_eq!(twice["memory"]["kv_bytes"].as_u64(), shown["memory"]["kv_bytes"].as_u64().map(|b| 2 * b));
    let text = folder.sampan("show model").success();
    for line in
        ["family", "parameters", "layers", "context", "formats", "memory needed", "tokenizer", "licence"]
    {
        assert!(text.lines().any(|l| l.starts_with(line)), "no {line} in {text}");
    }
}

#[test]
fn doctor_says_what_was_chosen() {
    let folder = Folder::new();
    let found = folder.sampan("doctor --json --isa portable --threads 1").json();
    assert_eq!((&found["isa"], &found["threads"]), (&json!("portable"), &json!(1)));
    assert!(found["read_bytes_per_s"].as_f64().unwrap() > 1e8);
    let text = folder.sampan("doctor").success();
    for line in ["processor", "instruction set", "threads", "memory", "read bandwidth", "kernels"] {
        assert!(text.lines().any(|l| l.starts_with(line)), "no {line} in {text}");
    }
}

#[test]
fn version_and_help_are_no_mistakes() {
    let folder = Folder::new();
    assert_eq!(folder.sampan("--version").success(), format!("sampan {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["run", "check", "tokenize", "template", "show", "doctor", "bench"] {
        assert!(folder.sampan("--help").success().contains(command));
        assert!(folder.sampan(&format!("{command} --help")).success().contains("Usage:"));
    }
}
