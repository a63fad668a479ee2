//! Files that contradict themselves: each gets an error that says what and where.

mod common;

use common::{RawGguf, array, raw_safetensors, small_gguf, small_safetensors, string, strings};
use sampan_weights::{Error, gguf, safetensors};
use std::path::Path;

type Parse = fn(&Path, &[u8]) -> Result<(), Error>;

fn parse_gguf(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    gguf::parse(file, bytes).map(drop)
}

fn parse_safetensors(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    safetensors::parse(file, bytes).map(drop)
}

/// Every case is refused with a message that names the file and holds all the parts.
#[track_caller]
fn check_refused(parse: Parse, cases: Vec<(&str, Vec<u8>, &[&str])>) {
    for (name, bytes, parts) in cases {
        let Err(error) = parse(Path::new("dir/bad.model"), &bytes) else { panic!("{name}: accepted") };
        let message = error.to_string();
        for part in ["dir/bad.model: "].iter().chain(parts) {
            assert!(message.contains(part), "{name}: {message:?} lacks {part:?}");
        }
    }
}

fn gguf_file() -> RawGguf {
    RawGguf::default().key("general.architecture", 8, &string(b"llama"))
}

/// One F32 tensor of 8 values with the given part replaced.
fn one(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    gguf_file().tensor(name, dims, kind, offset).data(32).bytes()
}

#[test]
fn what_is_well_formed_is_accepted() {
    assert!(common::check::gguf_bytes(&small_gguf()));
    assert!(common::check::gguf_bytes(&one("t", &[8], 0, 0)));
    assert!(common::check::gguf_bytes(&RawGguf { version: 2, ..gguf_file() }.bytes()));
    assert!(common::check::safetensors_bytes(&small_safetensors()));
    assert!(common::check::safetensors_bytes(&raw_safetensors("{}", 0)));
}

#[test]
fn not_gguf_at_all() {
    let mut big_endian = small_gguf();
    big_endian[4..8].reverse();
    let html = b"\n<!DOCTYPE html><html>Not found".to_vec();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0".to_vec();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", vec![], &["not a GGUF file", "empty"]),
        ("zip", b"PK\x03\x04abc".to_vec(), &["pickle", "safetensors or GGUF"]),
        ("pickle", b"\x80\x02}q".to_vec(), &["refuses"]),
        ("page", html, &["web page"]),
        ("lfs", lfs, &["git-lfs pointer", "git lfs pull"]),
        ("ggjt", b"tjgg\x03\0\0\0".to_vec(), &["before GGUF"]),
        ("magic of a big-endian writer", b"FUGG\0\0\0\x03".to_vec(), &["big-endian"]),
        ("zeros", vec![0; 600], &["zeros"]),
        ("json", b"  {\"a\": 1}".to_vec(), &["JSON"]),
        ("gzip", b"\x1f\x8b\x08".to_vec(), &["gzip"]),
        ("safetensors", small_safetensors(), &["looks like a safetensors file"]),
        ("noise", vec![1, 2, 3], &["01 02 03"]),
        ("big endian", big_endian, &["version (byte 4)", "big endian"]),
        ("version 1", RawGguf { version: 1, ..gguf_file() }.bytes(), &["version (byte 4)", "version 1"]),
        ("version 9", RawGguf { version: 9, ..gguf_file() }.bytes(), &["version 9 is not known"]),
        ("only the magic", b"GGUF".to_vec(), &["version (byte 4)", "truncated"]),
    ];
    check_refused(parse_gguf, cases);
}

