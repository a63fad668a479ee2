//! Runs the real program in a folder of its own and shows what a user would see.

use sampan_fixtures::Family;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder that is gone after the test.
pub(crate) struct Folder(tempfile::TempDir);

/// What a run of the program left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Stdout of a run that has to succeed.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// Stdout as JSON, of a run that has to succeed.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.success()).unwrap()
    }

    /// A user's mistake: exit code 1, nothing on stdout, an error with these parts, and a hint with that one.
    pub(crate) fn mistake(&self, parts: &[&str], hint: &str) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what} in {self:#?}"));
        if (self.code, self.stdout.as_str()) != (1, "") {
            return wrong("another exit code than 1, or something on stdout,");
        }
        let Some((error, advice)) = self.stderr.split_once("\nhint: ") else { return wrong("no hint") };
        for part in parts.iter().chain(&["error: "]) {
            if !error.contains(part) {
                return wrong(&format!("no {part:?} in the error"));
            }
        }
        if advice.contains(hint) { Ok(()) } else { wrong(&format!("no {hint:?} in the hint")) }
    }
}

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The fixture of a family as a model folder without words.
    pub(crate) fn family(&self, name: &str) -> Family {
        let family = Family::load(name).unwrap();
        std::fs::create_dir_all(self.path("model")).unwrap();
        family.write_checkpoint(&self.path("model")).unwrap();
        family
    }

    /// A tiny model that can speak, in `model/`. What it says is noise.
    pub(crate) fn model(&self) {
        let family = Family::load("qwen3").unwrap().with_vocab(512); // more rows than tokens, as published models have
        std::fs::create_dir_all(self.path("model")).unwrap();
        family.write_checkpoint(&self.path("model")).unwrap();
        self.write("model/tokenizer.json", tokenizer(&[]).to_string());
        self.write("model/tokenizer_config.json", json!({"eos_token": "<|im_end|>"}).to_string());
        self.write("model/chat_template.jinja", TEMPLATE);
    }

    /// The same without any token that ends an answer: it goes on until it must stop.
    pub(crate) fn endless_model(&self) {
        self.model();
        self.configure("eos_token_id", Value::Null);
        self.write("model/tokenizer.json", tokenizer(&[]).to_string().replace("<|im_end|>", "<|turn_end|>"));
        self.write("model/tokenizer_config.json", "{}");
    }

    /// Changes config.json.
    pub(crate) fn configure(&self, key: &str, value: Value) {
        let path = self.path("model/config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(path, config.to_string()).unwrap();
    }

    /// Runs `sampan` with arguments separated by single spaces, here.
    pub(crate) fn sampan(&self, arguments: &str) -> Outcome {
        self.sampan_with(arguments, "")
    }

    /// The same with text on stdin.
    pub(crate) fn sampan_with(&self, arguments: &str, stdin: impl AsRef<[u8]>) -> Outcome {
        let mut command = command(self.0.path());
        let mut child = command.args(arguments.split(' ')).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = stdin.as_ref().to_vec();
        // A program that does not want its input closes the pipe; that is its business.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Variables that would lead out of the folder.
const ELSEWHERE: &[&str] = &[
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_OFFLINE",
    "OLLAMA_MODELS",
    "MODELSCOPE_ENDPOINT",
    "MODELSCOPE_API_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
];

/// The program, with pipes for stdin, stdout and stderr.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sampan"));
    command.current_dir(folder).env("HOME", folder);
    for variable in ELSEWHERE {
        command.env_remove(variable);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) const TEMPLATE: &str = "\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if tools %}{{ '[' + tools[0].function.name + ']' }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
{%- if enable_thinking is defined and enable_thinking %}{{ '<think>\\n' }}{% endif %}";

/// A byte-level vocabulary without merges: 256 bytes, then control tokens and thought markers, then `more`.
pub(crate) fn tokenizer(more: &[&str]) -> Value {
    let printable = |b: &u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut shifted = 256..;
    let spell = |b: u32| char::from_u32(if printable(&b) { b } else { shifted.next().unwrap() }).unwrap();
    let vocab: serde_json::Map<String, Value> =
        (0..256).map(spell).enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    let special = ["<|im_start|>", "<|im_end|>"].iter().map(|text| (text, true));
    let plain = ["<think>", "</think>"].iter().chain(more).map(|text| (text, false));
    let added: Vec<Value> = special
        .chain(plain)
        .enumerate()
        .map(|(n, (text, special))| {
            json!({"id": 256 + n, "content": text, "special": special, "normalized": false,
                   "single_word": false, "lstrip": false, "rstrip": false})
        })
        .collect();
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": []},
    })
}
