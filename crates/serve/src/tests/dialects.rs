//! What single dialects have beside the answer's text.

use super::{Server, request, sum, with};
use axum::body::Body;
use serde_json::{Value, json};

#[tokio::test]
async fn ollama_has_the_log_probabilities_of_every_token_streamed_or_not() {
    let server = Server::new();
    let options = json!({"temperature": 0, "num_predict": 40});
    let ask = json!({"model": "mini", "messages": sum()["messages"], "options": options, "logprobs": true, "top_logprobs": 2});
    let whole = server.post("/api/chat", with(&ask, json!({"stream": false}))).await.json();
    let scores = whole["logprobs"].as_array().unwrap();
    assert!(scores.iter().all(|s| s["logprob"].as_f64().unwrap() <= 0.0), "{whole}");
    assert!(scores.iter().all(|s| s["top_logprobs"].as_array().unwrap().len() == 2), "{whole}");
    let chat = with(&sum(), json!({"max_tokens": 40, "logprobs": true, "top_logprobs": 2}));
    let chat = server.post("/v1/chat/completions", chat).await.json();
    assert_eq!(whole["logprobs"], chat["choices"][0]["logprobs"]["content"]);
    let frames = server.post("/api/chat", &ask).await.frames();
    let streamed: Vec<&Value> = frames.iter().filter_map(|f| f["logprobs"].as_array()).flatten().collect();
    assert_eq!(json!(streamed), whole["logprobs"]);
    let without = server.post("/api/chat", with(&ask, json!({"logprobs": null, "top_logprobs": 0}))).await;
    assert!(!without.body.contains("logprob"), "{without:?}");
    let reply = server.post("/api/chat", with(&ask, json!({"logprobs": false}))).await;
    assert!(reply.status == 400 && reply.body.contains("top_logprobs needs"), "{reply:?}");
}

#[tokio::test]
async fn ollama_says_whether_a_request_without_a_prompt_loads_or_unloads() {
    let server = Server::new();
    for (keep, word) in
        [(json!("5m"), "load"), (json!(null), "load"), (json!(0), "unload"), (json!("0s"), "unload")]
    {
        for path in ["/api/chat", "/api/generate"] {
            let answer = server.post(path, json!({"model": "mini", "keep_alive": keep})).await.json();
            assert_eq!(
                (&answer["done_reason"], &answer["done"]),
                (&json!(word), &json!(true)),
                "{path} {keep}"
            );
        }
    }
}

