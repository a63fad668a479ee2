//! Messages as templates want them.

use serde_json::Value;

/// `messages` with the arguments of tool calls as objects. OpenAI's API sends them as JSON texts, but many templates go
/// through them key by key. Texts that are no JSON objects stay as they are.
pub fn with_parsed_arguments(messages: &Value) -> Value {
    let mut messages = messages.clone();
    let calls =
        messages.as_array_mut().into_iter().flatten().filter_map(|m| m.get_mut("tool_calls")?.as_array_mut());
    for call in calls.flatten() {
        let function =
            if call.get("function").is_some_and(Value::is_object) { &mut call["function"] } else { call };
        let Some(arguments) = function.get_mut("arguments") else { continue };
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(object) = parsed.filter(Value::is_object) {
            *arguments = object;
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_become_objects_where_they_are_json() {
        let call =
            |arguments: Value| json!([{"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]);
        for (before, after) in [
            (json!("{\"b\": 1, \"a\": [2]}"), json!({"b": 1, "a": [2]})),
            (json!("{oops"), json!("{oops")),
            (json!("7"), json!("7")),
            (json!({"x": 1}), json!({"x": 1})),
        ] {
            assert_eq!(with_parsed_arguments(&call(before)), call(after));
        }
        let bare = json!([{"tool_calls": [{"name": "f", "arguments": "{}"}]}, {"tool_calls": null}, 3]);
        assert_eq!(with_parsed_arguments(&bare)[0]["tool_calls"][0]["arguments"], json!({}));
    }
}
