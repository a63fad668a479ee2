//! Harmony, the format of gpt-oss: messages with a header that names a channel and a recipient.

use super::call::{Body, Call, JsonBody, Step};
use super::event::{Events, OutputEvent, OutputWarning};
use super::held::{Begins, Held, begins, begins_with_any, may_begin};
use super::mender::Dialect;
use super::tools::Tools;
use crate::reasoning::Start;

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const CONSTRAIN: &str = "<|constrain|>";
/// Any of these ends a message; the first three belong to it.
const ENDS: [&str; 5] = ["<|end|>", "<|return|>", "<|call|>", START, CHANNEL];
const CALL_ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];
/// No header is longer.
const MAX_HEADER: usize = 512;

#[derive(Clone, Debug)]
enum Mode {
    /// Between messages; at the very beginning a role is already said.
    Between {
        first: bool,
    },
    Header,
    Text(fn(String) -> OutputEvent),
    /// A call whose arguments have not begun.
    CallWanted(String),
    Call(Box<Call>),
}

#[derive(Clone, Debug)]
pub(super) struct Harmony {
    tools: Option<Tools>,
    pub(super) held: Held,
    mode: Mode,
    calls: usize,
}

/// What a header says.
struct Header<'h> {
    channel: &'h str,
    recipient: Option<&'h str>,
    /// What is left when everything known is taken away.
    rest: &'h str,
    /// It is the result of a tool, which only a tool may write.
    of_tool: bool,
}

impl Harmony {
    pub(super) fn new(start: Start, tools: Option<Tools>) -> Self {
        let mode = match start {
            Start::Inside => Mode::Text(OutputEvent::Reasoning),
            Start::Either => Mode::Between { first: true },
            Start::Answer => Mode::Text(OutputEvent::Content),
        };
        Self { tools, held: Held::default(), mode, calls: 0 }
    }

    pub(super) fn in_reasoning(&self) -> bool {
        match self.mode {
            Mode::Text(kind) => matches!(kind(String::new()), OutputEvent::Reasoning(_)),
            _ => false,
        }
    }

    pub(super) fn run(&mut self, events: &mut Events) {
        let waiting = |mode: &Mode| matches!(mode, Mode::Call(_) | Mode::CallWanted(_));
        while !self.held.is_empty() || (self.held.ended && waiting(&self.mode)) {
            if !self.step(events) {
                return;
            }
        }
    }

    fn step(&mut self, events: &mut Events) -> bool {
        match &mut self.mode {
            Mode::Between { first } => {
                let first = *first;
                self.between(first, events)
            }
            Mode::Header => self.header(events),
            Mode::Text(kind) => {
                let kind = *kind;
                self.text(kind, events)
            }
            Mode::CallWanted(name) => {
                let name = name.clone();
                self.call_wanted(name, events)
            }
            Mode::Call(call) => match call.step(&mut self.held, events) {
                Step::Again => true,
                Step::More => false,
                Step::Over => {
                    self.mode = Mode::Between { first: false };
                    true
                }
            },
        }
    }

