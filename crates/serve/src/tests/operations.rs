//! What whoever runs the server is told, and what it does when the machine or a model lets it down.

use super::{Server, request, sum};
use crate::app::App;
use crate::registry::Named;
use axum::body::Body;
use sampan_engine::{Request, TokenFilter};
use sampan_facade::machine;
use serde_json::json;
use std::time::Duration;

/// Status, word, and what is said of the model.
async fn health(server: &Server) -> (u16, String, String) {
    let reply = server.get("/health").await;
    let body = reply.json();
    assert_eq!(reply.headers.contains_key("retry-after"), reply.status == 503, "{reply:?}");
    (reply.status, body["status"].as_str().unwrap().to_owned(), body["models"]["mini"].to_string())
}

#[tokio::test]
async fn a_server_is_ready_when_what_it_was_started_with_is_loaded() {
    let server = Server::with(|options| {
        options.lazy = false;
        options.models.push(Named::parse("other=mini"));
    });
    // Before anything has begun to load, and when half of it has.
    assert_eq!(health(&server).await, (503, "loading".into(), "\"not loaded\"".into()));
    server.app.registry.get(Some("mini")).await.unwrap();
    assert_eq!(health(&server).await, (503, "loading".into(), "\"loaded\"".into()));
    server.app.registry.get(Some("other")).await.unwrap();
    assert_eq!(health(&server).await, (200, "ok".into(), "\"loaded\"".into()));
    // One that has been unloaded in between is not missing.
    let body = json!({"model": "mini", "messages": [], "keep_alive": 0});
    assert_eq!(server.post("/api/chat", body).await.status, 200);
    server.app.registry.sweep();
    assert_eq!(health(&server).await, (200, "ok".into(), "\"not loaded\"".into()));
}

#[tokio::test]
async fn a_server_that_loads_on_demand_is_ready_at_once_and_one_bad_model_does_not_change_that() {
    let missing = || Named::parse("missing=/nowhere/x.gguf");
    for (lazy, both, word) in [(true, true, "ok"), (true, false, "failed"), (false, true, "failed")] {
        let server = Server::with(|options| {
            options.lazy = lazy;
            options.models = if both { vec![Named::parse("mini"), missing()] } else { vec![missing()] };
        });
        assert_eq!(health(&server).await.1, if lazy { "ok" } else { "loading" });
        let reply = server.post("/v1/completions", json!({"model": "missing", "prompt": "x"})).await;
        assert!(reply.status >= 500 && reply.body.contains("/nowhere/x.gguf"), "{reply:?}");
        assert_eq!(health(&server).await.1, word, "lazy {lazy}, both {both}");
        if both {
            assert_eq!(server.post("/v1/chat/completions", sum()).await.status, 200);
        }
    }
}

/// Brings the engine's thread down.
#[derive(Clone, Debug)]
struct Faulty;

impl TokenFilter for Faulty {
    fn mask(&mut self) -> Result<Option<&[u32]>, String> {
        panic!("a fault of this test")
    }

    fn accepts(&mut self) -> bool {
        true
    }

    fn commit(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn TokenFilter> {
        Box::new(self.clone())
    }
}

#[tokio::test]
async fn an_engine_that_fails_is_told_of_and_comes_back() {
    let server = Server::new();
    let loaded = server.app.registry.get(None).await.unwrap();
    let under_way = super::with(&sum(), json!({"max_tokens": 4000, "ignore_eos": true, "stream": true}));
    let under_way = request("POST", "/v1/chat/completions").body(Body::from(under_way.to_string())).unwrap();
    let under_way = tokio::spawn({
        let router = server.router.clone();
        async move {
            let response = tower::ServiceExt::oneshot(router, under_way).await.unwrap();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
            String::from_utf8(body.to_bytes().to_vec()).unwrap()
        }
    });
    while loaded.worker().unwrap().stats().running == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let fault = Request { filter: Some(Box::new(Faulty)), ..Request::new(vec![1], 64, 64) };
    let mut running = loaded.worker().unwrap().submit(fault).await.unwrap();
    while running.next().await.is_some() {}
    assert!(under_way.await.unwrap().contains("the engine has failed"));
    let (status, word, why) = health(&server).await;
    assert!(status == 503 && word == "failed" && why.contains("engine has failed"), "{why}");
    assert!(server.get("/metrics").await.body.contains("sampan_model_loaded{model_name=\"mini\"} 0"));
    server.app.registry.revive().await;
    assert_eq!(health(&server).await, (200, "ok".into(), "\"loaded\"".into()));
    assert_eq!(server.post("/v1/chat/completions", sum()).await.status, 200);
}

#[tokio::test]
async fn requests_wait_in_a_queue_of_the_stated_length() {
    let server = Server::with(|options| {
        options.load.streams = 1;
        options.load.waiting = 1;
    });
    let body = json!({"prompt": "x", "max_tokens": 3000, "ignore_eos": true, "stream": true});
    let ask = || request("POST", "/v1/completions").body(Body::from(body.to_string())).unwrap();
    let open = async || tower::ServiceExt::oneshot(server.router.clone(), ask()).await.unwrap();
    let (first, second, third) = (open().await, open().await, open().await);
    assert_eq!([first.status(), second.status()], [200, 200]);
    assert_eq!(third.status(), 429);
    assert!(third.headers().contains_key("retry-after"));
    drop(first);
    for _ in 0..200 {
        if open().await.status() == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the queue does not move");
}

#[tokio::test]
async fn a_request_that_memory_has_no_room_for_is_refused_with_the_numbers() {
    let server = Server::loaded(|app: &mut App| {
        // Other programs have taken what was free when the model was loaded.
        app.registry.options.check_memory = true;
        app.registry.options.memory = machine::resident();
    })
    .await;
    let ask = |tokens: usize| json!({"prompt": "x", "max_tokens": tokens, "ignore_eos": true});
    let reply = server.post("/v1/completions", ask(8000)).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!("out_of_memory")), "{reply:?}");
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("MiB more") && message.contains("MiB left"), "{message}");
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn memory_that_one_model_was_promised_is_not_given_to_another() {
    let options = |options: &mut crate::ServeOptions| {
        options.models = vec![Named::parse("one=mini"), Named::parse("two=mini")];
        options.load.check_memory = true;
        options.load.pool = Some(4 << 20);
    };
    let server = Server::with(options);
    let one = server.app.registry.get(Some("one")).await.unwrap();
    let planned = one.prepared.memory.total() as u64;
    assert!(planned > 4 * machine::resident().unwrap(), "the pool is large beside everything else");
    let server = Server::with(|o| {
        options(o);
        o.load.memory = Some(planned + planned / 2);
    });
    let one = server.app.registry.get(Some("one")).await.unwrap();
    let failure = server.app.registry.get(Some("two")).await.unwrap_err();
    assert_eq!((failure.status.as_u16(), failure.code), (503, "out_of_memory"), "{failure:?}");
    // When nobody has the first one any more it makes room.
    drop(one);
    server.app.registry.get(Some("two")).await.unwrap();
    assert!(server.app.registry.listed("one").unwrap().loaded.is_none());
}
