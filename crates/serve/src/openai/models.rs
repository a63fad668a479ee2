//! `/v1/models`.

use crate::adapters::{self, NamedAdapter};
use crate::anthropic;
use crate::app::{App, Asked};
use crate::failure::Failure;
use crate::registry::Listed;
use crate::service::json_body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if !anthropic::asks(&headers) {
        return json_body(&json!({"object": "list", "data": all(&app)}));
    }
    let data: Vec<Value> = all(&app).iter().map(anthropic::model).collect();
    let id = |model: Option<&Value>| model.map(|model| model["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    json_body(&json!({"data": data, "has_more": false, "first_id": first, "last_id": last}))
}

pub(crate) async fn one(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Path(name) = name.map_err(|error| Failure::invalid(error.body_text()))?;
    let found = match all(&app).into_iter().find(|model| model["id"] == name.as_str()) {
        Some(model) => model,
        // Says what there is, or knows another spelling.
        None => model(&app, &app.registry.listed(&name)?),
    };
    Ok(json_body(&if anthropic::asks(&headers) { anthropic::model(&found) } else { found }))
}

fn all(app: &App) -> Vec<Value> {
    let models = app.registry.list();
    let mut values: Vec<Value> = models.iter().map(|l| model(app, l)).collect();
    for (name, parent) in app.registry.adapters() {
        let base = models.iter().find(|l| l.name == parent).and_then(|l| l.loaded.as_ref());
        let adapter = base.and_then(|base| base.adapters.get(&name));
        let mut value = json!({
            "id": name,
            "object": "model",
            "created": app.registry.created,
            "owned_by": "sampan",
            "parent": parent,
            "loaded": adapter.is_some(),
        });
        if let (Some(base), Some(adapter)) = (base, adapter) {
            value["max_model_len"] = base.prepared.context.into();
            value["memory_bytes"] = adapter.bytes().into();
        }
        values.push(value);
    }
    values
}

/// A model in the list; what its files say is known once it has been loaded.
fn model(app: &App, listed: &Listed) -> Value {
    let mut value = json!({
        "id": listed.name,
        "object": "model",
        "created": app.registry.created,
        "owned_by": "sampan",
        "parent": null,
        "loaded": listed.loaded.is_some(),
    });
    if let Some(loaded) = &listed.loaded {
        value["max_model_len"] = loaded.prepared.context.into();
        value["parameters"] = loaded.prepared.plan.parameters().into();
        value["memory_bytes"] = loaded.memory_bytes().into();
    }
    value
}

/// `/v1/load_lora_adapter`, as vLLM has it: `lora_name`, `lora_path`, and `base_model_name` where there are several models.
pub(crate) async fn load_adapter(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let (name, path) = (fields.need_text("lora_name")?, fields.need_text("lora_path")?);
    let model = fields.text("base_model_name")?;
    fields.only("load_inplace", &[json!(false)])?;
    if name.is_empty() {
        return Err(fields.wrong("lora_name", "empty", "is empty"));
    }
    fields.finish()?;
    let path = adapters::inside(app.adapter_folder.as_deref(), &path)?;
    app.registry.add_adapter(NamedAdapter { name: name.clone(), model, path }).await?;
    let value = all(&app).into_iter().find(|model| model["id"] == name.as_str());
    Ok(json_body(&value.unwrap_or_default()))
}

/// `/v1/unload_lora_adapter`.
pub(crate) async fn unload_adapter(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let name = fields.need_text("lora_name")?;
    fields.finish()?;
    app.registry.remove_adapter(&name)?;
    Ok(json_body(&json!({"id": name, "object": "model", "deleted": true})))
}
