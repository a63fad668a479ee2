//! `tokenizer.json` gives the ids and texts that Hugging Face's tokenizers give (`tools/fixtures/tokenizer_files.py`), and
//! the same vocabulary written as GGUF metadata gives the same ids.

use sampan_text::{GgufVocab, Special, Tokenizer};
use serde_json::{Value, json};
use std::path::Path;

fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

struct Vector {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn vectors(name: &str) -> Vec<Vector> {
    let json: Value = serde_json::from_slice(&read(&format!("{name}.vectors.json"))).expect("JSON");
    let vector = |v: &Value| Vector {
        text: v[0].as_str().expect("a text").into(),
        ids: v[1].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect(),
        decoded: v[2].as_str().expect("a text").into(),
    };
    json.as_array().expect("vectors").iter().map(vector).collect()
}

fn check(name: &str) {
    let tokenizer = Tokenizer::from_json(&read(&format!("{name}.json")), None).expect("a tokenizer");
    for v in vectors(name) {
        assert_eq!(tokenizer.encode(&v.text, Special::Parse).expect("ids"), v.ids, "{name}: {:?}", v.text);
        // Hugging Face decodes such a token to its normalized spelling, with a space too many.
        if !v.text.contains("<norm>") {
            assert_eq!(tokenizer.decode(&v.ids, true), v.decoded, "{name}: {:?}", v.text);
        }
        let plain = tokenizer.encode(&v.text, Special::AsText).expect("ids");
        assert!(plain.iter().all(|&id| !tokenizer.is_marker(id)), "{name}: {:?}", v.text);
        if !v.text.contains('<') {
            assert_eq!(plain, v.ids, "{name}: {:?}", v.text);
        }
    }
}

#[test]
fn byte_level_in_qwens_manner() {
    check("qwen");
}

#[test]
fn sentence_piece_in_llamas_manner() {
    check("llama");
}

#[test]
fn sentence_piece_in_gemmas_manner() {
    check("gemma");
}

/// The vocabulary of a `tokenizer.json` as a converter would write it.
fn as_gguf(name: &str, model: &str, pre: Option<&str>) -> GgufVocab {
    let json: Value = serde_json::from_slice(&read(&format!("{name}.json"))).expect("JSON");
    let vocab = json["model"]["vocab"].as_object().expect("a vocabulary");
    let added = json["added_tokens"].as_array().expect("added tokens");
    let size =
        vocab.values().chain(added.iter().map(|t| &t["id"])).filter_map(Value::as_u64).max().expect("an id")
            + 1;
    let mut tokens = vec![String::new(); size as usize];
    let mut token_types = vec![1; size as usize];
    for (text, id) in vocab {
        let id = id.as_u64().expect("an id") as usize;
        tokens[id].clone_from(text);
        if text.starts_with("<0x") {
            token_types[id] = 6;
        }
    }
    for token in added {
        let id = token["id"].as_u64().expect("an id") as usize;
        tokens[id] = token["content"].as_str().expect("a text").into();
        token_types[id] = if token["special"] == json!(true) { 3 } else { 4 };
    }
    let merge = |m: &Value| format!("{} {}", m[0].as_str().expect("left"), m[1].as_str().expect("right"));
    GgufVocab {
        model: model.into(),
        pre: pre.map(Into::into),
        merges: json["model"]["merges"].as_array().expect("merges").iter().map(merge).collect(),
        scores: (0..tokens.len()).map(|id| -(id as f32)).collect(),
        unk: tokens.iter().position(|t| t == "<unk>").map(|id| id as u32),
        tokens,
        token_types,
        ..Default::default()
    }
}

fn check_gguf(name: &str, vocab: GgufVocab, texts: impl Fn(&str) -> bool) {
    let tokenizer = Tokenizer::from_gguf(vocab).expect("a tokenizer");
    for v in vectors(name).iter().filter(|v| texts(&v.text)) {
        assert_eq!(tokenizer.encode(&v.text, Special::Parse).expect("ids"), v.ids, "{name}: {:?}", v.text);
        assert_eq!(tokenizer.decode(&v.ids, true), v.decoded, "{name}: {:?}", v.text);
    }
}

#[test]
fn the_same_vocabulary_as_gguf_gives_the_same_ids() {
    check_gguf("qwen", as_gguf("qwen", "gpt2", Some("qwen2")), |_| true);
    check_gguf("gemma", as_gguf("gemma", "gemma4", None), |_| true);
    // GGUF does not say that Llama 2 matches its control tokens against normalized text.
    check_gguf("llama", as_gguf("llama", "llama", None), |text| !text.contains('<'));
}

#[test]
fn the_configuration_names_the_begin_and_the_end() {
    let json = read("qwen.json");
    let config = json!({"bos_token": null, "eos_token": {"content": "<|im_end|>"}, "add_bos_token": false});
    let tokenizer = Tokenizer::from_json(&json, Some(&config)).expect("a tokenizer");
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (None, false));
    assert_eq!(tokenizer.eos(), [tokenizer.id_of("<|im_end|>").expect("an id")]);
    // Without it, llama's post-processor tells about the beginning, and the spelling about qwen's ends.
    let llama = Tokenizer::from_json(&read("llama.json"), None).expect("a tokenizer");
    assert_eq!((llama.bos(), llama.add_bos()), (Some(1), true));
    let bare = Tokenizer::from_json(&json, None).expect("a tokenizer");
    assert_eq!(bare.eos().len(), 2);
}

