//! Answers that go on with the assistant's last message.

use super::{Server, sum, with};
use serde_json::{Value, json};

/// A question and the beginning of its answer.
fn begun(said: &str) -> Value {
    json!([{"role": "user", "content": "3 + 4"}, {"role": "assistant", "content": said}])
}

#[tokio::test]
async fn every_dialect_goes_on_where_the_last_message_ends() {
    let server = Server::new();
    for said in ["3 + 4 =", "3 + 4 = ", "3 +"] {
        // What it is depends on the model; that it is the same, and goes on, does not.
        let mut rest = None;
        let ask = |more: Value| with(&json!({"model": "mini", "messages": begun(said)}), more);
        for (path, body, place) in [
            (
                "/v1/chat/completions",
                ask(json!({"continue_final_message": true, "temperature": 0})),
                "/choices/0/message/content",
            ),
            (
                "/v1/chat/completions",
                ask(json!({
                    "continue_final_message": true, "add_generation_prompt": false, "max_reasoning_tokens": 5, "temperature": 0
                })),
                "/choices/0/message/content",
            ),
            ("/v1/messages", ask(json!({"max_tokens": 50, "temperature": 0})), "/content/0/text"),
            ("/api/chat", ask(json!({"stream": false, "options": {"temperature": 0}})), "/message/content"),
        ] {
            let reply = server.post(path, &body).await;
            let answer = reply.json();
            let text =
                answer.pointer(place).and_then(Value::as_str).unwrap_or_else(|| panic!("{body}: {reply:?}"));
            assert!(!text.is_empty() && !text.starts_with(said), "{path} {body}: {reply:?}");
            assert_eq!(text, rest.get_or_insert_with(|| text.to_owned()), "{path} {body}");
        }
        let body = ask(json!({"continue_final_message": true, "temperature": 0, "stream": true}));
        let streamed = server.post("/v1/chat/completions", body).await.frames();
        let pieces = streamed.iter().filter_map(|frame| frame["choices"][0]["delta"]["content"].as_str());
        assert_eq!(Some(pieces.collect::<String>()), rest);
        let body = json!({"messages": begun(said), "continue_final_message": true});
        let prompt = server.post("/apply-template", body).await.json();
        assert!(prompt["prompt"].as_str().unwrap().ends_with(said), "{prompt}");
    }
    // Without that word the chat API begins another message.
    let body = with(&sum(), json!({"messages": begun("3 + 4 =")}));
    let answer = server.post("/v1/chat/completions", body).await.json();
    assert_ne!(answer["choices"][0]["message"]["reasoning_content"], Value::Null, "{answer}");
}

#[tokio::test]
async fn what_cannot_go_on_is_refused_by_its_field() {
    let server = Server::new();
    let (chat, messages, template) = ("/v1/chat/completions", "/v1/messages", "/apply-template");
    let open = json!({"model": "mini", "messages": begun("3"), "continue_final_message": true});
    let begun = json!({"model": "mini", "messages": begun("3"), "max_tokens": 2000});
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    for (path, body, param) in [
        (chat, with(&sum(), json!({"continue_final_message": true})), "continue_final_message"),
        (chat, with(&open, json!({"add_generation_prompt": true})), "add_generation_prompt"),
        (chat, with(&sum(), json!({"add_generation_prompt": false})), "add_generation_prompt"),
        (chat, with(&open, json!({"response_format": {"type": "json_object"}})), "response_format.type"),
        (
            chat,
            with(&open, json!({"structured_outputs": {"structural_tag": "x"}})),
            "structured_outputs.structural_tag",
        ),
        (chat, with(&open, json!({"response_format": {"type": "structural_tag"}})), "response_format.type"),
        (chat, with(&sum(), json!({"guided_grammar": "root ::= \"a\""})), "guided_grammar"),
        (
            template,
            with(&json!({"messages": sum()["messages"]}), json!({"continue_final_message": true})),
            "continue_final_message",
        ),
        (template, with(&open, json!({"add_generation_prompt": true})), "add_generation_prompt"),
        (messages, with(&begun, json!({"tools": [tool], "tool_choice": {"type": "any"}})), "tool_choice"),
        (messages, with(&begun, json!({"thinking": {"type": "enabled", "budget_tokens": 1024}})), "thinking"),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(reply.body.contains(param), "{body}: {reply:?}");
    }
    let reply = server.post(chat, with(&sum(), json!({"guided_grammar": "root ::= \"a\""}))).await;
    assert!(reply.body.contains("GBNF"), "{reply:?}");
}
