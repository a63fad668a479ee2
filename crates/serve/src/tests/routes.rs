//! What each route answers.

use super::{Server, sum, with};
use serde_json::{Value, json};

/// Places in an answer and what stands there; `null` for what is not there.
type Expected = [(&'static str, Value)];

async fn check(server: &Server, path: &str, body: Value, expected: &Expected) {
    let reply = server.post(path, &body).await;
    assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
    let answer = reply.json();
    for (place, value) in expected {
        assert_eq!(
            answer.pointer(place).unwrap_or(&Value::Null),
            value,
            "{place} of {path} {body}: {answer:#}"
        );
    }
}

#[tokio::test]
async fn answers_have_the_form_that_clients_expect() {
    let server = Server::new();
    let chat = "/v1/chat/completions";
    for (path, body, expected) in [
        (
            chat,
            sum(),
            &[
                ("/object", json!("chat.completion")),
                ("/model", json!("mini")),
                ("/choices/0/index", json!(0)),
                ("/choices/0/message/role", json!("assistant")),
                ("/choices/0/message/content", json!("3 + 4 = 7")),
                ("/choices/0/message/reasoning_content", json!("3 + 4\nones: 3 + 4 = 7, write 7\nresult: 7")),
                ("/choices/0/finish_reason", json!("stop")),
                ("/choices/0/logprobs", Value::Null),
                ("/choices/1", Value::Null),
            ][..],
        ),
        (
            chat,
            with(&sum(), json!({"model": null, "n": 3, "seed": 1})),
            &[("/choices/2/message/content", json!("3 + 4 = 7")), ("/choices/3", Value::Null)],
        ),
        (
            chat,
            with(
                &sum(),
                json!({"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "text", "text": "Tell me a story"}]}]}),
            ),
            &[("/choices/0/finish_reason", json!("length")), ("/usage/completion_tokens", json!(1))],
        ),
        (
            chat,
            with(&sum(), json!({"stop": ["7"]})),
            &[("/choices/0/message/content", json!("3 + 4 = ")), ("/choices/0/finish_reason", json!("stop"))],
        ),
        (
            "/v1/completions",
            json!({"model": "mini", "prompt": "Once", "max_tokens": 3, "echo": true, "temperature": 0}),
            &[
                ("/object", json!("text_completion")),
                ("/choices/0/finish_reason", json!("length")),
                ("/usage/completion_tokens", json!(3)),
            ],
        ),
        (
            "/v1/completions",
            json!({"prompt": ["a", "b"], "n": 2, "max_tokens": 1}),
            &[("/choices/3/index", json!(3)), ("/choices/4", Value::Null)],
        ),
        (
            "/v1/completions",
            json!({"prompt": [[1, 2], [3]], "max_tokens": 0}),
            &[("/choices/1/text", json!("")), ("/usage/prompt_tokens", json!(3))],
        ),
        (
            "/v1/messages",
            json!({"model": "mini", "max_tokens": 60, "temperature": 0, "system": "Be brief.", "thinking": {"type": "disabled"}, "messages": [{"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}]}]}),
            &[
                ("/type", json!("message")),
                ("/role", json!("assistant")),
                ("/content/0/type", json!("text")),
                ("/usage/cache_creation_input_tokens", json!(0)),
            ],
        ),
        (
            "/v1/messages",
            json!({"model": "mini", "max_tokens": 60, "temperature": 0, "messages": [{"role": "user", "content": "3 + 4"}]}),
            &[
                ("/content/0/type", json!("thinking")),
                ("/content/1/text", json!("3 + 4 = 7")),
                ("/stop_reason", json!("end_turn")),
                ("/stop_sequence", Value::Null),
            ],
        ),
        (
            "/v1/messages",
            json!({"model": "mini", "max_tokens": 60, "temperature": 0, "stop_sequences": ["7"], "messages": [{"role": "user", "content": "3 + 4"}]}),
            &[
                ("/content/1/text", json!("3 + 4 = ")),
                ("/stop_reason", json!("stop_sequence")),
                ("/stop_sequence", json!("7")),
            ],
        ),
        (
            "/v1/responses",
            json!({"model": "mini", "input": "3 + 4", "temperature": 0}),
            &[
                ("/object", json!("response")),
                ("/status", json!("completed")),
                ("/output/0/type", json!("reasoning")),
                ("/output/1/content/0/text", json!("3 + 4 = 7")),
                ("/output/1/role", json!("assistant")),
            ],
        ),
        (
            "/v1/responses",
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Tell me a story"}]}], "max_output_tokens": 1}),
            &[("/status", json!("incomplete")), ("/incomplete_details/reason", json!("max_output_tokens"))],
        ),
        (
            "/api/chat",
            json!({"model": "mini:latest", "stream": false, "options": {"temperature": 0}, "messages": [{"role": "user", "content": "3 + 4"}]}),
            &[
                ("/message/content", json!("3 + 4 = 7")),
                ("/done", json!(true)),
                ("/done_reason", json!("stop")),
            ],
        ),
        ("/api/chat", json!({"model": "mini", "messages": []}), &[("/done_reason", json!("load"))]),
        (
            "/api/generate",
            json!({"model": "mini", "stream": false, "prompt": "3 + 4", "options": {"temperature": 0, "num_predict": 60}, "keep_alive": "5m"}),
            &[("/response", json!("3 + 4 = 7")), ("/done", json!(true))],
        ),
        (
            "/api/show",
            json!({"model": "mini"}),
            &[
                ("/capabilities", json!(["completion", "tools", "thinking"])),
                ("/details/parameter_size", json!("2.62M")),
            ],
        ),
        ("/api/embed", json!({"model": "mini", "input": ["a", "b"]}), &[("/embeddings/2", Value::Null)]),
        (
            "/v1/embeddings",
            json!({"model": "mini", "input": "a", "dimensions": 2}),
            &[("/object", json!("list")), ("/data/0/embedding/2", Value::Null)],
        ),
        ("/detokenize", json!({"tokens": []}), &[("/prompt", json!(""))]),
    ] {
        check(&server, path, body, expected).await;
    }
}

#[tokio::test]
async fn the_older_route_for_vectors_makes_the_same_ones() {
    let server = Server::new();
    let ask = json!({"model": "mini", "options": {}});
    let new = server.post("/api/embed", with(&ask, json!({"input": "a river"}))).await.json();
    let old = server.post("/api/embeddings", with(&ask, json!({"prompt": "a river"}))).await.json();
    assert!(old["embedding"][0].is_number(), "{old}");
    assert_eq!(new["embeddings"][0], old["embedding"]);
}

#[tokio::test]
async fn logprobs_are_those_of_the_answers_tokens() {
    let server = Server::new();
    let more = json!({"logprobs": true, "top_logprobs": 3});
    let answer = server.post("/v1/chat/completions", with(&sum(), more)).await.json();
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let text: String = content.iter().map(|t| t["token"].as_str().unwrap()).collect();
    assert!(text.starts_with("<think>") && text.ends_with("3 + 4 = 7"), "{text}");
    for token in &content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(
            (top.len(), &top[0]["token"], &top[0]["logprob"]),
            (3, &token["token"], &token["logprob"])
        );
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    let body =
        json!({"prompt": "3 + 4 =", "max_tokens": 4, "logprobs": 2, "temperature": 0, "ignore_eos": true});
    let choice = server.post("/v1/completions", body).await.json()["choices"][0].clone();
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
    let text: String = tokens.iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(choice["text"], text.as_str());
    assert_eq!(choice["logprobs"]["top_logprobs"][0].as_object().unwrap().len(), 2);
    assert_eq!(choice["logprobs"]["text_offset"][0], 0);
}

#[tokio::test]
async fn a_second_time_comes_from_the_cache() {
    let server = Server::new();
    let long = "one two three four five six seven eight nine ten ".repeat(20);
    let body = json!({"messages": [{"role": "user", "content": long}], "max_tokens": 1});
    let mut cached = Vec::new();
    for _ in 0..2 {
        let usage = server.post("/v1/chat/completions", &body).await.json()["usage"].clone();
        cached.push(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap());
        assert!(usage["prompt_tokens"].as_u64().unwrap() > 100);
    }
    assert!(cached[0] == 0 && cached[1] >= 96, "{cached:?}");
}

#[tokio::test]
async fn tokens_and_text_are_the_same_both_ways() {
    let server = Server::new();
    for text in ["Hello, world!", "<|im_end|>", "今日は 🚣"] {
        let body = json!({"prompt": text, "add_special_tokens": false});
        let tokens = server.post("/tokenize", &body).await.json();
        assert_eq!(tokens["count"], tokens["tokens"].as_array().unwrap().len());
        let back = server.post("/detokenize", json!({"tokens": tokens["tokens"]})).await.json();
        assert_eq!(back["prompt"], text);
    }
    let body = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let prompt = server.post("/apply-template", &body).await.json()["prompt"].clone();
    assert!(prompt.as_str().unwrap().contains("Hi"), "{prompt}");
    let body = with(&body, json!({"model": "mini", "max_tokens": 1}));
    let counted = server
        .post("/v1/messages/count_tokens", json!({"model": "mini", "messages": body["messages"]}))
        .await
        .json();
    let usage = server.post("/v1/messages", &body).await.json()["usage"].clone();
    assert_eq!(
        counted["input_tokens"].as_u64(),
        usage["input_tokens"].as_u64().map(|n| n + usage["cache_read_input_tokens"].as_u64().unwrap())
    );
}

#[tokio::test]
async fn models_health_and_metrics_tell_of_what_is_loaded() {
    let server = Server::new();
    assert_eq!(server.get("/health").await.json()["models"]["mini"], "not loaded");
    assert_eq!(server.get("/api/ps").await.json()["models"], json!([]));
    server.post("/v1/chat/completions", sum()).await;
    assert_eq!(server.get("/health").await.json(), json!({"status": "ok", "models": {"mini": "loaded"}}));
    let models = server.get("/v1/models").await.json();
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["object"]), (&json!("mini"), &json!("model")));
    assert_eq!(server.get("/v1/models/mini").await.json(), models["data"][0]);
    let (tag, running) = (server.get("/api/tags").await.json(), server.get("/api/ps").await.json());
    let (tag, running) = (&tag["models"][0], &running["models"][0]);
    assert_eq!((&tag["name"], &running["name"]), (&json!("mini"), &json!("mini")));
    // Ollama's program shows the first 12 digits and does not look whether they are there.
    assert_eq!((tag["digest"].as_str().unwrap().len(), &tag["digest"]), (64, &running["digest"]));
    // Decades away, which is what that program calls for ever.
    assert!(running["expires_at"].as_str().unwrap() > "2100", "{running}");
    let text = server.get("/metrics").await.body;
    for line in [
        "vllm:request_success_total{model_name=\"mini\",finished_reason=\"stop\"} 1",
        "vllm:num_requests_running{model_name=\"mini\"} 0",
        "vllm:time_to_first_token_seconds_count{model_name=\"mini\"} 1",
        "vllm:request_queue_time_seconds_count{model_name=\"mini\"} 1",
        "vllm:request_prefill_time_seconds_count{model_name=\"mini\"} 1",
        "vllm:request_decode_time_seconds_count{model_name=\"mini\"} 1",
        "vllm:inter_token_latency_seconds_count{model_name=\"mini\"} 38",
        "vllm:e2e_request_latency_seconds_count{model_name=\"mini\"} 1",
        "vllm:generation_tokens_total{model_name=\"mini\"} 39",
        "vllm:prefix_cache_hits_total{model_name=\"mini\"} 0",
        "sampan_memory_bytes{model_name=\"mini\",kind=\"kv\"} 0",
        "# TYPE vllm:prefix_cache_queries counter",
        "# TYPE vllm:num_requests_waiting gauge",
        "# TYPE vllm:time_to_first_token_seconds histogram",
        "# TYPE sampan_read_bytes counter",
        "http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\",status=\"200\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    // What only grows is a counter: a gauge under such a name makes rates go wrong after a restart.
    for line in text.lines().filter(|l| l.starts_with("# TYPE") && !l.ends_with(" counter")) {
        assert!(!line.contains("_total "), "{line}");
    }
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // Nobody waited, and the prompt took its time.
    let (queue, prefill) =
        (value("vllm:request_queue_time_seconds_sum"), value("vllm:request_prefill_time_seconds_sum"));
    assert!(queue < prefill, "{queue} {prefill}");
    let kind = |kind: &str| value(&format!("sampan_memory_bytes{{model_name=\"mini\",kind=\"{kind}\"}}"));
    assert!(kind("weights") > 1e6 && kind("cache") > 0.0 && kind("scratch") > 0.0);
    // A step reads the weights at least (without an embedding that is only looked up in).
    assert!(value("sampan_read_bytes_total") > 0.5 * kind("weights") * value("sampan_engine_steps_total"));
}

#[tokio::test]
async fn every_route_is_described() {
    let server = Server::new();
    let api = server.get("/openapi.json").await.json();
    for path in crate::routes::PATHS.iter().filter(|path| **path != "/") {
        assert!(api["paths"][path].is_object(), "{path} is not in openapi.json");
    }
    assert_eq!(api["paths"].as_object().unwrap().len(), crate::routes::PATHS.len() - 1);
}

#[tokio::test]
async fn every_example_of_the_description_is_taken_and_every_field_known() {
    let server = Server::new();
    let api = server.get("/openapi.json").await.json();
    let paths = api["paths"].as_object().unwrap();
    let tags: Vec<&Value> = api["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    for (path, methods) in paths {
        let described = methods.as_object().unwrap();
        for (method, operation) in described {
            let place = format!("{method} {path}");
            assert!(tags.contains(&&operation["tags"][0]) && operation["summary"].is_string(), "{place}");
            let method = method.to_uppercase();
            // What changes the machine is tested with a hub of its own.
            if ["/api/pull", "/api/delete"].contains(&path.as_str()) {
                continue;
            }
            let content = &operation["requestBody"]["content"]["application/json"];
            let example = &content["example"];
            let body = if example.is_null() { String::new() } else { example.to_string() };
            let asked = path.replace("{name}", "mini");
            let reply = server.send(super::request(&method, &asked).body(body.into()).unwrap()).await;
            assert!(operation["responses"][reply.status.to_string()].is_object(), "{place}: {reply:?}");
            // `mini` has no words to rank with, and this server has no folder of adapters.
            let unsuited = (reply.body.contains("unsuited_model")
                && (path.ends_with("rerank") || path.ends_with("score")))
                || path.ends_with("_lora_adapter");
            let refused = unsuited || operation["responses"]["501"].is_object();
            assert!(reply.status == 200 || refused, "{place}: {reply:?}");
            for (name, _) in content["schema"]["properties"].as_object().into_iter().flatten() {
                // Of a field of the wrong type it is said what is wrong with it; an unknown one is called unknown.
                let wrong = with(example, json!({name: {"no": ["such", "thing"]}}));
                let reply = server
                    .send(super::request(&method, &asked).body(wrong.to_string().into()).unwrap())
                    .await;
                let unknown = format!("{name} is not known here");
                assert!(!reply.body.contains(&unknown), "{place}: {reply:?}");
            }
            for name in content["schema"]["required"].as_array().into_iter().flatten() {
                let mut less = example.clone();
                less.as_object_mut().unwrap().remove(name.as_str().unwrap());
                let reply =
                    server.send(super::request(&method, &asked).body(less.to_string().into()).unwrap()).await;
                assert_eq!(reply.status, 400, "{place} without {name}: {reply:?}");
            }
        }
    }
}
