//! Speculation: the same answer in fewer passes.

use crate::support::Folder;
use serde_json::{Value, json};

/// An object that was written before, with one value changed: most of the answer stands in the conversation already.
fn edit() -> String {
    let ask = |age: u32| {
        format!("Extract name, age and city as JSON: Anna Rossi is {age} years old and lives in Turin.")
    };
    json!([
        {"role": "user", "content": ask(34)},
        {"role": "assistant", "content": r#"{"name": "Anna Rossi", "age": 34, "city": "Turin"}"#},
        {"role": "user", "content": ask(35)},
    ])
    .to_string()
}

fn answer(folder: &Folder, flags: &str) -> Value {
    folder.sampan(&format!("run mini --messages edit.json --json {flags}")).json()
}

fn tokens_per_pass(answer: &Value) -> f64 {
    let count = |name: &str| answer["tokens"][name].as_f64().unwrap();
    count("generated") / (count("generated") - count("accepted"))
}

#[test]
fn an_edit_takes_fewer_passes_and_is_the_same() {
    let folder = Folder::new();
    folder.write("edit.json", edit());
    for (flags, least) in [
        ("--temperature 0", 1.5),
        ("--temperature 0 --threads 1 --isa portable", 1.5),
        ("--temperature 0.7 --seed 4 --repeat-penalty 1.05", 1.0),
        ("--temperature 1.5 --seed 5 --max-tokens 20", 1.0),
        ("--temperature 0 --stop age", 1.0),
        ("--temperature 0 --stop ssi", 1.0),
    ] {
        let plain = answer(&folder, &format!("{flags} --speculate 0"));
        assert_eq!((tokens_per_pass(&plain), &plain["tokens"]["drafted"]), (1.0, &json!(0)));
        for speculate in ["", "--speculate 3", "--speculate 15"] {
            let flags = format!("{flags} {speculate}");
            let got = answer(&folder, flags.trim());
            for part in ["text", "reasoning", "finish_reason"] {
                assert_eq!(got[part], plain[part], "{flags}");
            }
            assert_eq!(got["tokens"]["generated"], plain["tokens"]["generated"], "{flags}");
            let reached = tokens_per_pass(&got);
            assert!(reached >= least, "{flags}: {reached} tokens per pass");
        }
    }
    let said = folder.sampan("run mini --messages edit.json --temperature 0 --stats");
    assert!(said.stderr.contains("tokens per forward pass"), "{said:#?}");
    assert_eq!(said.success().trim(), r#"{"name": "Anna Rossi", "age": 35, "city": "Turin"}"#);
}
