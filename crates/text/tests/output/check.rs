//! What must hold for any output however it is cut. The fuzz target runs the same checks.

use sampan_text::{OutputEvent, OutputFormat, OutputParser, ReasoningTags, Start, ToolFormat, Tools};
use serde_json::json;

pub(crate) const FORMATS: [ToolFormat; 11] = [
    ToolFormat::Hermes,
    ToolFormat::QwenXml,
    ToolFormat::DeepSeekV3,
    ToolFormat::DeepSeekV31,
    ToolFormat::DeepSeekV32,
    ToolFormat::DeepSeekV4,
    ToolFormat::Harmony,
    ToolFormat::Gemma4,
    ToolFormat::FunctionGemma,
    ToolFormat::Llama,
    ToolFormat::Plain,
];

/// What outputs are made of.
pub(crate) const PIECES: &[&str] = &[
    "<think>",
    "</think>",
    "<|channel>thought",
    "<channel|>",
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "noop>",
    "</function>",
    "<parameter=",
    "city>",
    "</parameter>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "function",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "<｜DSML｜tool_calls>",
    "<｜DSML｜invoke name=\"noop\">",
    "<｜DSML｜parameter name=\"city\" string=\"true\">",
    "</｜DSML｜parameter>",
    "</｜DSML｜invoke>",
    "<|start|>assistant",
    "<|channel|>",
    "analysis",
    "final",
    "commentary",
    " to=functions.noop",
    "<|constrain|>json",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<|tool_call>",
    "call:noop{",
    "<|\"|>",
    "<tool_call|>",
    "<|python_tag|>",
    "```",
    "```json\n",
    "{\"name\": \"noop\", \"arguments\": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\\",
    "\\u00e9",
    "\\ud83d",
    ":",
    ",",
    "\n",
    " ",
    "\r\n",
    "12",
    "true",
    "None",
    "noop(",
    "city=",
    ")",
    "é🦙",
    "text",
    "<",
    ">",
];

pub(crate) fn tools() -> Tools {
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

pub(crate) fn format(tools: ToolFormat) -> OutputFormat {
    let reasoning = match tools {
        ToolFormat::Harmony => None,
        ToolFormat::Gemma4 => Some(ReasoningTags::GEMMA4),
        _ => Some(ReasoningTags::THINK),
    };
    OutputFormat { reasoning, tools }
}

/// All events of an output given in parts.
pub(crate) fn parse(parser: &mut OutputParser, parts: &[&str]) -> Vec<OutputEvent> {
    let mut events: Vec<_> = parts.iter().flat_map(|part| parser.push(part)).collect();
    events.extend(parser.finish());
    events
}

/// The texts of the events: what the output was.
pub(crate) fn text_of(events: &[OutputEvent]) -> String {
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
pub(crate) fn words(events: &[OutputEvent]) -> Vec<String> {
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

/// Feeds an output whole and in parts: always the same, nothing lost, and the arguments of every complete call are JSON.
pub(crate) fn check_cut(tool_format: ToolFormat, start: Start, output: &str, cuts: &[&[&str]]) {
    let run = |parts: &[&str]| {
        let events = parse(&mut OutputParser::new(format(tool_format), start, Some(tools())), parts);
        assert_eq!(text_of(&events), output, "text was lost");
        words(&events)
    };
    let whole = run(&[output]);
    for parts in cuts {
        assert_eq!(run(parts), whole, "{output:?} as {parts:?}");
    }
    for line in &whole {
        let call = line.strip_prefix("call ").and_then(|call| call.split_once(' '));
        if let Some((_, arguments)) = call {
            assert!(serde_json::from_str::<serde_json::Value>(arguments).is_ok(), "{arguments}");
        }
    }
}
