//! `/v1/models`.

use crate::app::App;
use crate::failure::Failure;
use crate::registry::Listed;
use crate::service::json_body;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    let models: Vec<Value> = app.registry.list().iter().map(|l| model(&app, l)).collect();
    json_body(&json!({"object": "list", "data": models}))
}

pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, Failure> {
    Ok(json_body(&model(&app, &app.registry.listed(&name)?)))
}

/// A model in the list; what its files say is known once it has been loaded.
fn model(app: &App, listed: &Listed) -> Value {
    let mut value = json!({
        "id": listed.name,
        "object": "model",
        "created": app.registry.created,
        "owned_by": "sampan",
        "loaded": listed.loaded.is_some(),
    });
    if let Some(loaded) = &listed.loaded {
        value["max_model_len"] = loaded.prepared.context.into();
        value["parameters"] = loaded.prepared.plan.parameters().into();
        value["memory_bytes"] = loaded.prepared.memory.total().into();
    }
    value
}
