//! What a model writes, sorted while it streams: reasoning, content, tool calls.

mod call;
mod elements;
mod event;
mod format;
mod harmony;
mod held;
mod mender;
mod probe;
mod scan;
mod tagged;
mod tools;

pub use event::{OutputEvent, OutputWarning};
pub use format::{OutputFormat, ToolFormat};
pub use tools::{Tool, Tools};

use crate::reasoning::Start;
use event::Events;
use harmony::Harmony;
use tagged::Tagged;

/// Sorts output into reasoning, content and tool calls. The result does not depend on how the output is cut into pushes, and
/// text that fits no format comes back as content.
#[derive(Clone, Debug)]
pub struct OutputParser(Machine);

#[derive(Clone, Debug)]
enum Machine {
    Tagged(Box<Tagged>),
    Harmony(Box<Harmony>),
}

impl OutputParser {
    /// A parser at the beginning of an output. With no `tools` (as opposed to an empty list) no calls are looked for.
    pub fn new(format: OutputFormat, start: Start, tools: Option<Tools>) -> Self {
        Self(match format.tools {
            ToolFormat::Harmony => Machine::Harmony(Box::new(Harmony::new(start, tools))),
            _ => Machine::Tagged(Box::new(Tagged::new(format, start, tools))),
        })
    }

    /// Takes the next text and gives the events that are certain now.
    pub fn push(&mut self, text: &str) -> Vec<OutputEvent> {
        let mut events = Events::default();
        match &mut self.0 {
            Machine::Tagged(parser) => {
                parser.held.push(text);
                parser.run(&mut events);
            }
            Machine::Harmony(parser) => {
                parser.held.push(text);
                parser.run(&mut events);
            }
        }
        events.0
    }

    /// Gives what is left at the end of the output.
    pub fn finish(&mut self) -> Vec<OutputEvent> {
        match &mut self.0 {
            Machine::Tagged(parser) => parser.held.ended = true,
            Machine::Harmony(parser) => parser.held.ended = true,
        }
        self.push("")
    }

    /// Whether the output so far ends inside reasoning.
    pub fn in_reasoning(&self) -> bool {
        match &self.0 {
            Machine::Tagged(parser) => parser.in_reasoning(),
            Machine::Harmony(parser) => parser.in_reasoning(),
        }
    }
}
