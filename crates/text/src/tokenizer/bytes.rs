//! What each id stands for, as text and as bytes.

use ahash::AHashMap;

/// How a vocabulary spells bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// GPT-2's alphabet: every byte is one printable character.
    ByteLevel,
    /// SentencePiece: `▁` is a space, `<0x0A>` a byte; with `strip`, one space at the very start of a text is dropped.
    SentencePiece { strip: bool },
}

/// Text and bytes of every id.
#[derive(Debug)]
pub(crate) struct TokenTable {
    texts: Vec<Option<Box<str>>>,
    /// All bytes in a row; token `id` owns `starts[id]..starts[id + 1]`.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    special: Vec<bool>,
    pub(crate) spelling: Spelling,
}

/// No vocabulary has ids this large; a file that claims so would only make us allocate.
pub(crate) const MAX_ID: u32 = 1 << 24;

impl TokenTable {
    /// `texts[id]` is the token; `raw[id]` tells that it is an added token.
    pub(crate) fn new(
        texts: Vec<Option<Box<str>>>,
        special: Vec<bool>,
        raw: &[bool],
        spelling: Spelling,
    ) -> Self {
        let back = byte_level_back();
        let mut bytes = Vec::with_capacity(texts.len() * 8);
        let mut starts = Vec::with_capacity(texts.len() + 1);
        for (id, text) in texts.iter().enumerate() {
            starts.push(bytes.len() as u32);
            let Some(text) = text.as_deref() else { continue };
            match spelling {
                // Text matches an added token as it is written, so this is what it stands for, too.
                _ if raw.get(id).copied().unwrap_or(false) => bytes.extend_from_slice(text.as_bytes()),
                Spelling::ByteLevel => {
                    let first = bytes.len();
                    for c in text.chars() {
                        match back.get(&c) {
                            Some(byte) => bytes.push(*byte),
                            None => {
                                // Not in the alphabet, so not byte-level.
                                bytes.truncate(first);
                                bytes.extend_from_slice(text.as_bytes());
                                break;
                            }
                        }
                    }
                }
                Spelling::SentencePiece { .. } => match byte_piece(text) {
                    Some(byte) => bytes.push(byte),
                    None => bytes.extend_from_slice(text.replace('\u{2581}', " ").as_bytes()),
                },
            }
        }
        starts.push(bytes.len() as u32);
        bytes.shrink_to_fit();
        Self { texts, bytes, starts, special, spelling }
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)?.as_deref()
    }

    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        self.texts.get(id)?.as_ref()?;
        Some(&self.bytes[self.starts[id] as usize..self.starts[id + 1] as usize])
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }
}

/// `<0x0A>` gives 10.
pub(crate) fn byte_piece(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

/// GPT-2's alphabet backwards: printable Latin-1 characters are themselves, the other bytes follow from U+0100 on.
fn byte_level_back() -> AHashMap<char, u8> {
    let mut back = AHashMap::with_capacity(256);
    let mut next = 0x100;
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let c = if printable {
            char::from(byte)
        } else {
            let c = char::from_u32(next).unwrap_or_default();
            next += 1;
            c
        };
        back.insert(c, byte);
    }
    back
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(texts: &[&str], spelling: Spelling) -> TokenTable {
        let texts: Vec<_> = texts.iter().map(|t| Some(Box::from(*t))).collect();
        let special = vec![false; texts.len()];
        TokenTable::new(texts, special, &[], spelling)
    }

    #[test]
    fn byte_level_tokens_give_their_bytes() {
        let t = table(&["Ġthe", "Ċ", "ðŁ", "<｜User｜>"], Spelling::ByteLevel);
        let want: [&[u8]; 4] = [b" the", b"\n", &[0xF0, 0x9F], "<｜User｜>".as_bytes()];
        for (id, want) in want.into_iter().enumerate() {
            assert_eq!(t.bytes(id as u32), Some(want), "{id}");
        }
        assert_eq!(t.bytes(4), None);
    }

    #[test]
    fn sentence_pieces_give_spaces_and_bytes() {
        let t = table(&["▁the", "<0x0A>", "<0xZZ>"], Spelling::SentencePiece { strip: true });
        let want: [&[u8]; 3] = [b" the", b"\n", b"<0xZZ>"];
        for (id, want) in want.into_iter().enumerate() {
            assert_eq!(t.bytes(id as u32), Some(want), "{id}");
        }
    }
}
