//! A vocabulary as the grammar engine wants it.

use crate::{Special, Tokenizer};
use std::sync::Arc;
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

struct Vocabulary {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

/// The tokens of a tokenizer as a trie. Control tokens and markup are marked, so that no text of a grammar spells them.
pub(super) fn environment(tokenizer: Arc<Tokenizer>, stop_tokens: &[u32]) -> TokEnv {
    let size = tokenizer.vocab_size() as u32;
    let mut words: Vec<Vec<u8>> = (0..size)
        .map(|id| match tokenizer.token_bytes(id) {
            Some(bytes) if tokenizer.is_marker(id) || tokenizer.is_special(id) => {
                [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
            }
            // No text has a byte that is the mark.
            Some(bytes) if !bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) => bytes.to_vec(),
            _ => Vec::new(),
        })
        .collect();
    let mut ends: Vec<u32> =
        stop_tokens.iter().chain(tokenizer.eos()).copied().filter(|id| *id < size).collect();
    ends.sort_unstable();
    ends.dedup();
    if ends.is_empty() {
        // The engine needs a token that ends a text; this one is beyond all that a model can choose.
        ends.push(size);
        words.push(Vec::new());
    }
    let info = TokRxInfo::new(words.len() as u32, ends[0]);
    let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
    Arc::new(Vocabulary { trie, tokenizer })
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.tokenizer
                .encode(text, Special::AsText)
                .unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    /// Where a text has one spelling in tokens, what a grammar forces is spelled like that.
    fn tokenize_is_canonical(&self) -> bool {
        self.tokenizer.is_byte_level()
    }
}
