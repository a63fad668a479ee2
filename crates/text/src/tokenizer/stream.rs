//! Ids to text, one by one.

use super::Tokenizer;
use super::bytes::Spelling;

/// Turns ids into text as they arrive. Bytes that may still become a character are held back; bytes that cannot become one
/// give U+FFFD, exactly as decoding everything at once would.
#[derive(Clone, Debug)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    /// A leading space is still to be dropped.
    at_start: bool,
    /// The beginning of a character, at most three bytes.
    held: Vec<u8>,
}

impl<'t> Detokenizer<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer, skip_special: bool, continued: bool) -> Self {
        let strip = tokenizer.table.spelling == Spelling::SentencePiece { strip: true };
        Self { tokenizer, skip_special, at_start: strip && !continued, held: Vec::with_capacity(8) }
    }

    /// The text that `id` completes; empty while a character is not finished.
    pub fn push(&mut self, id: u32) -> String {
        let mut text = String::new();
        self.push_into(id, &mut text);
        text
    }

    /// As [`Detokenizer::push`], appending to `text`.
    pub fn push_into(&mut self, id: u32, text: &mut String) {
        if self.skip_special && self.tokenizer.is_special(id) {
            return;
        }
        let Some(mut bytes) = self.tokenizer.token_bytes(id) else { return };
        if self.at_start && !bytes.is_empty() {
            self.at_start = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.held.extend_from_slice(bytes);
        let mut kept = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            kept += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty() || (kept + invalid.len() == self.held.len() && may_become_char(invalid)) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            kept += invalid.len();
        }
        self.held.drain(..kept);
    }

    /// What is left when no more ids come: one U+FFFD if a character was never finished.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }
}

/// Whether more bytes could complete `bytes` to one character. `bytes` is an ill-formed piece at the end of the input.
fn may_become_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}
