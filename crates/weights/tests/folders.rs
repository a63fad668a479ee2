//! Finding a model's files: folders, shards, split sets, what lies beside the weights.

mod common;

use common::{RawGguf, raw_safetensors, small_gguf, small_safetensors, string, strings};
use sampan_weights::{Checkpoint, Kind};
use std::path::Path;
use tempfile::TempDir;

type Files<'a> = &'a [(&'a str, &'a [u8])];

fn folder(files: Files<'_>) -> TempDir {
    let dir = tempfile::tempdir().expect("the test's own files and tensors");
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside the folder"))
            .expect("the test's own files and tensors");
        std::fs::write(path, bytes).expect("the test's own files and tensors");
    }
    dir
}

#[track_caller]
fn check_opens(files: Files<'_>, open: &str, kind: Kind, tensors: usize) -> Checkpoint {
    let dir = folder(files);
    let checkpoint = Checkpoint::open(&dir.path().join(open)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checkpoint.kind(), kind);
    assert_eq!(checkpoint.tensors().count(), tensors);
    checkpoint
}

#[track_caller]
fn check_refused(files: Files<'_>, open: &str, parts: &[&str]) {
    let dir = folder(files);
    let Err(error) = Checkpoint::open(&dir.path().join(open)) else { panic!("accepted {open:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

fn shard(names: &[&str]) -> Vec<u8> {
    let entry = |(i, name): (usize, &&str)| {
        format!(r#""{name}":{{"dtype":"U8","shape":[2],"data_offsets":[{},{}]}}"#, i * 2, i * 2 + 2)
    };
    let entries: Vec<_> = names.iter().enumerate().map(entry).collect();
    raw_safetensors(&format!("{{{}}}", entries.join(",")), names.len() * 2)
}

/// Part `no` (from 0) of a split set with one tensor of the given name.
fn part(no: u16, count: u16, total: i32, tensor: &str) -> Vec<u8> {
    RawGguf::default()
        .key("general.architecture", 8, &string(b"llama"))
        .key("split.no", 2, &no.to_le_bytes())
        .key("split.count", 2, &count.to_le_bytes())
        .key("split.tensors.count", 5, &total.to_le_bytes())
        .tensor(tensor, &[4], 0, 0)
        .data(16)
        .bytes()
}

#[test]
fn single_files() {
    let (gguf, safetensors) = (small_gguf(), small_safetensors());
    check_opens(&[("m.gguf", &gguf)], "m.gguf", Kind::Gguf, 4);
    check_opens(&[("sha256-12ab", &gguf)], "sha256-12ab", Kind::Gguf, 4);
    check_opens(&[("m.safetensors", &safetensors)], "m.safetensors", Kind::Safetensors, 4);
    check_opens(&[("blob", &safetensors)], "blob", Kind::Safetensors, 4);
    check_opens(&[("tokenizer.json", b"{}")], "tokenizer.json", Kind::NoWeights, 0);
    check_refused(&[], "absent.gguf", &["absent.gguf: ", "No such file"]);
    check_refused(&[("m.gguf", b"")], "m.gguf", &["not a GGUF file: it is empty"]);
    check_refused(&[("m.safetensors", b"<html>")], "m.safetensors", &["web page"]);
    check_refused(&[("pytorch_model.bin", b"PK\x03\x04")], "pytorch_model.bin", &["refuses", "GGUF version"]);
    check_refused(&[("notes.txt", b"hello")], "notes.txt", &["neither GGUF nor safetensors"]);
}

#[test]
fn an_embedded_model() {
    let checkpoint = Checkpoint::from_gguf_bytes("mini", small_gguf().leak()).unwrap();
    assert_eq!(checkpoint.tensor("f32").map(|t| t.shape.to_vec()), Some(vec![2, 3]));
    let strange = checkpoint.tensor("strange").expect("listed although its type is unknown");
    let message = strange.to_f32().unwrap_err().to_string();
    assert!(
        message.starts_with("mini: tensor \"strange\" (data at byte ") && message.contains("type 77"),
        "{message}"
    );
    assert_eq!(strange.size(), 32, "up to the next tensor");
    let error = Checkpoint::from_gguf_bytes("mini", part(0, 2, 2, "a").leak()).unwrap_err();
    assert!(error.to_string().contains("part of a set of 2 files"));
}

#[test]
fn folders_of_safetensors() {
    let model = small_safetensors();
    let (a, b) = (shard(&["x", "y"]), shard(&["z"]));
    let index: &[u8] = br#"{"metadata":{"total_size":6},"weight_map":{"x":"a.safetensors","y":"a.safetensors","z":"b.safetensors"}}"#;
    let plain: Files<'_> =
        &[("config.json", b"{\"a\":1}"), ("model.safetensors", &model), ("pytorch_model.bin", b"PK")];
    let sharded: Files<'_> = &[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("a.safetensors", &a),
        ("b.safetensors", &b),
        ("generation_config.json", b"{\"top_k\":20}"),
    ];
    for open in ["", "model.safetensors", "config.json"] {
        let checkpoint = check_opens(plain, open, Kind::Safetensors, 4);
        assert_eq!(checkpoint.config().and_then(|c| c["a"].as_u64()), Some(1));
        assert_eq!(checkpoint.tensor("scalar").map(|t| t.shape.len()), Some(0));
    }
    for open in ["", "model.safetensors.index.json"] {
        let checkpoint = check_opens(sharded, open, Kind::Safetensors, 3);
        assert_eq!(checkpoint.generation_config().and_then(|c| c["top_k"].as_u64()), Some(20));
        assert_eq!(checkpoint.file_bytes(), (a.len() + b.len()) as u64);
        assert!(checkpoint.tensor("z").is_some_and(|z| z.place().0.ends_with("b.safetensors")));
    }
    let other: Files<'_> = &[("config.json", b"{}"), ("weights.safetensors", &model)];
    check_opens(other, "", Kind::Safetensors, 4);
    check_opens(&[("config.json", b"{}")], "", Kind::NoWeights, 0);
}

#[test]
fn incomplete_folders() {
    let model = small_safetensors();
    check_refused(&[], "", &["no model in this folder", "config.json", ".gguf", "there is nothing"]);
    check_refused(&[("a.txt", b"")], "", &["there is a.txt"]);
    check_refused(&[("model.safetensors", &model)], "", &["weights without config.json"]);
    check_refused(
        &[("config.json", b"{"), ("model.safetensors", &model)],
        "",
        &["config.json: not valid JSON"],
    );
    check_refused(&[("config.json", b"[1]"), ("model.safetensors", &model)], "", &["not a JSON object"]);
    let pickle: Files<'_> = &[("config.json", b"{}"), ("pytorch_model.bin", b"PK")];
    check_refused(pickle, "", &["pytorch_model.bin", "refuses"]);
    let two: Files<'_> = &[("config.json", b"{}"), ("a.safetensors", &model), ("b.safetensors", &model)];
    check_refused(two, "", &["2 safetensors files, but no model.safetensors.index.json"]);
    let deep = [&b"{\"a\":"[..], &b"[".repeat(100_000)].concat();
    check_refused(
        &[("config.json", &deep), ("model.safetensors", &model)],
        "",
        &["config.json: not valid JSON"],
    );
    let long = [&b"{\"a\":\""[..], &b"x".repeat(17 << 20), b"\"}"].concat();
    check_refused(
        &[("config.json", &long), ("model.safetensors", &model)],
        "",
        &["at most 16777216 are read"],
    );
}

#[test]
fn indexes() {
    let (a, b) = (shard(&["x", "y"]), shard(&["z"]));
    let check = |index: &str, more: Files<'_>, parts: &[&str]| {
        let mut files: Vec<(&str, &[u8])> = vec![
            ("config.json", b"{}"),
            ("model.safetensors.index.json", index.as_bytes()),
            ("a.safetensors", &a),
        ];
        files.extend(more);
        check_refused(&files, "", parts);
    };
    let map = |map: &str| format!(r#"{{"weight_map":{{{map}}}}}"#);
    let b_file: Files<'_> = &[("b.safetensors", &b)];
    check("{}", &[], &["index.json: not a safetensors index", "weight_map"]);
    check("no", &[], &["index.json: not a safetensors index"]);
    check(&map(""), &[], &["names no tensors"]);
    check(
        &map(r#""x":"a.safetensors","z":"b.safetensors""#),
        &[],
        &["b.safetensors: missing, although", "index.json names it"],
    );
    check(
        &map(r#""x":"a.safetensors","w":"a.safetensors""#),
        &[],
        &["tensor \"w\" should be in", "it is nowhere"],
    );
    check(
        &map(r#""x":"b.safetensors","z":"b.safetensors","y":"a.safetensors""#),
        b_file,
        &["tensor \"x\" should be in", "a.safetensors"],
    );
    check(&map(r#""x":"a.safetensors","x":"b.safetensors""#), b_file, &["the key \"x\" is there twice"]);
    for outside in [
        "../a.safetensors",
        "/etc/a.safetensors",
        "sub/a.safetensors",
        "..",
        "",
        ".",
        "C:a.safetensors",
        "..\\\\a.safetensors",
        "a.safetensors\\u0000",
    ] {
        check(&map(&format!(r#""x":"{outside}""#)), &[], &["is not a file of the same folder"]);
    }
    check(&map(r#""x":"a.bin""#), &[], &["not a .safetensors file"]);
    let same: Files<'_> = &[("c.safetensors", &a)];
    check(
        &map(r#""x":"a.safetensors","y":"c.safetensors""#),
        same,
        &["c.safetensors", "tensor \"x\"", "one of that name too"],
    );
    let broken: Files<'_> = &[("c.safetensors", b"<html>oh no")];
    check(
        &map(r#""x":"a.safetensors","y":"c.safetensors""#),
        broken,
        &["c.safetensors: not a safetensors file", "web page"],
    );
}

#[test]
fn split_sets() {
    let (one, two) = (part(0, 2, 2, "a"), part(1, 2, 2, "b"));
    let whole = small_gguf();
    const FIRST: &str = "m-00001-of-00002.gguf";
    const SECOND: &str = "m-00002-of-00002.gguf";
    for open in ["", FIRST, SECOND] {
        let checkpoint = check_opens(&[(FIRST, &one), (SECOND, &two)], open, Kind::Gguf, 2);
        assert_eq!(checkpoint.files().count(), 2);
        assert!(checkpoint.tensor("b").is_some_and(|b| b.place().0.ends_with(SECOND)));
    }
    check_refused(&[(FIRST, &one)], "", &[SECOND, "missing: part 2 of a model of 2 files"]);
    check_refused(&[(SECOND, &two)], SECOND, &[FIRST, "missing: part 1 of the 2"]);
    check_refused(&[("m.gguf", &one)], "m.gguf", &["split.count", "one of 2 files", "-00001-of-00002.gguf"]);
    check_refused(&[(FIRST, &whole), (SECOND, &two)], FIRST, &["1 files by this key, 2 by the file's name"]);
    check_refused(&[(FIRST, &two), (SECOND, &two)], FIRST, &["split.no", "1 in the first file"]);
    check_refused(&[(FIRST, &one), (SECOND, &one)], FIRST, &[SECOND, "split.no", "0 where 1 is expected"]);
    let three = part(1, 3, 2, "b");
    check_refused(&[(FIRST, &one), (SECOND, &three)], FIRST, &[SECOND, "3 where the first file says 2"]);
    let totals = part(1, 2, 9, "b");
    check_refused(&[(FIRST, &one), (SECOND, &totals)], FIRST, &["split.tensors.count", "another value"]);
    let (many, also) = (part(0, 2, 3, "a"), part(1, 2, 3, "b"));
    check_refused(&[(FIRST, &many), (SECOND, &also)], FIRST, &["3, but the files hold 2 tensors"]);
    let same = part(1, 2, 2, "a");
    check_refused(
        &[(FIRST, &one), (SECOND, &same)],
        FIRST,
        &[SECOND, "tensor \"a\"", "one of that name too"],
    );
    check_refused(&[(FIRST, &one), (SECOND, &two[..60])], FIRST, &[SECOND, "truncated"]);
}

#[test]
fn folders_of_gguf() {
    let model = small_gguf();
    check_opens(&[("m.gguf", &model), ("mmproj-m.gguf", b"?"), ("README.md", b"")], "", Kind::Gguf, 4);
    check_refused(
        &[("a.gguf", &model), ("b.gguf", &model)],
        "",
        &["several models: a.gguf, b.gguf; name one"],
    );
}

#[test]
fn templates_vocabularies_and_licences() {
    let model = small_safetensors();
    let with = |more: Files<'_>| {
        let mut files: Vec<(&str, &[u8])> = vec![("config.json", b"{}"), ("model.safetensors", &model)];
        files.extend(more);
        check_opens(&files, "", Kind::Safetensors, 4)
    };
    let list = br#"{"chat_template":[{"name":"default","template":"D"},{"name":"rag","template":"R"}]}"#;
    let one = br#"{"chat_template":"C"}"#;
    let cases: [(Files<'_>, Option<&str>, Option<&str>); 7] = [
        (&[], None, None),
        (&[("tokenizer_config.json", b"{\"chat_template\":null}")], None, None),
        (&[("tokenizer_config.json", one)], Some("C"), None),
        (&[("tokenizer_config.json", list)], Some("D"), Some("R")),
        (&[("tokenizer_config.json", one), ("chat_template.jinja", b"J")], Some("J"), None),
        (&[("tokenizer_config.json", b"{}"), ("chat_template.json", one)], Some("C"), None),
        (
            &[("chat_template.jinja", b"J"), ("additional_chat_templates/rag.jinja", b"R")],
            Some("J"),
            Some("R"),
        ),
    ];
    for (files, default, rag) in cases {
        let template = with(files).chat_template().unwrap().unwrap_or_default();
        assert_eq!((template.default.as_deref(), template.named("rag")), (default, rag), "{files:?}");
        assert_eq!(template.hash().is_some(), default.is_some());
    }
    let wrong = with(&[("tokenizer_config.json", b"{\"chat_template\":5}")]).chat_template().unwrap_err();
    assert!(wrong.to_string().contains("tokenizer_config.json: chat_template is neither"));

    let files = with(&[("tokenizer.json", b"{\"x\":1}")]);
    assert_eq!(files.tokenizer().unwrap().tokenizer_json.as_deref(), Some(&b"{\"x\":1}"[..]));

    let licences: [(&[u8], Option<&str>); 6] = [
        (b"---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n", Some("apache-2.0")),
        (b"---\nlicense:\n- mit\n---\n", Some("mit")),
        (b"---\nlicense: other\nlicense_name: \"qwen\"\n---\n", Some("qwen")),
        (b"# no front matter\nlicense: x\n", None),
        (b"---\n---\nlicense: x", None),
        (b"\xff\xfe", None),
    ];
    for (readme, licence) in licences {
        assert_eq!(with(&[("README.md", readme)]).licence().as_deref(), licence);
    }
}

#[test]
fn templates_and_licence_of_gguf() {
    let bytes = RawGguf::default()
        .key("tokenizer.chat_template", 8, &string(b"D"))
        .key("tokenizer.chat_template.rag", 8, &string(b"R"))
        .key("general.license", 8, &string(b"mit"))
        .bytes();
    let checkpoint = check_opens(&[("m.gguf", &bytes)], "m.gguf", Kind::Gguf, 0);
    let template = checkpoint.chat_template().unwrap().expect("there is one");
    assert_eq!((template.default.as_deref(), template.named("rag")), (Some("D"), Some("R")));
    assert_eq!(checkpoint.licence().as_deref(), Some("mit"));
    assert!(checkpoint.tokenizer().unwrap().gguf.is_none());
}

#[test]
fn a_named_pipe_does_not_block() {
    if !Path::new("/dev/null").exists() {
        return println!("skipped: no device files here");
    }
    let error = Checkpoint::open(Path::new("/dev/null")).unwrap_err();
    assert!(error.to_string().contains("not a regular file"));
}

#[test]
fn a_file_that_is_shortened_while_it_is_open() {
    for (name, bytes, lost, kept) in
        [("m.gguf", small_gguf(), "i32", "f32"), ("m.safetensors", small_safetensors(), "scalar", "a")]
    {
        let dir = folder(&[(name, &bytes)]);
        let path = dir.path().join(name);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let tensor = checkpoint.tensor(lost).expect("a tensor of the file");
        let (offset, rest) = (tensor.place().1, bytes.len() as u64 - 2);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(rest).unwrap();
        assert_eq!(checkpoint.tensor(kept).map(|t| t.to_f32().is_ok()), Some(true), "{name}: what is there");
        let message = tensor.to_i64s().unwrap_err().to_string();
        let parts = [
            format!("{name}: tensor \"{lost}\" (byte {offset})"),
            format!("is {rest} bytes now and was {}", bytes.len()),
            "put the whole file back".into(),
        ];
        for part in parts {
            assert!(message.contains(&part), "{message:?} lacks {part:?}");
        }
    }
}

/// A GGUF header does not say how long it is, so it is read in growing pieces.
#[test]
fn a_header_of_some_megabytes() {
    let texts: Vec<String> = (0..200_000).map(|i| format!("a word of the vocabulary {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let file = RawGguf::default().key("words", 9, &strings(&texts)).tensor("t", &[4], 0, 0).data(16).bytes();
    let checkpoint = check_opens(&[("m.gguf", &file)], "m.gguf", Kind::Gguf, 1);
    assert_eq!(checkpoint.tensor("t").map(|t| t.to_f32().unwrap().len()), Some(4));
    check_refused(&[("m.gguf", &file[..2 << 20])], "m.gguf", &["m.gguf: key 0", "truncated"]);
}
