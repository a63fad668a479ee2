//! The inside of a call, from its arguments to its end.

use super::elements::Elements;
use super::event::{Events, OutputEvent, OutputWarning};
use super::held::{Begins, Held, begins, begins_with_any, may_begin};
use super::mender::{Dialect, Mender, Progress};
use super::tools::Tool;

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was read: go on.
    Again,
    /// More text is needed.
    More,
    /// The call is over, markup included.
    Over,
}

/// A call whose start was told.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) index: usize,
    pub(super) tool: Option<Tool>,
    /// It is in a list, so that more may follow behind a comma.
    pub(super) list: bool,
    pub(super) body: Body,
}

/// How the arguments are written.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Json(JsonBody),
    Elements(Elements),
}

impl Call {
    /// One move.
    pub(super) fn step(&mut self, held: &mut Held, events: &mut Events) -> Step {
        match &mut self.body {
            Body::Json(body) => body.step(self.index, held, events),
            Body::Elements(body) => body.step(self.index, self.tool.as_ref(), held, events),
        }
    }
}

/// Tells the end of a call, with the reason if it is not a good one.
pub(super) fn end(index: usize, warning: Option<OutputWarning>, complete: bool, events: &mut Events) {
    if let Some(warning) = warning {
        events.warn(warning);
    }
    events.push(OutputEvent::CallEnd { index, complete });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Arguments,
    /// What is left of the objects around the arguments.
    Around,
    /// White space, the end of a fence, the closing marker.
    Close,
}

/// Arguments in JSON or something like it.
#[derive(Clone, Debug)]
pub(super) struct JsonBody {
    mender: Mender,
    stage: Stage,
    /// Arguments that came before the name.
    before: Option<String>,
    /// Arguments that are no object are kept back until they are complete.
    kept: Option<String>,
    begun: bool,
    /// How many brackets around the arguments are open.
    depth: usize,
    quoted: bool,
    escaped: bool,
    fenced: bool,
    /// Any of these closes the call.
    close: &'static [&'static str],
}

