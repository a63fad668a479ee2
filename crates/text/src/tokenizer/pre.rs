//! Pre-tokenizers by the names that GGUF files give them (`tokenizer.ggml.pre`): the regular expressions are those of the
//! models' own `tokenizer.json` files.

use crate::Error;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

/// One step of a pre-tokenizer.
#[derive(Clone, Copy)]
enum Step {
    /// Cut at the matches of a regular expression.
    Cut(&'static str),
    /// Every digit alone.
    Digits,
    /// Runs of digits.
    Numbers,
    /// Runs of punctuation.
    Punctuation,
    /// GPT-2's own expression.
    Gpt2,
    /// The same, and from here on bytes are spelled in the byte-level alphabet: the steps after it see that spelling.
    Gpt2Bytes,
}

struct Pre {
    names: &'static [&'static str],
    steps: &'static [Step],
    /// Unicode normalization form C first.
    nfc: bool,
    /// A word that is a token is that token, whatever the merges say.
    ignore_merges: bool,
    /// A text begins with the begin token unless the file says otherwise.
    add_bos: bool,
}

const fn pre(names: &'static [&'static str], steps: &'static [Step]) -> Pre {
    Pre { names, steps, nfc: false, ignore_merges: false, add_bos: false }
}

use Step::{Cut, Gpt2, Numbers};

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const CJK3: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
const CJK: &str = r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
/// The cased letters of many scripts, as the first DeepSeek models list them, with one white space before.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}",
    r"\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}",
    r"\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}",
    r"\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}",
    r"\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}",
    r"\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}",
    r"\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}",
    r"\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}",
    r"\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}",
    r"\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}",
    r"\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}",
    r"\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+",
);
const DEEPSEEK_MARKS: &str =
    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+";

const TABLE: &[Pre] = &[
    Pre {
        ignore_merges: true,
        add_bos: true,
        ..pre(
            &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
            &[Cut(LLAMA3)],
        )
    },
    pre(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[Cut(LLAMA3)]),
    Pre {
        nfc: true,
        ..pre(
            &["qwen2", "deepseek-r1-qwen", "kormo", "stablelm2", "megrez", "hunyuan", "solar-open", "grok-2"],
            &[Cut(QWEN2)],
        )
    },
    Pre { nfc: true, ..pre(&["qwen35"], &[Cut(QWEN35)]) },
    pre(&["gpt-4o", "o200k", "llama4"], &[Cut(O200K)]),
    Pre { ignore_merges: true, add_bos: true, ..pre(&["tekken"], &[Cut(TEKKEN)]) },
    pre(
        &["deepseek-llm"],
        &[Cut(r"[\r\n]"), Cut(DEEPSEEK_LETTERS), Cut(DEEPSEEK_MARKS), Cut(r"\s+$"), Cut(CJK), Step::Digits],
    ),
    pre(&["deepseek-coder"], &[Cut(r"[\r\n]"), Cut(r"\s?\p{L}+"), Cut(r"\s?\p{P}+"), Cut(CJK), Step::Digits]),
    pre(&["deepseek-v3", "hunyuan-dense"], &[Cut(r"\p{N}{1,3}"), Cut(CJK3), Cut(DEEPSEEK3)]),
    pre(
        &["gpt-2", "phi-2", "olmo", "jais", "trillion", "granite-docling", "roberta-bpe", "gigachat"],
        &[Gpt2],
    ),
    Pre { nfc: true, ..pre(&["mpt"], &[Gpt2]) },
    pre(&["starcoder", "refact", "smollm", "codeshell", "exaone", "minerva-7b"], &[Step::Digits, Gpt2]),
    Pre { nfc: true, ..pre(&["command-r"], &[Step::Digits, Gpt2]) },
    pre(&["falcon"], &[Step::Punctuation, Step::Gpt2Bytes, Numbers, Cut("[0-9][0-9][0-9]")]),
    pre(&["default"], &[Cut(r"[\p{P}\$\+<=>\^~\|]+"), Gpt2, Numbers, Cut("[0-9][0-9][0-9]")]),
];

/// The names of `tokenizer.ggml.pre` that can be built, in alphabetical order.
pub fn supported_pre_tokenizers() -> Vec<&'static str> {
    let mut names: Vec<_> = TABLE.iter().flat_map(|pre| pre.names.iter().copied()).collect();
    names.sort_unstable();
    names
}

/// What comes before byte-level BPE.
pub(super) struct Built {
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: PreTokenizerWrapper,
    pub(super) ignore_merges: bool,
    pub(super) add_bos: bool,
}

/// Builds the pre-tokenizer called `name`.
pub(super) fn build(name: &str) -> Result<Built, Error> {
    let pre = TABLE.iter().find(|pre| pre.names.contains(&name)).ok_or_else(|| {
        Error::UnknownPreTokenizer { name: name.to_owned(), known: supported_pre_tokenizers().join(", ") }
    })?;
    let mut parts: Vec<PreTokenizerWrapper> = Vec::with_capacity(pre.steps.len() + 1);
    for step in pre.steps {
        parts.push(match step {
            Cut(regex) => cut(regex)?,
            Step::Digits => Digits::new(true).into(),
            Numbers => Digits::new(false).into(),
            Step::Gpt2Bytes => ByteLevel::new(false, true, true).into(),
            Step::Punctuation => Punctuation::new(SplitDelimiterBehavior::Contiguous).into(),
            Gpt2 => cut(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")?,
        });
    }
    if !pre.steps.iter().any(|step| matches!(step, Step::Gpt2Bytes)) {
        parts.push(ByteLevel::new(false, true, false).into());
    }
    Ok(Built {
        normalizer: pre.nfc.then(|| NFC.into()),
        pre_tokenizer: Sequence::new(parts).into(),
        ignore_merges: pre.ignore_merges,
        add_bos: pre.add_bos,
    })
}

fn cut(regex: &str) -> Result<PreTokenizerWrapper, Error> {
    Split::new(SplitPattern::Regex(regex.to_owned()), SplitDelimiterBehavior::Isolated, false)
        .map(Into::into)
        .map_err(|e| Error::Encode { message: format!("regular expression {regex:?}: {e}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_builds_and_none_is_listed_twice() {
        let names = supported_pre_tokenizers();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        for name in names {
            assert!(build(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_named_with_the_known_ones() {
        let message = build("qwen99").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("\"qwen99\"") && message.contains("deepseek-llm"), "{message}");
    }
}
