//! Schemas, regular expressions and grammars from strangers: compiled or refused, and what is compiled lets a text be written
//! that it calls complete, or says why not.

use sampan_facade::{LoadOptions, Prepared, Source, Speech};
use sampan_text::{Constraint, Constraints, OutputFormat, ReasoningTags, ToolFormat};
use serde_json::{Map, Value, json};
use std::panic::AssertUnwindSafe;

const WORDS: &[&str] = &[
    "type", "object", "array", "string", "integer", "number", "boolean", "null", "properties", "required", "items",
    "enum", "const", "anyOf", "oneOf", "allOf", "not", "$ref", "#", "#/$defs/a", "$defs", "a", "pattern", "^a+$", "(a|b)*",
    "[", "minLength", "maxLength", "minimum", "maximum", "multipleOf", "additionalProperties", "prefixItems", "minItems",
    "maxItems", "uniqueItems", "format", "date-time", "patternProperties", "if", "then", "else",
];

/// A value that the bytes spell; what is left of them stays.
fn value(bytes: &mut &[u8], depth: usize) -> Value {
    let Some((&first, rest)) = bytes.split_first() else { return Value::Null };
    *bytes = rest;
    let word = |byte: u8| WORDS[usize::from(byte) % WORDS.len()];
    match first {
        0..=95 if depth < 6 => {
            let mut map = Map::new();
            for _ in 0..=first % 4 {
                let Some((&key, rest)) = bytes.split_first() else { break };
                *bytes = rest;
                map.insert(word(key).to_owned(), value(bytes, depth + 1));
            }
            Value::Object(map)
        }
        96..=127 if depth < 6 => (0..=first % 4).map(|_| value(bytes, depth + 1)).collect(),
        128..=139 => json!(i64::from(first) - 130),
        140 => json!(1e300),
        141 => json!(0.5),
        142 => json!(true),
        143 => json!(false),
        144 => Value::Null,
        145 => json!(100_000),
        _ => word(first).into(),
    }
}

/// The constraint that an input asks for.
fn constraint(input: &[u8]) -> Option<Constraint> {
    let (&kind, mut rest) = input.split_first()?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    Some(match kind % 4 {
        0 => Constraint::Regex(text()),
        1 => Constraint::Lark(format!("start: {}", text())),
        2 => Constraint::Lark(text()),
        _ => Constraint::JsonSchema(value(&mut rest, 0)),
    })
}

#[test]
fn schemas() {
    let prepared = Prepared::new(&Source::Mini, &LoadOptions::default()).expect("mini is there");
    let speech = Speech::of(&prepared).expect("mini speaks");
    let constraints = Constraints::new(speech.tokenizer.clone(), &speech.stop_tokens).expect("mini's vocabulary");
    let format = OutputFormat { reasoning: Some(ReasoningTags::THINK), tools: ToolFormat::Hermes };
    let (size, stops) = (speech.tokenizer.vocab_size(), &speech.stop_tokens);
    let check = |input: &[u8]| {
        let Some(constraint) = constraint(input) else { return };
        let mut state = match constraints.compile(&constraint, &format, "<think>\n\n</think>\n\n") {
            Ok(state) => state,
            Err(error) => return assert!(error.to_string().len() < 5_000, "an error is a message, not a dump"),
        };
        for step in 0..24u32 {
            let Ok(mask) = state.mask() else { return };
            let allowed = |id: &u32| mask.is_none_or(|mask| mask[*id as usize / 32] >> (id % 32) & 1 == 1);
            let all: Vec<u32> = (0..size as u32).filter(allowed).collect();
            assert!(!all.is_empty(), "{constraint:?}: nothing may come after {step} tokens");
            let next = all[usize::from(input[step as usize % input.len()]) % all.len()];
            if stops.contains(&next) {
                return;
            }
            if state.commit(next).is_err() {
                return;
            }
        }
    };
    let check = AssertUnwindSafe(check);
    bolero::check!().with_max_len(80).with_iterations(1_500).for_each(move |input: &[u8]| {
        let check = &check;
        check(input);
    });
}
