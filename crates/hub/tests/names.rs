//! What names mean, and that no name leads out of the store.

#[path = "common/check.rs"]
mod check;

use proptest::prelude::*;
use sampan_hub::{Catalogue, ModelName, NameError, Origin, Pick, Place};

/// A place in one line: `origin owner/name pick @revision`.
fn meaning(typed: &str, origin: Origin) -> String {
    match ModelName::parse(typed, origin).map(|name| name.place().clone()) {
        Ok(Place::Repo { repo, pick, revision }) => {
            let hub = if repo.origin() == Origin::HuggingFace { "hf" } else { "ms" };
            let pick = match pick {
                Pick::Usual => "usual".into(),
                Pick::Format(format) => format,
                Pick::File(file) => file.to_string(),
            };
            let revision = revision.map(|r| format!(" @{}", r.as_str())).unwrap_or_default();
            format!("{hub} {repo} {pick}{revision}")
        }
        Ok(Place::Url(url)) => format!("url {url}"),
        Err(error) => format!("{error}; {}", error.hint()),
    }
}

#[test]
fn every_way_to_write_a_name() {
    for (typed, means) in [
        ("Qwen/Qwen3-4B", "hf Qwen/Qwen3-4B usual"),
        ("Qwen/Qwen3-4B-GGUF:Q4_K_M", "hf Qwen/Qwen3-4B-GGUF Q4_K_M"),
        ("Qwen/Qwen3-4B-GGUF:q4_k_m", "hf Qwen/Qwen3-4B-GGUF Q4_K_M"),
        ("Qwen/Qwen3-4B-GGUF:latest", "hf Qwen/Qwen3-4B-GGUF usual"),
        ("Qwen/Qwen3-4B@refs/pr/2", "hf Qwen/Qwen3-4B usual @refs/pr/2"),
        ("a/b:Q8_0@v1.0", "hf a/b Q8_0 @v1.0"),
        ("a/b@v1.0:Q8_0", "hf a/b Q8_0 @v1.0"),
        ("a/b:sub/x-00001-of-00002.gguf", "hf a/b sub/x-00001-of-00002.gguf"),
        ("hf.co/a/b", "hf a/b usual"),
        ("hf.co/a/b:Q8_0", "hf a/b Q8_0"),
        ("huggingface.co/a/b@main", "hf a/b usual @main"),
        ("https://huggingface.co/a/b", "hf a/b usual"),
        ("https://huggingface.co/a/b/", "hf a/b usual"),
        ("https://huggingface.co/a/b/tree/main", "hf a/b usual @main"),
        ("https://huggingface.co/a/b/blob/main/q/x.gguf", "hf a/b q/x.gguf @main"),
        ("https://huggingface.co/a/b/resolve/v1/x.gguf?download=true", "hf a/b x.gguf @v1"),
        ("modelscope.cn/models/a/b", "ms a/b usual"),
        ("https://www.modelscope.cn/models/a/b", "ms a/b usual"),
        ("https://example.org/x/y.gguf", "url https://example.org/x/y.gguf"),
        ("http://example.org:81/y.gguf?k=v", "url http://example.org:81/y.gguf?k=v"),
        ("qwen3:4b", "hf Qwen/Qwen3-4B-GGUF Q4_K_M"),
        ("Qwen3:4B", "hf Qwen/Qwen3-4B-GGUF Q4_K_M"),
        ("qwen3:4b-q8_0", "hf Qwen/Qwen3-4B-GGUF Q8_0"),
        ("qwen3:30b-a3b-q6_k", "hf Qwen/Qwen3-30B-A3B-GGUF Q6_K"),
        ("deepseek-r1:7b", "hf unsloth/DeepSeek-R1-Distill-Qwen-7B-GGUF Q4_K_M"),
        ("gemma3:4b", "hf ggml-org/gemma-3-4b-it-GGUF Q4_K_M"),
        ("gpt-oss:20b", "hf ggml-org/gpt-oss-20b-GGUF MXFP4"),
        ("qwen3:30b", "hf Qwen/Qwen3-30B-A3B-GGUF Q4_K_M"),
        ("qwen3:30b-q8_0", "hf Qwen/Qwen3-30B-A3B-GGUF Q8_0"),
        ("qwen3:4b-instruct-2507-q8_0", "hf unsloth/Qwen3-4B-Instruct-2507-GGUF Q8_0"),
        ("qwen3:30b-a3b-thinking-2507-q4_K_M", "hf unsloth/Qwen3-30B-A3B-Thinking-2507-GGUF Q4_K_M"),
        ("qwen2.5:7b-instruct-q8_0", "hf Qwen/Qwen2.5-7B-Instruct-GGUF Q8_0"),
        ("llama3.1:8b-instruct", "hf bartowski/Meta-Llama-3.1-8B-Instruct-GGUF Q4_K_M"),
        ("gemma3:4b-it-q8_0", "hf ggml-org/gemma-3-4b-it-GGUF Q8_0"),
        ("gemma3:4b-it-qat", "hf ggml-org/gemma-3-4b-it-qat-GGUF Q4_0"),
        ("deepseek-r1:8b", "hf unsloth/DeepSeek-R1-0528-Qwen3-8B-GGUF Q4_K_M"),
        ("deepseek-r1:8b-llama-distill-q4_K_M", "hf unsloth/DeepSeek-R1-Distill-Llama-8B-GGUF Q4_K_M"),
    ] {
        assert_eq!(meaning(typed, Origin::HuggingFace), means, "{typed}");
    }
    assert_eq!(meaning("Qwen/Qwen3-4B", Origin::ModelScope), "ms Qwen/Qwen3-4B usual");
    assert_eq!(meaning("qwen3:4b", Origin::ModelScope), "ms Qwen/Qwen3-4B-GGUF Q4_K_M");
}

