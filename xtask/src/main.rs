//! `cargo run -p xtask -- TASK`

#![forbid(unsafe_code)]

use std::process::ExitCode;
use xtask::{bench, picture};

const USAGE: &str = "\
cargo run -p xtask -- bench [--python PATH] [--sampan PATH] [--name NAME] [--cpu NAME] MODEL... [-- FLAGS]
    Runs `sampan bench --compare` on GGUF files and writes benches/record/<cpu>/<date>-<name>.{json,md}.
    FLAGS replace the default flags of `sampan bench`. Without --sampan the program is built first.
cargo run -p xtask -- picture RECORD.json > benches/latest.svg
    Draws a record.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first().map(|(task, rest)| (task.as_str(), rest)) {
        Some(("bench", rest)) => bench::run(rest),
        Some(("picture", [record])) => picture::run(record),
        _ => Err(format!("name a task:\n{USAGE}")),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
