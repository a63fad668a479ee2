//! Building model files byte by byte, well-formed and not.
#![allow(dead_code)] // each test binary uses its own part

pub(crate) mod check;

/// A GGUF file put together by hand, so that it can be wrong in any place.
#[derive(Clone, Debug)]
pub(crate) struct RawGguf {
    pub(crate) version: u32,
    /// Written in place of the real numbers of tensors and keys.
    pub(crate) counts: Option<(u64, u64)>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) alignment: usize,
    pub(crate) data: Vec<u8>,
}

impl Default for RawGguf {
    fn default() -> RawGguf {
        RawGguf { version: 3, counts: None, keys: vec![], tensors: vec![], alignment: 32, data: vec![] }
    }
}

impl RawGguf {
    pub(crate) fn key(mut self, key: &str, kind: u32, value: &[u8]) -> RawGguf {
        self.keys.push([string(key.as_bytes()), kind.to_le_bytes().to_vec(), value.to_vec()].concat());
        self
    }

    /// `dims` as in the file: innermost first.
    pub(crate) fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> RawGguf {
        let mut entry = string(name.as_bytes());
        entry.extend((dims.len() as u32).to_le_bytes());
        entry.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
        entry.extend(kind.to_le_bytes());
        entry.extend(offset.to_le_bytes());
        self.tensors.push(entry);
        self
    }

    pub(crate) fn data(mut self, bytes: usize) -> RawGguf {
        self.data = (0..bytes).map(|i| (i % 63) as u8).collect();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        let (tensors, keys) = self.counts.unwrap_or((self.tensors.len() as u64, self.keys.len() as u64));
        out.extend(tensors.to_le_bytes());
        out.extend(keys.to_le_bytes());
        out.extend(self.keys.concat());
        out.extend(self.tensors.concat());
        if !self.data.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&self.data);
        }
        out
    }
}

/// A GGUF string.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// A GGUF array of strings: element type, length, elements.
pub(crate) fn strings(texts: &[&str]) -> Vec<u8> {
    let mut out = array(8, texts.len() as u64);
    out.extend(texts.iter().flat_map(|text| string(text.as_bytes())));
    out
}

/// The head of a GGUF array.
pub(crate) fn array(kind: u32, length: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat()
}

/// A safetensors file with this header and this many bytes of data.
pub(crate) fn raw_safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend((0..data).map(|i| (i % 63) as u8));
    out
}

/// A small GGUF file with a value of every type, a vocabulary and tensors of four kinds.
pub(crate) fn small_gguf() -> Vec<u8> {
    RawGguf::default()
        .key("general.architecture", 8, &string(b"llama"))
        .key("general.alignment", 4, &32u32.to_le_bytes())
        .key("a.u8", 0, &[7])
        .key("a.i8", 1, &[0xff])
        .key("a.u16", 2, &[1, 2])
        .key("a.i16", 3, &[1, 2])
        .key("a.i32", 5, &[1, 2, 3, 4])
        .key("a.f32", 6, &1.5f32.to_le_bytes())
        .key("a.bool", 7, &[1])
        .key("a.u64", 10, &[1, 0, 0, 0, 0, 0, 0, 0])
        .key("a.i64", 11, &[0xff; 8])
        .key("a.f64", 12, &2.5f64.to_le_bytes())
        .key("a.bools", 9, &[array(7, 3), vec![0, 1, 0]].concat())
        .key("a.layers", 9, &[array(4, 3), vec![1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]].concat())
        .key("a.nested", 9, &[array(9, 2), strings(&["x"]), array(0, 0)].concat())
        .key("tokenizer.ggml.model", 8, &string(b"gpt2"))
        .key("tokenizer.ggml.tokens", 9, &strings(&["a", "b", "ab"]))
        .key(
            "tokenizer.ggml.token_type",
            9,
            &[array(5, 3), vec![1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]].concat(),
        )
        .key("tokenizer.ggml.merges", 9, &strings(&["a b"]))
        .key("tokenizer.ggml.eos_token_id", 4, &2u32.to_le_bytes())
        .tensor("f32", &[3, 2], 0, 0)
        .tensor("q8", &[32], 8, 32)
        .tensor("strange", &[5], 77, 96)
        .tensor("i32", &[2, 1, 1, 1], 26, 128)
        .data(136)
        .bytes()
}

/// A small safetensors file.
pub(crate) fn small_safetensors() -> Vec<u8> {
    raw_safetensors(
        concat!(
            r#"{"__metadata__":{"format":"pt"},"#,
            r#""a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#,
            r#""b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"#,
            r#""empty":{"dtype":"U8","shape":[0,4],"data_offsets":[22,22]},"#,
            r#""scalar":{"dtype":"I64","shape":[],"data_offsets":[22,30]}}  "#,
        ),
        30,
    )
}