#[test]
fn what_is_no_name_says_so() {
    for (typed, parts) in [
        ("", &["no release"][..]),
        ("qwen3:4", &["no release is called", "qwen3:4b"]),
        ("qwen3", &["qwen3:0.6b or qwen3:1.7b or qwen3:4b"]),
        ("gema3:4b", &["did you mean gemma3:4b"]),
        ("quux:1b", &["no release is called \"quux:1b\"", "OWNER/NAME"]),
        ("a/b/c", &["one slash"]),
        ("a/b/c.gguf", &["behind a colon", "a/b:c.gguf"]),
        ("a/b/q/c-Q8_0.gguf", &["a/b:q/c-Q8_0.gguf"]),
        ("Qwen3-4B", &["did you mean qwen3:4b"]),
        ("../../etc/passwd", &["one slash"]),
        ("../x", &["owner and name"]),
        ("a/..", &["owner and name"]),
        ("a/b--c", &["single"]),
        ("a/b:../x.gguf", &["owner and name"]),
        ("a/b@../../x", &["owner and name"]),
        ("a/b@x@y", &["owner and name"]),
        ("a/b:pytorch_model.bin", &["pickle", "safetensors"]),
        ("https://example.org/model.pth", &["pickle"]),
        ("https://example.org/model.zip", &["GGUF"]),
        ("https://user:secret@example.org/model.gguf", &["no user or password"]),
        ("ftp://example.org/model.gguf", &["https://"]),
        ("file:///etc/model.gguf", &["https://"]),
        ("hf.co/a", &["OWNER/NAME"]),
        ("https://huggingface.co/a/b/blob/main/../../x.gguf", &["OWNER/NAME"]),
    ] {
        let said = meaning(typed, Origin::HuggingFace);
        for part in parts {
            assert!(said.contains(part), "{typed}: no {part:?} in {said:?}");
        }
        assert!(ModelName::parse(typed, Origin::HuggingFace).is_err(), "{typed} is {said}");
    }
}

#[test]
fn the_catalogue_is_whole() {
    let text = include_str!("../data/catalogue.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    let catalogue = Catalogue::builtin();
    assert_eq!(catalogue.releases().len(), lines, "a line does not parse");
    let mut names = std::collections::HashSet::new();
    for release in catalogue.releases() {
        assert!(names.insert(release.name), "{} twice", release.name);
        assert!(release.name.contains(':') && release.context >= 2048, "{release:?}");
        assert!((100_000_000..2_000_000_000_000).contains(&release.bytes), "{release:?}");
        let parsed = ModelName::parse(release.name, Origin::HuggingFace).unwrap();
        assert!(matches!(parsed.place(), Place::Repo { repo, .. } if *repo == release.repo), "{release:?}");
    }
    let mut places: Vec<_> =
        catalogue.releases().iter().map(|r| format!("{} {:?}", r.repo, r.pick)).collect();
    places.sort();
    assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "a release has two names");
    assert!(matches!(
        ModelName::parse("qwen3-reranker:4b-q4_0", Origin::HuggingFace),
        Err(NameError::Unknown { .. })
    ));
}

/// Text made of the pieces that names are made of, so that many are nearly names.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "..",
            ".",
            "/",
            "//",
            "\\",
            ":",
            "@",
            "-",
            "--",
            "_",
            "hf.co/",
            "https://",
            "http://",
            "huggingface.co/",
            "modelscope.cn/models/",
            "Qwen",
            "qwen3",
            ":4b",
            "Q4_K_M",
            "main",
            "tree",
            "blob",
            "resolve",
            ".gguf",
            ".bin",
            "refs",
            "%2e%2e",
            "\0",
            "\n",
            " ",
            "C:",
            "~",
            "$HOME",
            "models--",
            "é",
            "x",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9]{1,4}",
        any::<char>().prop_map(|c| c.to_string()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_name_leads_out_of_the_store(text in pieces()) {
        check::name(&text);
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        check::name(&text);
    }
}