#[test]
fn gguf_key_values() {
    let with = |kind: u32, value: &[u8]| gguf_file().key("k", kind, value).bytes();
    let counts = |tensors, keys| RawGguf { counts: Some((tensors, keys)), ..gguf_file() }.bytes();
    let nested = |depth: usize| with(9, &[array(9, 1).repeat(depth), array(0, 0)].concat());
    let long = "long ".repeat(2_000);
    let huge_string = [u64::MAX.to_le_bytes().to_vec(), b"abc".to_vec()].concat();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("more keys than bytes", counts(0, 1 << 40), &["key-value count (byte 16)", "do not fit"]),
        ("more tensors than bytes", counts(u64::MAX, 1), &["tensor count (byte 8)", "do not fit"]),
        ("one key more", counts(0, 2), &["key 1: length (byte 69)", "truncated"]),
        ("repeated", gguf_file().key("general.architecture", 0, &[1]).bytes(), &["key 1", "there twice"]),
        ("unknown type", with(13, &[0]), &["key 1 (\"k\") (byte 78)", "value type 13"]),
        ("array in string's place", with(8, &huge_string), &["key 1 (\"k\"): length", "do not fit"]),
        ("not UTF-8", with(8, &string(b"ab\xffcd")), &["key 1 (\"k\")", "not UTF-8", "byte is at 92"]),
        (
            "key not UTF-8",
            {
                let mut raw = gguf_file();
                raw.keys.push([string(b"\xc3"), vec![0, 0, 0, 0, 1]].concat());
                raw.bytes()
            },
            &["key 1 (byte 69)", "not UTF-8"],
        ),
        (
            "element not UTF-8",
            with(9, &[array(8, 2), string(b"ok"), string(b"\x80")].concat()),
            &["(\"k\")[1]"],
        ),
        ("boolean", with(7, &[2]), &["a boolean is 0 or 1, not 2"]),
        ("boolean element", with(9, &[array(7, 2), vec![1, 9]].concat()), &["(\"k\")[1] (byte 95)", "not 9"]),
        ("unknown elements", with(9, &array(99, 0)), &["element type 99"]),
        ("enormous array", with(9, &array(4, 1 << 61)), &["array length", "do not fit"]),
        ("enormous array that overflows", with(9, &array(10, u64::MAX)), &["array length", "do not fit"]),
        ("enormous string array", with(9, &array(8, 1 << 60)), &["array length", "do not fit"]),
        ("enormous nested array", with(9, &array(9, 1 << 60)), &["array length", "do not fit"]),
        ("deep", nested(4), &["nest deeper than 4"]),
        ("very deep", nested(50_000), &["nest deeper than 4"]),
        ("long key", gguf_file().key(&long, 77, &[]).bytes(), &["... (10000 bytes)", "value type 77"]),
        ("cut value", with(10, &[1, 2]), &["8 bytes are needed and the file has 2 left"]),
        ("alignment 0", gguf_file().key("general.alignment", 4, &[0; 4]).bytes(), &["alignment", "0 is not"]),
        ("alignment 48", gguf_file().key("general.alignment", 4, &[48, 0, 0, 0]).bytes(), &["48 is not"]),
        (
            "alignment 2^40",
            gguf_file().key("general.alignment", 10, &(1u64 << 40).to_le_bytes()).bytes(),
            &["not a power of two below 2^32"],
        ),
        (
            "alignment is text",
            gguf_file().key("general.alignment", 8, &string(b"32")).bytes(),
            &["general.alignment", "a string where an integer"],
        ),
        (
            "alignment is negative",
            gguf_file().key("general.alignment", 5, &[0xff; 4]).bytes(),
            &["an integer where an integer of at least 0"],
        ),
    ];
    check_refused(parse_gguf, cases);
    assert!(common::check::gguf_bytes(&nested(3)), "less deep is accepted");
}

