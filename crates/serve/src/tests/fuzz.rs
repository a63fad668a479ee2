//! What strangers may send: never a panic, never the server's fault.

use super::{Server, request};
use axum::body::Body;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

/// A request of every kind, with all that it may have.
fn requests() -> Vec<(&'static str, Value)> {
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "3 + 4"}]},
        {"role": "assistant", "content": null, "reasoning_content": "Hm.", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "7"},
        {"role": "user", "content": "and?"},
    ]);
    let parameters = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let function = json!({"name": "add", "description": "Adds.", "parameters": parameters, "strict": true});
    let schema = json!({"type": "object", "properties": {"a": {"enum": ["x", 1]}}});
    vec![
        (
            "/v1/chat/completions",
            json!({"model": "mini", "messages": messages, "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 1, "n": 1, "stop": ["x"],
            "logprobs": true, "top_logprobs": 1, "logit_bias": {"5": 1}, "stream": true, "stream_options": {"include_usage": true}, "reasoning_effort": "none",
            "tools": [{"type": "function", "function": function}], "tool_choice": "auto", "parallel_tool_calls": false, "max_reasoning_tokens": 2,
            "chat_template_kwargs": {"enable_thinking": true}, "context_overflow": "drop_old_turns"}),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": messages, "max_tokens": 3, "prompt_logprobs": 1,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
        ),
        (
            "/v1/completions",
            json!({"prompt": ["3 +", [1, 2]], "max_tokens": 2, "echo": true, "logprobs": 1, "structured_outputs": {"regex": "[a-z]+"}, "stream": false}),
        ),
        (
            "/v1/completions",
            json!({"prompt": "a", "suffix": "b", "max_tokens": 1, "guided_choice": ["a", "b"]}),
        ),
        (
            "/v1/responses",
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}, {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"}, {"type": "reasoning", "summary": []}], "instructions": "x", "max_output_tokens": 3, "truncation": "auto",
            "tools": [{"type": "function", "name": "add", "parameters": parameters}], "tool_choice": {"type": "function", "name": "add"}, "text": {"format": {"type": "text"}},
            "reasoning": {"effort": "none"}, "include": [], "stream": true}),
        ),
        (
            "/v1/messages",
            json!({"model": "mini", "max_tokens": 3, "system": [{"type": "text", "text": "x"}], "messages": [{"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": ""}, {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "1", "is_error": false}]}],
            "tools": [{"name": "add", "input_schema": parameters}], "tool_choice": {"type": "any"}, "thinking": {"type": "enabled", "budget_tokens": 1}, "stop_sequences": ["x"]}),
        ),
        (
            "/v1/messages/count_tokens",
            json!({"model": "mini", "messages": [{"role": "user", "content": "hi"}]}),
        ),
        (
            "/api/chat",
            json!({"model": "mini", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}, {"role": "tool", "content": "1", "tool_name": "add"}],
            "options": {"num_predict": 3, "seed": 1, "temperature": 0.1}, "think": false, "format": schema, "keep_alive": "5m", "stream": false, "truncate": true}),
        ),
        (
            "/api/generate",
            json!({"model": "mini", "prompt": "hi", "system": "x", "options": {"num_predict": 2}, "format": "json", "raw": false, "suffix": ""}),
        ),
        ("/api/show", json!({"model": "mini", "verbose": false})),
        ("/api/embed", json!({"model": "mini", "input": ["a"], "truncate": false, "dimensions": 4})),
        (
            "/v1/embeddings",
            json!({"model": "mini", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64"}),
        ),
        (
            "/v1/rerank",
            json!({"model": "mini", "query": "a", "documents": ["b", {"text": "c"}], "top_n": 1, "return_documents": true}),
        ),
        ("/tokenize", json!({"prompt": "a", "add_special_tokens": false, "parse_special": true})),
        ("/detokenize", json!({"tokens": [1, 2, 3]})),
        (
            "/apply-template",
            json!({"messages": messages, "chat_template_kwargs": {"enable_thinking": false}, "add_generation_prompt": false}),
        ),
        ("/v1/load_lora_adapter", json!({"lora_name": "x", "lora_path": "y"})),
        ("/v1/unload_lora_adapter", json!({"lora_name": "x"})),
    ]
}

