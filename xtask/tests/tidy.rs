//! The promises of ARCHITECTURE.md, as tests. A failure names the file and the line.

use std::fs;
use xtask::tidy::{own_dependencies, root, sources};

fn report(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn lines_with(needles: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let this = "xtask/tests/tidy.rs";
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path != this && !allowed(&s.path)) {
        for (number, line) in source.code() {
            if needles.iter().any(|needle| line.contains(needle)) {
                found.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    found
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    let allowed =
        |path: &str| path.starts_with("crates/kernels/src/isa/") || path == "crates/kernels/src/pool.rs";
    report(
        "unsafe outside its rooms",
        lines_with(&["unsafe ", "allow(unsafe_code)"], |p| allowed(p) || p.starts_with("xtask/")),
    );
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut found = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let opens = code.contains("unsafe {") || code.contains("unsafe impl");
            let noted = lines[i.saturating_sub(12)..=i].iter().any(|l| l.contains("SAFETY"));
            if opens && !noted {
                found.push(format!("{}:{}: {}", source.path, i + 1, line.trim()));
            }
        }
    }
    report("unsafe without a SAFETY note", found.into_iter().filter(|f| !f.starts_with("xtask/")).collect());
}

#[test]
fn no_global_mutable_state() {
    let needles = ["static mut ", "thread_local!", "lazy_static"];
    let mut found = lines_with(&needles, |p| p.starts_with("xtask/"));
    for source in sources().iter().filter(|s| !s.path.contains("/tests/")) {
        for (number, line) in source.code() {
            let is_static = line.starts_with("static ") || line.starts_with("pub static ");
            let changes = ["Mutex", "RwLock", "Atomic", "Cell", "OnceLock", "LazyLock"];
            if is_static && changes.iter().any(|c| line.contains(c)) {
                found.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    report("global mutable state", found);
}

#[test]
fn the_environment_is_read_in_one_file() {
    let needles = ["env::var", "env::vars", "env::set_var"];
    report(
        "environment variables",
        lines_with(&needles, |p| {
            p == "crates/sampan/src/environment.rs" || p.contains("/tests/") || p.starts_with("xtask/")
        }),
    );
}

#[test]
fn rooms_depend_only_downwards() {
    let rooms: &[(&str, &[&str])] = &[
        ("kernels", &[]),
        ("weights", &["kernels"]),
        ("text", &[]),
        ("model", &["kernels", "weights"]),
        ("engine", &["kernels", "model"]),
        ("hub", &[]),
        ("facade", &["engine", "hub", "kernels", "model", "text", "weights"]),
        ("serve", &["engine", "facade", "hub", "kernels", "model", "text", "weights"]),
    ];
    for (room, allowed) in rooms {
        for dependency in own_dependencies(room) {
            assert!(allowed.contains(&dependency.as_str()), "{room} must not depend on {dependency}");
        }
    }
}

#[test]
fn text_does_no_io_and_the_engine_knows_no_text() {
    let inner = |room: &str, needles: &[&str]| {
        lines_with(needles, |p| !p.starts_with(&format!("crates/{room}/src/")) || p.contains("/tests"))
    };
    report(
        "IO in text",
        inner("text", &["std::fs", "std::net", "std::env", "stdin()", "stdout()", "File::"]),
    );
    report("text in the engine", inner("engine", &["serde", "tokenizers", "minijinja", "std::net"]));
}

#[test]
fn no_feature_selects_an_instruction_set_or_a_family() {
    for entry in fs::read_dir(root().join("crates")).unwrap().flatten() {
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("\n[features]"), "{} has features", entry.path().display());
    }
    report("compile-time selection", lines_with(&["cfg(feature", "cfg(target_feature"], |_| false));
}

#[test]
fn no_test_is_skipped_for_good() {
    report("ignored tests", lines_with(&["#[ignore"], |_| false));
}

#[test]
fn files_and_functions_keep_their_budgets() {
    let mut over = Vec::new();
    println!("files above 600 lines and functions above 80:");
    for source in sources() {
        let lines = source.lines();
        if lines > 600 {
            println!("  {} has {lines} lines", source.path);
        }
        if lines > 1000 {
            over.push(format!("{} has {lines} lines (at most 1000)", source.path));
        }
        for (line, length, name) in source.functions() {
            if length > 80 {
                println!("  {}:{line} {name} has {length} lines", source.path);
            }
            if length > 150 {
                over.push(format!("{}:{line} {name} has {length} lines (at most 150)", source.path));
            }
        }
    }
    report("over budget", over);
}

#[test]
fn families_stay_translations() {
    let room = "crates/model/src/family/";
    let all = sources();
    let families = || all.iter().filter(|s| s.path.starts_with(room));
    for source in families() {
        let name = source.path[room.len()..].trim_end_matches(".rs");
        let most = match name {
            _ if SHARED.contains(&name) => continue,
            _ if HYBRID.contains(&name) => 400,
            _ => 150,
        };
        println!("  {} has {} lines", source.path, source.lines());
        assert!(source.lines() <= most, "{} has {} lines (at most {most})", source.path, source.lines());
    }
    assert!(families().count() >= 10);
}

/// What families are built with.
const SHARED: &[&str] = &["mod", "builder", "dense", "experts", "gemma"];

/// Families with more than one kind of layer.
const HYBRID: &[&str] = &["deepseek", "deepseek_v4", "gemma3n", "gemma4", "qwen3_next"];

/// The files that a token passes on its way, in order. Kernels behind the table are not on the way.
const WAY: &[&str] = &[
    "crates/sampan/src/command/run.rs",
    "crates/facade/src/session/answer.rs",
    "crates/facade/src/session/output.rs",
    "crates/text/src/template/mod.rs",
    "crates/text/src/tokenizer/mod.rs",
    "crates/engine/src/engine.rs",
    "crates/engine/src/sequence.rs",
    "crates/engine/src/scheduler.rs",
    "crates/engine/src/kv/pool.rs",
    "crates/engine/src/kv/prefix.rs",
    "crates/model/src/executor/mod.rs",
    "crates/model/src/executor/layer.rs",
    "crates/model/src/executor/attention.rs",
    "crates/model/src/executor/ffn.rs",
    "crates/kernels/src/matmul.rs",
    "crates/kernels/src/table.rs",
    "crates/engine/src/sampler/mod.rs",
];

#[test]
fn a_request_can_be_followed_in_one_sitting() {
    let all = sources();
    let mut total = 0;
    for path in WAY {
        let source =
            all.iter().find(|s| s.path == *path).unwrap_or_else(|| panic!("{path} is gone: mend WAY"));
        println!("  {:5} {path}", source.lines());
        total += source.lines();
    }
    println!("  {total:5} in all");
    assert!(total <= 3000, "a request's way takes {total} lines (at most 3000)");
}
