//! `sampan embed` and `sampan rerank` against what transformers computes with the same weights.

use crate::support::Folder;
use sampan_fixtures::embedding::{self, bytes, tensors, values};
use sampan_kernels::Format;
use sampan_weights::{Array, Dtype, Value as Gguf, gguf, safetensors};
use serde_json::Value;

fn fixture(name: &str) -> Value {
    embedding::fixture(name).unwrap()
}

/// The model as a Hugging Face folder.
pub(crate) fn write_folder(folder: &Folder, prefix: &str) {
    std::fs::create_dir_all(folder.path("model")).unwrap();
    embedding::write_folder(&folder.path("model"), prefix).unwrap();
}

/// The model as `model.gguf`; `labels`: with a head of these words' rows.
pub(crate) fn write_gguf(folder: &Folder, pooling: u32, labels: &[&str]) {
    let config = fixture("expected.json")["config"].clone();
    let tokenizer = fixture("tokenizer.json");
    let mut writer = gguf::Writer::new();
    let mut set = |key: &str, value: Gguf| writer.set(key, value).unwrap();
    let size = |key: &str| Gguf::U32(config[key].as_u64().unwrap() as u32);
    set("general.architecture", Gguf::Str("qwen3".into()));
    for (key, ours) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
    ] {
        set(&format!("qwen3.{key}"), size(ours));
    }
    set("qwen3.rope.freq_base", Gguf::F32(config["rope_theta"].as_f64().unwrap() as f32));
    set("qwen3.attention.layer_norm_rms_epsilon", Gguf::F32(1e-6));
    set("qwen3.pooling_type", Gguf::U32(pooling));
    let words = |words: Vec<String>| Gguf::Array(Array::Str(words));
    if !labels.is_empty() {
        set("qwen3.classifier.output_labels", words(labels.iter().map(|l| l.to_string()).collect()));
    }
    let mut tokens: Vec<String> = vec![String::new(); config["vocab_size"].as_u64().unwrap() as usize];
    let mut types = vec![5; tokens.len()]; // unused
    for (token, id) in tokenizer["model"]["vocab"].as_object().unwrap() {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
        types[id.as_u64().unwrap() as usize] = 1; // normal
    }
    for added in tokenizer["added_tokens"].as_array().unwrap() {
        let id = added["id"].as_u64().unwrap() as usize;
        tokens[id] = added["content"].as_str().unwrap().to_owned();
        types[id] = if added["special"] == true { 3 } else { 4 }; // control, user-defined
    }
    for (id, token) in tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
        *token = format!("[PAD{id}]");
    }
    let id_of = |token: &str| Gguf::U32(tokens.iter().position(|t| t == token).unwrap() as u32);
    set("tokenizer.ggml.model", Gguf::Str("gpt2".into()));
    set("tokenizer.ggml.pre", Gguf::Str("gpt-2".into()));
    set("tokenizer.ggml.eos_token_id", id_of("<|endoftext|>"));
    set("tokenizer.ggml.add_eos_token", Gguf::Bool(pooling == 3));
    let merges = tokenizer["model"]["merges"].as_array().unwrap();
    set("tokenizer.ggml.merges", words(merges.iter().map(|m| m.as_str().unwrap().to_owned()).collect()));
    set("tokenizer.ggml.token_type", Gguf::Array(Array::I32(types)));
    let rows: Vec<usize> = labels.iter().map(|l| tokens.iter().position(|t| t == l).unwrap()).collect();
    set("tokenizer.ggml.tokens", words(tokens));

    let hidden = config["hidden_size"].as_u64().unwrap() as usize;
    let tensors = tensors(&config);
    let f32s = Dtype::Block(Format::F32);
    tensors.iter().for_each(|(_, name, shape)| writer.tensor(name, shape, f32s).unwrap());
    if !rows.is_empty() {
        writer.tensor("cls.output.weight", &[rows.len(), hidden], f32s).unwrap();
    }
    let mut file = writer.create(&folder.path("model.gguf")).unwrap();
    for (ours, name, shape) in &tensors {
        file.append(name, &bytes(&values(ours, shape.iter().product()))).unwrap();
    }
    let embedding = values(&tensors[0].0, tensors[0].2.iter().product());
    for row in rows {
        file.append("cls.output.weight", &bytes(&embedding[row * hidden..][..hidden])).unwrap();
    }
    file.finish().unwrap();
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[track_caller]
fn close(ours: &[f64], reference: &[f64], what: &str) {
    assert_eq!(ours.len(), reference.len(), "{what}");
    let worst = ours.iter().zip(reference).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 1e-3, "{what}: {worst}");
}

