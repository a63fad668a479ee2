//! Routes about the server itself.

use crate::app::App;
use crate::failure::Failure;
use crate::page as files;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// A JSON body.
pub(crate) fn json_body(value: &Value) -> Response {
    let mut response = value.to_string().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 when at least one model is in memory, or none has yet been asked for; 503 while the first is being loaded or cannot
/// be.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let models = app.registry.list();
    let state = |l: &crate::registry::Listed| match (&l.loaded, &l.failed) {
        (Some(_), _) => json!("loaded"),
        (None, Some(failure)) => json!({"failed": failure.message}),
        (None, None) => json!(if l.loading { "loading" } else { "not loaded" }),
    };
    let list: serde_json::Map<String, Value> = models.iter().map(|l| (l.name.clone(), state(l))).collect();
    let ready =
        models.iter().any(|l| l.loaded.is_some()) || models.iter().all(|l| !l.loading && l.failed.is_none());
    let status = if ready { "ok" } else { "not ready" };
    let mut response = json_body(&json!({"status": status, "models": list}));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(2));
    }
    response
}

/// Prometheus text.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut response = app.metrics.text(&app.registry).into_response();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What can be asked, for programs.
pub(crate) async fn openapi() -> Response {
    let mut response = include_str!("openapi.json").into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A file of the web page.
pub(crate) async fn page(request: Request) -> Result<Response, Failure> {
    let path = request.uri().path();
    files::get(path, request.headers()).ok_or_else(|| {
        let message = format!("there is no {path} here; /openapi.json lists what there is");
        Failure::new(StatusCode::NOT_FOUND, "unknown_route", message)
    })
}
