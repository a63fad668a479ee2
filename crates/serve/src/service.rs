//! Routes about the server itself.

use crate::app::{App, unknown_route};
use crate::failure::Failure;
use crate::page as files;
use crate::registry::{Listed, ListedAdapter};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A JSON body.
pub(crate) fn json_body(value: &Value) -> Response {
    let mut response = value.to_string().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Whether the server does what it was started for, and if not, why. 200 when every model and adapter named at the start has
/// been in memory (where models are loaded when they are asked for: at once), 503 before that, and when one cannot be loaded
/// or answers no more.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let models = app.registry.list();
    let adapters = app.registry.list_adapters();
    let status = readiness(&models, &adapters, app.lazy);
    let state = |l: &Listed| match (&l.loaded, &l.failed) {
        (Some(_), _) => json!("loaded"),
        (None, Some(failure)) => json!({"failed": failure.message}),
        (None, None) => json!(if l.loading { "loading" } else { "not loaded" }),
    };
    let list: Map<String, Value> = models.iter().map(|l| (l.name.clone(), state(l))).collect();
    let mut body = json!({"status": status, "models": list});
    let adapter = |l: &ListedAdapter| match (&l.failed, &l.model) {
        (Some(failure), _) => json!({"failed": failure.message}),
        (None, None) => {
            json!({"failed": format!("it was named for {:?}, and there is no such model", l.wanted.as_deref().unwrap_or_default())})
        }
        (None, Some(_)) => json!(if l.loaded { "loaded" } else { "not loaded" }),
    };
    if !adapters.is_empty() {
        let list: Map<String, Value> = adapters.iter().map(|l| (l.name.clone(), adapter(l))).collect();
        body["adapters"] = list.into();
    }
    let progress = |l: &Listed| {
        let (done, all) = l.progress;
        let loading = l.loading && l.loaded.is_none() && all > 0;
        loading.then(|| (l.name.clone(), json!({"bytes": done, "of": all})))
    };
    let progress: Map<String, Value> = models.iter().filter_map(progress).collect();
    if !progress.is_empty() {
        body["progress"] = progress.into();
    }
    let mut response = json_body(&body);
    if status != "ok" {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(2));
    }
    response
}

/// `ok`, `loading` or `failed`. Where models are loaded on demand, one that cannot be loaded is no reason to send the
/// requests for the others elsewhere.
fn readiness(models: &[Listed], adapters: &[ListedAdapter], lazy: bool) -> &'static str {
    let failed = |l: &Listed| l.failed.is_some();
    let unusable = |l: &ListedAdapter| l.failed.is_some() || l.model.is_none();
    let bad = match lazy {
        true => !models.is_empty() && models.iter().all(failed),
        false => models.iter().any(failed) || adapters.iter().any(unusable),
    };
    let unseen = || models.iter().any(|l| !l.seen) || adapters.iter().any(|l| !l.seen);
    match bad {
        true => "failed",
        false if !lazy && unseen() => "loading",
        false => "ok",
    }
}

/// Answers that are being made or wait, as vLLM tells those who spread requests over servers.
pub(crate) async fn load(State(app): State<Arc<App>>) -> Response {
    let models = app.registry.list();
    let engines = models.iter().filter_map(|listed| listed.loaded.as_ref()?.engine());
    let load: usize = engines.map(|engine| engine.stats()).map(|stats| stats.running + stats.waiting).sum();
    json_body(&json!({"server_load": load}))
}

/// What llama.cpp tells of the model that answers requests which name none.
pub(crate) async fn props(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let loaded = app.registry.get(None).await?;
    let (speech, tokenizer) = (&loaded.speech, &loaded.speech.tokenizer);
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    Ok(json_body(&json!({
        "default_generation_settings": {"n_ctx": loaded.prepared.context},
        "total_slots": app.registry.options.streams,
        "model_alias": loaded.name,
        "model_path": loaded.prepared.name,
        "modalities": {"vision": false, "audio": false},
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos().first().copied()),
        "chat_template": speech.template(false).ok().map(sampan_text::ChatTemplate::source),
        "build_info": concat!("sampan ", env!("CARGO_PKG_VERSION")),
    })))
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
    files::get(path, request.headers()).ok_or_else(|| unknown_route(path))
}
