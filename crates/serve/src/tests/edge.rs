//! Who gets in, and how much of them.

use super::{Server, key, request, sum};
use axum::body::Body;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn every_route_is_behind_the_key() {
    let server = Server::with(|options| options.keys = vec![key()]);
    for path in crate::routes::PATHS.iter().filter(|path| !crate::page::is_file(path)) {
        for method in ["GET", "POST"] {
            for (header, value) in
                [("x-other", ""), ("authorization", "Bearer wrong"), ("x-api-key", "secre")]
            {
                let request = request(method, path).header(header, value).body(Body::from("{}")).unwrap();
                let reply = server.send(request).await;
                assert_eq!(reply.status, 401, "{method} {path} {header}: {reply:?}");
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
            }
        }
    }
    let request = request("GET", "/v1/models").header("authorization", "Bearer secret").body(Body::empty());
    assert_eq!(server.send(request.unwrap()).await.status, 200);
}

#[tokio::test]
async fn other_hosts_and_origins_are_turned_away() {
    let server = Server::with(|options| options.origins = vec!["https://chat.example".into()]);
    let send = async |host: &str, origin: &str, method: &str| {
        let request = axum::http::Request::builder().method(method).uri("/v1/models").header("host", host);
        let request = if origin.is_empty() { request } else { request.header("origin", origin) };
        server.send(request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(send("evil.example", "", "GET").await.status, 403);
    assert_eq!(send("localhost", "https://evil.example", "GET").await.status, 403);
    assert_eq!(send("localhost", "https://evil.example", "OPTIONS").await.status, 403);
    let reply = send("localhost", "https://chat.example", "GET").await;
    assert_eq!(reply.headers["access-control-allow-origin"], "https://chat.example");
    let reply = send("localhost", "https://chat.example", "OPTIONS").await;
    assert_eq!(
        (reply.status, &reply.headers["access-control-allow-methods"].to_str().unwrap()[..3]),
        (204, "GET")
    );
    let asks = "authorization,x-stainless-lang,anthropic-dangerous-direct-browser-access";
    let request = request("OPTIONS", "/v1/chat/completions").header("origin", "https://chat.example");
    let request = request.header("access-control-request-headers", asks);
    let request = request.header("access-control-request-private-network", "true");
    let reply = server.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(
        reply.headers["access-control-allow-headers"], asks,
        "what clients tell of themselves is let in"
    );
    assert_eq!(reply.headers["access-control-allow-private-network"], "true");
    let reply = send("localhost", "", "GET").await;
    assert!(reply.status == 200 && !reply.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_coded_body_is_refused_as_such() {
    let server = Server::new();
    for (coding, status) in [("gzip", 415), ("br", 415), ("identity", 200)] {
        let request = request("POST", "/v1/chat/completions").header("content-encoding", coding);
        let reply = server.send(request.body(Body::from(sum().to_string())).unwrap()).await;
        assert_eq!(reply.status, status, "{coding}: {reply:?}");
        assert_eq!(reply.body.contains("without content-encoding"), status == 415, "{reply:?}");
    }
}

#[tokio::test]
async fn bodies_have_a_limit_of_size() {
    let server = Server::with(|options| options.limits.body = 1000);
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(2000)}]}).to_string();
    for stated in [true, false] {
        let request = request("POST", "/v1/chat/completions");
        let request = if stated { request.header("content-length", long.len()) } else { request };
        let reply = server.send(request.body(Body::from(long.clone())).unwrap()).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (413, &json!("body_too_large")));
    }
}

#[tokio::test]
async fn a_key_has_as_many_requests_at_a_time_as_it_may() {
    let server = Server::with(|options| {
        let mut key = key();
        key.concurrent = Some(1);
        options.keys = vec![key];
    });
    let ask = || {
        let body = super::with(&sum(), json!({"stream": true, "max_tokens": 5}));
        let request = request("POST", "/v1/chat/completions").header("x-api-key", "secret");
        request.body(Body::from(body.to_string())).unwrap()
    };
    // The first one's body is not read: it is still being answered.
    let first = tower::ServiceExt::oneshot(server.router.clone(), ask()).await.unwrap();
    let reply = server.send(ask()).await;
    assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (429, true), "{reply:?}");
    drop(first);
    assert_eq!(server.send(ask()).await.status, 200);
}

#[tokio::test]
async fn a_full_queue_refuses_with_numbers_and_a_time() {
    let server = Server::with(|options| options.load.streams = 1);
    let body = json!({"prompt": vec!["x"; 200], "max_tokens": 200, "ignore_eos": true, "n": 2}).to_string();
    let reply = server.post("/v1/completions", body).await;
    assert_eq!(reply.status, 429, "{reply:?}");
    assert!(reply.headers.contains_key("retry-after"));
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("are waiting"));
    // Nothing of it is left behind.
    for _ in 0..500 {
        let stats = server.app.registry.get(None).await.unwrap().engine().unwrap().stats();
        if (stats.running, stats.waiting) == (0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("requests of nobody are still there");
}

#[tokio::test]
async fn models_leave_memory_when_their_time_has_come() {
    let server = Server::new();
    let body = json!({"model": "mini", "prompt": "x", "stream": false, "keep_alive": 0, "options": {"num_predict": 1}});
    assert_eq!(server.post("/api/generate", body).await.status, 200);
    // The answer's own hold on the model ends with its body.
    for _ in 0..100 {
        server.app.registry.sweep();
        if server.get("/api/ps").await.json()["models"] == json!([]) {
            assert_eq!(server.post("/v1/chat/completions", sum()).await.status, 200);
            // What was said of its first time in memory is not said of the second.
            server.app.registry.sweep();
            assert_eq!(server.get("/api/ps").await.json()["models"][0]["name"], "mini");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the model is still there");
}