fn broken(change: impl Fn(&mut GgufVocab), want: &str) {
    let mut vocab = as_gguf("qwen", "gpt2", Some("qwen2"));
    change(&mut vocab);
    let message = Tokenizer::from_gguf(vocab).expect_err(want).to_string();
    assert!(message.contains(want), "{message}");
}

#[test]
fn broken_vocabularies_are_refused_by_name() {
    broken(|v| v.model = "bert".into(), "\"bert\" is not supported; supported: gemma4, gpt2, llama");
    broken(|v| v.pre = Some("qwen9".into()), "\"qwen9\"");
    broken(|v| v.tokens.clear(), "tokenizer.ggml.tokens");
    broken(|v| v.token_types.truncate(3), "tokenizer.ggml.token_type: 3 entries");
    broken(|v| v.merges.clear(), "tokenizer.ggml.merges: missing");
    broken(|v| v.merges.push("ab".into()), "is not two tokens");
    broken(|v| v.merges.push("Ġ nosuchtoken".into()), "\"nosuchtoken\"");
    broken(|v| v.merges.push("z z".into()), "makes \"zz\"");
    broken(|v| v.eos = Some(1 << 20), "tokenizer.ggml.eos_token_id: id 1048576");
    broken(
        |v| {
            v.model = "llama".into();
            v.scores.clear();
        },
        "tokenizer.ggml.scores: missing",
    );
}

#[test]
fn broken_files_are_refused() {
    let qwen: Value = serde_json::from_slice(&read("qwen.json")).expect("JSON");
    let refuse = |json: &[u8], want: &str| {
        let message = Tokenizer::from_json(json, None).expect_err(want).to_string();
        assert!(message.contains(want), "{message}");
    };
    refuse(b"", "tokenizer.json");
    refuse(b"{}", "tokenizer.json");
    refuse(&read("qwen.json")[..5_000], "tokenizer.json");
    let mut huge = qwen.clone();
    huge["model"]["vocab"]["zzz"] = json!(4_000_000_000u32);
    refuse(huge.to_string().as_bytes(), "4000000000");
    let mut words = qwen;
    words["decoder"] = Value::Null;
    refuse(words.to_string().as_bytes(), "decoder");
}

/// Replaces the `n`th leaf (or list, or object) of `json` in the order of a walk.
fn replace(json: &mut Value, n: &mut usize, with: &Value) {
    if *n == 0 {
        *json = with.clone();
    }
    *n = n.wrapping_sub(1);
    match json {
        Value::Array(items) if *n < usize::MAX / 2 => {
            items.iter_mut().for_each(|item| replace(item, n, with))
        }
        Value::Object(map) if *n < usize::MAX / 2 => {
            map.values_mut().for_each(|value| replace(value, n, with))
        }
        _ => {}
    }
}

/// Any one value of a file may be wrong: the file is refused or the tokenizer works, and nothing panics.
#[test]
fn any_wrong_value_is_refused_or_harmless() {
    let wrong = [
        json!(null),
        json!(-1),
        json!(4_294_967_295u32),
        json!(""),
        json!("\u{fffd}("),
        json!([]),
        json!({}),
        json!([[1]]),
        json!(true),
    ];
    for name in ["qwen", "llama", "gemma"] {
        let whole: Value = serde_json::from_slice(&read(&format!("{name}.json"))).expect("JSON");
        let mut smaller = whole.clone();
        // The vocabulary and the merges are long lists of the same: a few stand for all.
        if let Some(merges) = smaller["model"]["merges"].as_array_mut() {
            merges.truncate(3);
        }
        for place in (0..100).chain((100..700).step_by(97)) {
            for with in &wrong {
                let mut json = smaller.clone();
                replace(&mut json, &mut place.clone(), with);
                if let Ok(tokenizer) = Tokenizer::from_json(json.to_string().as_bytes(), None) {
                    for text in ["The <s> quick</s> ", "größer\n\n", "<|im_end|>x"] {
                        let _ = tokenizer.encode(text, Special::AsText);
                        if let Ok(ids) = tokenizer.encode(text, Special::Parse) {
                            let _ = tokenizer.decode(&ids, true);
                        }
                    }
                }
            }
        }
    }
}