    fn between(&mut self, first: bool, events: &mut Events) -> bool {
        let ended = self.held.ended;
        let blank = self.held.blank();
        let text = &self.held.rest()[blank..];
        if text.is_empty() {
            if ended {
                events.markup(self.held.take(blank));
            }
            return false;
        }
        if let Some(end) = begins_with_any(text, &CALL_ENDS, ended) {
            events.markup(self.held.take(blank + end.len()));
            return true;
        }
        // The prompt says the role of the first message, so a recipient may come at once.
        let headers: &[&'static str] =
            if first { &[START, CHANNEL, MESSAGE, CONSTRAIN, "to="] } else { &[START, CHANNEL] };
        if begins_with_any(text, headers, ended).is_some() {
            self.mode = Mode::Header;
            return true;
        }
        if may_begin(text, headers, ended) || may_begin(text, &CALL_ENDS, ended) {
            return false;
        }
        if !first {
            events.markup(self.held.take(blank));
            events.warn(OutputWarning::OddHeader);
        }
        self.mode = Mode::Text(OutputEvent::Content);
        true
    }

    fn header(&mut self, events: &mut Events) -> bool {
        let held = self.held.rest();
        let text = &held[..held.floor_char_boundary(MAX_HEADER)];
        let blank = text.len() - text.trim_start().len();
        let message = text.find(MESSAGE);
        let broken = CALL_ENDS.iter().filter_map(|end| text.find(end)).min();
        let broken = [broken, text[blank..].find('\n').map(|n| n + blank)].into_iter().flatten().min();
        let end = match (message, broken) {
            (Some(message), broken) if broken.is_none_or(|b| message < b) => message,
            (_, Some(broken)) => broken,
            _ if self.held.ended || held.len() > MAX_HEADER => text.len(),
            _ => return false,
        };
        let whole = text[end..].starts_with(MESSAGE);
        let header = Header::read(&text[..end]);
        let recipient = header.recipient.map(str::to_owned);
        let kind: fn(String) -> OutputEvent =
            if header.channel == "analysis" { OutputEvent::Reasoning } else { OutputEvent::Content };
        let known = matches!(header.channel, "analysis" | "commentary" | "final") && !header.of_tool;
        let rest = header.rest.trim();
        // After the recipient of a call comes the type of its arguments, with its marker or without.
        let typed =
            rest.is_empty() || (recipient.is_some() && rest.bytes().all(|b| b.is_ascii_alphanumeric()));
        // Where the message marker is missing, what is left over is the beginning of the message.
        let left = if whole || rest.is_empty() { 0 } else { header.rest.len() };
        let call = recipient.and_then(|r| self.tool_of(&r));
        let to_tool = header.channel.is_empty() && call.is_some();
        if !(whole && (known && typed || to_tool)) {
            events.warn(OutputWarning::OddHeader);
        }
        events.markup(self.held.take(end - left));
        let after = if whole { MESSAGE.len() } else { 0 };
        events.markup(self.held.take(after));
        self.mode = match call {
            Some(name) => Mode::CallWanted(name),
            None => Mode::Text(kind),
        };
        true
    }

    /// The tool that a recipient stands for; none if it is no tool.
    fn tool_of(&self, recipient: &str) -> Option<String> {
        let tools = self.tools.as_ref()?;
        match recipient.strip_prefix("functions.") {
            Some(name) if !name.is_empty() => Some(name.to_owned()),
            _ => tools.get(recipient).map(|tool| tool.name.clone()),
        }
    }

    fn text(&mut self, kind: fn(String) -> OutputEvent, events: &mut Events) -> bool {
        let text = self.held.rest();
        for (at, _) in text.match_indices('<') {
            let tag = &text[at..];
            for end in ENDS {
                match begins(tag, end, self.held.ended) {
                    Begins::Yes => {
                        events.text(self.held.take(at), kind);
                        self.mode = Mode::Between { first: false };
                        return true;
                    }
                    Begins::Perhaps => {
                        events.text(self.held.take(at), kind);
                        return false;
                    }
                    Begins::No => {}
                }
            }
        }
        let all = text.len();
        events.text(self.held.take(all), kind);
        false
    }

    /// A message to a tool is a call if its text begins as JSON does, or is empty.
    fn call_wanted(&mut self, name: String, events: &mut Events) -> bool {
        let ended = self.held.ended;
        let blank = self.held.blank();
        let text = &self.held.rest()[blank..];
        if text.is_empty() && !ended {
            return false;
        }
        let empty = text.is_empty() || begins_with_any(text, &CALL_ENDS, ended).is_some();
        if !empty && may_begin(text, &CALL_ENDS, ended) {
            return false;
        }
        if !empty && !text.starts_with('{') {
            events.warn(OutputWarning::NotACall);
            self.mode = Mode::Text(OutputEvent::Content);
            return true;
        }
        let tool = self.tools.as_ref().and_then(|tools| tools.get(&name)).cloned();
        if tool.is_none() {
            events.warn(OutputWarning::UnknownTool { name: name.clone() });
        }
        let mut body = JsonBody::new(Dialect::Json, &CALL_ENDS);
        if empty {
            body.arguments_before("{}".into());
        }
        let index = self.calls;
        self.calls += 1;
        events.push(OutputEvent::CallStart { index, id: None, name });
        self.mode = Mode::Call(Box::new(Call { index, tool, list: false, body: Body::Json(body) }));
        true
    }
}

impl<'h> Header<'h> {
    fn read(text: &'h str) -> Self {
        let mut header = Self { channel: "", recipient: None, rest: text.trim_start(), of_tool: false };
        if let Some(after) = header.rest.strip_prefix(START) {
            let role = after.find(['<', ' ', '\n']).unwrap_or(after.len());
            header.of_tool = after[..role].starts_with("functions.");
            header.rest = &after[role..];
        }
        loop {
            let text = header.rest.trim_start();
            let word_end = |from: &str| from.find(['<', ' ', '\n']).unwrap_or(from.len());
            if let Some(after) = text.strip_prefix("to=") {
                let end = word_end(after);
                header.recipient = Some(&after[..end]);
                header.rest = &after[end..];
            } else if let Some(after) = text.strip_prefix(CHANNEL) {
                let after = after.trim_start_matches(' ');
                let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
                header.channel = &after[..end];
                header.rest = &after[end..];
            } else if let Some(after) = text.strip_prefix(CONSTRAIN) {
                header.rest = &after[word_end(after)..];
            } else {
                return header;
            }
        }
    }
}
