//! What comes back, free of any dialect: pieces as they come, or choices when all have come.

use crate::failure::Failure;
use crate::job::Dropped;
use crate::loaded::Loaded;
use sampan_engine::Usage;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Answers under way. Dropping it cancels them.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) pieces: mpsc::Receiver<(usize, Piece)>,
    pub(crate) choices: usize,
    /// Tokens of all prompts together.
    pub(crate) prompt_tokens: usize,
    pub(crate) dropped: Option<Dropped>,
    /// Holds the model in memory.
    pub(crate) loaded: Arc<Loaded>,
}

/// Where a text belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Reasoning,
    Content,
}

/// A token with its log-probability and those of the likeliest tokens in its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) token: u32,
    /// `None` for the first token of a prompt.
    pub(crate) logprob: Option<f32>,
    pub(crate) top: Vec<(u32, f32)>,
}

/// A step of an answer. Each choice gets texts, then exactly one `Ended` or `Failed`.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Scores of the prompt's tokens, from its first token on; where they were asked for, before any text.
    Prompt(Vec<Scored>),
    /// More text, with the scores of the tokens that it came from.
    Text { part: Part, text: String, scores: Vec<Scored> },
    /// More of a tool call, with the scores of the tokens that it came from.
    Call(Call, Vec<Scored>),
    /// The content so far was reasoning after all.
    ContentWasReasoning,
    /// The choice is complete.
    Ended(Ending),
    /// The choice will not be completed.
    Failed(Failure),
}

/// A step of a tool call. Calls come one after another, numbered from 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Start {
        index: usize,
        id: String,
        name: String,
    },
    /// More of the arguments; all pieces together are JSON.
    Arguments {
        index: usize,
        json: String,
    },
    End,
}

/// A complete tool call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// How a choice ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    /// Of the generated tokens, those before the answer.
    pub(crate) reasoning_tokens: usize,
    /// Scores of tokens that made no text.
    pub(crate) scores: Vec<Scored>,
    /// That of the token that ended it.
    pub(crate) stop: Option<Scored>,
    /// What the client should know.
    pub(crate) warnings: Vec<String>,
}

/// Why a choice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended it.
    Stop,
    /// The model ended it with calls of tools.
    Calls,
    /// This stop string came.
    StopString(String),
    /// As many tokens as were asked for, or time is up.
    Length,
    /// The context is full.
    Context,
    /// What restricts the answer knew no further, for this reason.
    Broken(String),
}

impl Finish {
    /// OpenAI's word.
    pub(crate) fn openai(&self) -> &'static str {
        match self {
            Finish::Stop | Finish::StopString(_) => "stop",
            Finish::Calls => "tool_calls",
            Finish::Length | Finish::Context | Finish::Broken(_) => "length",
        }
    }
}

/// A complete answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Scores of the prompt's tokens, where they were asked for.
    pub(crate) prompt: Vec<Scored>,
    pub(crate) reasoning: String,
    pub(crate) content: String,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) scores: Vec<Scored>,
    /// How many of these are of the reasoning.
    pub(crate) thought: usize,
    pub(crate) ending: Option<Ending>,
}

impl Choice {
    fn take(&mut self, piece: Piece) -> Result<(), Failure> {
        match piece {
            Piece::Text { part, text, scores } => {
                self.scores.extend(scores);
                match part {
                    Part::Reasoning => {
                        self.reasoning.push_str(&text);
                        self.thought = self.scores.len();
                    }
                    Part::Content => self.content.push_str(&text),
                }
            }
            Piece::Prompt(scores) => self.prompt.extend(scores),
            Piece::Call(call, scores) => {
                self.scores.extend(scores);
                match call {
                    Call::Start { id, name, .. } => {
                        self.calls.push(ToolCall { id, name, arguments: String::new() });
                    }
                    Call::Arguments { index, json } => {
                        if let Some(call) = self.calls.get_mut(index) {
                            call.arguments.push_str(&json);
                        }
                    }
                    Call::End => {}
                }
            }
            Piece::ContentWasReasoning => {
                let content = std::mem::take(&mut self.content);
                self.reasoning.push_str(&content);
                self.thought = self.scores.len();
            }
            Piece::Ended(mut ending) => {
                self.scores.append(&mut ending.scores);
                self.ending = Some(ending);
            }
            Piece::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    /// How it ended.
    pub(crate) fn ending(&self) -> Result<&Ending, Failure> {
        self.ending.as_ref().ok_or_else(lost)
    }
}

fn lost() -> Failure {
    Failure::internal("the engine ended before the answer did")
}

impl Answer {
    /// Waits for everything.
    pub(crate) async fn whole(&mut self) -> Result<Vec<Choice>, Failure> {
        let mut choices = vec![Choice::default(); self.choices];
        while let Some((at, piece)) = self.pieces.recv().await {
            choices[at].take(piece)?;
        }
        match choices.iter().all(|choice| choice.ending.is_some()) {
            true => Ok(choices),
            false => Err(lost()),
        }
    }
}

/// What an answer cost, over all of its choices.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) prompt: usize,
    pub(crate) cached: usize,
    pub(crate) completion: usize,
    pub(crate) reasoning: usize,
}

impl Cost {
    pub(crate) fn new(prompt: usize) -> Cost {
        Cost { prompt, ..Cost::default() }
    }

    pub(crate) fn add(&mut self, ending: &Ending) {
        self.cached = self.cached.max(ending.usage.cached_tokens);
        self.completion += ending.usage.generated_tokens;
        self.reasoning += ending.reasoning_tokens;
    }

    pub(crate) fn of(prompt: usize, choices: &[Choice]) -> Cost {
        let mut cost = Cost::new(prompt);
        choices.iter().filter_map(|choice| choice.ending.as_ref()).for_each(|ending| cost.add(ending));
        cost
    }
}