impl JsonBody {
    pub(super) fn new(dialect: Dialect, close: &'static [&'static str]) -> Self {
        Self {
            mender: Mender::new(dialect),
            stage: Stage::Arguments,
            before: None,
            kept: None,
            begun: false,
            depth: 0,
            quoted: false,
            escaped: false,
            fenced: false,
            close,
        }
    }

    /// Says what is open around the arguments.
    pub(super) fn around(&mut self, depth: usize, fenced: bool) {
        self.depth = depth;
        self.fenced = fenced;
    }

    /// The arguments are known already.
    pub(super) fn arguments_before(&mut self, arguments: String) {
        self.before = Some(arguments);
    }

    fn step(&mut self, index: usize, held: &mut Held, events: &mut Events) -> Step {
        match self.stage {
            Stage::Arguments => self.arguments(index, held, events),
            Stage::Around => self.objects_around(held, events),
            Stage::Close => self.closing(held, events),
        }
    }

    fn arguments(&mut self, index: usize, held: &mut Held, events: &mut Events) -> Step {
        let mut json = String::new();
        let progress = match self.before.take() {
            Some(before) => {
                self.begin(&before, &mut json);
                self.mender.push(&before, true, &mut json).1
            }
            None => {
                if !self.begun {
                    let blank = held.blank();
                    events.markup(held.take(blank));
                    if held.is_empty() && !held.ended {
                        return Step::More;
                    }
                    self.begin(held.rest(), &mut json);
                }
                let (bytes, progress) = self.mender.push(held.rest(), held.ended, &mut json);
                events.markup(held.take(bytes));
                progress
            }
        };
        match &mut self.kept {
            Some(kept) => kept.push_str(&json),
            None => events.arguments(index, json),
        }
        match progress {
            Progress::More => return Step::More,
            Progress::Done => self.done(index, events),
            Progress::Broken => {
                end(index, Some(OutputWarning::BrokenArguments { index }), false, events);
                return Step::Over;
            }
            Progress::Unfinished => {
                let rest = held.rest().len();
                events.markup(held.take(rest));
                end(index, Some(OutputWarning::UnfinishedCall { index }), false, events);
                return Step::Over;
            }
        }
        self.stage = if self.depth > 0 { Stage::Around } else { Stage::Close };
        Step::Again
    }

    fn begin(&mut self, text: &str, json: &mut String) {
        self.begun = true;
        json.push_str(self.mender.prologue());
        if json.is_empty() && !text.starts_with('{') {
            self.kept = Some(String::new());
        }
    }

    fn done(&mut self, index: usize, events: &mut Events) {
        if self.mender.mended() {
            events.warn(OutputWarning::MendedArguments { index });
        }
        if let Some(kept) = self.kept.take() {
            match object_in(&kept) {
                Some(object) => events.arguments(index, object),
                None => {
                    events.warn(OutputWarning::ArgumentsNoObject { index });
                    events.arguments(index, kept);
                }
            }
        }
        end(index, None, true, events);
    }

    /// Passes what is left of the objects around the arguments; a closing marker ends them early.
    fn objects_around(&mut self, held: &mut Held, events: &mut Events) -> Step {
        let mut bytes = 0;
        let mut step = Step::Again;
        for (at, c) in held.rest().char_indices() {
            let rest = &held.rest()[at..];
            if !self.quoted && c == '<' {
                if begins_with_any(rest, self.close, true).is_some() {
                    self.depth = 0;
                } else if may_begin(rest, self.close, held.ended) {
                    step = Step::More;
                }
            }
            if self.depth == 0 || step == Step::More {
                break;
            }
            bytes = at + c.len_utf8();
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' if self.quoted => self.escaped = true,
                '"' => self.quoted = !self.quoted,
                '{' | '[' | '(' if !self.quoted => self.depth += 1,
                '}' | ']' | ')' if !self.quoted => self.depth -= 1,
                _ => {}
            }
        }
        events.markup(held.take(bytes));
        if self.depth == 0 {
            self.stage = Stage::Close;
            Step::Again
        } else if held.ended {
            let rest = held.rest().len();
            events.markup(held.take(rest));
            Step::Over
        } else {
            Step::More
        }
    }

    fn closing(&mut self, held: &mut Held, events: &mut Events) -> Step {
        const FENCE: &str = "```";
        let blank = held.blank();
        let text = &held.rest()[blank..];
        if text.is_empty() && !held.ended {
            return Step::More;
        }
        if self.fenced {
            match begins(text, FENCE, held.ended) {
                Begins::Yes => {
                    events.markup(held.take(blank + FENCE.len()));
                    self.fenced = false;
                    return Step::Again;
                }
                Begins::Perhaps => return Step::More,
                Begins::No => {}
            }
        }
        if !self.close.is_empty() && text.starts_with('}') {
            events.markup(held.take(blank + 1));
            return Step::Again;
        }
        if let Some(marker) = begins_with_any(text, self.close, held.ended) {
            events.markup(held.take(blank + marker.len()));
            return Step::Over;
        }
        if may_begin(text, self.close, held.ended) { Step::More } else { Step::Over }
    }
}

/// The object in a JSON value that is none itself: in a string, or empty.
fn object_in(json: &str) -> Option<String> {
    match serde_json::from_str(json).ok()? {
        serde_json::Value::Null => Some("{}".into()),
        serde_json::Value::String(text) if text.trim().is_empty() => Some("{}".into()),
        serde_json::Value::String(text) if text.trim_start().starts_with('{') => {
            let mut object = String::new();
            let (bytes, progress) = Mender::new(Dialect::Json).push(text.trim(), true, &mut object);
            (progress == Progress::Done && bytes == text.trim().len()).then_some(object)
        }
        _ => None,
    }
}
