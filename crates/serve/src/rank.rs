//! How well texts go together: rankings as Jina, Cohere and vLLM have them, text-embeddings-inference's, and vLLM's scores.

use crate::app::{App, Asked};
use crate::failure::Failure;
use crate::fields::{Fields, kind};
use crate::loaded::Loaded;
use crate::service::json_body;
use crate::wire;
use axum::extract::State;
use axum::response::Response;
use sampan_facade::{DEFAULT_INSTRUCT, Score};
use serde_json::{Value, json};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Failure>;

/// Texts that one request may bring.
const MOST_TEXTS: usize = 1024;

/// `{query, documents, top_n, return_documents}` to `{results: [{index, relevance_score}]}`, the best first. Texts in `texts`
/// are a request of text-embeddings-inference, which is answered with a list of `{index, score}`.
pub(crate) async fn rerank(State(app): State<Arc<App>>, asked: Asked) -> Result<Response> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let query = fields.need_text("query")?;
    let plain = fields.see("documents").is_none() && fields.see("texts").is_some();
    let documents = documents(&mut fields, if plain { "texts" } else { "documents" })?;
    let (mut top, with_text) = (documents.len(), if plain { "return_text" } else { "return_documents" });
    let with_text = fields.flag(with_text)?.unwrap_or(false);
    match plain {
        // Scores are what a model says, from 0 to 1, and a text that is too long is refused: neither can be had otherwise.
        true => {
            fields.only("raw_scores", &[json!(false)])?;
            fields.only("truncate", &[json!(false)])?;
        }
        false => top = fields.count("top_n", 1..=1 << 24)?.unwrap_or(top),
    }
    let instruct = instruct(&mut fields)?;
    fields.finish()?;
    let documents = Arc::new(documents);
    let wanted = documents.clone();
    let (name, scores) = scored(&app, model, move |model| model.rerank(&instruct, &query, &wanted)).await?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].score.total_cmp(&scores[a].score));
    let result = |&index: &usize| {
        let (score, text) = (scores[index].score, documents[index].as_str());
        match (plain, with_text) {
            (true, true) => json!({"index": index, "score": score, "text": text}),
            (true, false) => json!({"index": index, "score": score}),
            (false, true) => json!({"index": index, "relevance_score": score, "document": {"text": text}}),
            (false, false) => json!({"index": index, "relevance_score": score}),
        }
    };
    let results: Vec<Value> = order.iter().take(top).map(result).collect();
    Ok(json_body(&match plain {
        true => results.into(),
        false => {
            json!({"id": wire::id("rerank-"), "model": name, "results": results, "usage": usage(&scores)})
        }
    }))
}

/// The names under which vLLM takes the two sides of a score.
const SIDES: [(&str, &str); 3] = [("text_1", "text_2"), ("data_1", "data_2"), ("queries", "documents")];

/// One text with each of several, or pair by pair, to `{data: [{index, score}]}` in the order in which they came.
pub(crate) async fn score(State(app): State<Arc<App>>, asked: Asked) -> Result<Response> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let used = |(one, other): &&(&str, &str)| fields.see(one).is_some() || fields.see(other).is_some();
    let (one, other) = *SIDES.iter().find(used).unwrap_or(&SIDES[0]);
    let mut side = |name: &str| match fields.see(name) {
        Some(Value::String(_)) => Ok(fields.text(name)?.into_iter().collect()),
        _ => documents(&mut fields, name),
    };
    let (mut queries, documents) = (side(one)?, side(other)?);
    if queries.len() == 1 {
        queries = vec![queries[0].clone(); documents.len()];
    }
    if queries.len() != documents.len() {
        let why =
            format!("has {} texts and {other} has {}; send as many, or one", queries.len(), documents.len());
        return Err(fields.wrong(one, "contradiction", why));
    }
    let instruct = instruct(&mut fields)?;
    wire::harmless(&mut fields)?;
    fields.finish()?;
    let pairs = move |model: &Loaded| {
        let mut scores = Vec::with_capacity(documents.len());
        // Documents of the same query share its part of the prompt.
        let mut from = 0;
        while from < documents.len() {
            let same = queries[from..].iter().take_while(|query| **query == queries[from]).count();
            scores.extend(model.rerank(&instruct, &queries[from], &documents[from..from + same])?);
            from += same;
        }
        Ok(scores)
    };
    let (name, scores) = scored(&app, model, pairs).await?;
    let entry =
        |(index, score): (usize, &Score)| json!({"index": index, "object": "score", "score": score.score});
    let data: Vec<Value> = scores.iter().enumerate().map(entry).collect();
    Ok(json_body(&json!({
        "id": wire::id("score-"),
        "object": "list",
        "created": wire::now(),
        "model": name,
        "data": data,
        "usage": usage(&scores),
    })))
}

/// What the query is to be taken for.
fn instruct(fields: &mut Fields) -> Result<String> {
    Ok(fields.text("instruct")?.unwrap_or_else(|| DEFAULT_INSTRUCT.to_owned()))
}

/// Texts, or objects with one each.
fn documents(fields: &mut Fields, field: &str) -> Result<Vec<String>> {
    let list = fields.list(field)?.ok_or_else(|| fields.missing(field))?;
    if list.is_empty() || list.len() > MOST_TEXTS {
        let why = format!("has {} entries; 1 to {MOST_TEXTS} are taken", list.len());
        return Err(fields.wrong(field, "out_of_range", why));
    }
    let document = |(at, value): (usize, Value)| match value {
        Value::String(text) => Ok(text),
        Value::Object(mut map) if map.len() == 1 && map.get("text").is_some_and(Value::is_string) => {
            Ok(map.remove("text").and_then(|t| t.as_str().map(str::to_owned)).unwrap_or_default())
        }
        other => {
            let why = format!("must be a string or an object with a text, and is {}", kind(&other));
            Err(fields.wrong(&format!("{field}[{at}]"), "wrong_type", why))
        }
    };
    list.into_iter().enumerate().map(document).collect()
}

/// Computes scores beside what else is done; with the model's name.
async fn scored(
    app: &App,
    model: Option<String>,
    compute: impl FnOnce(&Loaded) -> Result<Vec<Score>> + Send + 'static,
) -> Result<(String, Vec<Score>)> {
    let loaded = app.registry.get(model.as_deref()).await?;
    let name = loaded.name.clone();
    let scored = tokio::task::spawn_blocking(move || compute(&loaded)).await;
    Ok((name, scored.map_err(|e| Failure::internal(format!("scoring failed: {e}")))??))
}

fn usage(scores: &[Score]) -> Value {
    let tokens: usize = scores.iter().map(|score| score.tokens).sum();
    json!({"prompt_tokens": tokens, "total_tokens": tokens})
}
