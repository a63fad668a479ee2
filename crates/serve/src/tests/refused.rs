//! What each route refuses, and how.

use super::{Server, sum, with};
use serde_json::{Value, json};

/// A refusal: status, code, and the field that it names.
async fn check(server: &Server, path: &str, body: &str, status: u16, code: &str, param: Value) {
    let reply = server.post(path, body).await;
    assert_eq!(reply.status, status, "{path} {body}: {reply:?}");
    let error = &reply.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{path} {body}: {error}");
    let message = error["message"].as_str().unwrap();
    if let Some(param) = param.as_str().filter(|_| code != "model_not_found") {
        let field = param.rsplit(['.', ']']).next().unwrap_or(param);
        assert!(message.contains(field), "{param} is not in {message:?}");
    }
}

#[tokio::test]
async fn a_field_that_cannot_be_honoured_is_named() {
    let server = Server::new();
    let chat = "/v1/chat/completions";
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let bad = json!({"type": "function", "function": {"name": "b", "parameters": {"type": "banana"}}});
    for (more, code, param) in [
        (json!({"colour": "red"}), "unknown_field", "colour"),
        (json!({"temperature": "hot"}), "wrong_type", "temperature"),
        (json!({"temperature": -1}), "out_of_range", "temperature"),
        (json!({"top_p": 1.5}), "out_of_range", "top_p"),
        (json!({"n": 0}), "out_of_range", "n"),
        (json!({"n": 1.5}), "wrong_type", "n"),
        (json!({"n": 1e300}), "out_of_range", "n"),
        (json!({"seed": u64::MAX}), "out_of_range", "seed"),
        (json!({"seed": 1.5}), "wrong_type", "seed"),
        (json!({"stop": [""]}), "empty_string", "stop"),
        (json!({"stop": [1]}), "wrong_type", "stop[0]"),
        (json!({"logit_bias": {"x": 1}}), "wrong_type", "logit_bias.x"),
        (json!({"logit_bias": {"1": 101}}), "wrong_type", "logit_bias.1"),
        (json!({"logit_bias": {"99999": 1}}), "out_of_range", "logit_bias"),
        (json!({"tools": [tool("a"), tool("b"), tool("a")]}), "contradiction", "tools[2]"),
        (json!({"tools": [tool("a"), bad], "tool_choice": "required"}), "invalid_constraint", "tools[1]"),
        (json!({"top_logprobs": 2}), "contradiction", "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "out_of_range", "top_logprobs"),
        (json!({"max_tokens": 1, "max_completion_tokens": 2}), "contradiction", "max_tokens"),
        (json!({"stream_options": {"include_usage": true}}), "contradiction", "stream_options"),
        (json!({"stream": true, "stream_options": {"x": 1}}), "unknown_field", "stream_options.x"),
        (json!({"store": true}), "unsupported_value", "store"),
        (json!({"reasoning_effort": "huge"}), "unknown_value", "reasoning_effort"),
        (json!({"context_overflow": "cut"}), "unknown_value", "context_overflow"),
        (json!({"messages": null}), "missing", "messages"),
        (json!({"messages": []}), "empty", "messages"),
        (json!({"messages": [1]}), "wrong_type", "messages[0]"),
        (json!({"messages": [{"content": "x"}]}), "missing", "messages[0].role"),
        (json!({"messages": [{"role": "king", "content": "x"}]}), "unknown_value", "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "missing", "messages[0].content"),
        (
            json!({"messages": [{"role": "user", "content": "x", "mood": 1}]}),
            "unknown_field",
            "messages[0].mood",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "unsupported_value",
            "messages[0].content[0].type",
        ),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "missing", "messages[0].tool_call_id"),
    ] {
        check(&server, chat, &with(&sum(), more).to_string(), 400, code, json!(param)).await;
    }
    for (path, body, status, code, param) in [
        (chat, "{", 400, "invalid_json", Value::Null),
        (chat, "[]", 400, "invalid_request", Value::Null),
        (chat, r#"{"model": "maxi", "model": "mini"}"#, 400, "invalid_json", Value::Null),
        (chat, r#"{"messages": [{"role": "user", "role": "user"}]}"#, 400, "invalid_json", Value::Null),
        (chat, "\u{0}\u{1}garbage", 400, "invalid_json", Value::Null),
        (
            chat,
            r#"{"model": "maxi", "messages": [{"role": "user", "content": "x"}]}"#,
            404,
            "model_not_found",
            json!("model"),
        ),
        ("/v1/completions", "{}", 400, "missing", json!("prompt")),
        ("/v1/completions", r#"{"prompt": []}"#, 400, "out_of_range", json!("prompt")),
        ("/v1/completions", r#"{"prompt": [1, -1]}"#, 400, "wrong_type", json!("prompt[1]")),
        ("/v1/completions", r#"{"prompt": [99999999]}"#, 400, "token_out_of_range", json!("prompt")),
        ("/v1/completions", r#"{"prompt": "x", "best_of": 3}"#, 400, "unsupported_value", json!("best_of")),
        ("/v1/completions", r#"{"prompt": [1], "suffix": "x"}"#, 400, "wrong_type", json!("suffix")),
        ("/v1/completions", r#"{"prompt": "a", "suffix": "b"}"#, 400, "unsuited_model", json!("suffix")),
        (
            "/v1/responses",
            r#"{"input": "x", "previous_response_id": "resp_1"}"#,
            400,
            "unsupported_value",
            json!("previous_response_id"),
        ),
        ("/v1/responses", r#"{"input": "x", "metadata": {"a": 1}}"#, 400, "wrong_type", json!("metadata.a")),
        ("/v1/responses", r#"{"input": "x", "include": ["x"]}"#, 400, "unknown_value", json!("include[0]")),
        (
            "/v1/responses",
            r#"{"input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}]}"#,
            400,
            "unsupported_value",
            json!("input[0].encrypted_content"),
        ),
        (
            "/v1/responses",
            r#"{"input": [{"type": "computer_call"}]}"#,
            400,
            "unsupported_value",
            json!("input[0].type"),
        ),
        ("/v1/embeddings", r#"{"input": [1, 2]}"#, 400, "wrong_type", json!("input[0]")),
        ("/v1/embeddings", r#"{"input": []}"#, 400, "out_of_range", json!("input")),
        (
            "/v1/embeddings",
            r#"{"input": "x", "dimensions": 100000}"#,
            400,
            "out_of_range",
            json!("dimensions"),
        ),
        ("/v1/rerank", r#"{"query": "x", "documents": []}"#, 400, "out_of_range", json!("documents")),
        ("/detokenize", r#"{"tokens": [99999999]}"#, 400, "token_out_of_range", json!("tokens[0]")),
        ("/tokenize", "{}", 400, "missing", json!("prompt")),
        ("/nowhere", "{}", 404, "unknown_route", Value::Null),
        ("/v1/audio/transcriptions", "{}", 404, "unknown_route", Value::Null),
        ("/", "{}", 405, "wrong_method", Value::Null),
        ("/health", "{}", 405, "wrong_method", Value::Null),
    ] {
        check(&server, path, body, status, code, param).await;
    }
}

#[tokio::test]
async fn a_path_that_is_nearly_one_is_told_which() {
    let server = Server::new();
    for (path, meant) in [
        ("/chat/completions", Some("/v1/chat/completions")),
        ("/v1/v1/chat/completions", Some("/v1/chat/completions")),
        ("/v1/chat/completions/", Some("/v1/chat/completions")),
        ("//v1/models", Some("/v1/models")),
        ("/V1/Models", Some("/v1/models")),
        ("/v1/api/chat", Some("/api/chat")),
        ("/api/v1/messages", Some("/v1/messages")),
        ("/nowhere", None),
        ("/v1/", None),
    ] {
        let reply = server.post(path, "{}").await;
        let said = reply.body.contains("is what you may mean");
        assert_eq!((reply.status, said), (404, meant.is_some()), "{path}: {reply:?}");
        assert!(reply.body.contains(&format!("; {} ", meant.unwrap_or("/openapi.json lists"))), "{reply:?}");
    }
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_refused_with_both_numbers_or_shortened_openly() {
    let server = Server::with(|options| options.load.context = Some(128));
    let turn = |role: &str, text: &str| json!({"role": role, "content": text.repeat(12)});
    let mut messages = vec![json!({"role": "system", "content": "Be brief."})];
    for _ in 0..6 {
        messages.extend([turn("user", "3 + 4, "), turn("assistant", "7, ")]);
    }
    messages.push(json!({"role": "user", "content": "3 + 4"}));
    let body = json!({"messages": messages, "max_tokens": 4});
    let reply = server.post("/v1/chat/completions", &body).await;
    let error = &reply.json()["error"];
    let message = error["message"].as_str().unwrap();
    assert_eq!((reply.status, &error["code"]), (400, &json!("context_length_exceeded")));
    assert!(message.contains("the context holds 128") && message.contains("tokens"), "{message}");
    let body = with(&body, json!({"context_overflow": "drop_old_turns"}));
    let answer = server.post("/v1/chat/completions", &body).await.json();
    let dropped = &answer["dropped"];
    assert!(dropped["messages"].as_u64().unwrap() >= 2, "{answer}");
    assert!(dropped["prompt_tokens_before"].as_u64() > dropped["prompt_tokens_after"].as_u64());
    assert_eq!(answer["usage"]["prompt_tokens"], dropped["prompt_tokens_after"]);
    // No fewer turns would have done.
    let kept = messages.len() - dropped["messages"].as_u64().unwrap() as usize;
    let one_more =
        with(&body, json!({"context_overflow": "refuse", "messages": messages[messages.len() - kept - 2..]}));
    assert_eq!(server.post("/v1/chat/completions", one_more).await.status, 400);

    let ask = json!({"input": messages, "max_output_tokens": 4, "stream": true});
    let refused = server.post("/v1/responses", &ask).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    let frames = server.post("/v1/responses", with(&ask, json!({"truncation": "auto"}))).await.frames();
    for frame in [&frames[0], frames.last().unwrap()] {
        assert_eq!(&frame["response"]["dropped"], dropped, "{frame}");
        assert_eq!(frame["response"]["truncation"], "auto");
    }
    let ask = json!({"model": "mini", "messages": messages, "options": {"num_predict": 4}, "stream": false});
    assert_eq!(server.post("/api/chat", &ask).await.status, 400);
    let answer = server.post("/api/chat", with(&ask, json!({"truncate": true}))).await.json();
    assert_eq!(&answer["dropped"], dropped);
}

#[tokio::test]
async fn a_request_may_ask_for_less_context_and_not_for_more() {
    let server = Server::with(|options| options.load.context = Some(128));
    let ask = |context: usize| {
        let options = json!({"num_ctx": context, "temperature": 0, "num_predict": 200});
        json!({"model": "mini", "prompt": "1 2 3", "raw": true, "stream": false, "options": options})
    };
    let whole = server.post("/api/generate", ask(128)).await.json();
    let prompt = whole["prompt_eval_count"].as_u64().unwrap();
    let reply = server.post("/api/generate", ask(prompt as usize + 2)).await.json();
    assert_eq!(
        (&reply["eval_count"], &reply["done_reason"]),
        (&json!(2), &json!("length")),
        "{whole} {reply}"
    );
    assert!(whole["response"].as_str().unwrap().starts_with(reply["response"].as_str().unwrap()));
    for (context, words) in [(3, "the context holds 3"), (129, "--context 129")] {
        let reply = server.post("/api/generate", ask(context)).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.json()["error"].as_str().unwrap().contains(words), "{reply:?}");
    }
}

#[tokio::test]
async fn errors_are_said_in_the_dialect_of_the_route() {
    let server = Server::new();
    let reply = server.post("/v1/messages", json!({"model": "mini", "messages": []})).await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["type"], "error");
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("max_tokens"));
    let reply = server
        .post(
            "/api/chat",
            json!({"model": "mini", "colour": 1, "messages": [{"role": "user", "content": "x"}]}),
        )
        .await;
    assert_eq!(reply.status, 400);
    assert!(reply.json()["error"].as_str().unwrap().contains("colour"));
    let reply = server.post("/api/show", json!({"model": "maxi"})).await;
    assert!(reply.status == 404 && reply.json()["error"].as_str().unwrap().contains("mini"));
}
