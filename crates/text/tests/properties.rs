//! What must hold for any input.

use proptest::prelude::*;
use sampan_text::{ChatTemplate, GgufVocab, Special, TemplateOptions, Tokenizer};
use serde_json::{Map, Value};
use std::sync::OnceLock;

const MARKERS: [&str; 6] = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "[INST]", "｜DSML｜"];

fn byte_chars() -> Vec<char> {
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("a character")
            }
        })
        .collect()
}

/// Bytes, a few merges (some across the bytes of a character), markers.
fn byte_level() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let chars = byte_chars();
        let spell = |bytes: &[u8]| bytes.iter().map(|b| chars[*b as usize]).collect::<String>();
        let mut tokens: Vec<String> = chars.iter().map(char::to_string).collect();
        let mut merges = Vec::new();
        for (left, right) in [
            (&b"t"[..], &b"h"[..]),
            (b"th", b"e"),
            (b" ", b"the"),
            (b" ", b" "),
            (b"  ", b"  "),
            (&[0xC3], &[0xA4]),
            (&[0xF0], &[0x9F]),
            (&[0xF0, 0x9F], &[0xA6]),
            (b"\n", b"\n"),
            (b"<", b"|"),
            (b"|", b">"),
            (b"i", b"m"),
            (b"1", b"2"),
        ] {
            merges.push(format!("{} {}", spell(left), spell(right)));
            tokens.push(spell(&[left, right].concat()));
        }
        let mut token_types = vec![1; tokens.len()];
        tokens.extend(MARKERS.map(String::from));
        token_types.extend([3, 3, 4, 4, 3, 4]);
        let vocab = GgufVocab {
            model: "gpt2".into(),
            pre: Some("gpt-4o".into()),
            tokens,
            token_types,
            merges,
            ..Default::default()
        };
        Tokenizer::from_gguf(vocab).expect("a vocabulary")
    })
}

/// SentencePiece: unknown, control, bytes, pieces with scores.
fn sentence_piece() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        let mut token_types = vec![2, 3, 3];
        tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
        token_types.resize(tokens.len(), 6);
        tokens.extend(
            ["▁", "t", "h", "e", "th", "▁the", "the", "▁▁", "a", "<", "s", ">", "</", "s>", "/"]
                .map(String::from),
        );
        token_types.resize(tokens.len(), 1);
        let scores = (0..tokens.len()).map(|n| -(n as f32)).collect();
        let vocab = GgufVocab {
            model: "llama".into(),
            tokens,
            token_types,
            scores,
            unk: Some(0),
            ..Default::default()
        };
        Tokenizer::from_gguf(vocab).expect("a vocabulary")
    })
}

