//! Grammars of tool calls, in the format of each model.

use super::grammar::{BODY, bounded, closed, quote};
use super::literal::Literal;
use super::{Beside, ConstraintError};
use crate::{Tokenizer, Tool, ToolFormat, Tools};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What stands around and between the calls of one answer.
struct Frame {
    begin: &'static str,
    between: &'static str,
    end: &'static str,
}

fn frame(format: ToolFormat) -> Frame {
    let (begin, between, end) = match format {
        ToolFormat::Hermes | ToolFormat::QwenXml | ToolFormat::Plain => ("", "\n", ""),
        ToolFormat::DeepSeekV3 => ("<｜tool▁calls▁begin｜>", "\n", "<｜tool▁calls▁end｜>"),
        ToolFormat::DeepSeekV31 => ("<｜tool▁calls▁begin｜>", "", "<｜tool▁calls▁end｜>"),
        ToolFormat::DeepSeekV32 => ("<｜DSML｜function_calls>\n", "\n", "\n</｜DSML｜function_calls>"),
        ToolFormat::DeepSeekV4 => ("<｜DSML｜tool_calls>\n", "\n", "\n</｜DSML｜tool_calls>"),
        ToolFormat::Gemma4 | ToolFormat::FunctionGemma => ("", "", ""),
        ToolFormat::Llama => ("", "; ", ""),
        // One message, one call: the model waits for its result.
        ToolFormat::Harmony => ("", "", ""),
    };
    Frame { begin, between, end }
}

/// The grammar of an answer that calls tools.
pub(super) fn grammar(
    format: ToolFormat,
    tools: &Tools,
    beside: &Beside,
    parallel: bool,
    tokenizer: &Tokenizer,
) -> Result<String, ConstraintError> {
    if tools.is_empty() {
        return Err(ConstraintError::Format { reason: "there are no tools".into() });
    }
    let mut rules = Rules { text: String::new(), tokenizer, count: 0 };
    let calls: Vec<String> = tools.iter().map(|tool| rules.call(format, tool)).collect();
    rules.rule("call", &calls.join(" | "));
    let frame = frame(format);
    let [begin, between, end] = [frame.begin, frame.between, frame.end].map(|text| markup(tokenizer, text));
    let more =
        if parallel && format != ToolFormat::Harmony { format!("({between} call)*") } else { String::new() };
    rules.rule("calls", &format!("{begin} call {more} {end}"));
    let only = matches!(beside, Beside::Only(_));
    let text = if only { format!("@{BODY}") } else { "TEXT".to_owned() };
    let start = match (beside, format) {
        (Beside::Nothing, _) => "calls".to_owned(),
        (_, ToolFormat::Harmony) => {
            let preamble = markup(tokenizer, "<|channel|>commentary<|message|>");
            let next = markup(tokenizer, "<|end|><|start|>assistant");
            let answer = markup(tokenizer, "<|channel|>final<|message|>");
            format!("({preamble} TEXT {next})? calls | {answer} {text}")
        }
        (_, _) => {
            // Text ends where a token begins a call that is not text.
            let first = if begin.is_empty() { &calls[0] } else { &begin };
            if !first.starts_with("<[") {
                let reason =
                    "this model has no token of its own that begins a call, so they can only be required"
                        .into();
                return Err(ConstraintError::Format { reason });
            }
            if only { format!("calls | {text}") } else { "TEXT | TEXT calls".to_owned() }
        }
    };
    rules.rule("start", &start);
    rules.text.push_str("TEXT: /(?s:.*)/\n");
    Ok(rules.text)
}

/// Markup as a sequence of a grammar: control tokens by id, the rest as text.
pub(super) fn markup(tokenizer: &Tokenizer, text: &str) -> String {
    let mut items = Vec::new();
    let mut done = 0;
    for (range, id) in tokenizer.markers_in(text) {
        if range.start > done {
            items.push(quote(&text[done..range.start]));
        }
        items.push(format!("<[{id}]>"));
        done = range.end;
    }
    if done < text.len() {
        items.push(quote(&text[done..]));
    }
    items.join(" ")
}

/// A grammar in the making.
pub(super) struct Rules<'t> {
    text: String,
    pub(super) tokenizer: &'t Tokenizer,
    count: usize,
}

