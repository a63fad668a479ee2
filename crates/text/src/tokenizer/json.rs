//! Tokenizers from `tokenizer.json`.

use super::Tokenizer;
use super::added::{AddedToken, AddedTokens};
use super::bytes::{MAX_ID, Spelling, TokenTable};
use super::gguf::END_TOKENS;
use crate::Error;
use serde_json::Value;
use tokenizers::{DecoderWrapper, NormalizedString, Normalizer};

pub(super) fn load(json: &[u8], config: Option<&Value>) -> Result<Tokenizer, Error> {
    super::contained(|| build(json, config), |message| Error::Json { message })
}

fn build(json: &[u8], config: Option<&Value>) -> Result<Tokenizer, Error> {
    let fail = |message: String| Error::Json { message };
    let inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| fail(e.to_string()))?;
    let spelling = spelling(inner.get_decoder())?;

    let vocab = inner.get_vocab(true);
    let largest = vocab.values().copied().max().ok_or_else(|| fail("the vocabulary is empty".into()))?;
    if largest >= MAX_ID {
        return Err(fail(format!("token id {largest} is larger than any vocabulary; the limit is {MAX_ID}")));
    }
    let mut texts: Vec<Option<Box<str>>> = vec![None; largest as usize + 1];
    for (text, id) in vocab {
        texts[id as usize] = Some(text.into_boxed_str());
    }

    let mut special = vec![false; texts.len()];
    let mut raw = vec![false; texts.len()];
    let mut tokens: Vec<AddedToken> = Vec::new();
    let mut exact = false;
    for (id, token) in inner.get_added_tokens_decoder() {
        special[id as usize] = token.special;
        raw[id as usize] = true;
        exact |= token.normalized && normalizer_changes(&inner, &token.content);
        texts[id as usize] = Some(token.content.clone().into_boxed_str());
        tokens.push(AddedToken {
            id,
            text: token.content,
            special: token.special,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            single_word: token.single_word,
        });
    }
    tokens.sort_by_key(|t| t.id);
    let exact = exact.then(|| inner.get_added_vocabulary().clone());

    let named = |name: &str| inner.token_to_id(&config_token(config?, name)?);
    let (bos, eos) = (named("bos_token"), named("eos_token"));
    // The post-processor is the only place in tokenizer.json itself that says what is put around a text.
    let around = inner.encode_fast("a", true).map(|e| e.get_ids().to_vec()).unwrap_or_default();
    let begins = around.first().copied().filter(|&id| around.len() > 1 && special[id as usize]);
    let ends = around.last().copied().filter(|&id| around.len() > 1 && special[id as usize]);
    let flag = |name: &str| config?.get(name)?.as_bool();
    let bos = bos.or(begins);
    // Without a configuration only the spelling tells.
    let spelled =
        tokens.iter().filter(|t| eos.is_none() && t.special && END_TOKENS.contains(&t.text.as_str()));
    let eos_ids: Vec<u32> = eos.into_iter().chain(spelled.map(|t| t.id)).collect();
    Ok(Tokenizer {
        added: AddedTokens::new(tokens)?,
        exact,
        table: TokenTable::new(texts, special, &raw, spelling),
        add_bos: bos.is_some() && flag("add_bos_token").unwrap_or(begins.is_some() && begins == bos),
        add_eos: eos.is_some() && flag("add_eos_token").unwrap_or(ends.is_some() && ends == eos),
        bos,
        eos: eos_ids,
        normalizer: inner.get_normalizer().cloned(),
        pre_tokenizer: inner.get_pre_tokenizer().cloned(),
        model: inner.get_model().clone(),
    })
}

/// `"bos_token": "<s>"` or `"bos_token": {"content": "<s>", …}`.
fn config_token(config: &Value, name: &str) -> Option<String> {
    let token = config.get(name)?;
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

fn normalizer_changes(inner: &tokenizers::Tokenizer, text: &str) -> bool {
    let Some(normalizer) = inner.get_normalizer() else { return false };
    let mut normalized = NormalizedString::from(text);
    normalizer.normalize(&mut normalized).is_ok() && normalized.get() != text
}

fn spelling(decoder: Option<&DecoderWrapper>) -> Result<Spelling, Error> {
    let parts = match decoder {
        Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let mut spelling = None;
    for part in parts {
        match part {
            DecoderWrapper::ByteLevel(_) => return Ok(Spelling::ByteLevel),
            DecoderWrapper::Metaspace(m) => {
                let strip = m.prepend_scheme != tokenizers::pre_tokenizers::metaspace::PrependScheme::Never;
                spelling = Some(Spelling::SentencePiece { strip });
            }
            DecoderWrapper::Replace(_) | DecoderWrapper::ByteFallback(_) => {
                spelling = spelling.or(Some(Spelling::SentencePiece { strip: false }));
            }
            DecoderWrapper::Strip(s) if s.content == ' ' && s.start > 0 => {
                spelling = Some(Spelling::SentencePiece { strip: true });
            }
            _ => {}
        }
    }
    spelling.ok_or_else(|| Error::Json {
        message: "the decoder is neither ByteLevel nor SentencePiece's (Replace, ByteFallback, Metaspace); \
                  such tokenizers (WordPiece, plain words) are not supported"
            .into(),
    })
}
