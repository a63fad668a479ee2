//! Output of models in every format, cut everywhere.

mod cases;
mod check;
mod harmony;
mod properties;
mod tolerance;

use check::{format, parse, text_of, tools, words};
use sampan_text::{OutputFormat, OutputParser, Start, ToolFormat};

/// Feeds an output whole, cut in two at every character, and by characters: always the same, nothing lost, and the arguments of
/// every complete call are JSON.
fn check_from(format: OutputFormat, start: Start, output: &str, want: &[&str]) {
    let run = |parts: &[&str]| {
        let events = parse(&mut OutputParser::new(format, start, Some(tools())), parts);
        assert_eq!(text_of(&events), output, "text was lost");
        words(&events)
    };
    let whole = run(&[output]);
    assert_eq!(whole, want, "{output:?}");
    for (at, _) in output.char_indices() {
        assert_eq!(run(&[&output[..at], &output[at..]]), want, "{output:?} cut at {at}");
    }
    let chars: Vec<String> = output.chars().map(String::from).collect();
    assert_eq!(run(&chars.iter().map(String::as_str).collect::<Vec<_>>()), want, "{output:?} by characters");
    for call in whole.iter().filter_map(|line| line.strip_prefix("call ")) {
        let arguments = call.split_once(' ').expect("a name").1;
        serde_json::from_str::<serde_json::Value>(arguments).unwrap_or_else(|e| panic!("{arguments}: {e}"));
    }
}

fn check(tools: ToolFormat, output: &str, want: &[&str]) {
    check_from(format(tools), Start::Either, output, want);
}
