//! Routes about words and texts that generate nothing: tokens, templates, rankings.

use crate::app::{App, Asked};
use crate::failure::Failure;
use crate::fields::kind;
use crate::openai::messages::{self as chat, End};
use crate::service::json_body;
use crate::{messages, thinking, wire};
use axum::extract::State;
use axum::response::Response;
use sampan_facade::DEFAULT_INSTRUCT;
use sampan_text::Special;
use serde_json::{Value, json};
use std::sync::Arc;

/// Documents that one request may bring.
const MOST_DOCUMENTS: usize = 1024;

/// `{prompt | content, add_special_tokens, parse_special}` to `{tokens, count}`.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let text = match fields.text("prompt")? {
        Some(text) => text,
        None => fields.text("content")?.ok_or_else(|| fields.missing("prompt"))?,
    };
    let begin = fields.flag("add_special_tokens")?.unwrap_or(true);
    let special =
        if fields.flag("parse_special")?.unwrap_or(true) { Special::Parse } else { Special::AsText };
    fields.finish()?;
    let loaded = app.registry.get(model.as_deref()).await?;
    let encoded = tokio::task::spawn_blocking(move || {
        let ids = match begin {
            true => loaded.speech.encode_text(&text, special)?.ids,
            false => loaded.speech.tokenizer.encode(&text, special).map_err(sampan_facade::Error::Encode)?,
        };
        Ok::<_, Failure>(json!({"tokens": ids, "count": ids.len(), "max_model_len": loaded.prepared.context}))
    });
    Ok(json_body(&encoded.await.map_err(|e| Failure::internal(e.to_string()))??))
}

/// What vLLM tells of its tokenizer, and what `lm-eval` asks for.
pub(crate) async fn tokenizer_info(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let loaded = app.registry.get(None).await?;
    let tokenizer = &loaded.speech.tokenizer;
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    Ok(json_body(&json!({
        "tokenizer_class": "sampan",
        "vocab_size": tokenizer.vocab_size(),
        "model_max_length": loaded.prepared.context,
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos().first().copied()),
        "chat_template": loaded.speech.template(false).ok().map(sampan_text::ChatTemplate::source),
    })))
}

/// `{tokens}` to `{prompt, content}`.
pub(crate) async fn detokenize(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let list = fields.list("tokens")?.ok_or_else(|| fields.missing("tokens"))?;
    let ids = wire::tokens(&fields, "tokens", &list)?;
    let loaded = app.registry.get(model.as_deref()).await?;
    let size = loaded.speech.tokenizer.vocab_size();
    if let Some(at) = ids.iter().position(|&id| id as usize >= size) {
        let why = format!("is {}, and the tokens end at {size}", ids[at]);
        return Err(fields.wrong(&format!("tokens[{at}]"), "token_out_of_range", why));
    }
    fields.finish()?;
    let text = loaded.speech.tokenizer.decode(&ids, false);
    Ok(json_body(&json!({"prompt": text, "content": text})))
}

/// `{messages, chat_template_kwargs, add_generation_prompt, continue_final_message}` to `{prompt}`.
pub(crate) async fn apply_template(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let messages = chat::messages(&mut fields)?;
    let tools = fields.list("tools")?.map(Value::Array);
    let end = chat::end(&mut fields, &messages)?;
    let messages = Value::Array(messages::for_template(&messages));
    let loaded = app.registry.get(model.as_deref()).await?;
    let vars = thinking::variables(&loaded, &mut fields)?;
    fields.finish()?;
    let prompt = match end {
        End::Open => loaded.speech.render_open(&messages, tools.as_ref(), &vars)?,
        End::Answer => loaded.speech.render(&messages, tools.as_ref(), &vars, true)?,
        End::Closed => loaded.speech.render(&messages, tools.as_ref(), &vars, false)?,
    };
    Ok(json_body(&json!({"prompt": prompt.text()})))
}

/// `{query, documents, top_n, return_documents}` to `{results: [{index, relevance_score}]}`, the best first.
pub(crate) async fn rerank(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let query = fields.need_text("query")?;
    let list = fields.list("documents")?.ok_or_else(|| fields.missing("documents"))?;
    if list.is_empty() || list.len() > MOST_DOCUMENTS {
        let why = format!("has {} entries; 1 to {MOST_DOCUMENTS} are taken", list.len());
        return Err(fields.wrong("documents", "out_of_range", why));
    }
    let document = |(at, value): (usize, Value)| match value {
        Value::String(text) => Ok(text),
        Value::Object(mut map) if map.len() == 1 && map.get("text").is_some_and(Value::is_string) => {
            Ok(map.remove("text").and_then(|t| t.as_str().map(str::to_owned)).unwrap_or_default())
        }
        other => {
            let why = format!("must be a string or an object with a text, and is {}", kind(&other));
            Err(fields.wrong(&format!("documents[{at}]"), "wrong_type", why))
        }
    };
    let documents: Vec<String> = list.into_iter().enumerate().map(document).collect::<Result<_, _>>()?;
    let top = fields.count("top_n", 1..=usize::MAX >> 1)?.unwrap_or(documents.len());
    let with_text = fields.flag("return_documents")?.unwrap_or(false);
    let instruct = fields.text("instruct")?.unwrap_or_else(|| DEFAULT_INSTRUCT.to_owned());
    fields.finish()?;
    let loaded = app.registry.get(model.as_deref()).await?;
    let name = loaded.name.clone();
    let scored = tokio::task::spawn_blocking(move || {
        loaded.rerank(&instruct, &query, &documents).map(|scores| (scores, documents))
    });
    let (scores, documents) = scored.await.map_err(|e| Failure::internal(e.to_string()))??;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].score.total_cmp(&scores[a].score));
    let result = |&index: &usize| {
        let mut value = json!({"index": index, "relevance_score": scores[index].score});
        if with_text {
            value["document"] = json!({"text": documents[index]});
        }
        value
    };
    let results: Vec<Value> = order.iter().take(top).map(result).collect();
    let tokens: usize = scores.iter().map(|s| s.tokens).sum();
    Ok(json_body(&json!({
        "id": wire::id("rerank-"),
        "model": name,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}