/// Any JSON, with the words that this server knows among its keys and texts.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        "[ -~]{0,6}",
        proptest::sample::select(vec![
            "type",
            "text",
            "content",
            "role",
            "user",
            "function",
            "name",
            "schema",
            "$ref",
            "#",
            "regex",
            "object",
            "properties",
            "<think>",
            "</think>",
            "<tool_call>",
            "<|im_end|>",
            "\u{0}",
            "💥",
            "(",
            "5m",
            "-1"
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3i64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let pairs = proptest::collection::vec((word.clone(), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            pairs.prop_map(|pairs| pairs.into_iter().collect::<Map<String, Value>>().into()),
        ]
    })
}

/// The places in a value that another can be put into.
fn places(value: &Value, here: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let place = format!("{here}/{key}");
                places(inner, &place, out);
                out.push(place);
            }
        }
        Value::Array(list) => {
            for (at, inner) in list.iter().enumerate() {
                let place = format!("{here}/{at}");
                places(inner, &place, out);
                out.push(place);
            }
        }
        _ => {}
    }
}

/// Sends a body and reads all of the answer: it is done, or it is the client's fault; or there is no such model's memory.
async fn check(server: &Server, path: &str, body: String) {
    let sent = request("POST", path).body(Body::from(body.clone())).unwrap();
    let reply = tokio::time::timeout(std::time::Duration::from_secs(60), server.send(sent)).await;
    let reply = reply.unwrap_or_else(|_| panic!("{path} {body} does not end"));
    // What Ollama does and this server does not is 501 for any body.
    assert!(reply.status < 500 || reply.status == 501, "{path} {body}: {reply:?}");
    assert!(!reply.body.contains("internal_error"), "{path} {body}: {reply:?}");
}

fn run<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(&Server, S::Value)) {
    let server = Server::with(|options| options.load.context = Some(512));
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(strategy, |value| {
        check(&server, value);
        Ok(())
    });
    outcome.unwrap();
}

fn wait(future: impl Future<Output = ()>) {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_as_it_should_be_and_is_answered() {
    let server = Server::with(|options| options.load.context = Some(512));
    for (path, body) in requests() {
        let reply = server.post(path, &body).await;
        // What `mini` cannot do, and says so.
        let may =
            ["suffix", "rerank", "lora"].iter().any(|word| path.contains(word) || body.get(word).is_some());
        assert!(reply.status == 200 || may, "{path} {body}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_json_in_any_place_is_done_or_refused() {
    let requests = requests();
    let strategy = (0..requests.len(), any::<prop::sample::Index>(), anything());
    run(1500, &strategy, |server, (at, place, other)| {
        let (path, mut body) = requests[at].clone();
        let mut all = Vec::new();
        places(&body, "", &mut all);
        let place = place.get(&all);
        // An answer of any length would be none of the server's faults, and would take long.
        if ["/max_tokens", "/max_output_tokens", "/options/num_predict", "/options", "/n"]
            .contains(&place.as_str())
        {
            return;
        }
        if let Some(slot) = body.pointer_mut(place) {
            *slot = other;
        }
        wait(check(server, path, body.to_string()));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_body_on_any_route_is_refused() {
    let routes: Vec<&str> = crate::routes::PATHS.to_vec();
    let text = prop_oneof![anything().prop_map(|v| v.to_string()), "\\PC{0,40}"];
    let strategy = (0..routes.len(), text);
    run(1500, &strategy, |server, (at, body)| wait(check(server, routes[at], body)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_schema_regex_or_grammar_is_kept_or_refused() {
    let grammar = "(start: )?[a-z\"|()*+{}0-9:/\\\\ \\[\\]-]{0,30}";
    let shapes = prop_oneof![
        anything().prop_map(|v| json!({"guided_json": v})),
        anything().prop_map(|v| json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": v}}}}], "tool_choice": "required"})),
        grammar.prop_map(|text| json!({"guided_regex": text})),
        grammar.prop_map(|text| json!({"guided_grammar": text})),
    ];
    run(800, &shapes, |server, shape| {
        let body = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "reasoning_effort": "none"});
        wait(check(server, "/v1/chat/completions", super::with(&body, shape).to_string()));
    });
}