fn unit(mut vector: Vec<f64>) -> Vec<f64> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

/// The texts of the fixture, whose second is empty and whose fourth spells a control token, as lines.
fn lines(items: &Value) -> String {
    items.as_array().unwrap().iter().map(|item| format!("{}\n", item["text"].as_str().unwrap())).collect()
}

/// Keys and values in float32, so that only the model's own arithmetic is compared.
const EXACT: &str = "--kv f32";

#[test]
fn vectors_are_those_of_the_reference_from_every_kind_of_file() {
    let expected = fixture("expected.json");
    for (model, write) in [
        ("model", (|f| write_folder(f, "")) as fn(&Folder)),
        ("model", |f| write_folder(f, "model.")),
        ("model.gguf", |f| write_gguf(f, 3, &[])),
    ] {
        let folder = Folder::new();
        write(&folder);
        folder.write("lines.txt", lines(&expected["texts"]));
        let made = folder.sampan(&format!("embed {model} --file lines.txt {EXACT}")).json();
        assert_eq!(made["dimensions"], 64);
        assert_eq!(made["data"].as_array().unwrap().len(), expected["texts"].as_array().unwrap().len());
        for (ours, text) in made["data"].as_array().unwrap().iter().zip(expected["texts"].as_array().unwrap())
        {
            assert_eq!(ours["tokens"], text["tokens"], "{model}: {text}");
            close(&numbers(&ours["embedding"]), &unit(numbers(&text["hidden"])), model);
        }
        let piped = folder.sampan_with(&format!("embed {model} {EXACT}"), lines(&expected["texts"])).json();
        assert_eq!(piped, made, "stdin");
    }
}

#[test]
fn instructions_dimensions_and_lengths() {
    let expected = fixture("expected.json");
    let folder = Folder::new();
    write_folder(&folder, "");
    let hidden = numbers(&expected["instructed"]["hidden"]);
    let query = expected["instructed"]["text"].as_str().unwrap();
    let vector = |flags: &[&str]| {
        let mut command = crate::support::command(&folder.path(""));
        command.args([
            "embed",
            "model",
            query,
            "--kv",
            "f32",
            "--instruct",
            expected["task"].as_str().unwrap(),
        ]);
        let output = command.args(flags).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(made["data"][0]["tokens"], expected["instructed"]["tokens"]);
        numbers(&made["data"][0]["embedding"])
    };
    close(&vector(&[]), &unit(hidden.clone()), "whole");
    close(&vector(&["--no-normalize"]), &hidden, "as long as it is");
    close(&vector(&["--dimensions", "16"]), &unit(hidden[..16].to_vec()), "cut");
    close(&vector(&["--dimensions", "16", "--no-normalize"]), &hidden[..16], "cut, as long as it is");
}

#[test]
fn numpy_gets_a_matrix() {
    let folder = Folder::new();
    write_folder(&folder, "");
    let data = folder.sampan("embed model one two three").json()["data"].clone();
    folder.sampan("embed model one two three --format npy --output v.npy").success();
    let file = std::fs::read(folder.path("v.npy")).unwrap();
    let header = u16::from_le_bytes([file[8], file[9]]) as usize;
    assert_eq!((&file[..8], (10 + header) % 64), (&b"\x93NUMPY\x01\x00"[..], 0));
    let text = std::str::from_utf8(&file[10..10 + header]).unwrap();
    assert!(text.contains("'<f4'") && text.contains("False") && text.contains("(3, 64)"), "{text}");
    let floats = file[10 + header..].chunks_exact(4);
    let floats: Vec<f32> = floats.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let json: Vec<f32> = (0..3).flat_map(|i| numbers(&data[i]["embedding"])).map(|x| x as f32).collect();
    assert_eq!(floats, json);
}

