//! What comes before the part of an output that is constrained: reasoning.

use crate::reasoning::Start;
use crate::{OutputFormat, Special, Tokenizer, ToolFormat};

/// What an output may and must have before what is constrained.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Opens reasoning; empty if the output has none.
    pub(super) open: Vec<u32>,
    /// Closes it.
    pub(super) close: Vec<u8>,
    /// Stands after it.
    pub(super) then: Vec<u32>,
}

/// How far an output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Either reasoning begins, of whose opening this many tokens are there, or the constrained part does; `direct` says that it
    /// may.
    Lead { opened: usize, direct: bool },
    /// Anything, until the closing tag; what is kept may be its beginning.
    Reasoning { tail: Vec<u8> },
    /// This many of the tokens after reasoning are there.
    Then(usize),
    /// Line breaks may come, this many tokens of them.
    Breaks(usize),
    /// The constrained part has begun.
    Passed,
}

/// More line breaks after reasoning would be a model that does not come to the point.
const MAX_BREAKS: usize = 2;

impl Plan {
    /// The plan of a format, and where an answer to `prompt` begins in it.
    pub(super) fn new(format: &OutputFormat, prompt: &str, tokenizer: &Tokenizer) -> (Self, At) {
        let encode = |text: &str| tokenizer.encode(text, Special::Parse).unwrap_or_default();
        let start = format.start_after(prompt);
        let (plan, closed) = match (format.tools, format.reasoning) {
            (ToolFormat::Harmony, _) => {
                let plan = Self {
                    open: encode("<|channel|>analysis<|message|>"),
                    close: b"<|end|>".to_vec(),
                    then: encode("<|start|>assistant"),
                };
                (plan, false)
            }
            (_, Some(tags)) => {
                let plan =
                    Self { open: encode(tags.open), close: tags.close.as_bytes().to_vec(), then: Vec::new() };
                (plan, prompt.trim_end().ends_with(tags.close))
            }
            (_, None) => (Self::default(), true),
        };
        let at = match start {
            Start::Inside => At::Reasoning { tail: Vec::new() },
            Start::Either if !closed && !plan.open.is_empty() => At::Lead { opened: 0, direct: true },
            _ => At::Passed,
        };
        (plan, at)
    }

    /// Reads a token of reasoning.
    pub(super) fn reason(&self, mut tail: Vec<u8>, bytes: &[u8]) -> At {
        tail.extend_from_slice(bytes);
        if tail.windows(self.close.len()).any(|window| window == self.close) {
            return self.closed();
        }
        let keep = tail.len().min(self.close.len() - 1);
        At::Reasoning { tail: tail.split_off(tail.len() - keep) }
    }

    fn closed(&self) -> At {
        if self.then.is_empty() { At::Breaks(MAX_BREAKS) } else { At::Then(0) }
    }

    /// After one more of the tokens that stand after reasoning.
    pub(super) fn after_then(&self, done: usize) -> At {
        if done == self.then.len() { At::Passed } else { At::Then(done) }
    }
}

/// Whether a token is nothing but line breaks.
pub(super) fn is_break(bytes: Option<&[u8]>) -> bool {
    bytes.is_some_and(|bytes| !bytes.is_empty() && bytes.iter().all(|byte| matches!(byte, b'\n' | b'\r')))
}
