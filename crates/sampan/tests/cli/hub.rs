//! Models by name: pulled from a hub that lives in the test, kept, listed, removed.

use crate::support::{Folder, Outcome, command};
use sampan_fixtures::hub::{FakeHub, Fault};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::time::Duration;

/// A machine without models, and a hub with a tiny one that speaks and with files that are no models.
struct World {
    hub: FakeHub,
    folder: Folder,
}

const SIZE: usize = 6 << 20;

fn noise() -> Vec<u8> {
    let mut x = 88_172_645_463_325_252u64;
    let step = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 24) as u8
    };
    (0..SIZE).map(step).collect()
}

impl World {
    fn new() -> World {
        let (hub, folder, model) = (FakeHub::new(), Folder::new(), Folder::new());
        model.model();
        let names = [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        ];
        let files = names.map(|name| (name, std::fs::read(model.path(&format!("model/{name}"))).unwrap()));
        let mut files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        files.push(("pytorch_model.bin", b"never"));
        hub.publish("tiny/speaker", &files);
        hub.publish("tiny/pickle", &[("config.json", b"{}"), ("pytorch_model.bin", b"never")]);
        hub.publish(
            "tiny/noise-GGUF",
            &[("noise-Q8_0.gguf", &noise()), ("noise-Q4_0.gguf", &noise()[..9000])],
        );
        World { hub, folder }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = command(self.folder.path("").as_path());
        command.env("HF_ENDPOINT", self.hub.url()).env("OLLAMA_MODELS", self.folder.path("ollama"));
        command.args(arguments.split(' '));
        command
    }

    fn spawn(&self, arguments: &str) -> Child {
        let mut child = self.command(arguments).spawn().unwrap();
        drop(child.stdin.take());
        child
    }

    fn sampan(&self, arguments: &str) -> Outcome {
        outcome(self.spawn(arguments))
    }

    fn list_json(&self) -> Vec<Value> {
        self.sampan("list --json").json().as_array().unwrap().clone()
    }

    fn list(&self) -> Vec<(String, String, bool)> {
        let row = |e: &Value| {
            let text = |key: &str| e[key].as_str().unwrap().to_owned();
            (text("name"), text("owner"), e["unfinished"].as_bool().unwrap())
        };
        self.list_json().iter().map(row).collect()
    }
}

