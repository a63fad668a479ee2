//! Output of models in every format, cut everywhere.

mod cases;
mod harmony;
mod properties;
mod tolerance;

use sampan_text::{OutputEvent, OutputFormat, OutputParser, ReasoningTags, Start, ToolFormat, Tools};
use serde_json::json;

fn tools() -> Tools {
    Tools::from_json(&json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        }}},
        {"type": "function", "function": {"name": "write_file", "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}, "mode": {"type": ["integer", "null"]}},
        }}},
        {"type": "function", "function": {"name": "search", "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "filters": {"type": "object"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "exact": {"type": "boolean"},
                "limit": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            },
        }}},
        {"name": "noop"},
    ]))
}

fn format(tools: ToolFormat) -> OutputFormat {
    let reasoning = match tools {
        ToolFormat::Harmony => None,
        ToolFormat::Gemma4 => Some(ReasoningTags::GEMMA4),
        _ => Some(ReasoningTags::THINK),
    };
    OutputFormat { reasoning, tools }
}

/// All events of an output given in parts.
fn parse(parser: &mut OutputParser, parts: &[&str]) -> Vec<OutputEvent> {
    let mut events: Vec<_> = parts.iter().flat_map(|part| parser.push(part)).collect();
    events.extend(parser.finish());
    events
}

/// The texts of the events: what the output was.
fn text_of(events: &[OutputEvent]) -> String {
    events
        .iter()
        .map(|event| match event {
            OutputEvent::Reasoning(text) | OutputEvent::Content(text) | OutputEvent::Markup(text) => {
                text.as_str()
            }
            _ => "",
        })
        .collect()
}

/// Events in words, one a line: `think:`, `say:`, `call NAME JSON`, `cut NAME JSON` for a call that is not complete, `late`, and
/// warnings. Markup is left out.
fn words(events: &[OutputEvent]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut call, mut warnings) = (None, Vec::new());
    let mut add = |prefix: &str, text: &str| match words.last_mut() {
        Some(last) if last.starts_with(prefix) && prefix.ends_with(": ") => last.push_str(text),
        _ => words.push(format!("{prefix}{text}")),
    };
    for event in events {
        match event {
            OutputEvent::Reasoning(text) => add("think: ", text),
            OutputEvent::Content(text) => add("say: ", text),
            OutputEvent::Markup(_) => {}
            OutputEvent::ContentWasReasoning => add("late", ""),
            OutputEvent::CallStart { index, id, name } => {
                let id = id.as_deref().map_or(String::new(), |id| format!("#{id}"));
                call = Some((*index, format!("{name}{id}"), String::new()));
            }
            OutputEvent::CallArguments { index, json } => {
                let (current, _, arguments) = call.as_mut().expect("arguments inside a call");
                assert_eq!(current, index);
                arguments.push_str(json);
            }
            OutputEvent::CallEnd { index, complete } => {
                let (current, name, arguments) = call.take().expect("an end after a start");
                assert_eq!(current, *index);
                add(if *complete { "call " } else { "cut " }, &format!("{name} {arguments}"));
                warnings.drain(..).for_each(|w: String| add("warning ", &w));
            }
            // A warning inside a call is told behind it, for where it comes among the arguments depends on the cuts.
            OutputEvent::Warning(warning) if call.is_some() => warnings.push(format!("{warning:?}")),
            OutputEvent::Warning(warning) => add("warning ", &format!("{warning:?}")),
        }
    }
    assert!(call.is_none(), "a call without end");
    words
}

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
