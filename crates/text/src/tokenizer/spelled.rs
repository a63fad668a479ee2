//! A vocabulary of GGUF as the files that Hugging Face's programs read.

use super::gguf::{self, GgufVocab};
use super::{Tokenizer, bytes::Spelling};
use crate::Error;
use serde_json::{Map, Value, json};

/// The files.
#[derive(Clone, Debug, PartialEq)]
pub struct SpelledOut {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`, without a chat template.
    pub config: Map<String, Value>,
}

/// Spells a vocabulary out: the pre-tokenizer that GGUF names and the merges that scores stand for are written down.
///
/// # Errors
/// As [`Tokenizer::from_gguf`].
pub fn spelled_out(vocab: &GgufVocab) -> Result<SpelledOut, Error> {
    let (model, normalizer, pre_tokenizer, spelling) = gguf::parts(vocab)?;
    let fail = |e: serde_json::Error| Error::Json { message: e.to_string() };
    let mut model = serde_json::to_value(model).map_err(fail)?;
    if let Some(tokens) = model["vocab"].as_object_mut() {
        tokens.retain(|text, id| !id.as_u64().is_some_and(|id| gguf::is_padding(id as usize, text)));
    }
    let added = gguf::added_tokens(vocab).into_iter().map(|token| {
        json!({"id": token.id, "content": token.text, "single_word": token.single_word, "lstrip": token.lstrip,
               "rstrip": token.rstrip, "normalized": false, "special": token.special})
    });
    let begin = vocab.bos.filter(|_| vocab.begins().unwrap_or(false));
    let end = vocab.eos.filter(|_| vocab.add_eos == Some(true));
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<Value>>(),
        "normalizer": serde_json::to_value(normalizer).map_err(fail)?,
        "pre_tokenizer": serde_json::to_value(pre_tokenizer).map_err(fail)?,
        "post_processor": around(vocab, begin, end),
        "decoder": decoder(spelling),
        "model": model,
    });
    Ok(SpelledOut { tokenizer, config: config(vocab, begin, end) })
}

/// How tokens become text again.
fn decoder(spelling: Spelling) -> Value {
    match spelling {
        Spelling::ByteLevel => {
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
        }
        Spelling::SentencePiece { strip } => {
            let mut steps = vec![
                json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
                json!({"type": "ByteFallback"}),
                json!({"type": "Fuse"}),
            ];
            if strip {
                steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            }
            json!({"type": "Sequence", "decoders": steps})
        }
    }
}

/// What is put around a text.
fn around(vocab: &GgufVocab, begin: Option<u32>, end: Option<u32>) -> Value {
    if begin.is_none() && end.is_none() {
        return Value::Null;
    }
    let text = |id: u32| &vocab.tokens[id as usize];
    let special = |id: u32, kind: u32| json!({"SpecialToken": {"id": text(id), "type_id": kind}});
    let piece = |name: &str, kind: u32| {
        let sequence = json!({"Sequence": {"id": name, "type_id": kind}});
        let parts = [begin.map(|id| special(id, kind)), Some(sequence), end.map(|id| special(id, kind))];
        parts.into_iter().flatten().collect::<Vec<Value>>()
    };
    let tokens = begin.into_iter().chain(end);
    let tokens =
        tokens.map(|id| (text(id).clone(), json!({"id": text(id), "ids": [id], "tokens": [text(id)]})));
    let pair = [piece("A", 0), piece("B", 1)].concat();
    json!({
        "type": "TemplateProcessing",
        "single": piece("A", 0),
        "pair": pair,
        "special_tokens": tokens.collect::<Map<String, Value>>(),
    })
}

/// The tokens with a meaning.
fn config(vocab: &GgufVocab, begin: Option<u32>, end: Option<u32>) -> Map<String, Value> {
    // Where several tokens end a turn, the file's first is that of the tokenizer; generation_config.json has all.
    let named = [
        ("bos_token", vocab.bos),
        ("eos_token", vocab.eos),
        ("unk_token", vocab.unk),
        ("pad_token", vocab.pad),
    ];
    let text = |id: u32| json!(vocab.tokens[id as usize]);
    let mut config: Map<String, Value> =
        named.into_iter().filter_map(|(key, id)| Some((key.to_owned(), text(id?)))).collect();
    config.insert("add_bos_token".into(), begin.is_some().into());
    config.insert("add_eos_token".into(), end.is_some().into());
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    config
}

impl Tokenizer {
    /// Whether two tokenizers cut a text alike, typed and with control tokens, and put the same tokens around it.
    pub fn agrees(&self, other: &Tokenizer, text: &str) -> bool {
        let both = |which| {
            let ids = self.encode(text, which).ok();
            ids.is_some() && ids == other.encode(text, which).ok()
        };
        both(super::Special::AsText)
            && both(super::Special::Parse)
            && (self.bos, self.add_bos, self.add_eos) == (other.bos, other.add_bos, other.add_eos)
    }
}
