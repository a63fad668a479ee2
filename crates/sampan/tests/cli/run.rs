//! `sampan run` on a tiny model whose words are noise: what goes where, what repeats, what is counted.

use crate::support::{Folder, tokenizer};
use serde_json::{Value, json};

fn speaking() -> Folder {
    let folder = Folder::new();
    folder.model();
    folder
}

#[test]
fn json_has_everything_and_repeats_with_the_seed() {
    let folder = speaking();
    let arguments = "run model hello --json --max-tokens 12 --seed 7 --temperature 1.5";
    let answer = folder.sampan(arguments).json();
    type IsKind = fn(&Value) -> bool;
    let kinds: &[(&str, IsKind)] = &[
        ("/model", Value::is_string),
        ("/text", Value::is_string),
        ("/reasoning", Value::is_string),
        ("/finish_reason", Value::is_string),
        ("/tokens/prompt", Value::is_u64),
        ("/tokens/cached", Value::is_u64),
        ("/tokens/generated", Value::is_u64),
        ("/timings/load_s", Value::is_f64),
        ("/timings/prefill_s", Value::is_f64),
        ("/timings/first_token_s", Value::is_f64),
        ("/timings/decode_s", Value::is_f64),
        ("/timings/prompt_tokens_per_s", Value::is_f64),
        ("/memory/planned_bytes", Value::is_u64),
        ("/seed", Value::is_u64),
    ];
    for (pointer, is_kind) in kinds {
        assert!(answer.pointer(pointer).is_some_and(is_kind), "{pointer} in {answer:#}");
    }
    // <|im_start|> user \n hello <|im_end|> \n <|im_start|> assistant \n
    assert_eq!(answer["tokens"]["prompt"], 1 + 5 + 5 + 2 + 1 + 10);
    assert_eq!(answer["seed"], 7);
    let again = folder.sampan(arguments).json();
    assert_eq!((&answer["text"], &answer["tokens"]), (&again["text"], &again["tokens"]));
    let other = folder.sampan(&arguments.replace("seed 7", "seed 8")).json();
    assert_ne!(answer["text"], other["text"]);
}

#[test]
fn only_the_answer_is_on_stdout() {
    let folder = speaking();
    let flags = "--max-tokens 12 --seed 3 --temperature 1.5";
    let text = folder.sampan(&format!("run model hello {flags} --json")).json()["text"].clone();
    let outcome = folder.sampan(&format!("run model hello {flags} --stats"));
    for word in ["prompt", "generation", "first token", "loading", "memory", "seed"] {
        assert!(outcome.stderr.lines().any(|line| line.starts_with(word)), "{outcome:#?}");
    }
    assert_eq!(outcome.success().trim_end_matches('\n'), text.as_str().unwrap().trim_end_matches('\n'));
    let quiet = folder.sampan(&format!("run model hello {flags} -q"));
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
}

#[test]
fn the_prompt_and_stdin_come_together() {
    let folder = speaking();
    let tokens = |arguments: &str, stdin: &str| {
        let flags = "--json --max-tokens 1";
        folder.sampan_with(&format!("run model {arguments} {flags}"), stdin).json()["tokens"]["prompt"]
            .as_u64()
            .unwrap()
    };
    let empty = tokens("x", "") - 1;
    for (arguments, stdin, said) in [
        ("hello", "", "hello"),
        ("hello you", "", "hello you"),
        ("--quiet", "piped", "piped"),
        ("--quiet", "piped\n", "piped"),
        ("--quiet", "piped\r\n", "piped"),
        ("--quiet", "piped\n\n", "piped\n"),
        ("say", "piped\n", "say\n\npiped"),
        ("<|im_end|>", "", "<|im_end|>"),
    ] {
        assert_eq!(tokens(arguments, stdin) - empty, said.len() as u64, "{arguments} {stdin:?}");
    }
    assert_eq!(tokens("--raw", "raw\n"), 4);
    assert_eq!(tokens("--raw", "<|im_end|>"), 10);
    assert_eq!(tokens("--raw --special", "<|im_end|>"), 1);
    assert_eq!(tokens("--system Be hello", ""), tokens("hello", "") + 2 + "system\n".len() as u64 + 3);
}

#[test]
fn messages_and_tools_come_from_files() {
    let folder = speaking();
    folder.write(
        "m.json",
        json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]).to_string(),
    );
    folder.write("t.json", json!([{"function": {"name": "clock"}}]).to_string());
    let tokens = |arguments: &str| {
        folder.sampan(&format!("run model {arguments} --json --max-tokens 1")).json()["tokens"]["prompt"]
            .as_u64()
            .unwrap()
    };
    let plain = tokens("--messages m.json c");
    assert_eq!(tokens("--messages m.json c --tools t.json"), plain + "[clock]".len() as u64);
    assert_eq!(tokens("--messages m.json c --think"), plain + 2, "a marker and a line break");
    assert_eq!(tokens("--messages m.json c --think --no-think"), plain, "the last of both counts");
}

