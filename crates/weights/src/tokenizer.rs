//! What a tokenizer and a chat template are made from.

use crate::Error;
use crate::metadata::{Metadata, Value};
use sha2::{Digest, Sha256};

/// The files of a tokenizer. At least one of `tokenizer_json` and `gguf` is there when the model can speak.
#[derive(Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// The bytes of `tokenizer.json`.
    pub tokenizer_json: Option<Vec<u8>>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<&'a serde_json::Value>,
    /// The vocabulary of a GGUF file.
    pub gguf: Option<GgufVocab>,
}

/// The vocabulary under `tokenizer.ggml.*`. All ids are within `tokens`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocab {
    /// The algorithm: `gpt2` (byte-level BPE), `llama` (SentencePiece BPE), `gemma4`, ...
    pub model: String,
    /// The name of the pre-tokenizer; absent in old files.
    pub pre: Option<String>,
    /// Token texts by id.
    pub tokens: Vec<String>,
    /// 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. As long as `tokens`, or empty.
    pub token_types: Vec<i32>,
    /// As long as `tokens`, or empty.
    pub scores: Vec<f32>,
    /// BPE merges, `left right`, most important first.
    pub merges: Vec<String>,
    /// Begin of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// End of turn.
    pub eot: Option<u32>,
    /// End of message.
    pub eom: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Unknown.
    pub unk: Option<u32>,
    /// Separator.
    pub sep: Option<u32>,
    /// Mask.
    pub mask: Option<u32>,
    /// Fill-in-the-middle: before the text in front of the gap.
    pub fim_pre: Option<u32>,
    /// Fill-in-the-middle: before the text behind the gap.
    pub fim_suf: Option<u32>,
    /// Fill-in-the-middle: before the gap's text.
    pub fim_mid: Option<u32>,
    /// Fill-in-the-middle: padding.
    pub fim_pad: Option<u32>,
    /// Fill-in-the-middle: before a repository's name.
    pub fim_rep: Option<u32>,
    /// Fill-in-the-middle: before a file's name.
    pub fim_sep: Option<u32>,
    /// Whether `bos` starts a prompt; absent means that the algorithm decides.
    pub add_bos: Option<bool>,
    /// Whether `eos` ends a prompt; absent means that the algorithm decides.
    pub add_eos: Option<bool>,
    /// Whether a space is put before the text; absent means that the algorithm decides.
    pub add_space_prefix: Option<bool>,
    /// Whether runs of spaces become one; absent means that the algorithm decides.
    pub remove_extra_whitespaces: Option<bool>,
}

impl GgufVocab {
    /// The vocabulary in a GGUF file's metadata; `None` when it has none.
    ///
    /// # Errors
    /// When arrays have different lengths, an id is outside of the vocabulary, or a key has another type.
    pub fn read(metadata: &Metadata) -> Result<Option<GgufVocab>, Error> {
        read_vocab(metadata)
    }
}

fn read_vocab(metadata: &Metadata) -> Result<Option<GgufVocab>, Error> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let Some(model) = metadata.str(&key("model"))? else { return Ok(None) };
    let Some(tokens) = metadata.strs(&key("tokens"))? else {
        // Files without a vocabulary say `no_vocab` or `none`.
        let none = matches!(model, "no_vocab" | "none");
        return if none { Ok(None) } else { Err(metadata.missing(&key("tokens"))) };
    };
    let fits = |name: &str, length: usize| {
        if length != 0 && length != tokens.len() {
            let what = format!("{length} elements for {} tokens", tokens.len());
            return Err(metadata.error(&key(name), what));
        }
        Ok(())
    };
    let types = metadata.i64s(&key("token_type"))?.unwrap_or_default();
    fits("token_type", types.len())?;
    let scores = metadata.f32s(&key("scores"))?.unwrap_or_default();
    fits("scores", scores.len())?;
    let id = |names: &[&str]| {
        for name in names {
            let name = key(&format!("{name}_token_id"));
            match metadata.get(&name) {
                // How converters write "none".
                None | Some(Value::I32(-1) | Value::I64(-1) | Value::U32(u32::MAX)) => continue,
                Some(_) => {}
            }
            let id = metadata.u64(&name)?.unwrap_or_default();
            if id >= tokens.len() as u64 {
                let what = format!("{id} is outside of the vocabulary of {} tokens", tokens.len());
                return Err(metadata.error(&name, what));
            }
            return Ok(Some(id as u32));
        }
        Ok(None)
    };
    Ok(Some(GgufVocab {
        model: model.to_owned(),
        pre: metadata.str(&key("pre"))?.map(str::to_owned),
        token_types: types.into_iter().map(|t| i32::try_from(t).unwrap_or(0)).collect(),
        scores,
        merges: metadata.strs(&key("merges"))?.unwrap_or_default().to_vec(),
        bos: id(&["bos"])?,
        eos: id(&["eos"])?,
        eot: id(&["eot"])?,
        eom: id(&["eom"])?,
        pad: id(&["padding"])?,
        unk: id(&["unknown"])?,
        sep: id(&["separator", "seperator"])?, // the second is how llama.cpp once wrote it
        mask: id(&["mask"])?,
        fim_pre: id(&["fim_pre", "prefix"])?,
        fim_suf: id(&["fim_suf", "suffix"])?,
        fim_mid: id(&["fim_mid", "middle"])?,
        fim_pad: id(&["fim_pad"])?,
        fim_rep: id(&["fim_rep"])?,
        fim_sep: id(&["fim_sep"])?,
        add_bos: metadata.bool(&key("add_bos_token"))?,
        add_eos: metadata.bool(&key("add_eos_token"))?,
        add_space_prefix: metadata.bool(&key("add_space_prefix"))?,
        remove_extra_whitespaces: metadata.bool(&key("remove_extra_whitespaces"))?,
        tokens: tokens.to_vec(),
    }))
}

/// The chat templates of a model, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTemplateSource {
    /// The template that is used when none is named.
    pub default: Option<String>,
    /// Templates for special purposes, such as `tool_use` and `rag`.
    pub named: Vec<(String, String)>,
    /// Where they come from, for messages: a file or a key.
    pub origin: String,
}

impl ChatTemplateSource {
    /// The template called `name`.
    pub fn named(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str())
    }

    /// SHA-256 of the default template in hexadecimal, to compare templates at a glance.
    pub fn hash(&self) -> Option<String> {
        let digest = Sha256::digest(self.default.as_ref()?.as_bytes());
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The templates under `tokenizer.chat_template`.
pub(crate) fn gguf_template(metadata: &Metadata) -> Result<Option<ChatTemplateSource>, Error> {
    const KEY: &str = "tokenizer.chat_template";
    let default = metadata.str(KEY)?.map(str::to_owned);
    let mut named = Vec::new();
    for (key, _) in metadata.iter() {
        if let Some(name) = key.strip_prefix(KEY).and_then(|rest| rest.strip_prefix('.'))
            && let Some(text) = metadata.str(key)?
        {
            named.push((name.to_owned(), text.to_owned()));
        }
    }
    if default.is_none() && named.is_empty() {
        return Ok(None);
    }
    Ok(Some(ChatTemplateSource { default, named, origin: KEY.into() }))
}
