//! Bodies of every route: whatever they are, the request is done or it is the client's fault. They start from requests that
//! have all that each route takes.

#[path = "../../../crates/serve/src/tests/requests.rs"]
mod requests;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use requests::{LENGTHS, is_the_servers_fault, places};
use sampan_facade::LoadOptions;
use sampan_serve::{Named, ServeOptions};
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tower::ServiceExt;

/// What is put into places; beside these, the input's own text.
fn pieces() -> Vec<Value> {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("\u{0}"),
        json!("<|im_end|>"),
        json!("<think>"),
        json!("auto"),
        json!("none"),
        json!("required"),
        json!("text"),
        json!("assistant"),
        json!("tool"),
        json!([]),
        json!([[]]),
        json!([1, 2, 3]),
        json!(["a"]),
        json!({}),
        json!({"type": "text"}),
        json!({"type": "function"}),
        json!({"type": "text", "text": "a"}),
        json!({"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}),
        json!({"type": "object", "properties": {"a": {"pattern": "(a+)+$"}}}),
        json!({"role": "assistant", "content": "3 +"}),
        json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        deep,
    ]
}

/// An input says which request to start from, and what to put where; or, of another kind, is the body itself.
fn mutate(requests: &[(&'static str, Value)], pieces: &[Value], input: &[u8]) -> (&'static str, String) {
    let [route, kind, rest @ ..] = input else { return ("/v1/completions", String::new()) };
    let (path, mut body) = requests[usize::from(*route) % requests.len()].clone();
    if *kind == 0 {
        return (path, String::from_utf8_lossy(rest).into_owned());
    }
    let (edits, text) = rest.split_at((usize::from(*kind) % 5 * 3).min(rest.len()));
    let text = String::from_utf8_lossy(text);
    for edit in edits.chunks_exact(3) {
        let mut all = Vec::new();
        places(&body, "", &mut all);
        let place = &all[usize::from(u16::from_le_bytes([edit[0], edit[1]])) % all.len().max(1)];
        if LENGTHS.contains(&place.as_str()) {
            continue;
        }
        let value = match pieces.get(usize::from(edit[2])) {
            Some(piece) => piece.clone(),
            None => serde_json::from_str(&text).unwrap_or_else(|_| text.as_ref().into()),
        };
        if let Some(slot) = body.pointer_mut(place) {
            *slot = value;
        }
        if !body.is_object() {
            break;
        }
    }
    (path, body.to_string())
}

#[test]
fn bodies() {
    let (requests, pieces) = (requests::requests(), pieces());
    let load = LoadOptions {
        context: Some(256),
        streams: 1,
        threads: Some(1),
        check_memory: false,
        ..LoadOptions::default()
    };
    let router = sampan_serve::routes(&ServeOptions::new(vec![Named::parse("mini")], load)).expect("mini is there");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let check = |input: &[u8]| {
        let (path, body) = mutate(&requests, &pieces, input);
        let request = Request::builder().method("POST").uri(path).header("host", "localhost");
        let request = request.body(Body::from(body.clone())).expect("a request");
        let answer = async {
            let response = router.clone().oneshot(request).await.expect("an answer");
            let status = response.status().as_u16();
            (status, response.into_body().collect().await.expect("all of it").to_bytes())
        };
        let answer = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), answer).await });
        let (status, answer) = answer.unwrap_or_else(|_| panic!("{path} {body} does not end"));
        let answer = String::from_utf8_lossy(&answer);
        assert!(!is_the_servers_fault(status, &answer), "{path} {body}: {status} {answer}");
    };
    let check = AssertUnwindSafe(check);
    bolero::check!().with_max_len(200).with_iterations(3_000).for_each(move |input: &[u8]| {
        let check = &check;
        check(input);
    });
}
