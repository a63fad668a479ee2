//! Exact agreement with published test vectors: `NAME.gguf` (a vocabulary), `NAME.gguf.inp` (texts), `NAME.gguf.out` (ids).

mod common;

use sampan_text::{Special, Tokenizer, spelled_out};
use std::path::Path;

fn beside(path: &Path, suffix: &str) -> String {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    std::fs::read_to_string(name).expect("vectors beside the vocabulary")
}

#[test]
fn every_vector_agrees() {
    let (mut checked, mut failures) = (0, Vec::new());
    for path in common::vocabularies() {
        let vocab = common::read(&path);
        let spelled = spelled_out(&vocab).expect("a supported vocabulary");
        let tokenizer = Tokenizer::from_gguf(vocab).expect("a supported vocabulary");
        let again = Tokenizer::from_json(
            spelled.tokenizer.to_string().as_bytes(),
            Some(&serde_json::Value::Object(spelled.config)),
        );
        let again = again.expect("what was spelled out can be read");
        let texts = beside(&path, ".inp");
        let ids = beside(&path, ".out");
        // Each text ends with the separator; what follows the last one is not a text.
        let texts: Vec<_> = texts.split("\n__ggml_vocab_test__\n").collect();
        let ids: Vec<Vec<u32>> = ids
            .lines()
            .map(|line| line.split_whitespace().map(|id| id.parse().expect("an id")).collect())
            .collect();
        assert_eq!(ids.len(), texts.len() - 1, "{}", path.display());
        for (text, want) in texts.iter().zip(&ids) {
            checked += 1;
            for special in [Special::AsText, Special::Parse] {
                let got = tokenizer.encode(text, special).expect("ids");
                if got != *want {
                    failures.push(format!("{}: {text:?}\n  got  {got:?}\n  want {want:?}", path.display()));
                }
            }
            assert_eq!(tokenizer.decode(want, false), *text, "{}", path.display());
            assert!(again.agrees(&tokenizer, text), "{} as tokenizer.json: {text:?}", path.display());
            assert_eq!(again.decode(want, false), *text, "{} as tokenizer.json", path.display());
        }
        // The first DeepSeek vocabulary has letters as added tokens that spell other bytes in the byte-level alphabet.
        let text = "Grüße aus København, für 10 ÷ 2 þ";
        let ids = tokenizer.encode(text, Special::AsText).expect("ids");
        assert_eq!(tokenizer.decode(&ids, true), text, "{}", path.display());
    }
    assert!(failures.is_empty(), "{} of {checked} fail:\n{}", failures.len(), failures.join("\n"));
    eprintln!("{checked} vectors agree");
}
