//! Tokenizers from GGUF metadata.

use super::added::{AddedToken, AddedTokens};
use super::bytes::{MAX_ID, Spelling, TokenTable, byte_piece};
use super::{Tokenizer, pre, spm};
use crate::Error;
use ahash::AHashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence as Normalizers;
use tokenizers::{ModelWrapper, NormalizerWrapper};

/// The tokenizer keys of a GGUF file, as they stand there.
#[derive(Clone, Debug, Default)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`: `gpt2`, `llama` or `gemma4`.
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer; only byte-level BPE needs it.
    pub pre: Option<String>,
    /// `general.architecture`; some architectures have habits that the file does not spell out.
    pub architecture: Option<String>,
    /// `tokenizer.ggml.tokens`.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. May be empty.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.scores`; SentencePiece vocabularies only.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.merges`: two tokens with a space between them.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: the end of a turn, where it differs from the end of the text.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: the end of a message that calls a tool.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
}

const MODELS: [&str; 3] = ["gemma4", "gpt2", "llama"];

/// Control tokens that end a turn or a text in every family that has them.
pub(super) const END_TOKENS: [&str; 9] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    "<|return|>",
    "<|call|>",
];

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

pub(super) fn load(vocab: GgufVocab) -> Result<Tokenizer, Error> {
    let (model, normalizer, pre_tokenizer, spelling) = parts(&vocab)?;
    let added = AddedTokens::new(added_tokens(&vocab))?;
    let special: Vec<bool> =
        (0..vocab.tokens.len()).map(|id| matches!(vocab.type_of(id), UNKNOWN | CONTROL)).collect();
    let raw: Vec<bool> = (0..vocab.tokens.len())
        .map(|id| matches!(vocab.type_of(id), UNKNOWN | CONTROL | USER_DEFINED))
        .collect();
    // A GGUF file names one end; models end their turns with others, too, which only their spelling gives away.
    let spelled = (0..vocab.tokens.len())
        .filter(|&id| vocab.type_of(id) == CONTROL && END_TOKENS.contains(&vocab.tokens[id].as_str()))
        .map(|id| id as u32);
    let mut eos: Vec<u32> = Vec::new();
    for id in vocab.eos.into_iter().chain(vocab.eot).chain(vocab.eom).chain(spelled) {
        if !eos.contains(&id) {
            eos.push(id);
        }
    }
    let add_bos = vocab.begins()?;
    let texts = vocab.tokens.into_iter().map(|t| Some(t.into_boxed_str())).collect();
    Ok(Tokenizer {
        model,
        normalizer,
        pre_tokenizer,
        added,
        exact: None,
        table: TokenTable::new(texts, special, &raw, spelling),
        bos: vocab.bos,
        eos,
        add_bos,
        add_eos: vocab.add_eos.unwrap_or(false),
    })
}

/// The parts of a checked vocabulary.
pub(super) fn parts(vocab: &GgufVocab) -> Result<Parts, Error> {
    check(vocab)?;
    match vocab.model.as_str() {
        "gpt2" => byte_level(vocab),
        "llama" => sentence_piece(vocab),
        "gemma4" => gemma4(vocab),
        other => Err(Error::UnknownModel { name: other.to_owned(), known: MODELS.join(", ") }),
    }
}

impl GgufVocab {
    /// Whether a text begins with the begin token.
    pub(super) fn begins(&self) -> Result<bool, Error> {
        let usual = match self.model.as_str() {
            "gpt2" => pre::build(self.pre.as_deref().unwrap_or("default"))?.add_bos,
            _ => true,
        };
        Ok(self.bos.is_some() && self.add_bos.unwrap_or(usual))
    }

    fn type_of(&self, id: usize) -> i32 {
        self.token_types.get(id).copied().unwrap_or(NORMAL)
    }
}

