//! Every route, and the name under which it is counted.

use crate::app::App;
use crate::{anthropic, ollama, openai, rank, service, words};
use axum::Router;
use axum::routing::{delete, get, post};
use std::sync::Arc;

/// All routes.
pub(crate) fn all() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat::handle))
        .route("/v1/completions", post(openai::completions::handle))
        .route("/v1/responses", post(openai::responses::handle))
        .route("/v1/embeddings", post(openai::embeddings::handle))
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*name}", get(openai::models::one))
        .route("/v1/load_lora_adapter", post(openai::models::load_adapter))
        .route("/v1/unload_lora_adapter", post(openai::models::unload_adapter))
        .route("/v1/messages", post(anthropic::handle))
        .route("/v1/messages/count_tokens", post(anthropic::count))
        .route("/api/chat", post(ollama::chat::handle))
        .route("/api/generate", post(ollama::chat::generate))
        .route("/api/tags", get(ollama::models::tags))
        .route("/api/ps", get(ollama::models::ps))
        .route("/api/show", post(ollama::models::show))
        .route("/api/version", get(ollama::models::version))
        .route("/api/embed", post(ollama::models::embed))
        .route("/api/embeddings", post(ollama::models::embeddings))
        .route("/api/pull", post(ollama::store::pull))
        .route("/api/delete", delete(ollama::store::delete))
        .route("/api/copy", post(ollama::store::not_here))
        .route("/api/create", post(ollama::store::not_here))
        .route("/api/push", post(ollama::store::not_here))
        .route("/v1/rerank", post(rank::rerank))
        .route("/v2/rerank", post(rank::rerank))
        .route("/rerank", post(rank::rerank))
        .route("/v1/score", post(rank::score))
        .route("/score", post(rank::score))
        .route("/tokenize", post(words::tokenize))
        .route("/tokenizer_info", get(words::tokenizer_info))
        .route("/detokenize", post(words::detokenize))
        .route("/apply-template", post(words::apply_template))
        .route("/health", get(service::health))
        .route("/v1/health", get(service::health))
        .route("/ping", get(service::health).post(service::health))
        .route("/load", get(service::load))
        .route("/version", get(ollama::models::version))
        .route("/props", get(service::props))
        .route("/metrics", get(service::metrics))
        .route("/openapi.json", get(service::openapi))
        .route("/", get(service::page))
        .route("/{*file}", get(service::page))
}

/// Paths that are counted under their own name.
pub(crate) const PATHS: [&str; 41] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/models",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/tags",
    "/api/ps",
    "/api/show",
    "/api/version",
    "/api/embed",
    "/api/embeddings",
    "/api/pull",
    "/api/delete",
    "/api/copy",
    "/api/create",
    "/api/push",
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
    "/v1/score",
    "/score",
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",
    "/apply-template",
    "/health",
    "/v1/health",
    "/ping",
    "/load",
    "/version",
    "/props",
    "/metrics",
    "/openapi.json",
    "/v1/models/{name}",
    "/",
];

/// The route that a path which is none was probably meant for: with `/v1` before it or once less, or other slashes.
pub(crate) fn meant(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let path = format!("/{}", parts.join("/")).to_lowercase();
    let with = format!("/v1{path}");
    let without = path.strip_prefix("/v1").or_else(|| path.strip_prefix("/api")).unwrap_or(&path);
    let known = |wanted: &str| PATHS.iter().find(|known| **known == wanted && **known != "/").copied();
    known(&path).or_else(|| known(&with)).or_else(|| known(without))
}

/// The route's name for counts and logs: what strangers make up is not repeated.
pub(crate) fn name(path: &str) -> &'static str {
    match PATHS.iter().find(|known| **known == path) {
        Some(known) => known,
        None if path.starts_with("/v1/models/") => "/v1/models/{name}",
        None if crate::page::is_file(path) => "/",
        None => "other",
    }
}
