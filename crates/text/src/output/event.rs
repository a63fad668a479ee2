//! What a parser makes of output.

use std::fmt;

/// Something that an output says. The texts of [`OutputEvent::Reasoning`], [`OutputEvent::Content`] and
/// [`OutputEvent::Markup`] in a row are the output, character by character; the other events say what the markup means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputEvent {
    /// Thought, not meant for the reader. Never empty.
    Reasoning(String),
    /// Meant for the reader. Never empty.
    Content(String),
    /// Tags, calls, and the white space around them: shown to nobody, kept so that nothing is lost. Never empty.
    Markup(String),
    /// A closing tag that nothing opened: the content so far was reasoning.
    ContentWasReasoning,
    /// A call begins. Calls come one after another, numbered from 0.
    CallStart {
        /// Which call of this output.
        index: usize,
        /// The id, where the model wrote one itself.
        id: Option<String>,
        /// The name of the tool.
        name: String,
    },
    /// More of the arguments. All pieces of a complete call together are one JSON value.
    CallArguments {
        /// Which call.
        index: usize,
        /// JSON text, never empty.
        json: String,
    },
    /// The call is over.
    CallEnd {
        /// Which call.
        index: usize,
        /// Its arguments are a whole JSON value. A call that is not complete must not be carried out.
        complete: bool,
    },
    /// Something is not as the format wants it.
    Warning(OutputWarning),
}

/// Why an output is not quite what its format wants. None of these loses text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputWarning {
    /// Markup that begins a call is followed by something else; it was kept as text.
    NotACall,
    /// A call of a tool that the request does not offer.
    UnknownTool {
        /// The name.
        name: String,
    },
    /// The arguments stopped being JSON; what followed was kept as text.
    BrokenArguments {
        /// Which call.
        index: usize,
    },
    /// The arguments were almost JSON and were mended.
    MendedArguments {
        /// Which call.
        index: usize,
    },
    /// The arguments are JSON, but not an object.
    ArgumentsNoObject {
        /// Which call.
        index: usize,
    },
    /// A parameter is not of the type that the schema wants, and was passed on as a string.
    WrongType {
        /// Which call.
        index: usize,
        /// The parameter.
        parameter: String,
    },
    /// The output ended inside a call.
    UnfinishedCall {
        /// Which call.
        index: usize,
    },
    /// A message header that says nothing known; its text was kept.
    OddHeader,
}

impl fmt::Display for OutputWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACall => f.write_str("what looks like a tool call is none, and was kept as text"),
            Self::UnknownTool { name } => {
                write!(f, "the model called {name:?}, which is not among the tools")
            }
            Self::BrokenArguments { index } => {
                write!(f, "the arguments of call {index} are not JSON; the rest was kept as text")
            }
            Self::MendedArguments { index } => {
                write!(f, "the arguments of call {index} were not quite JSON and were mended")
            }
            Self::ArgumentsNoObject { index } => {
                write!(f, "the arguments of call {index} are not a JSON object")
            }
            Self::WrongType { index, parameter } => {
                write!(f, "parameter {parameter:?} of call {index} is not of the type that its schema wants")
            }
            Self::UnfinishedCall { index } => write!(f, "the output ended inside call {index}"),
            Self::OddHeader => {
                f.write_str("a message header is not in the model's format; its text was kept")
            }
        }
    }
}

/// Events in order; neighbours of a kind are joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(pub(super) Vec<OutputEvent>);

impl Events {
    pub(super) fn markup(&mut self, text: &str) {
        self.text(text, OutputEvent::Markup);
    }

    /// A text of the given kind; nothing if it is empty.
    pub(super) fn text(&mut self, text: &str, kind: fn(String) -> OutputEvent) {
        if text.is_empty() {
            return;
        }
        let next = kind(text.to_owned());
        match (self.0.last_mut(), &next) {
            (Some(OutputEvent::Markup(last)), OutputEvent::Markup(_))
            | (Some(OutputEvent::Content(last)), OutputEvent::Content(_))
            | (Some(OutputEvent::Reasoning(last)), OutputEvent::Reasoning(_)) => last.push_str(text),
            _ => self.0.push(next),
        }
    }

    pub(super) fn arguments(&mut self, index: usize, json: String) {
        if !json.is_empty() {
            self.0.push(OutputEvent::CallArguments { index, json });
        }
    }

    pub(super) fn warn(&mut self, warning: OutputWarning) {
        self.0.push(OutputEvent::Warning(warning));
    }

    pub(super) fn push(&mut self, event: OutputEvent) {
        self.0.push(event);
    }
}
