//! `sampan fit`: memory and speeds before anything is loaded.

use crate::quantize::speaking_model;
use crate::support::Folder;

#[test]
fn a_folder_is_considered_in_every_format_and_a_quantised_file_as_it_is() {
    let folder = Folder::new();
    speaking_model(&folder);
    folder.sampan("quantize model q4.gguf --to q4_0 --quiet --no-report").success();
    std::fs::create_dir(folder.path("alone")).unwrap();
    std::fs::copy(folder.path("model/config.json"), folder.path("alone/config.json")).unwrap();
    let fit = folder.sampan("fit model q4.gguf alone --context 512 --json").json();
    let [model, q4, alone] = [0, 1, 2].map(|i| &fit["models"][i]);
    assert_eq!(q4["formats"].as_array().unwrap().len(), 1);
    let formats = model["formats"].as_array().unwrap();
    assert_eq!(formats.len(), 6);
    let memory = |row: &serde_json::Value| row["memory"]["total_bytes"].as_u64().unwrap();
    assert!(formats.windows(2).all(|pair| memory(&pair[0]) >= memory(&pair[1])), "{model:#}");
    let told = |row: &serde_json::Value| (memory(row), row["file_bytes"].as_u64());
    for (row, from_config) in formats.iter().zip(alone["formats"].as_array().unwrap()) {
        assert_eq!(told(row), told(from_config));
        let speed = |key: &str| row[key].as_f64().unwrap();
        assert!(speed("prompt_tokens_per_s") > 1.0 && speed("generated_tokens_per_s") > 1.0, "{row:#}");
    }
    let recommended: Vec<_> = formats.iter().filter(|row| row["recommended"] == true).collect();
    assert_eq!(recommended.len(), 1);
    assert_eq!(recommended[0]["quant"], "q8_0");
    // The memory is that which loading plans with.
    let shown = folder.sampan("run q4.gguf hello --raw --json --max-tokens 1 --context 512").json();
    let planned = shown["memory"]["planned_bytes"].as_u64().unwrap();
    assert_eq!(memory(&q4["formats"][0]), planned);
    let table = folder.sampan("fit model --context 512").success();
    for said in ["qwen3, ", "format", "<- recommended", "--quant q8_0"] {
        assert!(table.contains(said), "{said:?} is not in {table}");
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let folder = Folder::new();
    folder.write("empty/config.json", "{}");
    folder.sampan("fit nothing").mistake(&["there is no model at nothing"], "folder").unwrap();
    folder.sampan("fit empty").mistake(&["model_type"], "config.json").unwrap();
}