#[test]
fn gguf_tensors() {
    let f = gguf_file;
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "no dimensions",
            one("t", &[], 0, 0),
            &["tensor 0 (\"t\"): dimension count (byte 78)", "0 is not in 1 to 4"],
        ),
        ("five dimensions", one("t", &[1; 5], 0, 0), &["5 is not in 1 to 4"]),
        ("empty dimension", one("t", &[4, 0], 0, 0), &["dimension (byte 90)", "is 0"]),
        ("shape overflows", one("t", &[1 << 40, 1 << 40], 0, 0), &["shape", "overflows"]),
        ("size overflows", one("t", &[1 << 62], 0, 0), &["shape", "overflows"]),
        ("unknown type's shape overflows", one("t", &[u64::MAX, u64::MAX], 77, 0), &["overflows"]),
        ("not whole blocks", one("t", &[33], 8, 0), &["rows of 33 values are not whole Q8_0 blocks of 32"]),
        ("blocks across rows", one("t", &[16, 2], 8, 0), &["rows of 16 values"]),
        ("not aligned", one("t", &[4], 0, 8), &["offset (byte 94)", "not a multiple of the alignment 32"]),
        (
            "beyond the file",
            one("t", &[9], 0, 0),
            &["data of 36 bytes at byte 128 ends beyond the file of 160 bytes"],
        ),
        ("far beyond", one("t", &[8], 0, 1 << 40), &["ends beyond the file"]),
        ("offset overflows", one("t", &[8], 0, u64::MAX - 31), &["ends beyond the file"]),
        ("unknown type beyond", one("t", &[8], 77, 1 << 40), &["ends beyond the file"]),
        ("no data at all", f().tensor("t", &[8], 0, 0).bytes(), &["truncated"]),
        (
            "same name",
            f().tensor("t", &[4], 0, 0).tensor("t", &[4], 0, 32).data(64).bytes(),
            &["tensor 1 (\"t\"): name", "tensor 0 has the same name"],
        ),
        (
            "overlap",
            f().tensor("a", &[9], 0, 0).tensor("b", &[8], 0, 32).data(64).bytes(),
            &["tensor 0 (\"a\"): offset", "overlaps that of \"b\""],
        ),
        ("same place", f().tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 0).data(64).bytes(), &["overlaps"]),
        (
            "unknown type in the same place",
            f().tensor("a", &[8], 77, 0).tensor("b", &[8], 77, 0).data(64).bytes(),
            &["overlaps"],
        ),
        (
            "name not UTF-8",
            {
                let mut raw = f().tensor("t", &[8], 0, 0).data(32);
                raw.tensors[0][8] = 0xff;
                raw.bytes()
            },
            &["tensor 0: name", "not UTF-8"],
        ),
    ];
    check_refused(parse_gguf, cases);
}

#[test]
fn gguf_vocabularies() {
    let f = |tokens: &[&str]| {
        gguf_file().key("tokenizer.ggml.model", 8, &string(b"gpt2")).key(
            "tokenizer.ggml.tokens",
            9,
            &strings(tokens),
        )
    };
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let cases: [(&str, RawGguf, &str); 6] = [
        (
            "eos outside",
            f(&["a", "b"]).key(&key("eos_token_id"), 4, &2u32.to_le_bytes()),
            "2 is outside of the vocabulary of 2",
        ),
        ("bos negative", f(&["a"]).key(&key("bos_token_id"), 5, &(-7i32).to_le_bytes()), "at least 0"),
        (
            "types too few",
            f(&["a", "b"]).key(&key("token_type"), 9, &[array(5, 1), vec![1, 0, 0, 0]].concat()),
            "1 elements for 2 tokens",
        ),
        (
            "scores are integers",
            f(&["a"]).key(&key("scores"), 9, &[array(5, 1), vec![1, 0, 0, 0]].concat()),
            "array of floats",
        ),
        ("merges are a string", f(&["a"]).key(&key("merges"), 8, &string(b"a b")), "array of strings"),
        ("no tokens", gguf_file().key("tokenizer.ggml.model", 8, &string(b"gpt2")), "missing"),
    ];
    for (name, raw, part) in cases {
        let header = gguf::parse(Path::new("v.gguf"), &raw.bytes()).unwrap();
        let message = sampan_weights::GgufVocab::read(&header.metadata).expect_err(name).to_string();
        assert!(message.starts_with("v.gguf: metadata key ") && message.contains(part), "{name}: {message}");
    }
    let none = f(&["a"]).key(&key("bos_token_id"), 5, &(-1i32).to_le_bytes()).bytes();
    let header = gguf::parse(Path::new("v.gguf"), &none).unwrap();
    let vocab = sampan_weights::GgufVocab::read(&header.metadata).unwrap().expect("there is one");
    assert_eq!((vocab.bos, vocab.tokens), (None, vec!["a".to_owned()]));
}

