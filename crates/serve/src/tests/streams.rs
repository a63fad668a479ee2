//! Answers as they come, in every dialect; and answers that nobody waits for any more.

use super::{Server, request, sum, with};
use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;

fn join<'a>(frames: &'a [Value], place: &str) -> String {
    let text = |frame: &'a Value| frame.pointer(place).and_then(Value::as_str);
    frames.iter().filter_map(text).collect()
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let server = Server::new();
    let story = json!({"model": "mini", "temperature": 0, "max_tokens": 24,
        "messages": [{"role": "user", "content": "What is the capital of France?"}]});
    let whole = server.post("/v1/chat/completions", &story).await.json();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let ollama = json!({"model": "mini", "messages": story["messages"], "options": {"temperature": 0, "num_predict": 24}});
    let responses =
        json!({"input": story["messages"], "temperature": 0, "max_output_tokens": 24, "stream": true});
    let stream = json!({"stream": true});
    for (path, body, place) in [
        ("/v1/chat/completions", with(&story, stream.clone()), "/choices/0/delta/content"),
        ("/v1/messages", with(&story, stream.clone()), "/delta/text"),
        ("/v1/responses", responses, "/delta"),
        ("/api/chat", ollama, "/message/content"),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let frames = reply.frames();
        assert_eq!(join(&frames, place), text, "{path}: {}", reply.body);
        assert!(frames.len() > 3, "{path} came in one piece");
    }
    let prompt = json!({"prompt": "3 + 4", "temperature": 0, "max_tokens": 8, "logprobs": 1});
    let whole = server.post("/v1/completions", &prompt).await.json()["choices"][0].clone();
    let frames = server.post("/v1/completions", with(&prompt, stream)).await.frames();
    assert_eq!(join(&frames, "/choices/0/text"), whole["text"].as_str().unwrap());
    let tokens: Vec<&Value> =
        frames.iter().filter_map(|f| f.pointer("/choices/0/logprobs/tokens")?.as_array()).flatten().collect();
    assert_eq!(json!(tokens), whole["logprobs"]["tokens"]);
}

#[tokio::test]
async fn streams_begin_and_end_as_clients_expect() {
    let server = Server::new();
    let more = json!({"stream": true, "stream_options": {"include_usage": true}, "n": 2});
    let reply = server.post("/v1/chat/completions", with(&sum(), more)).await;
    assert!(reply.body.ends_with("data: [DONE]\n\n"));
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let frames = reply.frames();
    assert_eq!(frames[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let last = frames.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(80)));
    let reasons = frames.iter().filter(|f| f["choices"][0]["finish_reason"] == "stop").count();
    assert_eq!(reasons, 2);

    let body = json!({"model": "mini", "max_tokens": 60, "stream": true, "messages": [{"role": "user", "content": "3 + 4"}]});
    let reply = server.post("/v1/messages", body).await;
    let names: Vec<&str> = reply.body.lines().filter_map(|l| l.strip_prefix("event: ")).collect();
    assert_eq!(names[..2], ["message_start", "content_block_start"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);

    let reply = server.post("/v1/responses", json!({"input": "3 + 4", "stream": true})).await;
    let names: Vec<&str> = reply.body.lines().filter_map(|l| l.strip_prefix("event: ")).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("response.created", "response.completed"));
    let numbers: Vec<u64> = reply.frames().iter().map(|f| f["sequence_number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().enumerate().all(|(i, n)| i as u64 == *n));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request_and_no_other() {
    let server = Server::new();
    let long = json!({"prompt": "x", "max_tokens": 20000, "ignore_eos": true, "stream": true}).to_string();
    let request = request("POST", "/v1/completions").body(Body::from(long)).unwrap();
    let mut gone = tower::ServiceExt::oneshot(server.router.clone(), request).await.unwrap().into_body();
    assert!(gone.frame().await.is_some());
    let stays = server.post("/v1/chat/completions", sum());
    drop(gone);
    assert_eq!(stays.await.json()["choices"][0]["message"]["content"], "3 + 4 = 7");
    let engine = server.app.registry.get(None).await.unwrap();
    for _ in 0..500 {
        if engine.engine().unwrap().stats().running == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the request of the client that has gone is still running");
}

#[tokio::test]
async fn at_the_end_answers_under_way_are_told() {
    let server = Server::new();
    let long = json!({"prompt": "x", "max_tokens": 20000, "ignore_eos": true, "stream": true}).to_string();
    let request = request("POST", "/v1/completions").body(Body::from(long)).unwrap();
    let mut body = tower::ServiceExt::oneshot(server.router.clone(), request).await.unwrap().into_body();
    assert!(body.frame().await.is_some());
    server.stop.send(true).unwrap();
    let rest = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(rest.contains("shutting_down"), "{rest}");
    let reply = server.post("/v1/chat/completions", sum()).await;
    assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (503, true));
}

#[tokio::test]
async fn answers_are_the_same_alone_and_in_company() {
    let server = Server::new();
    let ask = |question: &str| {
        let body = json!({"messages": [{"role": "user", "content": question}], "max_tokens": 16, "temperature": 1, "seed": 7});
        body.to_string()
    };
    let questions =
        ["3 + 4", "12 - 5", "What is the capital of France?", "Tell me a story", "hello", "6 * 7"];
    let mut alone = Vec::new();
    for question in questions {
        alone.push(server.post("/v1/chat/completions", ask(question)).await.json()["choices"].clone());
    }
    let together = questions.map(|question| server.post("/v1/chat/completions", ask(question)));
    for (reply, alone) in futures_util::future::join_all(together).await.into_iter().zip(alone) {
        assert_eq!(reply.json()["choices"], alone);
    }
}
