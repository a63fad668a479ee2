//! OpenAI's APIs.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod responses;

use crate::answer::Cost;
use crate::job::Dropped;
use serde_json::{Value, json};

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