/// A client that keeps nothing sends back what it was given: the next prompt is the same as with the text itself.
#[tokio::test]
async fn reasoning_goes_to_the_client_and_back_in_one_field() {
    let server = Server::new();
    let ask = json!({"input": "3 + 4", "temperature": 0, "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"}});
    let answer = server.post("/v1/responses", &ask).await.json();
    assert_eq!(answer["metadata"], json!({"a": "b"}));
    let item = &answer["output"][0];
    let coded = item["encrypted_content"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let frames = server.post("/v1/responses", with(&ask, json!({"stream": true}))).await.frames();
    let done = frames.iter().find(|f| f["type"] == "response.output_item.done").unwrap();
    assert_eq!(done["item"]["encrypted_content"], coded);
    let plain = server.post("/v1/responses", with(&ask, json!({"include": []}))).await;
    assert!(!plain.body.contains("encrypted_content"), "{plain:?}");

    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": "7"});
    let again = async |reasoning: Value| {
        let input = json!([{"role": "user", "content": "3 + 4"}, reasoning, call, output]);
        let answer =
            server.post("/v1/responses", json!({"input": input, "max_output_tokens": 1})).await.json();
        answer["usage"]["input_tokens"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    };
    let back = again(json!({"type": "reasoning", "summary": [], "encrypted_content": coded})).await;
    let text = again(json!({"type": "reasoning", "summary": [], "content": item["content"]})).await;
    let none = again(json!({"type": "reasoning", "summary": []})).await;
    assert!(back == text && text > none, "{back} {text} {none}");
}

#[tokio::test]
async fn conversations_have_the_tokens_that_they_are_answered_from() {
    let server = Server::new();
    let chat = with(&sum(), json!({"max_tokens": 1}));
    let used = server.post("/v1/chat/completions", chat).await.json()["usage"]["prompt_tokens"].clone();
    let ask = json!({"messages": sum()["messages"], "return_token_strs": true});
    let counted = server.post("/tokenize", &ask).await.json();
    assert_eq!(counted["count"], used);
    let texts: String = counted["token_strs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let rendered = server.post("/apply-template", json!({"messages": sum()["messages"]})).await.json();
    assert_eq!(rendered["prompt"], texts);
    let closed = server.post("/tokenize", with(&ask, json!({"add_generation_prompt": false}))).await.json();
    assert!(closed["count"].as_u64() < used.as_u64(), "{closed}");
}

#[tokio::test]
async fn what_programs_ask_of_other_servers_first_is_answered() {
    let server = Server::new();
    assert_eq!(server.get("/load").await.json(), json!({"server_load": 0}));
    assert_eq!(server.get("/version").await.json(), server.get("/api/version").await.json());
    for path in ["/ping", "/v1/health"] {
        assert_eq!(server.get(path).await.json(), server.get("/health").await.json(), "{path}");
    }
    assert_eq!(server.post("/ping", "").await.status, 200);
    let props = server.get("/props").await.json();
    assert_eq!((&props["total_slots"], &props["model_alias"]), (&json!(4), &json!("mini")));
    let model = server.get("/v1/models/mini").await.json();
    assert_eq!(props["default_generation_settings"]["n_ctx"], model["max_model_len"]);
    // An answer under way is counted until it has ended.
    let long = json!({"prompt": "x", "max_tokens": 3000, "ignore_eos": true, "stream": true});
    let ask = request("POST", "/v1/completions").body(Body::from(long.to_string())).unwrap();
    let answer = tower::ServiceExt::oneshot(server.router.clone(), ask).await.unwrap();
    assert_eq!(server.get("/load").await.json(), json!({"server_load": 1}));
    drop(answer);
}

#[tokio::test]
async fn what_claude_code_sends_is_taken_and_a_long_prompt_called_so() {
    let server = Server::with(|options| options.load.context = Some(128));
    let keep = |keep: Value| json!({"edits": [{"type": "clear_thinking_20251015", "keep": keep}]});
    let ask = json!({"model": "mini", "max_tokens": 8, "messages": sum()["messages"], "cache_control": {"type": "ephemeral"},
        "metadata": {"user_id": "u"}, "thinking": {"type": "adaptive"}, "context_management": keep(json!("all"))});
    assert_eq!(server.post("/v1/messages?beta=true", &ask).await.status, 200);
    let less = json!({"context_management": keep(json!({"type": "thinking_turns", "value": 1}))});
    let reply = server.post("/v1/messages", with(&ask, less)).await;
    assert!(reply.status == 400 && reply.body.contains("context_management.edits[0].keep"), "{reply:?}");
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(200)}]});
    let reply = server.post("/v1/messages", with(&ask, long)).await;
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        reply.status == 400 && message.starts_with("prompt is too long: ") && message.contains("128"),
        "{message}"
    );
}

/// The list as Anthropic's client reads it, for whoever says that he is one.
#[tokio::test]
async fn models_are_listed_in_the_words_of_whoever_asks() {
    let server = Server::new();
    let ask = async |path: &str| {
        let request = request("GET", path).header("anthropic-version", "2023-06-01");
        server.send(request.body(Body::empty()).unwrap()).await.json()
    };
    let list = ask("/v1/models?limit=20").await;
    assert_eq!(
        (&list["has_more"], &list["first_id"], &list["last_id"]),
        (&json!(false), &json!("mini"), &json!("mini"))
    );
    let model = &list["data"][0];
    assert_eq!(
        (&model["type"], &model["id"], &model["display_name"]),
        (&json!("model"), &json!("mini"), &json!("mini"))
    );
    assert!(model["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{model}");
    assert_eq!(&ask("/v1/models/mini").await, model);
    assert_eq!(ask("/v1/models/maxi").await["type"], "error");
    assert_eq!(server.get("/v1/models").await.json()["object"], "list");
}
