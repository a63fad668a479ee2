//! A message as it is streamed.

use super::{stop_reason, usage};
use crate::answer::{Call, Cost, Ending, Part, Piece};
use crate::failure::{Dialect, Failure};
use crate::openai::warnings;
use crate::stream::{Frame, Frames};
use serde_json::{Value, json};

/// What a block of a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Text(Part),
    Call,
}

/// The events of a streamed message.
pub(super) struct Events {
    pub(super) id: String,
    pub(super) model: String,
    /// The kind of the block that is open, and its number.
    pub(super) block: Option<(Block, usize)>,
    pub(super) blocks: usize,
    pub(super) cost: Cost,
}

impl Events {
    /// Closes the open block, if there is one.
    fn close(&mut self, frames: &mut Vec<Frame>) {
        let Some((block, index)) = self.block.take() else { return };
        if block == Block::Text(Part::Reasoning) {
            let delta = json!({"type": "signature_delta", "signature": ""});
            frames.push(event("content_block_delta", json!({"index": index, "delta": delta})));
        }
        frames.push(event("content_block_stop", json!({"index": index})));
    }

    fn open(&mut self, part: Part, frames: &mut Vec<Frame>) -> usize {
        if let Some((_, index)) = self.block.filter(|(open, _)| *open == Block::Text(part)) {
            return index;
        }
        let start = match part {
            Part::Content => json!({"type": "text", "text": ""}),
            Part::Reasoning => json!({"type": "thinking", "thinking": "", "signature": ""}),
        };
        self.start(Block::Text(part), start, frames)
    }

    fn start(&mut self, block: Block, start: Value, frames: &mut Vec<Frame>) -> usize {
        self.close(frames);
        let index = self.blocks;
        self.blocks += 1;
        self.block = Some((block, index));
        frames.push(event("content_block_start", json!({"index": index, "content_block": start})));
        index
    }

    fn call(&mut self, call: Call, frames: &mut Vec<Frame>) {
        match call {
            Call::Start { id, name, .. } => {
                let start = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.start(Block::Call, start, frames);
            }
            Call::Arguments { json, .. } => {
                let index = self.block.map_or(0, |(_, index)| index);
                let delta = json!({"type": "input_json_delta", "partial_json": json});
                frames.push(event("content_block_delta", json!({"index": index, "delta": delta})));
            }
            Call::End => self.close(frames),
        }
    }

    fn ended(&mut self, ending: &Ending) -> Vec<Frame> {
        self.cost.add(ending);
        let mut frames = Vec::new();
        if self.blocks == 0 {
            self.open(Part::Content, &mut frames);
        }
        self.close(&mut frames);
        let (reason, sequence) = stop_reason(&ending.finish);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        let mut data = json!({"delta": delta, "usage": usage(self.cost)});
        if !ending.warnings.is_empty() {
            data["warnings"] = warnings(&ending.warnings);
        }
        frames.push(event("message_delta", data));
        frames
    }
}

/// An event whose data names it too.
fn event(name: &'static str, mut data: Value) -> Frame {
    data["type"] = name.into();
    Frame::event(name, data)
}

impl Frames for Events {
    fn begin(&mut self) -> Vec<Frame> {
        let message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage(self.cost),
        });
        vec![event("message_start", json!({"message": message}))]
    }

    fn piece(&mut self, _: usize, piece: Piece) -> Vec<Frame> {
        let mut frames = Vec::new();
        match piece {
            Piece::Text { part, text, .. } => {
                let index = self.open(part, &mut frames);
                let delta = match part {
                    Part::Content => json!({"type": "text_delta", "text": text}),
                    Part::Reasoning => json!({"type": "thinking_delta", "thinking": text}),
                };
                frames.push(event("content_block_delta", json!({"index": index, "delta": delta})));
            }
            Piece::Call(call, _) => self.call(call, &mut frames),
            Piece::ContentWasReasoning => self.close(&mut frames),
            Piece::Ended(ending) => frames = self.ended(&ending),
            Piece::Prompt(_) | Piece::Failed(_) => {}
        }
        frames
    }

    fn end(&mut self) -> Vec<Frame> {
        vec![event("message_stop", json!({}))]
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Frame> {
        vec![Frame::event("error", failure.body(Dialect::Anthropic))]
    }
}
