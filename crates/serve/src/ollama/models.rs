//! What models there are, in Ollama's words, and its vectors.

use super::{keep_alive, timestamp};
use crate::app::{App, Asked};
use crate::failure::Failure;
use crate::loaded::Loaded;
use crate::openai::embeddings::texts;
use crate::service::json_body;
use axum::extract::State;
use axum::response::Response;
use sampan_facade::EmbedOptions;
use sampan_text::ChatTemplate;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

pub(crate) async fn version() -> Response {
    json_body(&json!({"version": env!("CARGO_PKG_VERSION")}))
}

pub(crate) async fn tags(State(app): State<Arc<App>>) -> Response {
    let model = |l: crate::registry::Listed| {
        let mut value =
            json!({"name": l.name, "model": l.name, "modified_at": timestamp(), "size": 0, "digest": ""});
        if let Some(loaded) = &l.loaded {
            value["size"] = loaded.prepared.memory.weights.into();
            value["details"] = details(loaded);
        }
        value
    };
    let mut models: Vec<Value> = app.registry.list().into_iter().map(model).collect();
    for (name, parent) in app.registry.adapters() {
        let details = json!({"parent_model": parent, "format": "adapter"});
        let value = json!({"name": name, "model": name, "modified_at": timestamp(), "size": 0, "digest": "", "details": details});
        models.push(value);
    }
    json_body(&json!({"models": models}))
}

pub(crate) async fn ps(State(app): State<Arc<App>>) -> Response {
    let model = |l: crate::registry::Listed| {
        let loaded = l.loaded?;
        Some(json!({
            "name": l.name,
            "model": l.name,
            "size": loaded.memory_bytes(),
            "size_vram": 0,
            "digest": "",
            "details": details(&loaded),
            "context_length": loaded.prepared.context,
            "expires_in_seconds": l.unloads_in.map(|time| time.as_secs()),
        }))
    };
    let models: Vec<Value> = app.registry.list().into_iter().filter_map(model).collect();
    json_body(&json!({"models": models}))
}

pub(crate) async fn show(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = match fields.text("model")? {
        Some(model) => model,
        None => fields.need_text("name")?,
    };
    fields.flag("verbose")?;
    fields.finish()?;
    let loaded = app.registry.get(Some(&model)).await?;
    let mut capabilities = Vec::new();
    if loaded.engine().is_some() {
        capabilities.push("completion");
    } else {
        capabilities.push("embedding");
    }
    let plan = &loaded.prepared.plan;
    let family = plan.family;
    Ok(json_body(&json!({
        "modelfile": "",
        "parameters": "",
        "template": loaded.speech.template(false).map_or("", ChatTemplate::source),
        "details": details(&loaded),
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": plan.parameters(),
            format!("{family}.context_length"): loaded.prepared.context,
            format!("{family}.embedding_length"): plan.hidden,
            format!("{family}.block_count"): plan.layers.len(),
        },
        "capabilities": capabilities,
    })))
}

fn details(loaded: &Loaded) -> Value {
    let plan = &loaded.prepared.plan;
    json!({
        "parent_model": "",
        "format": if loaded.prepared.checkpoint.kind() == sampan_weights::Kind::Gguf { "gguf" } else { "safetensors" },
        "family": plan.family,
        "families": [plan.family],
        "parameter_size": format!("{:.1}M", plan.parameters() as f64 / 1e6),
        "quantization_level": "",
    })
}

pub(crate) async fn embed(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let begun = Instant::now();
    let mut fields = asked.fields;
    let model = fields.need_text("model")?;
    let texts = texts(&mut fields)?;
    let options =
        EmbedOptions { dimensions: fields.count("dimensions", 1..=1 << 20)?, ..EmbedOptions::default() };
    fields.only("truncate", &[json!(false)])?;
    let keep = keep_alive(&mut fields)?;
    fields.finish()?;
    let loaded = app.registry.get(Some(&model)).await?;
    if keep.is_some() {
        app.registry.keep(Some(&model), keep)?;
    }
    let name = loaded.name.clone();
    let embedded = tokio::task::spawn_blocking(move || loaded.embed(&texts, &options)).await;
    let embedded = embedded.map_err(|e| Failure::internal(format!("embedding failed: {e}")))??;
    let vectors: Vec<&[f32]> = embedded.iter().map(|e| &e.vector[..]).collect();
    Ok(json_body(&json!({
        "model": name,
        "embeddings": vectors,
        "total_duration": begun.elapsed().as_nanos() as u64,
        "load_duration": 0,
        "prompt_eval_count": embedded.iter().map(|e| e.tokens).sum::<usize>(),
    })))
}
