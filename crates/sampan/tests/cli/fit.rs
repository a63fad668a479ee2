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

fn fake_home() -> (sampan_fixtures::hub::FakeHub, Folder) {
    (sampan_fixtures::hub::FakeHub::new(), Folder::new())
}

/// `sampan` with a hub of the test.
fn fit(folder: &Folder, hub: &sampan_fixtures::hub::FakeHub, arguments: &str) -> crate::support::Outcome {
    let mut command = crate::support::command(&folder.path(""));
    command.env("HF_ENDPOINT", hub.url()).args(format!("fit {arguments}").trim_end().split(' '));
    let output = command.output().unwrap();
    crate::support::Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A name is enough: of a repository config.json is asked for and nothing else, and a release is known without asking.
#[test]
fn names_are_considered_before_anything_is_downloaded() {
    let (hub, folder) = fake_home();
    speaking_model(&folder);
    let config = std::fs::read(folder.path("model/config.json")).unwrap();
    hub.publish("tiny/speaker", &[("config.json", &config), ("model.safetensors", &[7; 9000])]);
    hub.publish("tiny/q-GGUF", &[("q-Q8_0.gguf", &[7; 9000])]);
    let found = fit(&folder, &hub, "tiny/speaker model --context 512 --json").json();
    let [remote, local] = [0, 1].map(|i| found["models"][i]["formats"].as_array().unwrap().clone());
    assert_eq!(remote.len(), 6);
    for (a, b) in remote.iter().zip(&local) {
        assert_eq!(a["memory"], b["memory"]);
    }
    assert!(hub.log().iter().all(|seen| !seen.path.contains("safetensors")), "{:?}", hub.log());
    let asked = hub.log().len();
    let release = fit(&folder, &hub, "qwen3:0.6b --offline --context 512 --json").json();
    let formats = release["models"][0]["formats"].as_array().unwrap();
    assert_eq!((formats.len(), &formats[0]["quant"]), (1, &serde_json::json!("q8_0")), "{release:#}");
    let parameters = release["models"][0]["parameters"].as_u64().unwrap();
    assert!((590_000_000..600_000_000).contains(&parameters), "{parameters}");
    fit(&folder, &hub, "Qwen/Qwen3-0.6B-GGUF:Q4_K_M --no-pull --context 512").success();
    assert_eq!(hub.log().len(), asked, "nothing was asked");
    let unreachable = fit(&folder, &hub, "qwen3:0.6b --context 512");
    assert!(
        unreachable.code == 0 && unreachable.stderr.contains("are those of the catalogue"),
        "{unreachable:#?}"
    );
    fit(&folder, &hub, "tiny/q-GGUF").mistake(&["has no config.json"], "original model").unwrap();
    fit(&folder, &hub, "tiny/none").mistake(&["has no repository tiny/none"], "spelling").unwrap();
    fit(&folder, &hub, "qwen3:0.6b-q9_9 --offline").mistake(&["Q9_9", "not known"], "q4_k_m").unwrap();
    fit(&folder, &hub, "qwen9:4b").mistake(&["no release is called"], "did you mean").unwrap();
}

#[test]
fn without_names_the_catalogue_is_considered() {
    let (hub, folder) = fake_home();
    let all = fit(&folder, &hub, "--all --json").json();
    let rows = all["catalogue"].as_array().unwrap();
    assert!(rows.len() > 70, "{}", rows.len());
    let fitting = rows.iter().filter(|row| row["fits"] == true).count();
    // What was measured of the machine is remembered, and said to be old when it is.
    let some = fit(&folder, &hub, "--language code --json").json();
    let some = some["catalogue"].as_array().unwrap();
    assert!(!some.is_empty() && some.len() < fitting, "{} of {fitting}", some.len());
    assert!(hub.log().is_empty());
    let row =
        |rows: &[serde_json::Value], name: &str| rows.iter().find(|r| r["model"] == name).unwrap().clone();
    let speed = |row: serde_json::Value| row["generated_tokens_per_s"].as_f64().unwrap();
    let [first, again] = [rows, some].map(|rows| speed(row(rows, "qwen2.5-coder:0.5b")));
    assert!((first / again - 1.0).abs() < 1e-9, "{first} and {again}");
    let small = row(rows, "qwen3:0.6b");
    let memory = small["memory_bytes"].as_u64().unwrap();
    assert!(memory > small["download_bytes"].as_u64().unwrap() * 9 / 10, "{small:#}");
    let file = folder.path(".cache/sampan/measured.json");
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["at"] = serde_json::json!(1);
    std::fs::write(&file, kept.to_string()).unwrap();
    let table = fit(&folder, &hub, "").success();
    for said in [
        "of memory available",
        "qwen3:0.6b",
        "<- the largest that answers",
        "try `sampan run ",
        "days ago; --measure does that again",
    ] {
        assert!(table.contains(said), "{said:?} is not in {table}");
    }
}
