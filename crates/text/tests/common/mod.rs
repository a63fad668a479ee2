//! The vocabulary of a GGUF file, read with the least code that can do it: the files here are known to be well-formed,
//! and this crate depends on no other of ours.

use sampan_text::GgufVocab;
use std::path::{Path, PathBuf};

/// The folder of published vocabularies, if it is there.
pub(crate) fn vocabularies() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/vocab");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "gguf"));
    paths.sort();
    paths
}

/// Reads the tokenizer keys.
pub(crate) fn read(path: &Path) -> GgufVocab {
    let bytes = std::fs::read(path).expect("a readable file");
    assert_eq!(&bytes[..4], b"GGUF");
    let mut cursor = Cursor { bytes: &bytes, at: 16 };
    let mut vocab = GgufVocab::default();
    for _ in 0..cursor.u64() {
        let key = cursor.string();
        let kind = cursor.u32();
        let value = cursor.value(kind);
        let id = value.number().map(|n| n as u32);
        let flag = value.number().map(|n| n != 0.0);
        match key.strip_prefix("tokenizer.ggml.").unwrap_or(&key) {
            "general.architecture" => vocab.architecture = value.text(),
            "model" => vocab.model = value.text().unwrap_or_default(),
            "pre" => vocab.pre = value.text(),
            "tokens" => vocab.tokens = value.texts(),
            "merges" => vocab.merges = value.texts(),
            "scores" => vocab.scores = value.numbers().iter().map(|&n| n as f32).collect(),
            "token_type" => vocab.token_types = value.numbers().iter().map(|&n| n as i32).collect(),
            "bos_token_id" => vocab.bos = id,
            "eos_token_id" => vocab.eos = id,
            "eot_token_id" => vocab.eot = id,
            "unknown_token_id" => vocab.unk = id,
            "padding_token_id" => vocab.pad = id,
            "add_bos_token" => vocab.add_bos = flag,
            "add_eos_token" => vocab.add_eos = flag,
            "add_space_prefix" => vocab.add_space_prefix = flag,
            _ => {}
        }
    }
    vocab
}

enum Value {
    Number(f64),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    fn number(&self) -> Option<f64> {
        match self {
            Value::Number(n) => Some(*n),
            _ => None,
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Value::Text(s) => Some(s.clone()),
            _ => None,
        }
    }

    fn items(&self) -> &[Value] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }

    fn numbers(&self) -> Vec<f64> {
        self.items().iter().filter_map(Value::number).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Value::text).collect()
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        self.at += N;
        self.bytes[self.at - N..self.at].try_into().expect("N bytes")
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn string(&mut self) -> String {
        let len = self.u64() as usize;
        self.at += len;
        String::from_utf8_lossy(&self.bytes[self.at - len..self.at]).into_owned()
    }

    fn value(&mut self, kind: u32) -> Value {
        Value::Number(match kind {
            0 | 7 => f64::from(self.take::<1>()[0]),
            1 => f64::from(self.take::<1>()[0] as i8),
            2 => f64::from(u16::from_le_bytes(self.take())),
            3 => f64::from(i16::from_le_bytes(self.take())),
            4 => f64::from(self.u32()),
            5 => f64::from(i32::from_le_bytes(self.take())),
            6 => f64::from(f32::from_le_bytes(self.take())),
            8 => return Value::Text(self.string()),
            9 => {
                let kind = self.u32();
                return Value::List((0..self.u64()).map(|_| self.value(kind)).collect());
            }
            10 => self.u64() as f64,
            11 => i64::from_le_bytes(self.take()) as f64,
            12 => f64::from_le_bytes(self.take()),
            other => panic!("value type {other}"),
        })
    }
}