#[test]
fn scores_are_those_of_the_reference_from_every_kind_of_file() {
    let expected = fixture("expected.json");
    for (model, write) in [
        ("model", (|f| write_folder(f, "model.")) as fn(&Folder)),
        ("model.gguf", |f| write_gguf(f, 4, &["yes", "no"])),
        ("model.gguf", |f| write_gguf(f, 4, &["no", "yes"])),
    ] {
        let folder = Folder::new();
        write(&folder);
        folder.write("lines.txt", lines(&expected["documents"]));
        let mut command = crate::support::command(&folder.path(""));
        let query = expected["query"].as_str().unwrap();
        command.args(["rerank", model, query, "--file", "lines.txt", "--json", "--kv", "f32"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        let results = made["results"].as_array().unwrap();
        assert_eq!(results.len(), expected["documents"].as_array().unwrap().len());
        for result in results {
            let document = &expected["documents"][result["index"].as_u64().unwrap() as usize];
            assert_eq!((&result["document"], &result["tokens"]), (&document["text"], &document["tokens"]));
            close(&[result["score"].as_f64().unwrap()], &[document["score"].as_f64().unwrap()], model);
        }
        let scores: Vec<f64> = results.iter().map(|r| r["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        let table = folder.sampan(&format!("rerank {model} what is this --top 1")).success();
        assert_eq!(table.lines().count(), 2, "{table}");
    }
}

/// Vectors and scores of the reference from a model that went to the other form and back.
#[test]
fn embedders_and_rankers_survive_conversion() {
    let expected = fixture("expected.json");
    let query = expected["query"].as_str().unwrap();
    let (text, document) = (&expected["texts"][0], &expected["documents"][0]);
    type Case = (fn(&Folder), &'static [&'static str]);
    let cases: [Case; 5] = [
        (|f| write_folder(f, ""), &["convert model a.gguf", "convert a.gguf b", "convert b c.gguf"]),
        (|f| write_gguf(f, 3, &[]), &["convert model.gguf a", "convert a b.gguf", "convert b.gguf c"]),
        (|f| write_gguf(f, 4, &["yes", "no"]), &["convert model.gguf a", "convert a b.gguf"]),
        (|f| write_gguf(f, 4, &["no", "yes"]), &["convert model.gguf a", "convert a b.gguf"]),
        (|f| write_folder(f, "model."), &["convert model a.gguf", "convert a.gguf b"]),
    ];
    for (at, (write, steps)) in cases.into_iter().enumerate() {
        let folder = Folder::new();
        write(&folder);
        for step in steps {
            folder.sampan(&format!("{step} --quiet")).success();
            let made = step.split(' ').nth(2).unwrap();
            let asked = match at {
                0..2 => ["embed", made, text["text"].as_str().unwrap()],
                _ => ["rerank", made, query],
            };
            let mut command = crate::support::command(&folder.path(""));
            command.args(asked).args(["--kv", "f32"]);
            if at >= 2 {
                command.args([document["text"].as_str().unwrap(), "--json"]);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{step}: {output:?}");
            let said: Value = serde_json::from_slice(&output.stdout).unwrap();
            match at {
                0..2 => close(&numbers(&said["data"][0]["embedding"]), &unit(numbers(&text["hidden"])), step),
                _ => close(
                    &[said["results"][0]["score"].as_f64().unwrap()],
                    &[document["score"].as_f64().unwrap()],
                    step,
                ),
            }
        }
    }
}

/// The kind of pooling goes along, and one that GGUF has no word for is refused.
#[test]
fn pooling_survives_conversion() {
    let folder = Folder::new();
    let vector = |model: &str| folder.sampan(&format!("embed {model} abc")).json()["data"][0].clone();
    for (number, mode) in [(1, "mean_tokens"), (2, "cls_token"), (3, "lasttoken")] {
        write_gguf(&folder, number, &[]);
        folder.sampan("convert model.gguf folder --force --quiet").success();
        let path = folder.path("folder/1_Pooling/config.json");
        let config: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(config[format!("pooling_mode_{mode}")], true);
        folder.sampan("convert folder again.gguf --force --quiet").success();
        assert_eq!(vector("folder"), vector("model.gguf"), "{mode}");
        assert_eq!(vector("again.gguf"), vector("model.gguf"), "{mode}");
    }
    folder.write("folder/1_Pooling/config.json", r#"{"pooling_mode_max_tokens": true}"#);
    let refused = folder.sampan("convert folder other.gguf");
    refused.mistake(&["1_Pooling/config.json names no single known kind"], "as it is").unwrap();
    write_gguf(&folder, 9, &[]);
    let refused = folder.sampan("convert model.gguf other");
    refused.mistake(&["qwen3.pooling_type = 9"], "as it is").unwrap();
}

/// A head of one row says yes with a positive number: the difference of the rows for yes and no.
#[test]
fn a_head_of_one_row_ranks() {
    let expected = fixture("expected.json");
    let folder = Folder::new();
    write_gguf(&folder, 4, &["yes", "no"]);
    folder.sampan("convert model.gguf two --quiet").success();
    std::fs::rename(folder.path("two"), folder.path("model")).unwrap();
    let checkpoint = sampan_weights::Checkpoint::open(&folder.path("model")).unwrap();
    let score = checkpoint.tensor("score.weight").unwrap().to_f32().unwrap();
    let (yes, no) = score.split_at(score.len() / 2);
    let row: Vec<f32> = yes.iter().zip(no).map(|(yes, no)| yes - no).collect();
    let mut writer = safetensors::Writer::new();
    let shape = |t: &sampan_weights::Tensor<'_>| match t.name {
        "score.weight" => vec![1, row.len()],
        _ => t.shape.to_vec(),
    };
    checkpoint.tensors().for_each(|t| writer.tensor(t.name, &shape(&t), t.dtype).unwrap());
    let mut file = writer.create(&folder.path("one.safetensors")).unwrap();
    for tensor in checkpoint.tensors() {
        let data = if tensor.name == "score.weight" {
            bytes(&row)
        } else {
            tensor.bytes().expect("readable").into_owned()
        };
        file.append(tensor.name, &data).unwrap();
    }
    file.finish().unwrap();
    std::fs::rename(folder.path("one.safetensors"), folder.path("model/model.safetensors")).unwrap();
    folder.configure("id2label", serde_json::json!({"0": "LABEL_0"}));
    folder.sampan("convert model one.gguf --quiet").success();
    for model in ["model", "one.gguf"] {
        let mut command = crate::support::command(&folder.path(""));
        let document = &expected["documents"][0];
        let query = expected["query"].as_str().unwrap();
        command.args(["rerank", model, query, document["text"].as_str().unwrap(), "--json", "--kv", "f32"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        close(
            &[said["results"][0]["score"].as_f64().unwrap()],
            &[document["score"].as_f64().unwrap()],
            model,
        );
    }
}

#[test]
fn what_a_model_is_not_made_for_is_refused() {
    type Case = (fn(&Folder), &'static str, &'static [&'static str], &'static str);
    let cases: &[Case] = &[
        (|f| write_folder(f, ""), "run model hi", &["no head", "vectors"], "sampan embed"),
        (|f| write_folder(f, ""), "rerank model q d", &["no head"], "Qwen3-Reranker"),
        (
            |f| write_folder(f, ""),
            "embed model abc --context 2",
            &["text 1 has 4 tokens", "holds 2"],
            "nothing was cut",
        ),
        (|f| write_folder(f, ""), "embed model abc --dimensions 65", &["65", "64"], "fewer"),
        (
            |f| write_folder(f, "model."),
            "rerank model q d --context 9",
            &["document 1 has", "holds 9"],
            "nothing",
        ),
        (|f| write_gguf(f, 4, &["yes", "no"]), "embed model.gguf a", &["qwen3.pooling_type = 4"], "rerank"),
        (|f| write_gguf(f, 4, &["yes", "no"]), "run model.gguf a", &["ranks"], "sampan rerank"),
        (|f| write_gguf(f, 4, &["yes", "the"]), "rerank model.gguf q d", &["`yes` and `no`"], "Reranker"),
        (|f| write_gguf(f, 0, &[]), "embed model.gguf a", &["qwen3.pooling_type = 0"], "--pooling"),
        (|f| write_gguf(f, 9, &[]), "embed model.gguf a", &["qwen3.pooling_type = 9"], "--pooling"),
    ];
    for (write, arguments, parts, hint) in cases {
        let folder = Folder::new();
        write(&folder);
        let outcome = folder.sampan(arguments);
        outcome.mistake(parts, hint).unwrap_or_else(|why| panic!("{arguments}: {why}"));
    }
    let folder = Folder::new();
    write_gguf(&folder, 9, &[]);
    let means: Vec<Value> = ["mean", "first", "last"]
        .map(|kind| {
            folder.sampan(&format!("embed model.gguf abc --pooling {kind}")).json()["data"][0].clone()
        })
        .to_vec();
    assert!(means[0]["embedding"] != means[1]["embedding"] && means[1]["embedding"] != means[2]["embedding"]);
    let npy = folder.sampan("embed model.gguf abc --format npy");
    assert!(npy.code == 1 && npy.stderr.contains("--output"), "{npy:#?}");
}
