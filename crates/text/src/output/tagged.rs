//! Output in which tags tell reasoning and calls from content.

use super::call::{Call, Step};
use super::event::{Events, OutputEvent, OutputWarning};
use super::format::{Bare, OutputFormat, ToolFormat};
use super::held::{Begins, Held, begins, begins_with_any, may_begin};
use super::probe::{Found, Shape};
use super::scan::Stop;
use super::tools::Tools;
use crate::reasoning::Start;

#[derive(Clone, Debug)]
enum Mode {
    /// Only white space so far.
    Begin,
    /// Line breaks right after a tag belong to it.
    AfterTag,
    Text,
    Call(Box<Call>),
    AfterCall,
}

/// The parser of all formats but harmony.
#[derive(Clone, Debug)]
pub(super) struct Tagged {
    format: OutputFormat,
    /// None: calls are not looked for.
    tools: Option<Tools>,
    pub(super) held: Held,
    mode: Mode,
    reasoning: bool,
    /// A closing tag would still turn content into reasoning.
    late: bool,
    calls: usize,
    /// The last call was in a list.
    list: bool,
    /// Only white space since the last line break.
    line_start: bool,
    /// Something was said that is not white space.
    said: bool,
}

/// What stands at a place in text.
enum Sign {
    Close,
    Call(Box<Found>),
    /// Markup of this many bytes that begins no call.
    NotACall(usize),
    /// More text decides.
    Perhaps,
}

impl Tagged {
    pub(super) fn new(format: OutputFormat, start: Start, tools: Option<Tools>) -> Self {
        let start = if format.reasoning.is_some() { start } else { Start::Answer };
        let mode = match start {
            Start::Inside => Mode::AfterTag,
            Start::Either => Mode::Begin,
            Start::Answer => Mode::Text,
        };
        Self {
            format,
            tools,
            held: Held::default(),
            mode,
            reasoning: start == Start::Inside,
            late: start == Start::Either,
            calls: 0,
            list: false,
            line_start: true,
            said: false,
        }
    }

    pub(super) fn in_reasoning(&self) -> bool {
        self.reasoning && !matches!(self.mode, Mode::Call(_))
    }

    pub(super) fn run(&mut self, events: &mut Events) {
        while !self.held.is_empty() || (self.held.ended && matches!(self.mode, Mode::Call(_))) {
            if !self.step(events) {
                return;
            }
        }
    }

    /// One move; false when more text is needed.
    fn step(&mut self, events: &mut Events) -> bool {
        match &mut self.mode {
            Mode::Begin => self.begin(events),
            Mode::AfterTag => {
                let rest = self.held.rest();
                let breaks = rest.len() - rest.trim_start_matches(BREAKS).len();
                events.markup(self.held.take(breaks));
                self.mode = if self.held.is_empty() { Mode::AfterTag } else { Mode::Text };
                true
            }
            Mode::Text => self.text(events),
            Mode::Call(call) => match call.step(&mut self.held, events) {
                Step::Again => true,
                Step::More => false,
                Step::Over => {
                    self.list = call.list;
                    self.mode = Mode::AfterCall;
                    self.line_start = true;
                    true
                }
            },
            Mode::AfterCall => self.after_call(events),
        }
    }

    fn begin(&mut self, events: &mut Events) -> bool {
        let Some(tags) = self.format.reasoning else {
            self.mode = Mode::Text;
            return true;
        };
        let blank = self.held.blank();
        let text = &self.held.rest()[blank..];
        for (tag, reasoning) in [(tags.open, true), (tags.close, false)] {
            if begins(text, tag, self.held.ended) == Begins::Yes {
                events.markup(self.held.take(blank + tag.len()));
                self.reasoning = reasoning;
                self.late = false;
                self.mode = Mode::AfterTag;
                return true;
            }
        }
        if may_begin(text, &[tags.open, tags.close], self.held.ended) {
            return false;
        }
        self.mode = Mode::Text;
        true
    }

    fn text(&mut self, events: &mut Events) -> bool {
        let (at, sign) = match self.sign() {
            Some(found) => found,
            None => {
                let rest = self.held.rest();
                let end = if self.held.ended { rest.len() } else { rest.trim_end().len() };
                self.say(end, events);
                return false;
            }
        };
        let body = self.held.rest()[..at].trim_end().len();
        match sign {
            Sign::Perhaps => {
                self.say(body, events);
                false
            }
            Sign::NotACall(bytes) => {
                self.say(at + bytes, events);
                events.warn(OutputWarning::NotACall);
                true
            }
            Sign::Close => {
                let body = self.held.rest()[..at].trim_end_matches(BREAKS).len();
                self.say(body, events);
                let tag = self.format.reasoning.map_or("", |tags| tags.close);
                if !self.reasoning {
                    events.push(OutputEvent::ContentWasReasoning);
                }
                events.markup(self.held.take(at - body + tag.len()));
                self.reasoning = false;
                self.late = false;
                self.said = false;
                self.line_start = true;
                self.mode = Mode::AfterTag;
                true
            }
            Sign::Call(found) => {
                self.say(body, events);
                events.markup(self.held.take(at - body));
                self.start(*found, events);
                true
            }
        }
    }

