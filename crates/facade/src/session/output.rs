//! Sorting what a model writes, as it comes.

use super::{Listener, Part};
use crate::stop::StopMatcher;
use sampan_text::{OutputEvent, OutputFormat, OutputParser, Start};
use std::ops::ControlFlow;

/// Sorts the text of an answer into reasoning and answer, and ends it at a stop string.
pub(super) struct Output<'a> {
    parser: OutputParser,
    pub(super) stop: StopMatcher,
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) listener: &'a mut dyn Listener,
}

impl<'a> Output<'a> {
    pub(super) fn new(
        format: OutputFormat,
        start: Start,
        stops: &[String],
        listener: &'a mut dyn Listener,
    ) -> Output<'a> {
        Output {
            parser: OutputParser::new(format, start, None),
            stop: StopMatcher::new(stops),
            text: String::new(),
            reasoning: String::new(),
            listener,
        }
    }

    pub(super) fn push(&mut self, text: &str) -> ControlFlow<()> {
        for event in self.parser.push(text) {
            self.event(event)?;
        }
        ControlFlow::Continue(())
    }

    pub(super) fn finish(&mut self) {
        for event in self.parser.finish() {
            let _ = self.event(event);
        }
        let rest = self.stop.finish();
        let _ = self.say(&rest);
    }

    fn event(&mut self, event: OutputEvent) -> ControlFlow<()> {
        match event {
            OutputEvent::Content(text) => {
                let text = self.stop.push(&text);
                self.say(&text)?;
                if self.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            OutputEvent::Reasoning(text) => {
                self.reasoning.push_str(&text);
                self.listener.text(Part::Reasoning, &text)
            }
            // What was taken for the answer was reasoning; whoever watched it stream has seen it already.
            OutputEvent::ContentWasReasoning => {
                self.text.push_str(&self.stop.finish());
                self.reasoning = std::mem::take(&mut self.text);
                ControlFlow::Continue(())
            }
            // Without tools there are no calls.
            _ => ControlFlow::Continue(()),
        }
    }

    fn say(&mut self, text: &str) -> ControlFlow<()> {
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.text.push_str(text);
        self.listener.text(Part::Answer, text)
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
