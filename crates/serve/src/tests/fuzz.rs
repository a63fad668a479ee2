//! What strangers may send: never a panic, never the server's fault.

use super::requests::{LENGTHS, is_the_servers_fault, places, requests};
use super::{Server, request};
use axum::body::Body;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

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

/// Sends a body and reads all of the answer: it is done, or it is the client's fault; or there is no such model's memory.
async fn check(server: &Server, path: &str, body: String) {
    let sent = request("POST", path).body(Body::from(body.clone())).unwrap();
    let reply = tokio::time::timeout(std::time::Duration::from_secs(60), server.send(sent)).await;
    let reply = reply.unwrap_or_else(|_| panic!("{path} {body} does not end"));
    assert!(!is_the_servers_fault(reply.status, &reply.body), "{path} {body}: {reply:?}");
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
        let may = ["suffix", "rerank", "score", "lora"]
            .iter()
            .any(|word| path.contains(word) || body.get(word).is_some());
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
        if LENGTHS.contains(&place.as_str()) {
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