/// Any text, rich in what is special here.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => any::<char>().prop_map(String::from),
        3 => "[ a-z\\n\\t]{0,6}",
        1 => proptest::sample::select(MARKERS.to_vec()).prop_map(String::from),
        1 => proptest::sample::select(vec!["<s>", "</s>", "<|im_", "end|>", "▁", "the  the", "ä🦙", "12345", "'s", "\r\n\n"]).prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
        proptest::sample::select(vec!["user", "assistant", "system", "tool", "function", "text"])
            .prop_map(Value::from),
    ];
    let key = prop_oneof![
        6 => proptest::sample::select(vec![
            "role", "content", "tool_calls", "function", "name", "arguments", "type", "text", "parameters", "properties",
            "description", "required", "items", "reasoning_content",
        ]).prop_map(String::from),
        1 => text(),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn templates() -> Vec<(String, ChatTemplate)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = [root.join("fixtures/templates"), root.join("../shared/data/templates")];
    let files =
        folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten().map(|e| e.path());
    files
        .filter(|p| p.extension().is_some_and(|e| e == "jinja"))
        .map(|p| {
            let options =
                TemplateOptions { markers: MARKERS.map(String::from).to_vec(), ..Default::default() };
            let template = ChatTemplate::new(&std::fs::read_to_string(&p).expect("a template"), options);
            (p.display().to_string(), template.expect("a template that compiles"))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn byte_level_ids_give_the_text_back(text in text()) {
        let t = byte_level();
        for special in [Special::AsText, Special::Parse] {
            let ids = t.encode(&text, special).unwrap();
            prop_assert_eq!(t.decode(&ids, false), text.clone());
        }
    }

    #[test]
    fn sentence_piece_ids_give_the_text_back(text in text()) {
        let t = sentence_piece();
        let ids = t.encode(&text, Special::AsText).unwrap();
        // ▁ is a space to this vocabulary.
        prop_assert_eq!(t.decode(&ids, false), text.replace('▁', " "));
    }

    #[test]
    fn text_never_becomes_a_control_token(text in text()) {
        for t in [byte_level(), sentence_piece()] {
            let ids = t.encode(&text, Special::AsText).unwrap();
            prop_assert!(ids.iter().all(|&id| !t.is_marker(id) && !t.is_special(id)), "{:?}", ids);
        }
    }

    #[test]
    fn a_stream_gives_what_decoding_at_once_gives(ids in proptest::collection::vec(0u32..290, 0..60)) {
        for t in [byte_level(), sentence_piece()] {
            let mut stream = t.stream();
            let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, t.decode(&ids, true));
            let bytes: Vec<u8> = ids.iter().filter(|&&id| !t.is_special(id)).flat_map(|&id| t.token_bytes(id).unwrap_or_default().to_vec()).collect();
            let whole = String::from_utf8_lossy(&bytes).into_owned();
            let decoded = t.decode(&ids, true);
            prop_assert_eq!(decoded.trim_start(), whole.trim_start());
        }
    }

    #[test]
    fn templates_never_panic_and_guarding_changes_no_text(messages in json(), tools in json()) {
        static TEMPLATES: OnceLock<Vec<(String, ChatTemplate)>> = OnceLock::new();
        let vars = Map::new();
        for (name, template) in TEMPLATES.get_or_init(templates) {
            if let Ok(prompt) = template.render(&messages, Some(&tools), true, &vars) {
                for range in prompt.protected() {
                    prop_assert!(prompt.text().get(range.clone()).is_some(), "{} {:?}", name, range);
                }
                let ids = byte_level().encode_prompt(&prompt).unwrap();
                prop_assert_eq!(byte_level().decode(&ids, false), prompt.text());
            }
        }
    }

    #[test]
    fn any_source_compiles_or_is_refused(source in "[{}%# a-z'|.()\\[\\]=,+~-]{0,60}", message in text()) {
        let options = TemplateOptions { markers: MARKERS.map(String::from).to_vec(), ..Default::default() };
        if let Ok(template) = ChatTemplate::new(&source, options) {
            let _ = template.render(&serde_json::json!([{"role": "user", "content": message}]), None, true, &Map::new());
        }
    }
}

/// A template that would run forever, or fill the memory, or the stack, ends with an error that says so.
#[test]
fn hostile_templates_end() {
    let forever = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    let doubling = "{% set ns = namespace(s='0123456789') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}";
    let replacing = "{% set ns = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('a', 'aaaaaaaaaa') %}{% endfor %}";
    let joining = "{% set ns = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s.join(ns.s) %}{% endfor %}";
    let padding = "{{ 'a'.ljust(99999999999) }}";
    let recursive = "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}";
    let nested = format!("{}1{}", "{{ ".to_owned() + &"(".repeat(100_000), ")".repeat(100_000));
    let loader = "{% include '/etc/passwd' %}";
    let parent = "{% extends 'chat' %}";
    for source in [forever, doubling, replacing, joining, padding, recursive, &nested, loader, parent] {
        let result = ChatTemplate::new(source, TemplateOptions::default())
            .and_then(|t| t.render(&Value::Null, None, true, &Map::new()));
        let error = result.expect_err(&source[..source.len().min(100)]);
        assert!(!error.message.is_empty() && !error.advice.is_empty());
    }
}

#[test]
fn deeply_nested_data_is_no_danger() {
    let mut deep = Value::from("x");
    for _ in 0..5_000 {
        deep = Value::Array(vec![deep]);
    }
    let template =
        ChatTemplate::new("{{ messages }}{{ messages | tojson }}", TemplateOptions::default()).unwrap();
    let error = template.render(&deep, None, true, &Map::new()).unwrap_err();
    assert!(error.message.contains("deep"), "{error}");
    // Dropping it recursively is not ours to fix.
    std::mem::forget(deep);
}

#[test]
fn errors_name_the_line() {
    let error = ChatTemplate::new("a\nb\n{{ x", TemplateOptions::default()).unwrap_err();
    assert_eq!(error.line, Some(3), "{error}");
    let template = ChatTemplate::new(
        "a\n{% if true %}\n{{ raise_exception('Roles must alternate') }}{% endif %}",
        TemplateOptions::default(),
    )
    .unwrap();
    let error = template.render(&Value::Null, None, true, &Map::new()).unwrap_err();
    assert!(error.refused && error.line == Some(3) && error.message == "Roles must alternate", "{error:?}");
}
