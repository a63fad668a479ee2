//! `sampan convert`: to GGUF, to a folder again, and what is refused.

use crate::quantize::speaking_model;
use crate::support::{Folder, TEMPLATE};
use sampan_fixtures::Family;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Names of what is in the folder, hidden files too.
fn listed(folder: &Folder, name: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder.path(name)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A model of a family with one of the tokenizers of the fixtures.
fn with_tokenizer(folder: &Folder, family: &str, tokenizer: &str) {
    let root = Family::root().join("../tokenizers");
    let bytes = std::fs::read(root.join(format!("{tokenizer}.json"))).unwrap();
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap().len();
    let added = json["added_tokens"].as_array().unwrap().len();
    let model = Family::load(family).unwrap().with_vocab((vocab + added).next_multiple_of(64));
    std::fs::create_dir_all(folder.path("model")).unwrap();
    model.write_checkpoint(&folder.path("model")).unwrap();
    folder.write("model/tokenizer.json", bytes);
}

/// Words go to GGUF and come back: the same ids for texts of many kinds, typed and as control tokens.
#[test]
fn every_kind_of_tokenizer_comes_back() {
    for (family, tokenizer) in [("qwen3", "qwen"), ("llama", "llama"), ("gemma3", "gemma")] {
        let folder = Folder::new();
        with_tokenizer(&folder, family, tokenizer);
        folder.sampan("convert model m.gguf").success();
        folder.sampan("convert m.gguf again").success();
        let vectors = read(&Family::root().join(format!("../tokenizers/{tokenizer}.vectors.json")));
        for vector in vectors.as_array().unwrap().iter().step_by(9) {
            let text = vector[0].as_str().unwrap();
            let ids = |model: &str| folder.sampan_with(&format!("tokenize {model}"), text).success();
            assert_eq!(ids("again"), ids("model"), "{tokenizer} {text:?}");
        }
    }
}

#[test]
fn a_model_that_speaks_comes_back_with_template_and_settings() {
    let folder = Folder::new();
    speaking_model(&folder);
    // Added tokens come after those of the model, as in published files.
    let path = folder.path("model/tokenizer.json");
    let mut tokenizer = read(&path);
    tokenizer["model"]["vocab"]["th"] = 256.into();
    for (n, token) in tokenizer["added_tokens"].as_array_mut().unwrap().iter_mut().enumerate() {
        token["id"] = (257 + n).into();
    }
    std::fs::write(path, tokenizer.to_string()).unwrap();
    let settings = json!({"temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [258]});
    folder.write("model/generation_config.json", settings.to_string());
    folder.sampan("convert model m.gguf --quiet").success();
    let said = folder.sampan("convert m.gguf again");
    assert!(said.code == 0 && said.stderr.contains("wrote again: qwen3, "), "{said:#?}");
    let files = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(listed(&folder, "again"), files.map(str::to_owned).into());
    let again = |file: &str| read(&folder.path("again").join(file));
    assert_eq!(again("tokenizer_config.json")["chat_template"], TEMPLATE);
    assert_eq!(again("tokenizer_config.json")["eos_token"], "<|im_end|>");
    let generation = again("generation_config.json");
    for key in ["temperature", "top_k", "top_p"] {
        assert_eq!(generation[key], settings[key], "{key}");
    }
    assert_eq!(
        (&generation["eos_token_id"], &again("config.json")["eos_token_id"]),
        (&json!(258), &json!(258))
    );
    let answer = |model: &str| {
        folder.sampan(&format!("run {model} hello --temperature 0 --max-tokens 12 --quiet")).success()
    };
    assert_eq!(answer("again"), answer("model"));
    assert_eq!(listed(&folder, ""), ["again", "m.gguf", "model"].map(str::to_owned).into());
}

#[test]
fn shards_and_types_are_as_asked_for() {
    let folder = Folder::new();
    speaking_model(&folder);
    folder.sampan("convert model m.gguf --shard-size 1MB --quiet").success();
    let parts = listed(&folder, "");
    let parts: Vec<_> = parts.iter().filter(|name| name.ends_with(".gguf")).cloned().collect();
    assert!(parts.len() <= 1 || parts[0].starts_with("m-00001-of-"), "{parts:?}");
    folder.sampan("quantize model q8.gguf --to q8_0 --quiet --no-report").success();
    let size = |path: &str| std::fs::metadata(folder.path(path)).unwrap().len();
    for (dtype, name) in [("f32", "float32"), ("bf16", "bfloat16"), ("f16", "float16")] {
        folder.sampan(&format!("convert q8.gguf {dtype} --dtype {dtype} --quiet")).success();
        assert_eq!(read(&folder.path(dtype).join("config.json"))["torch_dtype"], name);
    }
    assert!(size("f32/model.safetensors") > size("bf16/model.safetensors") * 19 / 10);
    folder.sampan("run f16 hello --max-tokens 2").success();
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let folder = Folder::new();
    speaking_model(&folder);
    folder.sampan("convert model m.gguf --quiet").success();
    folder.write("full/notes.txt", "mine");
    folder.write("file", "mine");
    folder.write("old/config.json", "{}");
    let before = listed(&folder, "");
    for (arguments, parts, hint) in [
        ("m.gguf full", &["full is already there"][..], "--force"),
        ("m.gguf full --force", &["full holds something else than a model"], "another name"),
        ("m.gguf file", &["file is a file"], ".gguf"),
        ("m.gguf old", &["old is already there"], "--force"),
        ("m.gguf .", &["is the model that is read"], "another name"),
        ("model again --dtype f32", &["--dtype says nothing about a copy"], "the other form"),
        ("m.gguf n.gguf --f32", &["--f32 says nothing about a copy"], "copied as they are"),
        ("model again --name x", &["--name says nothing about a folder"], "leave it out"),
        ("model/model.safetensors model", &["is the model that is read"], "another name"),
        ("m.gguf m.gguf --force", &["is the model that is read"], "another name"),
        ("m.gguf again --f32", &["--f32 says nothing about a folder"], "--dtype f32"),
        ("m.gguf again --name x", &["--name says nothing about a folder"], "leave it out"),
        ("model n.gguf --dtype f16", &["--dtype says nothing about a GGUF file"], "sampan quantize"),
        ("nothing again", &["there is no model at nothing"], ""),
    ] {
        folder.sampan(&format!("convert {arguments}")).mistake(parts, hint).unwrap();
        assert_eq!(listed(&folder, ""), before, "{arguments}");
    }
    let size = folder.sampan("convert m.gguf again --shard-size 5");
    assert!(size.code == 1 && size.stderr.contains("500MB"), "{size:#?}");
    folder.sampan("convert m.gguf old --force --quiet").success();
    folder.sampan("run old hello --max-tokens 2").success();
    assert_eq!(listed(&folder, ""), before);
}

/// What a model answers, and every tensor of it.
fn content(folder: &Folder, model: &str) -> (String, Vec<String>) {
    let answer = format!("run {model} hello --temperature 0 --max-tokens 12 --quiet");
    let checkpoint = sampan_weights::Checkpoint::open(&folder.path(model)).unwrap();
    let tensor = |t: sampan_weights::Tensor<'_>| {
        format!("{} {:?} {} {:?}", t.name, t.shape, t.dtype, t.bytes().expect("readable"))
    };
    let mut tensors: Vec<String> = checkpoint.tensors().map(tensor).collect();
    tensors.sort();
    (folder.sampan(&answer).success(), tensors)
}

/// One file becomes several and several become one; what lies beside the weights comes along.
#[test]
fn the_same_form_is_copied_over_other_files() {
    let folder = Folder::new();
    speaking_model(&folder);
    // Of more than a megabyte, which is the least size of a file that one can ask for.
    let large = Family::load("qwen3").unwrap().with_vocab(8_192);
    large.write_checkpoint(&folder.path("model")).unwrap();
    folder.write("model/1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": true}"#);
    folder.write("model/README.md", "mine");
    folder.write("model/.hidden", "mine");
    folder.write("model/pytorch_model.bin", "the same once more");
    folder.sampan("convert model m.gguf --quiet").success();
    for (from, shards, one) in [("model", "shards", "whole"), ("m.gguf", "s.gguf", "w.gguf")] {
        let several = folder.sampan(&format!("convert {from} {shards} --shard-size 1MB"));
        assert!(several.code == 0 && several.stderr.contains("as they were"), "{several:#?}");
        assert_eq!(several.stderr.contains("left out: model/pytorch_model.bin"), from == "model");
        let first = match from {
            "model" => shards.to_owned(),
            _ => listed(&folder, "").into_iter().find(|name| name.starts_with("s-00001-of-")).unwrap(),
        };
        folder.sampan(&format!("convert {first} {one}")).success();
        for copy in [&first, one] {
            let (copied, original) = (content(&folder, copy), content(&folder, from));
            assert_eq!(copied.0, original.0, "{copy}");
            assert!(copied.1 == original.1, "{copy}");
        }
    }
    let there = listed(&folder, "shards");
    assert!(there.iter().filter(|name| name.ends_with("safetensors")).count() > 1, "{there:?}");
    let files = [
        "1_Pooling",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(listed(&folder, "whole"), files.map(str::to_owned).into());
}

#[test]
fn a_file_without_words_becomes_weights_alone() {
    let folder = Folder::new();
    folder.family("llama");
    let made = folder.sampan("convert model m.gguf");
    assert!(made.stderr.contains("there is no tokenizer.json"), "{made:#?}");
    let made = folder.sampan("convert m.gguf again");
    assert!(made.code == 0 && made.stderr.contains("there is no tokenizer in the file"), "{made:#?}");
    assert_eq!(listed(&folder, "again"), ["config.json", "model.safetensors"].map(str::to_owned).into());
}
