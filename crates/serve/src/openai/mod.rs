//! OpenAI's APIs.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod responses;

use crate::answer::{Answer, Choice, Cost};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::job::Dropped;
use crate::wire;
use serde_json::{Value, json};

/// What every object of an answer begins with.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

impl Head {
    pub(crate) fn new(prefix: &str, model: &str) -> Head {
        Head { id: wire::id(prefix), created: wire::now(), model: model.to_owned() }
    }

    pub(crate) fn object(&self, object: &str, choices: Value) -> Value {
        let Head { id, created, model } = self;
        json!({"id": id, "object": object, "created": created, "model": model, "choices": choices})
    }

    /// A whole answer: its choices, what they cost, and what the client should know.
    pub(crate) fn whole(
        &self,
        object: &str,
        answer: &Answer,
        choices: &[Choice],
        choice: impl Fn(usize, &Choice) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let list = choices.iter().enumerate().map(|(index, c)| choice(index, c)).collect::<Result<_, _>>()?;
        let mut body = self.object(object, list);
        body["usage"] = usage(Cost::of(answer.prompt_tokens, choices));
        if let Some(what) = answer.dropped {
            body["dropped"] = dropped(what);
        }
        let endings = choices.iter().filter_map(|choice| choice.ending.as_ref());
        let notes: Vec<String> = endings.flat_map(|ending| ending.warnings.iter().cloned()).collect();
        if !notes.is_empty() {
            body["warnings"] = warnings(&notes);
        }
        Ok(body)
    }
}

/// `prompt_logprobs`, which vLLM has beside `logprobs`: of the prompt's tokens, and of so many others in their places.
pub(crate) fn prompt_logprobs(fields: &mut Fields, stream: bool) -> Result<Option<usize>, Failure> {
    let top = fields.count("prompt_logprobs", 0..=20)?;
    match top {
        Some(_) if stream => {
            Err(fields.wrong("prompt_logprobs", "contradiction", "is not sent in streams; leave stream out"))
        }
        top => Ok(top),
    }
}

/// What an answer cost, as `usage`.
pub(crate) fn usage(cost: Cost) -> Value {
    json!({
        "prompt_tokens": cost.prompt,
        "completion_tokens": cost.completion,
        "total_tokens": cost.prompt + cost.completion,
        "prompt_tokens_details": {"cached_tokens": cost.cached},
        "completion_tokens_details": {"reasoning_tokens": cost.reasoning},
    })
}

/// What was left out of a conversation, where that was allowed.
pub(crate) fn dropped(dropped: Dropped) -> Value {
    json!({
        "messages": dropped.messages,
        "prompt_tokens_before": dropped.tokens_before,
        "prompt_tokens_after": dropped.tokens_after,
    })
}

/// What the client should know, as the page and others show it.
pub(crate) fn warnings(list: &[String]) -> Value {
    list.iter().map(|message| json!({"message": message})).collect()
}