impl Rules<'_> {
    pub(super) fn rule(&mut self, name: &str, body: &str) {
        let _ = writeln!(self.text, "{name}: {body}");
    }

    /// A name that no other rule has.
    pub(super) fn name(&mut self) -> String {
        self.count += 1;
        format!("r{}", self.count)
    }

    fn markup(&self, text: &str) -> String {
        markup(self.tokenizer, text)
    }

    /// JSON of a schema of a tool.
    fn json(&mut self, schema: Value, tool: &Tool) -> String {
        let name = self.name();
        self.rule(&name, &format!("%json {}", bounded(schema, tool.strict)));
        name
    }

    /// Text up to `end`, which is part of it.
    pub(super) fn text_until(&mut self, end: &str) -> String {
        let name = self.name();
        let markers = self.tokenizer.markers_in(end);
        match markers.first() {
            None => {
                let _ = writeln!(self.text, "{name}[suffix={}]: /(?s:.*)/", quote(end));
            }
            // No text holds a control token, so the text before it is all that has to be looked for.
            Some((range, _)) => {
                let (before, rest) = end.split_at(range.start);
                let upper = name.to_uppercase();
                let _ = writeln!(self.text, "{upper}: /(?s:.*){}/", before.replace('/', "\\/"));
                let rest = self.markup(rest);
                self.rule(&name, &format!("{upper} {rest}"));
            }
        }
        name
    }

    /// One call of a tool, as a sequence.
    fn call(&mut self, format: ToolFormat, tool: &Tool) -> String {
        let name = quote(&tool.name);
        let in_json = |key: &str| quote(&format!("{{\"name\": {name}, \"{key}\": "));
        match format {
            ToolFormat::Hermes => {
                let (begin, head) =
                    (self.markup("<tool_call>"), quote(&format!("\n{{\"name\": {name}, \"arguments\": ")));
                let arguments = self.json(arguments(tool), tool);
                let end = self.markup("}\n</tool_call>");
                format!("{begin} {head} {arguments} {end}")
            }
            ToolFormat::QwenXml => {
                let begin = self.markup("<tool_call>\n<function=");
                let parameters = self.elements(tool, &QWEN);
                let end = self.markup("</function>\n</tool_call>");
                format!("{begin} {name} \">\\n\" {parameters} {end}")
            }
            ToolFormat::DeepSeekV3 => {
                let begin = self.markup("<｜tool▁call▁begin｜>function<｜tool▁sep｜>");
                let arguments = self.json(arguments(tool), tool);
                let end = self.markup("\n```<｜tool▁call▁end｜>");
                format!("{begin} {name} \"\\n```json\\n\" {arguments} {end}")
            }
            ToolFormat::DeepSeekV31 => {
                let [begin, separator] =
                    ["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"].map(|text| self.markup(text));
                let arguments = self.json(arguments(tool), tool);
                let end = self.markup("<｜tool▁call▁end｜>");
                format!("{begin} {name} {separator} {arguments} {end}")
            }
            ToolFormat::DeepSeekV32 | ToolFormat::DeepSeekV4 => {
                let begin = self.markup("<｜DSML｜invoke name=\"");
                let parameters = self.elements(tool, &DSML);
                let end = self.markup("</｜DSML｜invoke>");
                format!("{begin} {name} \"\\\">\\n\" {parameters} {end}")
            }
            ToolFormat::Gemma4 => self.literal(tool, "<|tool_call>call:", "<|\"|>", "<tool_call|>"),
            ToolFormat::FunctionGemma => {
                self.literal(tool, "<start_function_call>call:", "<escape>", "<end_function_call>")
            }
            ToolFormat::Harmony => {
                let begin = self.markup("<|channel|>commentary to=functions.");
                let middle = self.markup(" <|constrain|>json<|message|>");
                let arguments = self.json(arguments(tool), tool);
                format!("{begin} {name} {middle} {arguments}")
            }
            ToolFormat::Llama | ToolFormat::Plain => {
                let head = in_json(if format == ToolFormat::Llama { "parameters" } else { "arguments" });
                let arguments = self.json(arguments(tool), tool);
                format!("{head} {arguments} \"}}\"")
            }
        }
    }

    fn literal(&mut self, tool: &Tool, begin: &str, mark: &'static str, end: &str) -> String {
        let [begin, end] = [begin, end].map(|text| self.markup(text));
        let object = Literal::new(self, mark, &tool.parameters).object(&arguments(tool));
        format!("{begin} {} {object} {end}", quote(&tool.name))
    }

    /// The parameters of a tool as elements, in the order of the schema.
    fn elements(&mut self, tool: &Tool, style: &Elements) -> String {
        let properties = tool.parameters.get("properties").and_then(Value::as_object);
        let required = |key: &str| {
            let names = tool.parameters.get("required").and_then(Value::as_array);
            names.into_iter().flatten().any(|name| name == key)
        };
        let mut sequence = Vec::new();
        for (key, schema) in properties.into_iter().flatten() {
            let types = tool.types(key);
            let text = types.only_text() || types.string_too();
            let head = [style.open, if text { style.text } else { style.json }].map(|text| self.markup(text));
            let choices = schema.get("enum").and_then(Value::as_array).filter(|_| text);
            let value = match choices {
                Some(choices) => {
                    let choices: Vec<String> = choices
                        .iter()
                        .map(|c| quote(&c.as_str().map_or(c.to_string(), str::to_owned)))
                        .collect();
                    format!("({}) {}", choices.join(" | "), self.markup(style.close))
                }
                None if text => self.text_until(style.close),
                None => {
                    let json = self.json(with_definitions(schema, &tool.parameters), tool);
                    format!("{json} {}", self.markup(style.close))
                }
            };
            let element = format!("{} {} {} {value}", head[0], quote(key), head[1]);
            sequence.push(if required(key) { element } else { format!("({element})?") });
        }
        sequence.join(" ")
    }
}

/// How parameters are spelled as elements.
struct Elements {
    open: &'static str,
    /// Behind the name of a parameter whose value is text.
    text: &'static str,
    /// Behind the name of one whose value is JSON.
    json: &'static str,
    close: &'static str,
}

const QWEN: Elements = Elements { open: "<parameter=", text: ">\n", json: ">\n", close: "\n</parameter>\n" };
const DSML: Elements = Elements {
    open: "<｜DSML｜parameter name=\"",
    text: "\" string=\"true\">",
    json: "\" string=\"false\">",
    close: "</｜DSML｜parameter>\n",
};

/// The schema of all arguments of a tool: an object, and with no keys but those it names, unless it says otherwise.
fn arguments(tool: &Tool) -> Value {
    let mut schema = closed(&tool.parameters);
    if let Some(map) = schema.as_object_mut() {
        map.entry("type").or_insert_with(|| json!("object"));
    }
    schema
}

/// A part of a schema with the definitions that it may refer to.
fn with_definitions(part: &Value, root: &Value) -> Value {
    let mut part = part.as_object().cloned().unwrap_or_else(Map::new);
    for key in ["$defs", "definitions"] {
        if let Some(definitions) = root.get(key) {
            part.entry(key).or_insert_with(|| definitions.clone());
        }
    }
    Value::Object(part)
}