/// Lengths and ids must agree before anything is built from them.
fn check(vocab: &GgufVocab) -> Result<(), Error> {
    let n = vocab.tokens.len();
    if n == 0 {
        return Err(missing("tokenizer.ggml.tokens", "the file holds no vocabulary"));
    }
    if n > MAX_ID as usize {
        return Err(missing("tokenizer.ggml.tokens", format!("{n} tokens are more than {MAX_ID}")));
    }
    for (key, len) in [
        ("tokenizer.ggml.token_type", vocab.token_types.len()),
        ("tokenizer.ggml.scores", vocab.scores.len()),
    ] {
        if len != 0 && len != n {
            return Err(missing(key, format!("{len} entries for {n} tokens")));
        }
    }
    for (key, id) in [
        ("tokenizer.ggml.bos_token_id", vocab.bos),
        ("tokenizer.ggml.eos_token_id", vocab.eos),
        ("tokenizer.ggml.eot_token_id", vocab.eot),
        ("tokenizer.ggml.eom_token_id", vocab.eom),
        ("tokenizer.ggml.unknown_token_id", vocab.unk),
        ("tokenizer.ggml.padding_token_id", vocab.pad),
    ] {
        if let Some(id) = id.filter(|&id| id as usize >= n) {
            return Err(missing(key, format!("id {id} is outside the vocabulary of {n} tokens")));
        }
    }
    Ok(())
}

fn missing(key: &'static str, message: impl Into<String>) -> Error {
    Error::Gguf { key, message: message.into() }
}

pub(super) type Parts =
    (ModelWrapper, Option<NormalizerWrapper>, Option<tokenizers::PreTokenizerWrapper>, Spelling);

fn byte_level(vocab: &GgufVocab) -> Result<Parts, Error> {
    let name = vocab.pre.as_deref().unwrap_or("default");
    let built = pre::build(name)?;
    let ids = vocabulary(vocab);
    let merges = merges(vocab, &ids)?;
    let bpe = BPE::builder().vocab_and_merges(ids, merges).ignore_merges(built.ignore_merges).build();
    let bpe = bpe.map_err(|e| missing("tokenizer.ggml.merges", e.to_string()))?;
    Ok((bpe.into(), built.normalizer, Some(built.pre_tokenizer), Spelling::ByteLevel))
}

/// SentencePiece's BPE as Hugging Face writes it: spaces become `▁`, one is put in front, unknown characters fall apart
/// into bytes.
fn sentence_piece(vocab: &GgufVocab) -> Result<Parts, Error> {
    if vocab.scores.is_empty() {
        return Err(missing(
            "tokenizer.ggml.scores",
            "missing; a \"llama\" vocabulary cannot be used without it",
        ));
    }
    let ids = vocabulary(vocab);
    let pieces: Vec<(&str, u32, f32)> = vocab
        .tokens
        .iter()
        .enumerate()
        .filter(|(id, text)| match vocab.type_of(*id) {
            NORMAL => byte_piece(text).is_none(),
            USER_DEFINED => !text.contains(['<', '>', '[', ']']),
            _ => false,
        })
        .map(|(id, text)| (text.as_str(), id as u32, vocab.scores[id]))
        .collect();
    let merges = spm::merges_from_scores(&pieces, &ids);
    let prefix = vocab.add_space_prefix.unwrap_or(true);
    let model = sentence_piece_model(vocab, ids, merges)?;
    Ok((model, Some(spaces(prefix)?), None, Spelling::SentencePiece { strip: prefix }))
}

/// Gemma 4: SentencePiece's spelling with explicit merges.
fn gemma4(vocab: &GgufVocab) -> Result<Parts, Error> {
    let ids = vocabulary(vocab);
    let merges = merges(vocab, &ids)?;
    let model = sentence_piece_model(vocab, ids, merges)?;
    let prefix = vocab.add_space_prefix.unwrap_or(false);
    Ok((model, Some(spaces(prefix)?), None, Spelling::SentencePiece { strip: prefix }))
}

