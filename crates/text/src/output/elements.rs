//! Calls whose parameters are elements: `<parameter=KEY>VALUE</parameter>`.

use super::call::{Step, end};
use super::event::{Events, OutputWarning};
use super::held::{Begins, Held, begins, begins_with_any, may_begin};
use super::mender::escape_into;
use super::scan::{Scan, Stop};
use super::tools::{Tool, Types};

/// How the elements are spelled.
#[derive(Debug)]
pub(super) struct Syntax {
    /// Begins a function; its name and `>` follow.
    pub(super) function: &'static str,
    /// Any of these ends it.
    pub(super) function_close: &'static [&'static str],
    parameter: &'static str,
    parameter_close: &'static str,
    /// What may stand behind a whole function.
    after: &'static [&'static str],
    /// A value is on lines of its own: one line break before it and one after it do not belong to it.
    lines: bool,
}

impl Syntax {
    /// Qwen3-Coder, Qwen3.5.
    pub(super) const QWEN: Self = Self {
        function: "<function=",
        function_close: &["</function>"],
        parameter: "<parameter=",
        parameter_close: "</parameter>",
        after: &["</tool_call>", "<tool_call>", "<function="],
        lines: true,
    };
    /// DeepSeek V3.2 and V4.
    pub(super) const DSML: Self = Self {
        function: "<｜DSML｜invoke",
        function_close: &["</｜DSML｜invoke>"],
        parameter: "<｜DSML｜parameter",
        parameter_close: "</｜DSML｜parameter>",
        after: &["</｜DSML｜tool_calls>", "</｜DSML｜function_calls>", "<｜DSML｜invoke"],
        lines: false,
    };

    /// The name in the head of an element: `NAME`, `"NAME"` or `name="NAME"`.
    pub(super) fn name<'h>(&self, head: &'h str) -> &'h str {
        attribute(head, "name").unwrap_or(head).trim().trim_matches(['"', '\''])
    }
}

/// The value of `key=` in the head of an element.
fn attribute<'h>(head: &'h str, key: &str) -> Option<&'h str> {
    let at = head.match_indices(key).map(|(at, _)| at + key.len());
    let value = at.into_iter().find_map(|at| head[at..].trim_start().strip_prefix('='))?.trim_start();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next(),
        _ => value.split_whitespace().next(),
    }
}

#[derive(Clone, Debug)]
struct Parameter {
    name: String,
    types: Types,
    /// The value so far, where it cannot be told before it is complete.
    kept: Option<String>,
    /// Nothing of the value was read yet.
    fresh: bool,
}

/// The parameters of a call.
#[derive(Clone, Debug)]
pub(super) struct Elements {
    syntax: &'static Syntax,
    parameter: Option<Parameter>,
    /// Names so far; more than one value for a name makes no object.
    seen: Vec<String>,
}

/// No head of an element is longer.
const MAX_HEAD: usize = 512;

/// Where a value ends.
enum Ending {
    /// The value has `value` bytes, and the markup ends at `markup`.
    At { value: usize, markup: usize },
    /// The first bytes belong to the value for certain.
    After(usize),
}

impl Elements {
    pub(super) fn new(syntax: &'static Syntax) -> Self {
        Self { syntax, parameter: None, seen: Vec::new() }
    }

    pub(super) fn step(
        &mut self,
        index: usize,
        tool: Option<&Tool>,
        held: &mut Held,
        events: &mut Events,
    ) -> Step {
        if self.parameter.is_some() {
            self.value(index, tool, held, events)
        } else {
            self.between(index, tool, held, events)
        }
    }

    /// Between parameters.
    fn between(&mut self, index: usize, tool: Option<&Tool>, held: &mut Held, events: &mut Events) -> Step {
        let blank = held.blank();
        let text = &held.rest()[blank..];
        if text.is_empty() && !held.ended {
            return Step::More;
        }
        if let Some(close) = begins_with_any(text, self.syntax.function_close, held.ended) {
            events.markup(held.take(blank + close.len()));
            return self.finish(index, events);
        }
        if begins_with_any(text, self.syntax.after, held.ended).is_some() || text.is_empty() {
            return self.finish(index, events);
        }
        match self.head(text, held.ended) {
            Ok((bytes, name, types)) => {
                let schema = tool.map_or(Types::default(), |t| t.types(&name));
                let types = types.filter(|said| {
                    schema == Types::default() || *said != Types::STRING || schema.string_too()
                });
                let types = types.unwrap_or(schema);
                let mut json = String::from(if self.seen.is_empty() { "{" } else { ", " });
                json.push('"');
                escape_into(&name, &mut json);
                json.push_str("\": ");
                let kept = (!types.only_text()).then(String::new);
                if kept.is_none() {
                    json.push('"');
                }
                events.markup(held.take(blank + bytes));
                events.arguments(index, json);
                self.seen.push(name.clone());
                self.parameter = Some(Parameter { name, types, kept, fresh: true });
                Step::Again
            }
            Err(Stop::More) => Step::More,
            Err(Stop::No) if may_begin(text, self.syntax.function_close, held.ended) => Step::More,
            Err(Stop::No) if may_begin(text, self.syntax.after, held.ended) => Step::More,
            Err(Stop::No) => {
                end(index, Some(OutputWarning::BrokenArguments { index }), false, events);
                Step::Over
            }
        }
    }

    /// The head of a parameter: its bytes, the name, and the types if it says them itself.
    fn head(&self, text: &str, ended: bool) -> Result<(usize, String, Option<Types>), Stop> {
        let mut scan = Scan::new(text, ended);
        scan.expect(self.syntax.parameter)?;
        let head = scan.until(">")?;
        let name = self.syntax.name(head);
        if name.is_empty() || head.contains(['<', '\n']) || self.seen.iter().any(|seen| seen == name) {
            return Err(Stop::No);
        }
        let types = match attribute(head, "string") {
            Some("true") => Some(Types::STRING),
            Some("false") => Some(Types::JSON),
            _ => None,
        };
        Ok((scan.at(), name.to_owned(), types))
    }

