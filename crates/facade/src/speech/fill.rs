//! Filling in the middle: what belongs between two texts (Bavarian et al., arXiv 2207.14255).

use super::{Encoded, Speech};
use crate::Error;
use sampan_text::{Special, Tokenizer};

/// The tokens before the first text, before the second, and where the answer begins, as families call them.
const MARKERS: [[&str; 3]; 4] = [
    // Qwen2.5-Coder, Qwen3-Coder, CodeGemma
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    // DeepSeek V2, V3 and Coder
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    // StarCoder and Granite
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    // Code Llama
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
];

/// Tokens that end what is filled in, beside the model's own.
const ENDS: [&str; 6] =
    ["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>", "<file_sep>", "▁<EOT>"];

fn markers(tokenizer: &Tokenizer) -> Option<[u32; 3]> {
    MARKERS.iter().find_map(|names| {
        let [before, after, middle] = names.map(|name| tokenizer.id_of(name));
        Some([before?, after?, middle?])
    })
}

/// Tokens that a model writes only where what was to be filled in has ended.
pub(super) fn stop_tokens(tokenizer: &Tokenizer) -> Vec<u32> {
    match markers(tokenizer) {
        None => Vec::new(),
        Some(markers) => {
            markers.into_iter().chain(ENDS.iter().filter_map(|name| tokenizer.id_of(name))).collect()
        }
    }
}

impl Speech {
    /// Whether the model can fill in the middle.
    pub fn fills(&self) -> bool {
        markers(&self.tokenizer).is_some()
    }

    /// Encodes two texts for what belongs between them. Nothing in them becomes a control token.
    ///
    /// # Errors
    /// When the model's vocabulary has no tokens for this, or a text cannot be encoded.
    pub fn encode_fill(&self, before: &str, after: &str) -> Result<Encoded, Error> {
        let [first, second, middle] =
            markers(&self.tokenizer).ok_or_else(|| Error::NoFill { model: self.name.clone() })?;
        let encode = |text: &str| self.tokenizer.encode(text, Special::AsText).map_err(Error::Encode);
        let begin = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos());
        let mut ids: Vec<u32> = begin.into_iter().collect();
        ids.push(first);
        ids.extend(encode(before)?);
        ids.push(second);
        ids.extend(encode(after)?);
        ids.push(middle);
        Ok(Encoded::continued(ids))
    }
}
