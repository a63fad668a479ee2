//! Every kind of bad input: a clear error that says what, where and what to do, with exit code 1.

use crate::support::{Folder, TEMPLATE, command, tokenizer};
use serde_json::json;
use std::io::Read;

/// What is wrong, how it comes about, what is typed, what the error says, what the hint says.
type Case = (&'static str, fn(&Folder), &'static str, &'static [&'static str], &'static str);

const MODELS: &[Case] = &[
    ("no file", |_| {}, "run absent.gguf hi", &["no model at absent.gguf"], "give a GGUF file"),
    (
        "a misspelt file",
        |f| drop(f.write("qwen3.gguf", "x")),
        "run qwen.gguf hi",
        &["no model at qwen.gguf"],
        "did you mean qwen3.gguf?",
    ),
    (
        "a folder without a model",
        |f| drop(f.write("d/x.txt", "")),
        "run d hi",
        &["d: ", "config.json"],
        "give a GGUF",
    ),
    (
        "no model file at all",
        |f| drop(f.write("x.gguf", "hello")),
        "run x.gguf hi",
        &["x.gguf: "],
        "give a GGUF file",
    ),
    (
        "an unknown family",
        |f| f.configure("model_type", json!("quux9")),
        "run model hi",
        &["quux9", "qwen3"],
        "known family",
    ),
    (
        "a missing number",
        |f| f.configure("num_hidden_layers", json!(null)),
        "run model hi",
        &["num_hidden_layers"],
        "config.json",
    ),
    (
        "an unsupported tensor format",
        |f| retype(f, "model.norm.weight"),
        "run model hi",
        &["model.norm.weight", "I32"],
        "supported",
    ),
    (
        "one layer too many",
        |f| f.configure("num_hidden_layers", json!(9)),
        "run model hi",
        &["is missing"],
        "incomplete",
    ),
    (
        "one layer too few",
        |f| f.configure("num_hidden_layers", json!(1)),
        "run model hi",
        &["not used"],
        "ignore part",
    ),
    (
        "a vocabulary of another model",
        |f| {
            let words: Vec<String> = (0..600).map(|i| format!("<word{i}>")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            f.write("model/tokenizer.json", tokenizer(&words).to_string());
        },
        "run model hi",
        &["860 tokens", "512"],
        "same place",
    ),
    (
        "no vocabulary",
        |f| std::fs::remove_file(f.path("model/tokenizer.json")).unwrap(),
        "run model hi",
        &["no tokenizer"],
        "tokenizer.json",
    ),
    (
        "a damaged vocabulary",
        |f| drop(f.write("model/tokenizer.json", "{")),
        "run model hi",
        &["tokenizer.json"],
        "",
    ),
    (
        "a template that fails",
        |f| {
            drop(
                f.write("model/chat_template.jinja", "a\nb\n{{ raise_exception('no ' + messages[0].role) }}"),
            )
        },
        "run model hi",
        &["template", "line 3", "no user"],
        "--raw",
    ),
    (
        "a template that does not compile",
        |f| drop(f.write("model/chat_template.jinja", "a\n{% if %}")),
        "run model hi",
        &["template", "line 2"],
        "--raw",
    ),
    (
        "no template",
        |f| std::fs::remove_file(f.path("model/chat_template.jinja")).unwrap(),
        "run model hi",
        &["no chat template"],
        "--raw",
    ),
    (
        "not enough memory",
        |_| {},
        "run model hi --context 4000000000",
        &["does not fit into memory: it needs ", "MiB available"],
        "--context",
    ),
    (
        "a prompt longer than the context",
        |_| {},
        "run model a-long-prompt --context 20",
        &["tokens", "context holds 20"],
        "--context",
    ),
    (
        "bad sampling defaults",
        |f| drop(f.write("model/generation_config.json", r#"{"top_p": 3}"#)),
        "run model hi",
        &["top_p = 3"],
        "",
    ),
];

/// Declares a tensor to be of 32-bit integers, which take as much room.
fn retype(folder: &Folder, name: &str) {
    let path = folder.path("model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    let at = find(&bytes, name.as_bytes());
    let dtype = at + find(&bytes[at..], b"F32");
    bytes[dtype] = b'I';
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn models_that_cannot_be_run() {
    let mut wrong = Vec::new();
    for (what, prepare, arguments, parts, hint) in MODELS {
        let folder = Folder::new();
        folder.model();
        prepare(&folder);
        if let Err(why) = folder.sampan(arguments).mistake(parts, hint) {
            wrong.push(format!("{what}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn command_lines_and_files_that_make_no_sense() {
    let folder = Folder::new();
    folder.model();
    folder.write("bad.json", "[{");
    folder.write("object.json", "{}");
    folder.write("m.json", r#"[{"role": "user", "content": "x"}]"#);
    folder.write("fails.jinja", "\n{{ messages[0].content.nope() }}");
    let cases: &[(&str, &str, &[&str], &str)] = &[
        ("fly", "", &["fly"], "sampan --help"),
        ("run model hi --temperature hot", "", &["--temperature"], "sampan run --help"),
        ("run model hi --top-p 2", "", &["--top-p", "from 0 to 1"], "run --help"),
        ("run model hi --isa sse9", "", &["sse9"], "run --help"),
        ("run model --raw --system x hi", "", &["--raw", "--system"], "run --help"),
        ("run model", "", &["nothing to answer", "stdin is empty"], "pipe text in"),
        ("run model --messages absent.json", "", &["absent.json"], "spelling"),
        ("run model --messages bad.json", "", &["bad.json is not JSON", "line 1"], ""),
        ("run model --messages object.json", "", &["no list of messages"], "role"),
        ("tokenize model --decode", "x", &["not a JSON array"], "[1, 15043]"),
        ("tokenize model --decode", "[1, 70000]", &["id 70000", "number 2"], "another model"),
        ("template fails.jinja --messages m.json", "", &["template", "line 2"], ""),
        ("template model --messages m.json --var x", "", &["NAME=VALUE"], "template --help"),
        ("check model absent.safetensors", "", &["absent.safetensors"], ""),
        ("check model model/model.safetensors", "", &["no tensor \"ids\""], "golden file holds"),
    ];
    let mut wrong = Vec::new();
    for (arguments, stdin, parts, hint) in cases {
        if let Err(why) = folder.sampan_with(arguments, stdin).mistake(parts, hint) {
            wrong.push(format!("{arguments}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let nothing = command(folder.path("").as_path()).output().unwrap();
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("hint: name a command"), "{nothing:?}");
    folder.sampan_with("run model", b"caf\xe9").mistake(&["not UTF-8", "byte 3"], "iconv").unwrap();
    folder.sampan_with("tokenize model", b"\xff").mistake(&["not UTF-8", "byte 0"], "iconv").unwrap();
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let folder = Folder::new();
    folder.endless_model();
    let mut command = command(folder.path("").as_path());
    command.args(["run", "model", "hi", "--max-tokens", "2000", "--context", "4096", "--temperature", "2"]);
    let mut child = command.spawn().unwrap();
    drop(child.stdin.take());
    let mut first = [0];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("error") && !stderr.contains("panic"), "{stderr}");
}

#[test]
fn a_broken_template_does_not_stop_raw_text() {
    let folder = Folder::new();
    folder.model();
    folder.write("model/chat_template.jinja", format!("{TEMPLATE}{{% if %}}"));
    let answer = folder.sampan("run model hi --raw --max-tokens 3 --json").json();
    assert_eq!(answer["tokens"]["prompt"], 2);
}
