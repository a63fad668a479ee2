//! What models there are, in Ollama's words, and its vectors.

use super::identity::Identity;
use super::{keep_alive, name, timestamp};
use crate::app::{App, Asked};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::loaded::Loaded;
use crate::openai::embeddings::texts;
use crate::openai::warnings;
use crate::registry::{KeepAlive, Listed};
use crate::service::json_body;
use axum::extract::State;
use axum::response::Response;
use sampan_facade::{EmbedOptions, Embedding};
use sampan_text::{ChatTemplate, ToolFormat};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub(crate) async fn version() -> Response {
    json_body(&json!({"version": env!("CARGO_PKG_VERSION")}))
}

pub(crate) async fn tags(State(app): State<Arc<App>>) -> Response {
    let began = app.registry.created;
    let tag = |name: &str, identity: Identity, size: usize, details: Value| {
        let modified = timestamp(identity.modified);
        json!({"name": name, "model": name, "modified_at": modified, "size": size, "digest": identity.digest, "details": details})
    };
    let mut models = Vec::new();
    for l in app.registry.list() {
        let size = l.loaded.as_ref().map_or(0, |loaded| loaded.prepared.memory.weights);
        let details = l.loaded.as_deref().map_or(json!({}), details);
        models.push(tag(&l.name, Identity::of(&l.source, began), size, details));
    }
    for l in app.registry.list_adapters() {
        let Some(parent) = l.model else { continue };
        let details = json!({"parent_model": parent, "format": "adapter"});
        models.push(tag(&l.name, Identity::of_path(&l.path, began), 0, details));
    }
    json_body(&json!({"models": models}))
}

/// What stands for never: Ollama's program calls a time that is decades away `Forever`.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(crate) async fn ps(State(app): State<Arc<App>>) -> Response {
    let model = |l: Listed| {
        let loaded = l.loaded?;
        let left = l.unloads_in.unwrap_or(match l.keep {
            KeepAlive::Forever => CENTURY,
            // A request has it; its time begins when that has ended.
            KeepAlive::For(time) => time,
        });
        Some(json!({
            "name": l.name,
            "model": l.name,
            "size": loaded.memory_bytes(),
            "size_vram": 0,
            "digest": Identity::of(&l.source, app.registry.created).digest,
            "details": details(&loaded),
            "context_length": loaded.prepared.context,
            "expires_at": timestamp(SystemTime::now() + left),
        }))
    };
    let models: Vec<Value> = app.registry.list().into_iter().filter_map(model).collect();
    json_body(&json!({"models": models}))
}

pub(crate) async fn show(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = name(&mut fields)?;
    fields.flag("verbose")?;
    fields.finish()?;
    let loaded = app.registry.get(Some(&model)).await?;
    let capabilities = capabilities(&loaded);
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

/// What the model can do, in Ollama's words, by which programs choose what to ask it.
fn capabilities(loaded: &Loaded) -> Vec<&'static str> {
    if loaded.engine().is_none() {
        return vec!["embedding"];
    }
    let mut all = vec!["completion"];
    if let Ok(template) = loaded.speech.template(false) {
        let format = template.output_format();
        if template.understands("tools") {
            all.push("tools");
        }
        if format.reasoning.is_some() || format.tools == ToolFormat::Harmony {
            all.push("thinking");
        }
    }
    if loaded.speech.fills() {
        all.push("insert");
    }
    all
}

/// A number of parameters as Ollama writes it: `595.78M`, `8.2B`.
fn in_short(parameters: u64) -> String {
    match parameters {
        n if n >= 1_000_000_000 => format!("{:.1}B", n as f64 / 1e9),
        n if n >= 1_000_000 => format!("{:.2}M", n as f64 / 1e6),
        n => format!("{:.2}K", n as f64 / 1e3),
    }
}

fn details(loaded: &Loaded) -> Value {
    let plan = &loaded.prepared.plan;
    json!({
        "parent_model": "",
        "format": if loaded.prepared.checkpoint.kind() == sampan_weights::Kind::Gguf { "gguf" } else { "safetensors" },
        "family": plan.family,
        "families": [plan.family],
        "parameter_size": in_short(plan.parameters()),
        "quantization_level": "",
    })
}

pub(crate) async fn embed(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let begun = Instant::now();
    let mut fields = asked.fields;
    let texts = texts(&mut fields)?;
    let options = EmbedOptions {
        dimensions: fields.count("dimensions", 1..=1 << 20)?,
        truncate: fields.flag("truncate")?.unwrap_or(false),
        ..EmbedOptions::default()
    };
    let (name, embedded) = vectors(&app, fields, texts, options).await?;
    let vectors: Vec<&[f32]> = embedded.iter().map(|e| &e.vector[..]).collect();
    let mut body = json!({
        "model": name,
        "embeddings": vectors,
        "total_duration": begun.elapsed().as_nanos() as u64,
        "load_duration": 0,
        "prompt_eval_count": embedded.iter().map(|e| e.tokens).sum::<usize>(),
    });
    let cut = embedded.iter().enumerate().filter(|(_, e)| e.left_out > 0);
    let note = |(at, e): (usize, &Embedding)| {
        format!(
            "input[{at}] has {} tokens, of which the last {} were left out",
            e.tokens + e.left_out,
            e.left_out
        )
    };
    let notes: Vec<String> = cut.map(note).collect();
    if !notes.is_empty() {
        body["warnings"] = warnings(&notes);
    }
    Ok(json_body(&body))
}

/// The older form: one text as `prompt`.
pub(crate) async fn embeddings(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let text = fields.need_text("prompt")?;
    let (_, embedded) = vectors(&app, fields, vec![text], EmbedOptions::default()).await?;
    let one = embedded.first().ok_or_else(|| Failure::internal("there is no vector"))?;
    Ok(json_body(&json!({"embedding": one.vector})))
}

/// Reads what is left of a request for vectors, and makes them. The name is the model's.
async fn vectors(
    app: &App,
    mut fields: Fields,
    texts: Vec<String>,
    options: EmbedOptions,
) -> Result<(String, Vec<Embedding>), Failure> {
    let model = fields.need_text("model")?;
    let keep = keep_alive(&mut fields)?;
    // Clients send an empty one.
    fields.object("options")?.map_or(Ok(()), Fields::finish)?;
    fields.finish()?;
    let loaded = app.registry.get(Some(&model)).await?;
    if keep.is_some() {
        app.registry.keep(Some(&model), keep)?;
    }
    let name = loaded.name.clone();
    let embedded = tokio::task::spawn_blocking(move || loaded.embed(&texts, &options)).await;
    Ok((name, embedded.map_err(|e| Failure::internal(format!("embedding failed: {e}")))??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_parameters_are_as_ollama_has_them() {
        let short = [5_120, 595_780_000, 8_190_735_360].map(in_short);
        assert_eq!(short, ["5.12K", "595.78M", "8.2B"]);
    }
}