    fn value(&mut self, index: usize, tool: Option<&Tool>, held: &mut Held, events: &mut Events) -> Step {
        let Some(parameter) = &mut self.parameter else { return Step::Again };
        if parameter.fresh && self.syntax.lines {
            let text = held.rest();
            if !held.ended && (text.is_empty() || text == "\r") {
                return Step::More;
            }
            let line_break = ["\r\n", "\n"].into_iter().find(|b| text.starts_with(b)).map_or(0, str::len);
            events.markup(held.take(line_break));
        }
        parameter.fresh = false;
        let ending = ending(self.syntax, &self.seen, tool, held.rest(), held.ended);
        let bytes = match ending {
            Ending::At { value, .. } | Ending::After(value) => value,
        };
        let text = held.take(bytes).to_owned();
        events.markup(&text);
        match &mut parameter.kept {
            Some(kept) => kept.push_str(&text),
            None => {
                let mut json = String::new();
                escape_into(&text, &mut json);
                events.arguments(index, json);
            }
        }
        match ending {
            Ending::At { value, markup } => {
                events.markup(held.take(markup - value));
                self.close_parameter(index, events);
                Step::Again
            }
            Ending::After(_) if held.ended => {
                let rest = held.rest().len();
                events.markup(held.take(rest));
                end(index, Some(OutputWarning::UnfinishedCall { index }), false, events);
                Step::Over
            }
            Ending::After(_) => Step::More,
        }
    }

    fn close_parameter(&mut self, index: usize, events: &mut Events) {
        let Some(parameter) = self.parameter.take() else { return };
        let Some(kept) = parameter.kept else { return events.arguments(index, "\"".into()) };
        let json = parameter.types.read(&kept).unwrap_or_else(|| {
            if !parameter.types.string_too() {
                events.warn(OutputWarning::WrongType { index, parameter: parameter.name });
            }
            let mut json = String::from("\"");
            escape_into(&kept, &mut json);
            json.push('"');
            json
        });
        events.arguments(index, json);
    }

    fn finish(&mut self, index: usize, events: &mut Events) -> Step {
        events.arguments(index, if self.seen.is_empty() { "{}".into() } else { "}".into() });
        end(index, None, true, events);
        Step::Over
    }
}

/// Looks for the end of a value. A closing tag ends it only if something follows that can follow: values may well be texts about
/// such tags. Where the closing tag is missing, the end of the function or the next parameter of the schema ends it.
fn ending(syntax: &Syntax, seen: &[String], tool: Option<&Tool>, text: &str, ended: bool) -> Ending {
    for (at, _) in text.match_indices('<') {
        let value = without_break(syntax, &text[..at]);
        match ends_here(syntax, seen, tool, text, at, ended) {
            Ok(markup) => return Ending::At { value, markup },
            Err(Stop::More) => return Ending::After(value),
            Err(Stop::No) => {}
        }
    }
    Ending::After(if ended { text.len() } else { without_break(syntax, text) })
}

/// Whether a value ends before the `<` at `at`, and where the markup that closes it ends.
fn ends_here(
    syntax: &Syntax,
    seen: &[String],
    tool: Option<&Tool>,
    text: &str,
    at: usize,
    ended: bool,
) -> Result<usize, Stop> {
    let tag = &text[at..];
    let followed = |rest: &str, by: &[&[&'static str]]| {
        let rest = rest.trim_start();
        let markers = || by.iter().copied().flatten().copied();
        if (rest.is_empty() && ended) || markers().any(|m| begins(rest, m, ended) == Begins::Yes) {
            Ok(())
        } else if markers().any(|m| begins(rest, m, ended) == Begins::Perhaps) {
            Err(Stop::More)
        } else {
            Err(Stop::No)
        }
    };
    match begins(tag, syntax.parameter_close, ended) {
        Begins::Perhaps => return Err(Stop::More),
        Begins::Yes => {
            let close = syntax.parameter_close.len();
            followed(&tag[close..], &[&[syntax.parameter], syntax.function_close, syntax.after])?;
            return Ok(at + close);
        }
        Begins::No => {}
    }
    for function_close in syntax.function_close {
        match begins(tag, function_close, ended) {
            Begins::Perhaps => return Err(Stop::More),
            Begins::Yes => return followed(&tag[function_close.len()..], &[syntax.after]).map(|()| at),
            Begins::No => {}
        }
    }
    let mut scan = Scan::new(tag, ended);
    if !scan.accept(syntax.parameter)? {
        return Err(Stop::No);
    }
    if tag.len() > MAX_HEAD && !tag.as_bytes()[..MAX_HEAD].contains(&b'>') {
        return Err(Stop::No);
    }
    let own_line = text[..at].ends_with('\n') || !syntax.lines;
    let name = syntax.name(scan.until(">")?);
    let next = own_line && tool.is_some_and(|t| t.has(name)) && !seen.iter().any(|seen| seen == name);
    if next { Ok(at) } else { Err(Stop::No) }
}

/// The length of `text` without the line break at its end that stands before a closing tag.
fn without_break(syntax: &Syntax, text: &str) -> usize {
    match (syntax.lines, text.strip_suffix('\n')) {
        (true, Some(line)) => line.strip_suffix('\r').unwrap_or(line).len(),
        (true, None) => text.strip_suffix('\r').unwrap_or(text).len(),
        (false, _) => text.len(),
    }
}
