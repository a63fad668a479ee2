//! Runs `sampan bench` on a list of models and keeps what it says.

use crate::record::{date, folder_name, markdown};
use crate::tidy::root;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// What a record measures unless something else is asked for.
const FLAGS: &[&str] = &["--prompt", "512,4096", "--depth", "4096", "--batch", "8,16", "--load"];

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    python: Option<String>,
    sampan: Option<String>,
    name: String,
    cpu: Option<String>,
    models: Vec<String>,
    flags: Vec<String>,
}

impl Arguments {
    fn parse(typed: &[String]) -> Result<Arguments, String> {
        let (mut python, mut sampan, mut name, mut cpu, mut models) = (None, None, None, None, Vec::new());
        let mut words = typed.iter();
        while let Some(word) = words.by_ref().next().filter(|word| *word != "--") {
            let mut value = || words.next().cloned().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--python" => python = Some(value()?),
                "--sampan" => sampan = Some(value()?),
                "--name" => name = Some(value()?),
                "--cpu" => cpu = Some(value()?),
                flag if flag.starts_with('-') => {
                    return Err(format!("{flag} is not known; flags of `sampan bench` come after `--`"));
                }
                model => models.push(model.to_owned()),
            }
        }
        if models.is_empty() {
            return Err("name the GGUF files to measure".into());
        }
        let given: Vec<String> = words.cloned().collect();
        let default = || FLAGS.iter().map(|flag| flag.to_string()).collect();
        let flags = if given.is_empty() { default() } else { given };
        Ok(Arguments { python, sampan, name: name.unwrap_or_else(|| "bench".into()), cpu, models, flags })
    }

    /// The words that measure a model: a program that is there, or one that cargo builds first.
    fn command(&self, model: &str) -> Vec<String> {
        let cargo = || std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut words = match &self.sampan {
            Some(program) => vec![program.clone()],
            None => [&cargo(), "run", "--release", "--quiet", "-p", "sampan", "--"].map(str::to_owned).into(),
        };
        words.extend(["bench", "--json", "--compare"].map(str::to_owned));
        words.extend(self.python.iter().flat_map(|python| ["--python".to_owned(), python.clone()]));
        words.extend(self.flags.iter().cloned());
        words.extend(["--".to_owned(), model.to_owned()]);
        words
    }
}

/// Measures, writes the record, and says where it is.
///
/// # Errors
/// What was typed wrong, or what went wrong while measuring.
pub fn run(typed: &[String]) -> Result<String, String> {
    let arguments = Arguments::parse(typed)?;
    let date = date(SystemTime::now());
    let (mut runs, mut failures) = (Vec::new(), Vec::new());
    for model in &arguments.models {
        eprintln!("measuring {model}");
        match measure(&arguments, model) {
            Ok(run) => runs.push(run),
            Err(failure) => failures.push(failure),
        }
    }
    if runs.is_empty() {
        return Err(failures.join("\n"));
    }
    let record = record(&date, commit(), &arguments.flags, runs);
    let folder = arguments.cpu.unwrap_or_else(|| folder_name(&record["machine"]));
    let folder = root().join("benches/record").join(folder);
    let [json, md] = free_names(&folder, &format!("{date}-{}", arguments.name));
    let write = |path: &Path, text: String| {
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(path, text))
            .map_err(|e| format!("{}: {e}", path.display()))
    };
    write(&json, format!("{record:#}\n"))?;
    write(&md, markdown(&record))?;
    let shown = |path: &Path| path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let wrote = format!("wrote {} and {}\n", shown(&json), shown(&md));
    if failures.is_empty() { Ok(wrote) } else { Err(format!("{wrote}{}", failures.join("\n"))) }
}

/// The record's two files. A record is never overwritten: the second of a day and name is called `-2`.
fn free_names(folder: &Path, stem: &str) -> [PathBuf; 2] {
    let files = |stem: String| ["json", "md"].map(|end| folder.join(format!("{stem}.{end}")));
    let mut names = files(stem.to_owned());
    let mut n = 1;
    while names.iter().any(|name| name.exists()) {
        n += 1;
        names = files(format!("{stem}-{n}"));
    }
    names
}

fn measure(arguments: &Arguments, model: &str) -> Result<Value, String> {
    let words = arguments.command(model);
    let output = Command::new(&words[0])
        .args(&words[1..])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot start {}: {e}", words[0]))?;
    if !output.status.success() {
        return Err(format!("sampan bench failed on {model} ({})", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("sampan bench did not write JSON: {e}"))
}

/// The commit that is measured, with a mark where files differ from it.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude", "*"])
        .current_dir(root())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Puts runs together. Of a model's path only the file's name is kept.
fn record(date: &str, commit: Option<String>, flags: &[String], mut runs: Vec<Value>) -> Value {
    for run in &mut runs {
        let name = run["model"].as_str().map(|path| Path::new(path).file_name().unwrap_or_default());
        run["model"] = name.map(|name| name.to_string_lossy().into_owned()).into();
    }
    let machine = runs.first_mut().map(|run| run["machine"].take());
    for run in &mut runs {
        run.as_object_mut().map(|run| run.remove("machine"));
    }
    json!({"date": date, "commit": commit, "machine": machine, "flags": flags, "runs": runs})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_typed_becomes_a_command() {
        let parsed = Arguments::parse(&words("a.gguf --python py --name n b.gguf -- --depth 7")).unwrap();
        assert_eq!(parsed.models, ["a.gguf", "b.gguf"]);
        assert_eq!((parsed.name.as_str(), &parsed.cpu), ("n", &None));
        let command = parsed.command("a.gguf").join(" ");
        assert!(command.ends_with("bench --json --compare --python py --depth 7 -- a.gguf"), "{command}");
        let built = Arguments::parse(&words("a.gguf --sampan there")).unwrap();
        assert!(built.command("a.gguf").join(" ").starts_with("there bench --json"));
        let plain = Arguments::parse(&words("a.gguf")).unwrap();
        assert!(plain.command("a.gguf").join(" ").contains("--batch 8,16 --load"));
    }

    #[test]
    fn mistakes_are_named() {
        for (typed, part) in [
            ("", "name the GGUF"),
            ("--python", "needs a value"),
            ("a --depth 7", "after `--`"),
            ("-- --load", "name"),
        ] {
            let error = Arguments::parse(&words(typed)).unwrap_err();
            assert!(error.contains(part), "{typed:?}: {error}");
        }
    }

    #[test]
    fn a_record_is_never_overwritten() {
        let folder = root().join("benches/record/xeon-amx-2core");
        let taken = "2026-11-23-floor";
        assert!(folder.join(format!("{taken}.md")).exists());
        assert_eq!(free_names(&folder, taken)[0], folder.join(format!("{taken}-2.json")));
        assert_eq!(free_names(&folder, "1999-01-01-none")[1], folder.join("1999-01-01-none.md"));
    }

    #[test]
    fn a_record_names_files_and_no_folders() {
        let run = |path: &str| json!({"model": path, "machine": {"processor": "P"}, "rows": []});
        let flags = words("--load");
        let made = record("2026-01-02", None, &flags, vec![run("/x/y/a.gguf"), run("b.gguf")]);
        assert_eq!(made["machine"]["processor"], "P");
        let models: Vec<&Value> = made["runs"].as_array().unwrap().iter().map(|run| &run["model"]).collect();
        assert_eq!(models, ["a.gguf", "b.gguf"]);
        assert!(!made.to_string().contains("/x/y"));
    }
}
