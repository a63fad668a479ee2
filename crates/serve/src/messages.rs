//! Conversations, as lists of messages in the form that templates know.

use serde_json::{Value, json};
use std::collections::HashMap;

/// Messages as templates want them: arguments of calls as objects, and results with the names of the tools that they are
/// of, which OpenAI's and Anthropic's APIs only tell by the number of the call.
pub(crate) fn for_template(messages: &[Value]) -> Vec<Value> {
    let parsed = sampan_text::with_parsed_arguments(&Value::Array(messages.to_vec()));
    let Value::Array(mut messages) = parsed else { return Vec::new() };
    let mut names: HashMap<String, Value> = HashMap::new();
    for message in &mut messages {
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            if let Some(id) = call["id"].as_str() {
                names.insert(id.to_owned(), call["function"]["name"].clone());
            }
        }
        let name = message["tool_call_id"].as_str().and_then(|id| names.get(id));
        if let (Some(name), Some(message)) = (name, message.as_object_mut()) {
            message.entry("name").or_insert_with(|| name.clone());
        }
    }
    messages
}

/// The messages with all that the system says in one message at the beginning, for templates that take no other. `None`
/// where that is how they are.
pub(crate) fn with_one_system(messages: &[Value]) -> Option<Vec<Value>> {
    let system = |message: &&Value| is_system(message);
    let told: Vec<&str> = messages.iter().filter(system).filter_map(|m| m["content"].as_str()).collect();
    if told.is_empty() || (told.len() == 1 && messages.first().is_some_and(is_system)) {
        return None;
    }
    let first = json!({"role": "system", "content": told.join("\n\n")});
    Some(std::iter::once(first).chain(messages.iter().filter(|m| !is_system(m)).cloned()).collect())
}

/// Whether an answer can go on with the last message: it is the assistant's, and it calls no tool.
pub(crate) fn may_be_continued(messages: &[Value]) -> bool {
    let own = |message: &Value| message["role"] == "assistant" && message["tool_calls"].is_null();
    messages.last().is_some_and(own)
}

/// Whether the last message is the beginning of the answer, where an API has no word for that.
pub(crate) fn is_begun(messages: &[Value]) -> bool {
    let said = |message: &Value| message["content"].as_str().is_some_and(|text| !text.is_empty());
    may_be_continued(messages) && messages.last().is_some_and(said)
}

fn is_system(message: &Value) -> bool {
    message["role"] == "system" || message["role"] == "developer"
}

fn users(messages: &[Value]) -> Vec<usize> {
    (0..messages.len()).filter(|&i| messages[i]["role"] == "user").collect()
}

/// How many turns can be left out: all but the last user's.
pub(crate) fn turns(messages: &[Value]) -> usize {
    users(messages).len().saturating_sub(1)
}

/// The messages without the first turns and what belongs to them; instructions stay.
pub(crate) fn without_turns(messages: &[Value], turns: usize) -> Vec<Value> {
    let from = users(messages).get(turns).copied().unwrap_or(0);
    messages[..from].iter().filter(|m| is_system(m)).chain(&messages[from..]).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_turns_go_first_and_instructions_and_the_last_question_stay() {
        let roles = ["system", "user", "assistant", "user", "assistant", "tool", "assistant", "user"];
        let messages: Vec<Value> = roles.iter().map(|role| json!({"role": role})).collect();
        assert_eq!(turns(&messages), 2);
        for (without, left) in [(0, 8), (1, 6), (2, 2)] {
            let shorter = without_turns(&messages, without);
            assert_eq!((&shorter[0]["role"], &shorter[1]["role"]), (&json!("system"), &json!("user")));
            assert_eq!(shorter.len(), left);
        }
        assert_eq!((turns(&[]), without_turns(&[], 0)), (0, Vec::new()));
    }

    #[test]
    fn results_are_told_by_the_names_of_their_tools() {
        let call =
            json!({"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}});
        let messages = [
            json!({"role": "assistant", "content": "", "tool_calls": [call]}),
            json!({"role": "tool", "tool_call_id": "c1", "content": "3"}),
            json!({"role": "tool", "tool_call_id": "c2", "content": "4"}),
        ];
        let messages = for_template(&messages);
        assert_eq!(messages[0]["tool_calls"][0]["function"]["arguments"], json!({"a": 1}));
        assert_eq!((&messages[1]["name"], &messages[2]["name"]), (&json!("add"), &Value::Null));
    }

    #[test]
    fn what_the_system_says_comes_together() {
        let say = |role: &str, content: &str| json!({"role": role, "content": content});
        let several = [say("system", "a"), say("user", "x"), say("developer", "b"), say("user", "y")];
        let expected = vec![say("system", "a\n\nb"), say("user", "x"), say("user", "y")];
        assert_eq!(with_one_system(&several), Some(expected));
        assert_eq!(with_one_system(&several[..2]), None);
        assert_eq!(with_one_system(&several[1..2]), None);
    }
}