    /// The first place in the held text where something may stand, and what.
    fn sign(&self) -> Option<(usize, Sign)> {
        let text = self.held.rest();
        let mut line_start = self.line_start;
        for (at, c) in text.char_indices() {
            let sign = match c {
                '<' => self.tag_at(&text[at..], line_start),
                '{' | '[' | '`' if line_start => self.bare_at(&text[at..], &text[..at]),
                _ => None,
            };
            if let Some(sign) = sign {
                return Some((at, sign));
            }
            line_start = c == '\n' || (line_start && c.is_whitespace());
        }
        None
    }

    fn tag_at(&self, text: &str, line_start: bool) -> Option<Sign> {
        let ended = self.held.ended;
        if let Some(tags) = self.format.reasoning.filter(|_| self.reasoning || (self.late && self.calls == 0))
        {
            match begins(text, tags.close, ended) {
                Begins::Yes => return Some(Sign::Close),
                Begins::Perhaps => return Some(Sign::Perhaps),
                Begins::No => {}
            }
        }
        self.tools.as_ref()?;
        for opener in self.format.tools.openers().iter().filter(|o| line_start || !o.line) {
            match begins(text, opener.text, ended) {
                Begins::Yes => {
                    return Some(match opener.shape.probe(text, ended, &|name| self.known(name)) {
                        // What a model only thinks of need not be meant as a call.
                        Ok(found) if self.reasoning && !self.known(&found.name) => {
                            Sign::NotACall(opener.text.len())
                        }
                        Ok(found) => Sign::Call(Box::new(found)),
                        Err(Stop::More) => Sign::Perhaps,
                        Err(Stop::No) => Sign::NotACall(opener.text.len()),
                    });
                }
                Begins::Perhaps => return Some(Sign::Perhaps),
                Begins::No => {}
            }
        }
        None
    }

    /// A call without markup at the beginning of a line.
    fn bare_at(&self, text: &str, before: &str) -> Option<Sign> {
        self.tools.as_ref()?;
        let allowed = match self.format.tools.bare() {
            Bare::Never => false,
            Bare::First => !self.said && before.trim().is_empty(),
            Bare::Lines => true,
        };
        if !allowed || self.reasoning {
            return None;
        }
        match Shape::Bare.probe(text, self.held.ended, &|name| self.known(name)) {
            Ok(found) => Some(Sign::Call(Box::new(found))),
            Err(Stop::More) => Some(Sign::Perhaps),
            Err(Stop::No) => None,
        }
    }

    fn known(&self, name: &str) -> bool {
        self.tools.as_ref().is_some_and(|tools| tools.get(name).is_some())
    }

    fn start(&mut self, found: Found, events: &mut Events) {
        events.markup(self.held.take(found.bytes));
        let tool = self.tools.as_ref().and_then(|tools| tools.get(&found.name)).cloned();
        if tool.is_none() {
            events.warn(OutputWarning::UnknownTool { name: found.name.clone() });
        }
        let index = self.calls;
        self.calls += 1;
        events.push(OutputEvent::CallStart { index, id: found.id, name: found.name });
        self.mode = Mode::Call(Box::new(Call { index, tool, list: found.list, body: found.body }));
    }

    /// White space and closing markup, or the next call of the same block.
    fn after_call(&mut self, events: &mut Events) -> bool {
        let ended = self.held.ended;
        let blank = self.held.blank();
        let text = &self.held.rest()[blank..];
        if text.is_empty() {
            if ended {
                events.markup(self.held.take(blank));
            }
            return false;
        }
        let closers = self.format.tools.closers();
        if let Some(closer) = begins_with_any(text, closers, ended) {
            events.markup(self.held.take(blank + closer.len()));
            return true;
        }
        if may_begin(text, closers, ended) {
            return false;
        }
        if self.list && text.starts_with([',', ']']) {
            self.list = !text.starts_with(']');
            events.markup(self.held.take(blank + 1));
            return true;
        }
        let shape = match (text.as_bytes()[0], self.format.tools) {
            (b'{', ToolFormat::Hermes | ToolFormat::QwenXml | ToolFormat::Llama | ToolFormat::Plain) => {
                Shape::Bare
            }
            (_, _) if self.list => Shape::NextInList,
            _ => {
                events.markup(self.held.take(blank));
                self.mode = Mode::Text;
                return true;
            }
        };
        match shape.probe(text, ended, &|name| self.known(name)) {
            Ok(mut found) => {
                found.list |= self.list;
                events.markup(self.held.take(blank));
                self.start(found, events);
                true
            }
            Err(Stop::More) => false,
            Err(Stop::No) => {
                events.markup(self.held.take(blank));
                self.mode = Mode::Text;
                true
            }
        }
    }

    /// Passes on text as what it is here.
    fn say(&mut self, bytes: usize, events: &mut Events) {
        let kind = if self.reasoning { OutputEvent::Reasoning } else { OutputEvent::Content };
        let text = self.held.take(bytes);
        self.said |= !text.trim().is_empty();
        for c in text.chars() {
            self.line_start = c == '\n' || (self.line_start && c.is_whitespace());
        }
        events.text(text, kind);
    }
}

const BREAKS: [char; 2] = ['\n', '\r'];
