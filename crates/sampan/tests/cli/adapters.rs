//! `run --adapter` and `serve --adapter`: another answer, or a reason.

use crate::support::Folder;
use std::path::Path;

#[test]
fn an_adapter_changes_the_answer_and_one_of_another_model_is_refused() {
    let folder = Folder::new();
    folder.endless_model();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/adapters");
    for name in ["qwen3", "gemma3"] {
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            folder.write(&format!("{name}/{file}"), std::fs::read(root.join(name).join(file)).unwrap());
        }
    }
    let run = |flags: &str| {
        let arguments = format!("run model --raw --json --temperature 0 --max-tokens 12{flags}");
        folder.sampan_with(&arguments, "abcdefgh")
    };
    assert_ne!(run(" --adapter qwen3").json()["text"], run("").json()["text"]);
    run(" --adapter gemma3")
        .mistake(
            &["gemma3", "the adapter changes model.layers.0."],
            "use the model that the adapter was trained for",
        )
        .unwrap();
}

#[test]
fn an_adapter_that_cannot_be_served_is_told_at_once() {
    let folder = Folder::new();
    folder.write("junk", "no adapter");
    for (flags, words, hint) in [
        ("--adapter poet=nowhere", &["nowhere"][..], ""),
        ("--adapter poet=junk", &["junk", "neither GGUF"], ""),
        ("--adapter mini=junk", &["\"mini\" has the name of another model"], "give it another"),
        ("--adapter poet@maxi=junk", &["\"maxi\", which is not served"], "served are: mini"),
        ("--adapter-dir nowhere", &["nowhere is no folder"], "name the folder"),
    ] {
        folder.sampan(&format!("serve mini --port 0 {flags}")).mistake(words, hint).unwrap();
    }
}
