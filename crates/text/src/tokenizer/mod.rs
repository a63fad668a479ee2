//! Text to ids and back.

mod added;
mod bytes;
mod gguf;
mod json;
mod pre;
mod spelled;
mod spm;
mod stream;

pub use gguf::GgufVocab;
pub use pre::supported_pre_tokenizers;
pub use spelled::{SpelledOut, spelled_out};
pub use stream::Detokenizer;

use crate::{Error, Prompt};
use added::{AddedTokens, Which};
use bytes::TokenTable;
use std::ops::Range;
use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
};

/// What control tokens that are spelled out in a text become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Plain text: typing `<|im_end|>` never ends a turn. The same goes for added tokens that are not flagged special but are
    /// markup all the same (`<think>`, `<tool_call>`); only added tokens that are ordinary writing (runs of white space,
    /// letters, HTML elements) are still taken whole.
    AsText,
    /// The ids of the control tokens, as Hugging Face's tokenizers do it.
    Parse,
}

/// A vocabulary with its algorithm. Immutable and cheap to share between threads.
pub struct Tokenizer {
    model: ModelWrapper,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    added: AddedTokens,
    /// Hugging Face's own search, kept where a vocabulary matches added tokens against normalized text.
    exact: Option<tokenizers::AddedVocabulary>,
    table: TokenTable,
    bos: Option<u32>,
    eos: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `tokenizer_config` (the parsed `tokenizer_config.json`) adds the names of the begin and end
    /// tokens and whether they are added.
    ///
    /// # Errors
    /// [`Error::Json`] when the file is not a tokenizer this crate can run.
    pub fn from_json(
        tokenizer_json: &[u8],
        tokenizer_config: Option<&serde_json::Value>,
    ) -> Result<Self, Error> {
        json::load(tokenizer_json, tokenizer_config)
    }

