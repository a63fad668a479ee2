//! The bench: what it measures, what it says, and llama.cpp's part played by a script.

use crate::support::Folder;
use serde_json::{Value, json};

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

/// The names of the rows.
fn names(bench: &Value) -> Vec<&str> {
    bench["rows"].as_array().unwrap().iter().map(|row| row["what"].as_str().unwrap()).collect()
}

#[test]
fn every_kind_of_row_has_its_speed_its_cost_and_its_limit() {
    let flags = "--prompt 16,40 --generate 4 --depth 70 --batch 2,3 --repeat 2 --load --json";
    let bench = Folder::new().sampan(&format!("bench mini {flags}")).json();
    assert_eq!(
        names(&bench),
        [
            "prompt 16",
            "prompt 40",
            "generate 4 after 8",
            "generate 4 after 70",
            "2 streams, 4 after 8",
            "3 streams, 4 after 8"
        ]
    );
    for row in bench["rows"].as_array().unwrap() {
        let [min, median, max] =
            ["min", "median", "max"].map(|key| number(row, &format!("/tokens_per_s/{key}")));
        assert!(0.0 < min && min <= median && median <= max, "{row:#}");
        let [speeds, limits] = ["tokens_per_s", "limits"].map(|of| {
            let all = row[of]["all"].as_array().unwrap().iter();
            all.map(|speed| speed.as_f64().unwrap()).collect::<Vec<f64>>()
        });
        assert_eq!((speeds.len(), limits.len()), (2, 2), "{row:#}");
        // Every turn has a limit of its own.
        let share = (speeds[0] / limits[0] + speeds[1] / limits[1]) / 2.0;
        assert!((number(row, "/share_of_limit") / share - 1.0).abs() < 1e-9, "{row:#}");
        let limit = (limits[0] + limits[1]) / 2.0;
        assert!((number(row, "/limit_tokens_per_s") / limit - 1.0).abs() < 1e-9, "{row:#}");
        match row["kind"].as_str() {
            Some("prompt") => assert!(number(row, "/operations_per_token/int8") > 1e6, "{row:#}"),
            _ => {
                let [least, most] = ["min", "max"].map(|key| number(&bench, &format!("/limits/reads/{key}")));
                let read = number(&bench, "/limits/read_bytes_per_s");
                assert!(least <= read && read <= most, "{bench:#}");
                for limit in limits {
                    let bandwidth = number(row, "/bytes_per_token") * limit;
                    assert!(least * 0.999 < bandwidth && bandwidth < most * 1.001, "{row:#}");
                }
            }
        }
        assert!(row.get("peer").is_none() && row.get("ratio").is_none(), "{row:#}");
    }
    let bytes = |i: usize| number(&bench, &format!("/rows/{i}/bytes_per_token"));
    assert!(bytes(3) > bytes(2), "a longer context takes more reading");
    assert!(bytes(4) < bytes(2) && bytes(5) < bytes(4), "streams share the weights");
    for kind in ["int8", "bf16", "f32"] {
        assert!(number(&bench, &format!("/limits/dot_products/{kind}/operations_per_s")) > 1e7);
        assert!(bench["limits"]["dot_products"][kind]["instructions"].is_string());
    }
    assert!(number(&bench, "/load/seconds/min") > 0.0);
    assert!(number(&bench, "/memory/planned_bytes") >= number(&bench, "/memory/weights_bytes"));
    assert_eq!(
        (&bench["model"], &bench["repeat"], &bench["peer"]),
        (&"mini".into(), &2.into(), &Value::Null)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn measuring_the_limits_does_not_count_as_memory() {
    let bench = Folder::new().sampan("bench mini --prompt 8 --generate 2 --repeat 1 --json").json();
    let peak = number(&bench, "/memory/peak_bytes");
    assert!(number(&bench, "/memory/weights_bytes") < peak && peak < 200e6, "{bench:#}");
}

#[test]
fn a_table_for_people_and_no_tokenizer_needed() {
    let folder = Folder::new();
    folder.family("qwen3");
    let table = folder.sampan("bench model --prompt 8 --generate 2 --repeat 1 --batch 2").success();
    for part in
        ["prompt 8", "generate 2 after 8", "2 streams, 2 after 8", "tokens/s", " %", "GB/s", "the plan says"]
    {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
}

#[test]
fn wrong_flags_and_files_are_answered_with_advice() {
    let folder = Folder::new();
    folder.model();
    let cases: &[(&str, &[&str], &str)] = &[
        ("bench mini --compare", &["GGUF", "mini is none"], "convert"),
        ("bench model --compare", &["GGUF", "model is none"], "convert"),
        ("bench mini --python python3", &["--compare"], "bench --help"),
        ("bench mini --compare --quant q8_0", &["--quant"], "bench --help"),
        ("bench mini --depth 0", &["--depth"], "bench --help"),
        ("bench mini --batch 8,x", &["--batch", "x"], "bench --help"),
        ("bench mini --repeat 0", &["--repeat"], "bench --help"),
        ("bench mini --prompt 100 --context 50", &["--context 50", "102 tokens"], "leave --context out"),
        ("bench mini --depth 4000000000", &["GiB", "available"], "smaller"),
        ("bench mini --batch 1024 --generate 4000000", &["GiB", "available"], "smaller"),
        ("bench absent.gguf", &["no model at absent.gguf"], "give a GGUF"),
    ];
    let mut wrong = Vec::new();
    for (arguments, parts, hint) in cases {
        if let Err(why) = folder.sampan(arguments).mistake(parts, hint) {
            wrong.push(format!("{arguments}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[cfg(unix)]
mod peer {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// A model file, and a program `fake` in the place of Python. A shell writes it: where this process did, a child
    /// started meanwhile could hold it open, and then nobody may run it.
    fn folder(script: &str) -> Folder {
        let folder = Folder::new();
        folder.family("qwen3");
        folder.sampan("convert model m.gguf --quiet").success();
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat > fake && chmod +x fake"]).current_dir(folder.path("")).stdin(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}").as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        folder
    }

    /// Two seconds for every prompt, four for everything generated.
    const PLAYS: &str = r#"
echo a library greets
echo '{"version": "fake 1.2.3", "system": "no instructions"}'
while read -r line; do
    echo "$line" >> asked
    case "$line" in
        prompt*) echo '{"seconds": 2.0}' ;;
        generate*) echo '{"seconds": 4.0}' ;;
        memory) echo '{"peak_bytes": 1048576}' ;;
        *) echo '{"ready": true}' ;;
    esac
done
"#;

    const FLAGS: &str =
        "bench m.gguf --prompt 16 --generate 4 --batch 3 --depth 40 --repeat 2 --compare --python ./fake";

    #[test]
    fn takes_turns_and_is_what_ratios_refer_to() {
        let folder = folder(PLAYS);
        let bench = folder.sampan(&format!("{FLAGS} --json")).json();
        let speeds = [16.0 / 2.0, 4.0 / 4.0, 4.0 / 4.0, 3.0 * 4.0 / 4.0];
        for (row, speed) in bench["rows"].as_array().unwrap().iter().zip(speeds) {
            assert_eq!(
                row["peer"]["tokens_per_s"],
                json!({"min": speed, "median": speed, "max": speed, "all": [speed, speed]})
            );
            let ratio = number(row, "/tokens_per_s/median") / speed;
            assert!((number(row, "/ratio") / ratio - 1.0).abs() < 1e-9, "{row:#}");
        }
        assert_eq!(
            bench["peer"],
            json!({"name": "llama.cpp", "version": "fake 1.2.3", "system": "no instructions", "peak_bytes": 1_048_576})
        );
        let turn = ["prompt 16", "generate 8 4 1", "generate 40 4 1", "generate 8 4 3"];
        let asked: Vec<&str> =
            ["open", "generate 8 2 1"].into_iter().chain(turn).chain(turn).chain(["memory"]).collect();
        let log = std::fs::read_to_string(folder.path("asked")).unwrap();
        assert_eq!(log.lines().collect::<Vec<_>>(), asked);
        let table = folder.sampan(FLAGS).success();
        assert!(table.contains("8.00 / 8.00 / 8.00") && table.contains("fake 1.2.3, f16 cache"), "{table}");
    }

    #[test]
    fn loads_in_a_new_process_for_every_turn() {
        let folder = folder(PLAYS);
        let flags = "bench m.gguf --prompt 8 --generate 2 --repeat 2 --load --compare --python ./fake --json";
        let bench = folder.sampan(flags).json();
        let median = |of: &str| number(&bench, &format!("/load{of}/seconds/median"));
        let ratio = median("/peer") / median("");
        assert!((number(&bench, "/load/ratio") / ratio - 1.0).abs() < 1e-9, "{bench:#}");
        let log = std::fs::read_to_string(folder.path("asked")).unwrap();
        // One turn more than asked for: the first one warms the file cache.
        assert!(
            log.starts_with(&"first 8\nmemory\n".repeat(3)) && log.matches("first").count() == 3,
            "{log}"
        );
    }

    #[test]
    fn that_cannot_play_is_named_with_what_to_install() {
        let cases = [
            ("exit 3", "./fake", &["has ended", "exit status: 3", "it said nothing"][..], "pip install"),
            ("echo why >&2; exit 3", "./fake", &["has ended", "why"], "pip install"),
            (r#"echo '{"error": "no llama_cpp", "hint": "pip it"}'"#, "./fake", &["no llama_cpp"], "pip it"),
            ("", "./absent", &["cannot start", "./absent"], "pip install llama-cpp-python"),
            (
                r#"echo '{"version": "1"}'; read -r line; echo '{"error": "cannot load the model", "hint": "newer"}'"#,
                "./fake",
                &["cannot load the model"],
                "newer",
            ),
        ];
        for (script, python, parts, hint) in cases {
            let folder = folder(script);
            let outcome =
                folder.sampan(&format!("bench m.gguf --prompt 8 --generate 2 --compare --python {python}"));
            outcome.mistake(parts, hint).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn does_not_outlive_the_bench() {
        let folder = folder(
            r#"echo $$ > pid; echo '{"version": "1"}'; read -r line; echo '{"error": "no", "hint": "no"}'; exec sleep 1000"#,
        );
        folder
            .sampan("bench m.gguf --prompt 8 --generate 2 --compare --python ./fake")
            .mistake(&["no"], "no")
            .unwrap();
        let pid = std::fs::read_to_string(folder.path("pid")).unwrap();
        assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "process {pid} is still there");
    }
}
