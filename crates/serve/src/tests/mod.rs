//! Every route and every refusal, asked in this process of a server with `mini`.

mod adapters;
mod continued;
mod dialects;
mod edge;
mod formats;
mod fuzz;
mod operations;
mod rank;
mod refused;
mod requests;
mod routes;
mod scores;
mod shapes;
mod sockets;
mod store;
mod streams;

use crate::app::{App, router};
use crate::edge::Key;
use crate::options::ServeOptions;
use crate::registry::Named;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use sampan_facade::LoadOptions;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::watch;
use tower::ServiceExt;

/// A server without a socket.
pub(super) struct Server {
    router: Router,
    pub(super) app: Arc<App>,
    pub(super) stop: watch::Sender<bool>,
}

/// What a server says.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Reply {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The data of server-sent events, or the lines, without what ends the stream.
    pub(super) fn frames(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| match line.strip_prefix("data: ") {
            Some("[DONE]") => None,
            Some(data) => Some(data),
            None => Some(line).filter(|line| line.starts_with('{')),
        });
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// With `mini`, and what tests can do without.
fn options() -> ServeOptions {
    let load = LoadOptions { streams: 4, threads: Some(1), check_memory: false, ..LoadOptions::default() };
    ServeOptions { lazy: true, ..ServeOptions::new(vec![Named::parse("mini")], load) }
}

impl Server {
    pub(super) fn new() -> Server {
        Server::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut ServeOptions)) -> Server {
        let mut options = options();
        change(&mut options);
        let (stop, stopping) = watch::channel(false);
        Server::of(App::new(&options, stopping).unwrap(), stop)
    }

    /// A server whose model is loaded before its world changes.
    pub(super) async fn loaded(change: impl FnOnce(&mut App)) -> Server {
        let (stop, stopping) = watch::channel(false);
        // Much is promised that is not yet taken.
        let mut options = options();
        options.load.pool = Some(4 << 20);
        let mut app = App::new(&options, stopping).unwrap();
        app.registry.get(None).await.unwrap();
        change(&mut app);
        Server::of(app, stop)
    }

    fn of(app: App, stop: watch::Sender<bool>) -> Server {
        let app = Arc::new(app);
        Server { router: router(app.clone()), app, stop }
    }

    /// Sends a request and waits for all of the answer.
    pub(super) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body: Bytes = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(super) async fn post(&self, path: &str, body: impl ToString) -> Reply {
        self.send(request("POST", path).body(body.to_string().into()).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send(request("GET", path).body(Body::empty()).unwrap()).await
    }
}

pub(super) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:8080")
}

/// A greedy question to which `mini` knows the answer.
pub(super) fn sum() -> Value {
    serde_json::json!({"model": "mini", "messages": [{"role": "user", "content": "3 + 4"}], "temperature": 0})
}

/// `object` with the fields of `more`.
pub(super) fn with(object: &Value, more: Value) -> Value {
    let mut object = object.clone();
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

/// A key named `ann`.
pub(super) fn key() -> Key {
    Key::new("ann", "secret")
}