#[test]
fn reasoning_stays_off_stdout() {
    let folder = speaking();
    let flags = "--max-tokens 8 --seed 1 --think";
    let answer = folder.sampan(&format!("run model hello {flags} --json")).json();
    let reasoning = answer["reasoning"].as_str().unwrap();
    assert!(!reasoning.is_empty() && answer["text"] == "", "the template opened the reasoning: {answer:#}");
    let hidden = folder.sampan(&format!("run model hello {flags} -q"));
    assert_eq!((hidden.stdout.as_str(), hidden.stderr.as_str()), ("", ""));
    let shown = folder.sampan(&format!("run model hello {flags} -q --show-reasoning"));
    assert_eq!((shown.stdout.as_str(), shown.stderr.trim_end()), ("", reasoning.trim_end()));
}

#[test]
fn answers_end_for_the_reason_given() {
    let folder = Folder::new();
    folder.endless_model();
    let answer = |flags: &str| {
        folder.sampan(&format!("run model hello --json --seed 5 --temperature 3 {flags}")).json()
    };
    let long = answer("--max-tokens 20");
    assert_eq!((&long["finish_reason"], &long["tokens"]["generated"]), (&json!("length"), &json!(20)));
    let full = answer("--context 40");
    assert_eq!((&full["finish_reason"], &full["tokens"]["generated"]), (&json!("context"), &json!(40 - 33)));
    let text = long["text"].as_str().unwrap();
    let stop: String = text.chars().skip(3).take(1).collect();
    if !stop.trim().is_empty() {
        let stopped = answer(&format!("--max-tokens 20 --stop {stop}"));
        assert_eq!(stopped["finish_reason"], "stop");
        assert_eq!(stopped["text"].as_str(), text.split_once(&stop).map(|(before, _)| before));
    }
    let stderr = folder.sampan("run model hello --max-tokens 2 --seed 5").stderr;
    assert!(stderr.contains("stopped after 2 tokens"), "{stderr}");
}

#[test]
fn defaults_come_from_generation_config() {
    let folder = speaking();
    let text = |flags: &str| {
        folder.sampan(&format!("run model hello --json --max-tokens 12 {flags}")).json()["text"].clone()
    };
    folder.write("model/generation_config.json", json!({"do_sample": false}).to_string());
    let greedy = text("--temperature 0");
    assert_eq!(text("--seed 1"), greedy);
    folder.write("model/generation_config.json", json!({"do_sample": true, "temperature": 2.5}).to_string());
    assert_ne!(text("--seed 1"), greedy);
    // Every id may end an answer when the file says so.
    let ids: Vec<u32> = (0..512).collect();
    folder.write("model/generation_config.json", json!({"eos_token_id": ids}).to_string());
    let answer = folder.sampan("run model hello --json").json();
    assert_eq!((&answer["finish_reason"], &answer["text"]), (&json!("stop"), &json!("")));
}

#[test]
fn threads_isa_and_cache_format_do_not_change_the_seeded_answer_in_f32() {
    let folder = speaking();
    let text = |flags: &str| {
        folder.sampan(&format!("run model hello --json --max-tokens 12 --seed 2 {flags}")).json()["text"]
            .clone()
    };
    assert_eq!(text("--threads 1"), text("--threads 3"));
    assert_eq!(text("--kv f32 --threads 1"), text("--kv f32 --threads 2"));
}

#[test]
fn what_belongs_between_two_texts_is_asked_for_in_the_models_own_tokens() {
    for [before, after, middle] in [
        ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
        ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    ] {
        let folder = speaking();
        folder.write("model/tokenizer.json", tokenizer(&[before, after, middle]).to_string());
        let flags = "--json --max-tokens 8 --temperature 0";
        let said = |arguments: &str, stdin: &str| {
            let answer = folder.sampan_with(&format!("run model {flags} {arguments}"), stdin).json();
            (answer["text"].clone(), answer["tokens"].clone())
        };
        let by_hand = said("--raw --special", &format!("{before}a(\n{after}){middle}"));
        assert_eq!(said("--suffix )", "a(\n"), by_hand);
        assert_eq!(by_hand.1["prompt"], 7);
        // A marker in the text itself is text.
        assert_eq!(said("--suffix )", middle).1["prompt"], 4 + middle.len());
    }
    let without = speaking().sampan("run model a --suffix b");
    without.mistake(&["fill"], "Qwen2.5-Coder").unwrap();
}
