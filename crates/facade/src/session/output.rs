//! Sorting what a model writes, as it comes.

use super::{Listener, Part};
use crate::stop::StopMatcher;
use sampan_text::{Kind, ReasoningSplitter, ReasoningTags, Start};
use std::ops::ControlFlow;

/// Sorts the text of an answer into reasoning and answer, and ends it at a stop string.
pub(super) struct Output<'a> {
    splitter: ReasoningSplitter,
    pub(super) stop: StopMatcher,
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) listener: &'a mut dyn Listener,
}

impl<'a> Output<'a> {
    pub(super) fn new(start: Start, stops: &[String], listener: &'a mut dyn Listener) -> Output<'a> {
        Output {
            splitter: ReasoningSplitter::new(ReasoningTags::THINK, start),
            stop: StopMatcher::new(stops),
            text: String::new(),
            reasoning: String::new(),
            listener,
        }
    }

    pub(super) fn push(&mut self, text: &str) -> ControlFlow<()> {
        for piece in self.splitter.push(text) {
            self.piece(piece.kind, &piece.text)?;
        }
        ControlFlow::Continue(())
    }

    pub(super) fn finish(&mut self) {
        for piece in self.splitter.finish() {
            let _ = self.piece(piece.kind, &piece.text);
        }
        let rest = self.stop.finish();
        let _ = self.say(&rest);
    }

    fn piece(&mut self, kind: Kind, text: &str) -> ControlFlow<()> {
        match kind {
            Kind::Answer => {
                let text = self.stop.push(text);
                self.say(&text)?;
                if self.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Kind::Reasoning => {
                self.reasoning.push_str(text);
                self.listener.text(Part::Reasoning, text)
            }
            Kind::Tag => ControlFlow::Continue(()),
            // What was taken for the answer was reasoning; whoever watched it stream has seen it already.
            Kind::LateTag => {
                self.text.push_str(&self.stop.finish());
                self.reasoning = std::mem::take(&mut self.text);
                ControlFlow::Continue(())
            }
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