fn outcome(child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn row(name: &str, owner: &str, unfinished: bool) -> (String, String, bool) {
    (name.into(), owner.into(), unfinished)
}

#[test]
fn a_name_is_enough_to_run_a_model() {
    let world = World::new();
    world
        .sampan("run tiny/speaker hello --no-pull")
        .mistake(&["tiny/speaker is not on this machine"], "sampan pull tiny/speaker")
        .unwrap();
    let first = world.sampan("run tiny/speaker hello --json --seed 1 --max-tokens 4");
    let said = first.stderr.clone();
    assert!(
        said.contains("pulling tiny/speaker: 5 files, ") && said.contains("from 127.0.0.1/tiny/speaker at "),
        "{said}"
    );
    let first = first.json();
    assert_eq!((&first["model"], &first["tokens"]["generated"]), (&"tiny/speaker".into(), &4.into()));
    let asked = world.hub.log().len();
    let again = world.sampan("run tiny/speaker hello --json --seed 1 --max-tokens 4 --no-pull");
    assert!(!again.stderr.contains("pull"), "{again:#?}");
    assert_eq!(again.json()["text"], first["text"]);
    let shown = world.sampan("show tiny/speaker --json").json();
    assert_eq!(shown["family"], "qwen3");
    for command in ["tokenize tiny/speaker", "bench tiny/speaker --prompt 8 --generate 2 --repeat 1 --json"] {
        world.sampan(command).success();
    }
    assert_eq!(world.hub.log().len(), asked, "nothing is asked about a model that is here");
    assert_eq!(world.list(), [row("tiny/speaker", "sampan", false)]);
}

#[test]
fn a_killed_pull_goes_on_and_what_it_left_can_be_seen_and_removed() {
    let world = World::new();
    let name = "tiny/noise-GGUF:Q8_0";
    let come = || {
        let list = world.list_json();
        list.iter().filter(|e| e["unfinished"] == true).filter_map(|e| e["bytes"].as_u64()).max()
    };
    let interrupted = || {
        world.hub.fault("/storage/", Fault::Stall(SIZE / 2), 1);
        let mut child = world.spawn(&format!("pull {name}"));
        while come() < Some(2 << 20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        world.hub.mend();
    };
    interrupted();
    assert_eq!(world.list(), [row("tiny/noise-GGUF", "sampan", true)]);
    let path = world.sampan(&format!("pull {name}")).success();
    assert_eq!(std::fs::read(path.trim_end()).unwrap(), noise());
    let log = world.hub.log();
    let from = log.iter().filter(|seen| seen.path.contains("/storage/")).filter_map(|seen| seen.from).max();
    assert!(from >= Some(2 << 20), "what had come is not fetched again: {from:?}");
    assert_eq!(world.list(), [row(name, "sampan", false)]);

    let removed = world.sampan(&format!("rm {name}")).success();
    assert!(removed.contains("1 file, 6.00 MiB free again"), "{removed}");
    interrupted();
    let would = world.sampan("gc --dry-run").success();
    let parts = ["not finished", "2 files", "would be free"];
    assert!(parts.iter().all(|part| would.contains(part)), "{would}");
    assert_eq!(world.list(), [row("tiny/noise-GGUF", "sampan", true)]);
    assert!(world.sampan("gc").success().contains("2 files"));
    assert_eq!(world.list(), []);
    assert!(world.sampan("gc").success().contains("0 files"));
}

#[test]
fn of_two_pulls_at_once_one_waits() {
    let world = World::new();
    world.hub.fault("/storage/", Fault::Stall(1 << 20), 1);
    let first = world.spawn("pull tiny/noise-GGUF:Q8_0");
    while world.hub.sent() == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut second = world.spawn("pull tiny/noise-GGUF:Q8_0");
    let mut said = BufReader::new(second.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("waiting for it")), "the second waits");
    world.hub.mend();
    let paths = [first, second].map(|pull| outcome(pull).success());
    assert_eq!((paths[0].as_str(), world.hub.sent()), (paths[1].as_str(), SIZE as u64));
    drop(said);
}

#[test]
fn what_goes_wrong_is_said_with_what_to_do() {
    let world = World::new();
    let cases: &[(&str, &[&str], &str)] = &[
        ("pull qwen3:4", &["no release is called \"qwen3:4\""], "qwen3:4b"),
        ("run gema3:4b hi", &["there is no model at gema3:4b, and no release"], "did you mean gemma3:4b"),
        ("run quux hi", &["there is no model at quux"], "OWNER/NAME"),
        ("pull ../../etc/passwd", &["no model name"], "OWNER/NAME"),
        ("pull a/b:../../x.gguf", &["no model name"], "OWNER/NAME"),
        ("pull https://example.org/x.pth", &["pickle"], "safetensors"),
        (
            "pull tiny/pickle",
            &["tiny/pickle", "pickle checkpoint (pytorch_model.bin)"],
            "safetensors or GGUF",
        ),
        ("pull tiny/absent", &["127.0.0.1 has no repository tiny/absent"], "HF_TOKEN"),
        ("pull tiny/speaker@v9", &["revision v9"], "spelling"),
        ("pull tiny/noise-GGUF:Q2_K", &["has no Q2_K; it has Q4_0, Q8_0"], "choose one"),
        (
            "pull tiny/speaker --offline",
            &["tiny/speaker is not on this machine, and sampan is offline"],
            "HF_HUB_OFFLINE",
        ),
        ("run tiny/speaker hi --offline", &["sampan is offline"], "HF_HUB_OFFLINE"),
        ("rm tiny/speaker", &["tiny/speaker is not on this machine"], "sampan list"),
        ("rm mini", &["mini is part of the program"], "sampan run mini"),
        ("pull mini", &["mini is part of the program"], "sampan run mini"),
        (
            "pull tiny/noise-GGUF/noise-Q4_0.gguf",
            &["behind a colon"],
            "write tiny/noise-GGUF:noise-Q4_0.gguf",
        ),
        ("show tiny/noise-GGUF/noise-Q4_0.gguf", &["no model at"], "write tiny/noise-GGUF:noise-Q4_0.gguf"),
        ("run tiny/noise-GGUF:Q4_0 hi", &["noise-Q4_0.gguf"], "GGUF file"),
    ];
    let mut wrong = Vec::new();
    for (arguments, parts, hint) in cases {
        let outcome = world.sampan(arguments);
        // What was said before the mistake is progress.
        let from = outcome.stderr.find("error: ").unwrap_or(0);
        let outcome = Outcome { stderr: outcome.stderr[from..].to_owned(), ..outcome };
        if let Err(why) = outcome.mistake(parts, hint) {
            wrong.push(format!("{arguments}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.hub.fault("/storage/", Fault::Wrong, 1);
    world.sampan("pull tiny/noise-GGUF:Q8_0 -q").mistake(&["promised", "set aside"], "pull again").unwrap();
    let gc = world.sampan("gc").success();
    assert!(gc.contains("bytes that were not what the hub promised"), "{gc}");
}

#[test]
fn what_others_fetched_is_listed_used_and_left_alone() {
    let world = World::new();
    let path = world.sampan("pull tiny/noise-GGUF:Q8_0 -q").success();
    // Without the records it is as if another program had pulled it.
    std::fs::remove_dir_all(world.folder.path(".local/share/sampan/records")).unwrap();
    let name = "tiny/noise-GGUF:Q8_0";
    assert_eq!(world.list(), [row(name, "shared", false)]);
    world.sampan(&format!("rm {name}")).mistake(&["was not fetched by sampan"], "--shared").unwrap();
    let asked = world.hub.sent();
    world.sampan(&format!("pull {name}")).success();
    assert_eq!(world.hub.sent(), asked);
    let kept = world.sampan(&format!("rm {name}")).success();
    assert!(kept.contains("0 files, 0 B free again; 1 stay"), "{kept}");
    assert!(std::path::Path::new(path.trim_end()).exists());
    let gone = world.sampan(&format!("rm --shared {name}")).success();
    assert!(gone.contains("6.00 MiB free again"), "{gone}");
    assert!(!std::path::Path::new(path.trim_end()).exists());

    let digits = "a".repeat(64);
    let weights = std::fs::read(
        world.sampan("pull tiny/speaker -q").success().trim_end().to_owned() + "/model.safetensors",
    );
    world.folder.write(&format!("ollama/blobs/sha256-{digits}"), weights.unwrap());
    let manifest = format!(
        r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:{digits}", "size": 1}}]}}"#
    );
    world.folder.write("ollama/manifests/registry.ollama.ai/library/qwen3/0.6b", manifest);
    assert!(world.list().contains(&row("qwen3:0.6b", "ollama", false)));
    world.sampan("rm qwen3:0.6b").mistake(&["in Ollama's store"], "ollama rm qwen3:0.6b").unwrap();
    let outcome = world.sampan("show qwen3:0.6b --no-pull");
    assert!(!outcome.stderr.contains("not on this machine"), "it is found: {outcome:#?}");
}

/// Wherever a name is taken, one that means nothing is answered with what may have been meant: in the program, in the
/// catalogue, a repository of it, or here.
#[test]
fn the_nearest_names_are_said_wherever_a_name_is_taken() {
    let world = World::new();
    world.sampan("pull tiny/noise-GGUF:Q4_0 -q").success();
    let commands = [
        "run NAME hi",
        "serve NAME",
        "show NAME",
        "bench NAME",
        "pull NAME",
        "rm NAME",
        "fit NAME",
        "convert NAME x.gguf",
        "quantize NAME x.gguf --to q8_0",
        "embed NAME hi",
        "tokenize NAME",
        "show NAME --offline",
        "run NAME hi --no-pull",
    ];
    let mut wrong = Vec::new();
    for (typed, meant) in [
        ("miny", "mini"),
        ("Qwen3-4b", "qwen3:4b"),
        ("qwen/Qwen3-4B-GUFF", "Qwen/Qwen3-4B-GGUF"),
        ("other/qwen3-4b-gguf", "Qwen/Qwen3-4B-GGUF"),
        ("tiny/nose-GGUF:Q4_0", "tiny/noise-GGUF:Q4_0"),
    ] {
        // What is only known of is neither removed nor used without a network.
        let here = meant.starts_with("tiny/");
        let word = !typed.contains('/');
        let needed = |command: &str| match command {
            "rm NAME" => here,
            "pull NAME" => meant != "mini",
            _ => here || word || !command.contains("--"),
        };
        for command in commands.iter().filter(|command| needed(command)) {
            let outcome = world.sampan(&command.replace("NAME", typed));
            let from = outcome.stderr.find("hint: ").unwrap_or(outcome.stderr.len());
            let hint = &outcome.stderr[from..];
            if outcome.code != 1 || !hint.contains("did you mean") || !hint.contains(meant) {
                wrong.push(format!("{command} of {typed}: {outcome:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Names are taken wherever a model is: pulled on first use after saying so, and not at all with `--no-pull`.
#[test]
fn convert_and_quantize_take_names() {
    let world = World::new();
    for command in ["convert tiny/speaker out.gguf", "quantize tiny/speaker out.gguf --to q8_0 --no-report"] {
        let refused = world.sampan(&format!("{command} --no-pull"));
        refused.mistake(&["tiny/speaker is not on this machine"], "sampan pull tiny/speaker").unwrap();
        let made = world.sampan(&format!("{command} --force"));
        // Its vocabulary has no merges, which GGUF files need.
        assert!(made.stderr.contains("pulling tiny/speaker: 5 files, "), "{made:#?}");
        assert!(made.stderr.contains("pre-tokenizer"), "{made:#?}");
        let again = world.sampan(&format!("{command} --no-pull --offline"));
        assert!(!again.stderr.contains("pulling") && again.stderr.contains("pre-tokenizer"), "{again:#?}");
        world.sampan("rm tiny/speaker").success();
    }
}

#[test]
fn modelscope_is_asked_by_flag() {
    let world = World::new();
    let command = |arguments: &str| {
        let mut command = world.command(arguments);
        command.env("MODELSCOPE_ENDPOINT", world.hub.url()).env("HF_ENDPOINT", "http://127.0.0.1:1");
        let mut child = command.spawn().unwrap();
        drop(child.stdin.take());
        outcome(child)
    };
    let path = command("pull --modelscope tiny/noise-GGUF:Q8_0").success();
    assert!(path.contains("modelscope") && path.trim_end().ends_with("noise-Q8_0.gguf"), "{path}");
    assert!(world.hub.log().iter().all(|seen| seen.path.contains("models/tiny/noise-GGUF")));
    let asked = world.hub.log().len();
    command("show --modelscope --offline tiny/noise-GGUF:Q8_0");
    command("show --offline tiny/noise-GGUF:Q8_0").mistake(&["offline"], "--offline").unwrap();
    assert_eq!(world.hub.log().len(), asked);
}

#[test]
fn a_url_is_pulled_without_a_claim_about_its_bytes() {
    let world = World::new();
    let pulled = world.sampan(&format!("pull {}/web/noise-Q4_0.gguf", world.hub.url()));
    assert_eq!(pulled.code, 0, "{pulled:#?}");
    assert!(
        pulled.stderr.contains("names no digest of noise-Q4_0.gguf to compare with; its sha256 is"),
        "{pulled:#?}"
    );
    assert!(!pulled.stderr.contains("what the hub says"), "{pulled:#?}");
}

/// Ollama's blobs are models as they lie: run, and neither copied nor fetched.
#[test]
fn what_ollama_has_is_run_where_it_is() {
    let world = World::new();
    crate::quantize::speaking_model(&world.folder);
    world.folder.sampan("convert model m.gguf --quiet").success();
    let digits = "b".repeat(64);
    let bytes = std::fs::read(world.folder.path("m.gguf")).unwrap();
    world.folder.write(&format!("ollama/blobs/sha256-{digits}"), bytes);
    let manifest = format!(
        r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:{digits}", "size": 1}}]}}"#
    );
    world.folder.write("ollama/manifests/registry.ollama.ai/library/qwen3/4b", &manifest);
    world.folder.write("ollama/manifests/hf.co/tiny/other-GGUF/Q8_0", &manifest);
    for name in ["qwen3:4b", "tiny/other-GGUF:Q8_0", "hf.co/tiny/other-GGUF:Q8_0"] {
        let ran = world.sampan(&format!("run {name} hello --max-tokens 2 --no-pull --offline"));
        assert_eq!(ran.code, 0, "{name}: {ran:#?}");
    }
    assert!(world.hub.log().is_empty());
    let copies = [".cache", ".local/share/sampan/web", ".local/share/sampan/modelscope"];
    assert!(copies.iter().all(|folder| !world.folder.path(folder).join("hub").exists()));
}