fn sentence_piece_model(
    vocab: &GgufVocab,
    ids: AHashMap<String, u32>,
    merges: Vec<(String, String)>,
) -> Result<ModelWrapper, Error> {
    let unk = vocab.unk.map(|id| vocab.tokens[id as usize].clone());
    let mut builder = BPE::builder().vocab_and_merges(ids, merges).byte_fallback(true).fuse_unk(true);
    if let Some(unk) = unk {
        builder = builder.unk_token(unk);
    }
    Ok(builder.build().map_err(|e| missing("tokenizer.ggml.tokens", e.to_string()))?.into())
}

fn spaces(prefix: bool) -> Result<NormalizerWrapper, Error> {
    let replace = Replace::new(" ", "\u{2581}").map_err(|e| Error::Encode { message: e.to_string() })?;
    Ok(match prefix {
        true => Normalizers::new(vec![Prepend::new("\u{2581}".to_owned()).into(), replace.into()]).into(),
        false => replace.into(),
    })
}

fn vocabulary(vocab: &GgufVocab) -> AHashMap<String, u32> {
    let mut ids = AHashMap::with_capacity(vocab.tokens.len());
    for (id, text) in vocab.tokens.iter().enumerate() {
        // The first of two equal tokens keeps the name, as when they were numbered.
        ids.entry(text.clone()).or_insert(id as u32);
    }
    ids
}

fn merges(vocab: &GgufVocab, ids: &AHashMap<String, u32>) -> Result<Vec<(String, String)>, Error> {
    const KEY: &str = "tokenizer.ggml.merges";
    if vocab.merges.is_empty() {
        return Err(missing(
            KEY,
            format!("missing; a {:?} vocabulary cannot be used without it", vocab.model),
        ));
    }
    let mut merges = Vec::with_capacity(vocab.merges.len());
    for (n, merge) in vocab.merges.iter().enumerate() {
        // A token never starts with a space here, but the first byte may be anything: look behind the first character.
        let skip = merge.chars().next().map_or(0, char::len_utf8);
        let Some(cut) = merge[skip..].find(' ') else {
            return Err(missing(
                KEY,
                format!("entry {n}, {merge:?}, is not two tokens with a space between"),
            ));
        };
        let (left, right) = (&merge[..skip + cut], &merge[skip + cut + 1..]);
        for part in [left, right] {
            if !ids.contains_key(part) {
                return Err(missing(
                    KEY,
                    format!("entry {n} names {part:?}, which is not in the vocabulary"),
                ));
            }
        }
        let whole = format!("{left}{right}");
        if !ids.contains_key(&whole) {
            return Err(missing(KEY, format!("entry {n} makes {whole:?}, which is not in the vocabulary")));
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

/// Tokens that are found in a text before anything else.
pub(super) fn added_tokens(vocab: &GgufVocab) -> Vec<AddedToken> {
    let phi3 = vocab.architecture.as_deref() == Some("phi3");
    let mut tokens = Vec::new();
    for (id, text) in vocab.tokens.iter().enumerate() {
        let kind = vocab.type_of(id);
        if !matches!(kind, CONTROL | USER_DEFINED) || is_padding(id, text) {
            continue;
        }
        // Phi-3's control tokens swallow the white space after them, except the three that are older than its chat format.
        let rstrip = phi3
            && (kind == CONTROL || text == "</s>")
            && !matches!(text.as_str(), "<unk>" | "<s>" | "<|endoftext|>");
        tokens.push(AddedToken {
            id: id as u32,
            text: text.clone(),
            special: kind == CONTROL,
            rstrip,
            ..Default::default()
        });
    }
    tokens
}

/// Converters fill up the embedding's rows with names that no text means.
pub(super) fn is_padding(id: usize, text: &str) -> bool {
    text.strip_prefix("[PAD").and_then(|t| t.strip_suffix(']')).is_some_and(|n| n == id.to_string())
}
