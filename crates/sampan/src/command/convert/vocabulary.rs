//! A tokenizer.json and a chat template in the words of GGUF.
//!
//! GGUF names the pre-tokenizer instead of holding it. Which name is right is not guessed from regular expressions: each
//! is tried, and one whose tokens equal those of tokenizer.json on a text of many kinds is taken.

use crate::error::{AppError, Result};
use sampan::{Error, speech};
use sampan_model::{Plan, PlanOptions};
use sampan_text::{GgufVocab, Special, Tokenizer, supported_pre_tokenizers};
use sampan_weights::{Array, Checkpoint, Value};
use serde_json::Value as Json;
use std::collections::HashMap;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Tokens that end a turn, where a model has another one for the end of a text.
const TURN_ENDS: [&str; 5] = ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<|return|>"];

/// Pre-tokenizers that current models have, the usual ones first.
const USUAL: [&str; 8] =
    ["qwen2", "qwen35", "llama-bpe", "gpt-4o", "deepseek-v3", "deepseek-llm", "deepseek-coder", "gpt-2"];

/// Tells pre-tokenizers apart: contractions in both cases, runs of digits, spaces and line ends, marks on letters,
/// scripts with and without spaces, symbols, code.
pub(super) const PROBE: &str = "I'm we'LL they'Ve don'T 1 12 123 1234567 3.14159 x86_64 HTTPServer camelCaseWord ÉCOLE straße \
    naïve cafe\u{301} \u{1100}\u{1161} 今天天气很好,学习一下。カタカナとひらがな 안녕하세요 Привет, мир! שלום مرحبا १२३ \
    ภาษาไทย 👩\u{200d}💻🎉 a  b   c\t\td \n\n  e\r\nf\n \n   g   \n if (x[i]!=0){return --y;} //--==>>§€$£ “quotes”—dash…\u{3000}！？ \
    ½²³ Ⅷ foo_bar.baz@example.com/#?q=1&z=%20   ";

/// The keys `tokenizer.*` of a checkpoint; none where it has no tokenizer.json. `unsaid` is told of what GGUF has no words for.
pub(super) fn keys(
    name: &str,
    checkpoint: &Checkpoint,
    unsaid: &mut dyn FnMut(&str),
) -> Result<Vec<(String, Value)>> {
    let files = checkpoint.tokenizer()?;
    let Some(json) = files.tokenizer_json else { return Ok(Vec::new()) };
    let original = speech::tokenizer(name, checkpoint)?;
    let plan = Plan::from_checkpoint(checkpoint, PlanOptions::default())
        .map_err(|source| Error::Plan { model: name.to_owned(), source })?;
    let json: Json = serde_json::from_slice(&json)
        .map_err(|e| AppError::user(format!("tokenizer.json of {name}: {e}")).hint("download it again"))?;
    let mut vocab = vocabulary(&json, &plan, &original).ok_or_else(|| unusable(name))?;
    if vocab.model == "gpt2" {
        vocab.pre = Some(pre_tokenizer(&vocab, &original)?);
    } else if !same(&vocab, &original) {
        return Err(unusable(name));
    }
    habits(&json, unsaid);
    let mut keys = spelled(vocab);
    if let Some(templates) = checkpoint.chat_template()? {
        let named = templates.named.into_iter().map(|(name, text)| (format!(".{name}"), text));
        for (suffix, text) in templates.default.map(|text| (String::new(), text)).into_iter().chain(named) {
            keys.push((format!("tokenizer.chat_template{suffix}"), Value::Str(text)));
        }
    }
    Ok(keys)
}

/// Names the added tokens that are found otherwise than GGUF can say: with the spaces around them, as whole words only, or in
/// the normalised text.
fn habits(json: &Json, unsaid: &mut dyn FnMut(&str)) {
    let normalises = match json["normalizer"]["normalizers"].as_array() {
        Some(steps) => !steps.is_empty(),
        None => !json["normalizer"].is_null(),
    };
    let odd = |token: &&Json| {
        let is = |habit: &str| token[habit] == true;
        is("lstrip") || is("rstrip") || is("single_word") || (is("normalized") && normalises)
    };
    let all = json["added_tokens"].as_array().into_iter().flatten();
    let odd: Vec<&str> = all.filter(odd).filter_map(|token| token["content"].as_str()).collect();
    if let [first, more @ ..] = &odd[..] {
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        unsaid(&format!(
            "GGUF cannot say how spaces and words around the token {first}{more} are taken; texts with it may be cut otherwise"
        ));
    }
}

fn unusable(name: &str) -> AppError {
    AppError::user(format!("tokenizer.json of {name} is of a kind that GGUF has no words for"))
        .hint("run the checkpoint as it is; moved to another folder without tokenizer.json its weights can be converted")
}

