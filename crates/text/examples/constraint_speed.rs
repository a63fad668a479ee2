//! What constraints cost: `constraint_speed VOCAB.gguf`. Prints milliseconds to prepare the vocabulary and to compile, and per mask.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
#[allow(dead_code)]
mod common;

use sampan_text::{Beside, Constraint, Constraints, OutputFormat, Special, Tokenizer, ToolFormat, Tools};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let vocab = common::read(std::env::args().nth(1).expect("a vocabulary").as_ref());
    let tokenizer = Arc::new(Tokenizer::from_gguf(vocab).unwrap());
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let constraints = Constraints::new(tokenizer.clone(), tokenizer.eos()).unwrap();
    println!("{} tokens, prepared in {:.0} ms", tokenizer.vocab_size(), ms(start));
    let parameters = json!({
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
        "additionalProperties": false,
    });
    let tools = Tools::from_json(&json!([{"name": "get_weather", "parameters": parameters}]));
    let text = "{\"city\": \"Rio de Janeiro\", \"days\": 3, \"unit\": \"C\"}";
    let call = format!("{{\"name\": \"get_weather\", \"arguments\": {text}}}");
    let cases = [
        ("json_object", Constraint::JsonObject, text.to_owned()),
        ("json_schema", Constraint::JsonSchema(parameters), text.to_owned()),
        ("call", Constraint::Calls { tools, beside: Beside::Nothing, parallel: true }, call),
        ("regex", Constraint::Regex("[A-Za-z ]{1,40}\\.".into()), "A short sentence of words.".to_owned()),
        ("choice", Constraint::Choice(vec!["positive".into(), "negative".into()]), "negative".to_owned()),
    ];
    let format = OutputFormat { reasoning: None, tools: ToolFormat::Plain };
    for (name, constraint, output) in cases {
        let start = Instant::now();
        let mut state = constraints.compile(&constraint, &format, "").unwrap();
        let compile = ms(start);
        let (mut sum, mut most) = (0.0f64, 0.0f64);
        let ids = tokenizer.encode(&output, Special::AsText).unwrap();
        for &id in &ids {
            let start = Instant::now();
            state.mask().unwrap();
            let time = ms(start);
            (sum, most) = (sum + time, most.max(time));
            state.commit(id).unwrap();
        }
        println!(
            "{name:12} compile {compile:6.2} ms, mask {:.3} ms (at most {most:.3}), {} tokens",
            sum / ids.len() as f64,
            ids.len()
        );
    }
}
