//! Models pulled and deleted by request.

use super::{Reply, Server, request};
use crate::edge::Key;
use axum::body::Body;
use sampan_fixtures::hub::{FakeHub, Fault};
use sampan_hub::HubOptions;
use serde_json::{Value, json};
use std::time::Duration;

/// A hub with a model, and a server on a machine that has none.
struct World {
    hub: FakeHub,
    _folder: tempfile::TempDir,
    options: HubOptions,
}

const MODEL: &str = "tiny/mini-GGUF:Q8_0";

impl World {
    fn new() -> World {
        let (hub, folder) = (FakeHub::new(), tempfile::tempdir().unwrap());
        let mini = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../facade/assets/mini.gguf")).unwrap();
        hub.publish("tiny/mini-GGUF", &[("mini-Q8_0.gguf", &mini)]);
        hub.publish("tiny/broken-GGUF", &[("broken-Q8_0.gguf", &[7; 9000])]);
        let options = HubOptions {
            cache: Some(folder.path().join("hub")),
            own: Some(folder.path().join("own")),
            endpoint: hub.url(),
            attempts: 2,
            first_wait: Duration::from_millis(1),
            ..HubOptions::default()
        };
        World { hub, _folder: folder, options }
    }

    fn server(&self) -> Server {
        Server::with(|options| options.hub = Some(self.options.clone()))
    }
}

async fn delete(server: &Server, model: &str, key: &str) -> Reply {
    let request = request("DELETE", "/api/delete").header("x-api-key", key);
    server.send(request.body(Body::from(json!({"model": model}).to_string())).unwrap()).await
}

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "3 + 4"}], "temperature": 0})
}

#[tokio::test]
async fn a_model_is_pulled_asked_and_deleted() {
    let world = World::new();
    let server = world.server();
    assert_eq!(server.post("/v1/chat/completions", ask(MODEL)).await.status, 404);
    let reply = server.post("/api/pull", json!({"model": MODEL})).await;
    assert_eq!(
        (reply.status, &reply.headers["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    let steps = reply.frames();
    assert_eq!(steps[0]["status"], "pulling manifest");
    assert_eq!(steps.last().unwrap(), &json!({"status": "success"}));
    let whole = steps.iter().find(|s| s["total"].is_u64() && s["completed"] == s["total"]).unwrap();
    assert!(
        whole["status"] == "pulling mini-Q8_0.gguf" && whole["total"].as_u64() > Some(1 << 20),
        "{whole}"
    );
    assert!(steps.iter().any(|s| s["status"] == "verifying mini-Q8_0.gguf"));
    let answer = server.post("/v1/chat/completions", ask(MODEL)).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "3 + 4 = 7");
    let names: Vec<Value> = server.get("/api/tags").await.json()["models"].as_array().unwrap().clone();
    assert!(names.iter().any(|m| m["name"] == MODEL));
    // What is there is not fetched again, and in one piece it says the same.
    let sent = world.hub.sent();
    let again = server.post("/api/pull", json!({"name": MODEL, "stream": false})).await;
    assert_eq!((again.json(), world.hub.sent()), (json!({"status": "success"}), sent));
    assert_eq!(delete(&server, MODEL, "").await.status, 200);
    assert_eq!(server.post("/v1/chat/completions", ask(MODEL)).await.status, 404);
    assert_eq!(delete(&server, MODEL, "").await.status, 404);
    assert_eq!(delete(&server, "mini", "").await.status, 400);
    assert_eq!(server.post("/v1/chat/completions", ask("mini")).await.status, 200);
}

#[tokio::test]
async fn a_pull_that_fails_says_why() {
    let world = World::new();
    let server = world.server();
    for (model, status, part) in [
        ("tiny/absent-GGUF", 404, "tiny/absent-GGUF"),
        ("../../etc/passwd", 400, "one slash"),
        ("tiny/mini-GGUF:Q2_K", 400, "Q8_0"),
        ("tiny/broken-GGUF", 500, "broken"),
    ] {
        let reply = server.post("/api/pull", json!({"model": model, "stream": false})).await;
        let error = reply.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(reply.status == status && error.contains(part), "{model}: {reply:?}");
        assert_eq!(server.get("/v1/models").await.json()["data"].as_array().unwrap().len(), 1);
    }
    world.hub.fault("/storage/", Fault::Wrong, 9);
    let steps = server.post("/api/pull", json!({"model": MODEL})).await.frames();
    let error = steps.last().unwrap()["error"].as_str().unwrap_or_default();
    assert!(error.contains("sha256"), "{steps:?}");
    for path in ["/api/copy", "/api/create", "/api/push"] {
        let reply = server.post(path, json!({"model": "mini"})).await;
        assert!(reply.status == 501 && reply.json()["error"].as_str().unwrap().contains(path), "{reply:?}");
    }
    let reply = Server::new().post("/api/pull", json!({"model": MODEL})).await;
    assert_eq!(reply.status, 501, "without a store: {reply:?}");
}

#[tokio::test]
async fn other_machines_need_a_key_that_says_so() {
    let world = World::new();
    let keys = || Key::parse_all("secret name=ann\nmaster name=ben admin").unwrap();
    for (address, key, allowed) in
        [([0, 0, 0, 0], "secret", false), ([0, 0, 0, 0], "master", true), ([127, 0, 0, 1], "secret", true)]
    {
        let server = Server::with(|options| {
            options.hub = Some(world.options.clone());
            options.keys = keys();
            options.address = (address, 0).into();
        });
        let body = Body::from(json!({"model": MODEL, "stream": false}).to_string());
        let reply =
            server.send(request("POST", "/api/pull").header("x-api-key", key).body(body).unwrap()).await;
        assert_eq!(reply.status, if allowed { 200 } else { 403 }, "{address:?} {key}: {reply:?}");
        let reply = delete(&server, MODEL, key).await;
        assert_eq!(reply.status, if allowed { 200 } else { 403 }, "{address:?} {key}: {reply:?}");
    }
}