/// The vocabulary of a tokenizer.json, filled up to the rows of the embedding.
fn vocabulary(json: &Json, plan: &Plan, original: &Tokenizer) -> Option<GgufVocab> {
    let model = &json["model"];
    if model["type"].as_str().is_some_and(|kind| kind != "BPE") {
        return None;
    }
    let kind = match (json.to_string().contains("\"ByteLevel\""), plan.family) {
        (true, _) => "gpt2",
        (false, "gemma4") => "gemma4",
        (false, _) => "llama",
    };
    let mut tokens: Vec<String> = (0..plan.vocab).map(|id| format!("[PAD{id}]")).collect();
    let mut token_types = vec![UNUSED; tokens.len()];
    let unk = model["unk_token"].as_str();
    let mut ids = HashMap::new();
    for (text, id) in model["vocab"].as_object()? {
        let id = usize::try_from(id.as_u64()?).ok().filter(|&id| id < tokens.len())?;
        let byte = kind != "gpt2" && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        token_types[id] = match text {
            _ if Some(text.as_str()) == unk => UNKNOWN,
            _ if byte => BYTE,
            _ => NORMAL,
        };
        tokens[id].clone_from(text);
        ids.insert(text.as_str(), id);
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let id = usize::try_from(token["id"].as_u64()?).ok().filter(|&id| id < tokens.len())?;
        tokens[id] = token["content"].as_str()?.to_owned();
        let special = token["special"].as_bool() == Some(true);
        if token_types[id] != UNKNOWN {
            token_types[id] = if special { CONTROL } else { USER_DEFINED };
        }
    }
    let merges: Option<Vec<String>> = model["merges"].as_array()?.iter().map(merge).collect();
    let merges = merges?;
    let scores = if kind == "gpt2" { Vec::new() } else { scores(&merges, &ids, tokens.len()) };
    let eos = original.eos().to_vec();
    let turn = |id: &&u32| original.token_text(**id).is_some_and(|text| TURN_ENDS.contains(&text));
    Some(GgufVocab {
        model: kind.to_owned(),
        architecture: None,
        pre: (kind != "gpt2").then(|| "default".to_owned()),
        unk: unk.and_then(|text| ids.get(text)).map(|&id| id as u32),
        tokens,
        token_types,
        scores,
        merges: if kind == "llama" { Vec::new() } else { merges },
        bos: original.bos(),
        eos: eos.first().copied(),
        eot: eos.iter().find(turn).copied().filter(|id| Some(id) != eos.first()),
        add_bos: Some(original.add_bos()),
        add_eos: Some(original.add_eos()),
        add_space_prefix: (kind == "llama").then(|| json["normalizer"].to_string().contains("\"Prepend\"")),
        ..GgufVocab::default()
    })
}

/// `left right`, as older and newer files spell it.
fn merge(merge: &Json) -> Option<String> {
    match merge {
        Json::String(text) => Some(text.clone()),
        Json::Array(parts) => Some(format!("{} {}", parts.first()?.as_str()?, parts.get(1)?.as_str()?)),
        _ => None,
    }
}

/// What makes SentencePiece join the same pairs in the same order: the earlier a merge, the higher its result.
fn scores(merges: &[String], ids: &HashMap<&str, usize>, tokens: usize) -> Vec<f32> {
    let mut scores = vec![-1e9; tokens];
    for (rank, merge) in merges.iter().enumerate().rev() {
        // A pair is split at the first space; spaces inside of tokens are spelt otherwise.
        if let Some(&id) = merge.split_once(' ').and_then(|(a, b)| ids.get(format!("{a}{b}").as_str())) {
            scores[id] = -(rank as f32);
        }
    }
    scores
}

/// The name of the pre-tokenizer that makes the same tokens of [`PROBE`].
fn pre_tokenizer(vocab: &GgufVocab, original: &Tokenizer) -> Result<String> {
    let others = supported_pre_tokenizers().into_iter().filter(|name| !USUAL.contains(name));
    for name in USUAL.into_iter().chain(others) {
        if same(&GgufVocab { pre: Some(name.to_owned()), ..vocab.clone() }, original) {
            return Ok(name.to_owned());
        }
    }
    Err(AppError::user("no pre-tokenizer that GGUF has a name for cuts text as this tokenizer.json does")
        .hint("run the checkpoint as it is"))
}

fn same(vocab: &GgufVocab, original: &Tokenizer) -> bool {
    let encode = |tokenizer: &Tokenizer| tokenizer.encode(PROBE, Special::AsText).ok();
    let Ok(tokenizer) = Tokenizer::from_gguf(vocab.clone()) else { return false };
    encode(original).is_some_and(|ids| encode(&tokenizer) == Some(ids))
}

fn spelled(vocab: GgufVocab) -> Vec<(String, Value)> {
    let id = |id: Option<u32>| id.map(Value::U32);
    let flag = |flag: Option<bool>| flag.map(Value::Bool);
    let strings = |list: Vec<String>| (!list.is_empty()).then_some(Value::Array(Array::Str(list)));
    let scores = (!vocab.scores.is_empty()).then_some(Value::Array(Array::F32(vocab.scores)));
    let keys = [
        ("model", Some(Value::Str(vocab.model))),
        ("pre", vocab.pre.map(Value::Str)),
        ("tokens", strings(vocab.tokens)),
        ("token_type", Some(Value::Array(Array::I32(vocab.token_types)))),
        ("scores", scores),
        ("merges", strings(vocab.merges)),
        ("bos_token_id", id(vocab.bos)),
        ("eos_token_id", id(vocab.eos)),
        ("eot_token_id", id(vocab.eot)),
        ("unknown_token_id", id(vocab.unk)),
        ("add_bos_token", flag(vocab.add_bos)),
        ("add_eos_token", flag(vocab.add_eos)),
        ("add_space_prefix", flag(vocab.add_space_prefix)),
    ];
    let keys = keys.into_iter().filter_map(|(name, value)| Some((format!("tokenizer.ggml.{name}"), value?)));
    keys.collect()
}
