//! `/v1/embeddings`.

use crate::app::{App, Asked};
use crate::failure::Failure;
use crate::fields::{Fields, kind};
use crate::service::json_body;
use crate::wire;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sampan_facade::EmbedOptions;
use serde_json::{Value, json};
use std::sync::Arc;

/// Texts that one request may bring.
const MOST_TEXTS: usize = 2048;

pub(crate) async fn handle(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let texts = texts(&mut fields)?;
    let base64 = fields.word("encoding_format", &["float", "base64"])? == Some("base64");
    let options = EmbedOptions {
        dimensions: fields.count("dimensions", 1..=1 << 20)?,
        instruct: fields.text("instruct")?,
        ..EmbedOptions::default()
    };
    wire::harmless(&mut fields)?;
    fields.finish()?;
    let loaded = app.registry.get(model.as_deref()).await?;
    let name = loaded.name.clone();
    let embedded = tokio::task::spawn_blocking(move || loaded.embed(&texts, &options)).await;
    let embedded = embedded.map_err(|e| Failure::internal(format!("embedding failed: {e}")))??;
    let tokens: usize = embedded.iter().map(|e| e.tokens).sum();
    let vector = |vector: &[f32]| -> Value {
        match base64 {
            true => STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).into(),
            false => vector.into(),
        }
    };
    let entry = |(index, e): (usize, &sampan_facade::Embedding)| json!({"object": "embedding", "index": index, "embedding": vector(&e.vector)});
    let data: Vec<Value> = embedded.iter().enumerate().map(entry).collect();
    Ok(json_body(&json!({
        "object": "list",
        "data": data,
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

/// One text or several; token ids are refused, as a text is encoded with what the model puts around it.
pub(crate) fn texts(fields: &mut Fields) -> Result<Vec<String>, Failure> {
    let texts = match fields.take("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => {
            let text = |(at, value): (usize, Value)| match value {
                Value::String(text) => Ok(text),
                other => {
                    let why = format!("must be a string and is {}", kind(&other));
                    Err(fields.wrong(&format!("input[{at}]"), "wrong_type", why))
                }
            };
            list.into_iter().enumerate().map(text).collect::<Result<_, _>>()?
        }
        Some(other) => {
            return Err(fields.wrong("input", "wrong_type", format!("must be text and is {}", kind(&other))));
        }
    };
    match texts.len() {
        1..=MOST_TEXTS => Ok(texts),
        n => {
            Err(fields.wrong("input", "out_of_range", format!("has {n} texts; 1 to {MOST_TEXTS} are taken")))
        }
    }
}