    /// Builds the tokenizer that the metadata of a GGUF file describes: byte-level BPE (`gpt2`), SentencePiece-style BPE
    /// (`llama`) or `gemma4`.
    ///
    /// # Errors
    /// Unknown model or pre-tokenizer names (with the known ones), missing or contradicting arrays.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self, Error> {
        gguf::load(vocab)
    }

    /// Ids of `text`. No begin token is added.
    ///
    /// # Errors
    /// [`Error::Encode`] when a regular expression gives up or the vocabulary has no token for a character.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, Error> {
        let which = match special {
            Special::AsText => Which::Plain,
            Special::Parse => Which::All,
        };
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        if let (Some(exact), Special::Parse) = (&self.exact, special) {
            let encode = move || {
                self.encode_pieces(exact.extract_and_normalize(self.normalizer.as_ref(), text), &mut ids)?;
                Ok(ids)
            };
            return contained(encode, |message| Error::Encode { message });
        }
        self.encode_with(text, which, &mut ids, |_| false)?;
        Ok(ids)
    }

    /// Ids of a rendered prompt: control tokens count where the template wrote them, and are plain text where a user did.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::with_capacity(prompt.text().len() / 4 + 1);
        self.encode_with(prompt.text(), Which::All, &mut ids, |range| prompt.is_protected(range))?;
        Ok(ids)
    }

    fn encode_with(
        &self,
        text: &str,
        which: Which,
        ids: &mut Vec<u32>,
        refuse: impl Fn(&Range<usize>) -> bool,
    ) -> Result<(), Error> {
        let found = self.added.find(text, which, refuse);
        let encode = || {
            let mut done = 0;
            for token in &found {
                self.encode_run(&text[done..token.range.start], ids)?;
                ids.push(token.id);
                done = token.range.end;
            }
            self.encode_run(&text[done..], ids)
        };
        contained(encode, |message| Error::Encode { message })
    }

    /// Encodes text that holds no added token to be honoured.
    fn encode_run(&self, run: &str, ids: &mut Vec<u32>) -> Result<(), Error> {
        if run.is_empty() {
            return Ok(());
        }
        let first = ids.len();
        self.encode_raw(run, ids)?;
        if ids[first..].iter().any(|&id| self.added.is_marker(id)) {
            self.take_markers_apart(first, ids)?;
        }
        Ok(())
    }

    fn encode_raw(&self, run: &str, ids: &mut Vec<u32>) -> Result<(), Error> {
        let fail = |e: tokenizers::Error| Error::Encode { message: e.to_string() };
        let mut text = NormalizedString::from(run);
        if let Some(normalizer) = &self.normalizer {
            normalizer.normalize(&mut text).map_err(fail)?;
        }
        self.encode_pieces(PreTokenizedString::from(text), ids)
    }

    fn encode_pieces(&self, mut pieces: PreTokenizedString, ids: &mut Vec<u32>) -> Result<(), Error> {
        let fail = |e: tokenizers::Error| Error::Encode { message: e.to_string() };
        if let Some(pre) = &self.pre_tokenizer {
            pre.pre_tokenize(&mut pieces).map_err(fail)?;
        }
        for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match tokens {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => {
                    ids.extend(self.model.tokenize(piece).map_err(fail)?.into_iter().map(|token| token.id))
                }
            }
        }
        Ok(())
    }

    /// A vocabulary may reach the text of a control token by ordinary merges. Such an id is replaced by the ids of its
    /// characters, which cannot spell the token again.
    fn take_markers_apart(&self, first: usize, ids: &mut Vec<u32>) -> Result<(), Error> {
        let tail = ids.split_off(first);
        for id in tail {
            if !self.added.is_marker(id) {
                ids.push(id);
                continue;
            }
            let text = self.table.text(id).unwrap_or_default().to_owned();
            let mut one = [0u8; 4];
            for c in text.chars() {
                let tokens = self.model.tokenize(c.encode_utf8(&mut one));
                let tokens = tokens.map_err(|e| Error::Encode { message: e.to_string() })?;
                ids.extend(tokens.into_iter().map(|token| token.id).filter(|id| !self.added.is_marker(*id)));
            }
        }
        Ok(())
    }

    /// Text of `ids`; bytes that are not UTF-8 become U+FFFD. With `skip_special` the special tokens are left out. Ids
    /// outside the vocabulary give nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = Detokenizer::new(self, skip_special, false);
        let mut text = String::new();
        for &id in ids {
            stream.push_into(id, &mut text);
        }
        text.push_str(&stream.finish());
        text
    }

    /// A decoder for ids that arrive one by one; special tokens are left out. What it returns, put together, equals
    /// [`Tokenizer::decode`] of all of them.
    pub fn stream(&self) -> Detokenizer<'_> {
        Detokenizer::new(self, true, false)
    }

    /// Like [`Tokenizer::stream`], for a text that goes on after something: the space that SentencePiece vocabularies put
    /// before the first word is kept.
    pub fn stream_continued(&self) -> Detokenizer<'_> {
        Detokenizer::new(self, true, true)
    }

    /// Like [`Tokenizer::stream`], but special tokens are spelled out.
    pub fn stream_with_special(&self) -> Detokenizer<'_> {
        Detokenizer::new(self, false, false)
    }

    /// The token as the vocabulary spells it (`Ġthe`, `▁the`, `<|im_end|>`).
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.table.text(id)
    }

    /// The bytes that the token stands for.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.table.bytes(id)
    }

    /// The id of a token given as the vocabulary spells it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.added.id_of(token).or_else(|| self.model.token_to_id(token))
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// Whether `id` is a special (control) token, left out of decoded text.
    pub fn is_special(&self, id: u32) -> bool {
        self.table.is_special(id)
    }

    /// Whether `id` is an added token that text typed by a user never becomes: every special token, and markup such as
    /// `<think>`.
    pub fn is_marker(&self, id: u32) -> bool {
        self.added.is_marker(id)
    }

    /// The spellings that text typed by a user must not become; what [`crate::TemplateOptions::markers`] wants.
    pub fn markers(&self) -> Vec<String> {
        self.added.markers()
    }

    /// Where a text spells added tokens that are no plain text, and which.
    pub(crate) fn markers_in(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        let found = self.added.find(text, Which::All, |_| false).into_iter();
        found.filter(|f| self.added.is_marker(f.id)).map(|f| (f.range, f.id)).collect()
    }

    /// Whether the vocabulary spells any bytes, so that a text has the same ids wherever it stands. (SentencePiece has others at
    /// the beginning.)
    pub(crate) fn is_byte_level(&self) -> bool {
        self.table.spelling == bytes::Spelling::ByteLevel
    }

    /// The begin-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens that end a generation, as far as the tokenizer's files tell (`generation_config.json` may name more).
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Whether the begin token belongs before a plain text (not before a rendered chat template, which writes its own).
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether the end token belongs after a plain text.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }
}

/// Runs `work`, in which the `tokenizers` library may panic over a file that contradicts itself, and makes that an error.
fn contained<T>(
    work: impl FnOnce() -> Result<T, Error>,
    error: impl FnOnce(String) -> Error,
) -> Result<T, Error> {
    // What `work` was building is thrown away, so that nothing half done can be seen.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(error(format!("the tokenizer contradicts itself ({})", reason.unwrap_or("no reason given"))))
    })
}