#[test]
fn safetensors_headers() {
    let t = |body: &str| raw_safetensors(&format!(r#"{{"t":{{{body}}}}}"#), 8);
    let two = |a: &str, b: &str, data| {
        let entry = |offsets| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}"#);
        raw_safetensors(&format!(r#"{{"a":{},"b":{}}}"#, entry(a), entry(b)), data)
    };
    let length = |length: u64| [&length.to_le_bytes()[..], b"{}      "].concat();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", vec![], &["not a safetensors file", "empty"]),
        ("page", b"<html><body>busy".to_vec(), &["web page"]),
        ("gguf", small_gguf(), &["it is a GGUF file"]),
        ("pickle", b"PK\x03\x04abcdefgh".to_vec(), &["pickle"]),
        ("short", vec![1, 2, 3], &["not a safetensors file"]),
        ("header beyond the file", length(9), &["header length (byte 0)", "truncated"]),
        ("enormous header", length(1 << 50), &["at most 100000000"]),
        ("enormous header that overflows", length(u64::MAX), &["header length"]),
        ("no JSON", raw_safetensors("{\"a\": tru}", 0), &["header (byte 17)", "expected"]),
        ("not an object", raw_safetensors("[1]", 0), &["not a safetensors file"]),
        ("deep", raw_safetensors(&format!("{{\"a\":{}", "[".repeat(10_000)), 0), &["header (byte"]),
        (
            "unknown type",
            t(r#""dtype":"F128","shape":[1],"data_offsets":[0,8]"#),
            &["\"t\": dtype", "\"F128\""],
        ),
        ("no shape", t(r#""dtype":"F32","data_offsets":[0,8]"#), &["missing field `shape`"]),
        ("negative", t(r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#), &["header (byte"]),
        (
            "strange field",
            t(r#""dtype":"F32","shape":[2],"data_offsets":[0,8],"code":"x""#),
            &["unknown field `code`"],
        ),
        ("turned round", t(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#), &["data_offsets", "[8, 0]"]),
        (
            "beyond",
            t(r#""dtype":"F32","shape":[4],"data_offsets":[0,16]"#),
            &["not within the 8 bytes of data"],
        ),
        (
            "overflow",
            t(r#""dtype":"F32","shape":[9223372036854775807,8],"data_offsets":[0,8]"#),
            &["overflows"],
        ),
        (
            "size differs",
            t(r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#),
            &["takes 12 bytes, not the 8"],
        ),
        ("half bytes", t(r#""dtype":"F4","shape":[3],"data_offsets":[0,8]"#), &["do not fill whole bytes"]),
        ("overlap", two("[0,4]", "[2,6]", 6), &["\"b\": data_offsets", "overlaps"]),
        ("gap", two("[0,4]", "[6,10]", 10), &["leaves a gap"]),
        ("rest", two("[0,4]", "[4,8]", 9), &["end of data", "1 bytes follow"]),
        (
            "same name",
            {
                let entry = r#""a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
                raw_safetensors(&format!("{{{entry},{entry}}}"), 0)
            },
            &["tensor \"a\"", "twice"],
        ),
        ("metadata twice", raw_safetensors(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), &["there twice"]),
        (
            "metadata's key twice",
            raw_safetensors(r#"{"__metadata__":{"k":"1","k":"2"}}"#, 0),
            &["\"k\" is there twice"],
        ),
        ("metadata of numbers", raw_safetensors(r#"{"__metadata__":{"k":1}}"#, 0), &["header (byte"]),
    ];
    check_refused(parse_safetensors, cases);
}
