//! Routes about words and texts that generate nothing: tokens and templates.

use crate::app::{App, Asked};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::loaded::Loaded;
use crate::openai::messages::{self as chat, End};
use crate::service::json_body;
use crate::{messages, thinking, wire};
use axum::extract::State;
use axum::response::Response;
use sampan_text::{Prompt, Special};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A conversation that is to be rendered, and nothing more.
struct Conversation {
    messages: Value,
    tools: Option<Value>,
    end: End,
    vars: Map<String, Value>,
}

impl Conversation {
    /// `messages`, `tools`, `chat_template_kwargs`, `add_generation_prompt`, `continue_final_message`.
    fn of(fields: &mut Fields, loaded: &Loaded) -> Result<Conversation, Failure> {
        let messages = chat::messages(fields)?;
        let tools = fields.list("tools")?.map(Value::Array);
        let end = chat::end(fields, &messages)?;
        let vars = thinking::variables(loaded, fields)?;
        Ok(Conversation { messages: Value::Array(messages::for_template(&messages)), tools, end, vars })
    }

    fn render(&self, loaded: &Loaded) -> Result<Prompt, Failure> {
        let (speech, tools) = (&loaded.speech, self.tools.as_ref());
        Ok(match self.end {
            End::Open => speech.render_open(&self.messages, tools, &self.vars)?,
            End::Answer => speech.render(&self.messages, tools, &self.vars, true)?,
            End::Closed => speech.render(&self.messages, tools, &self.vars, false)?,
        })
    }
}

/// What is to be made tokens of.
enum Words {
    Text { text: String, begin: bool, special: Special },
    Conversation(Conversation),
}

impl Words {
    fn of(fields: &mut Fields, loaded: &Loaded) -> Result<Words, Failure> {
        if fields.see("messages").is_some() {
            return Ok(Words::Conversation(Conversation::of(fields, loaded)?));
        }
        let text = match fields.text("prompt")? {
            Some(text) => text,
            None => fields.text("content")?.ok_or_else(|| fields.missing("prompt"))?,
        };
        let begin = fields.flag("add_special_tokens")?.unwrap_or(true);
        let special =
            if fields.flag("parse_special")?.unwrap_or(true) { Special::Parse } else { Special::AsText };
        Ok(Words::Text { text, begin, special })
    }

    fn encode(&self, loaded: &Loaded) -> Result<Vec<u32>, Failure> {
        let tokenizer = &loaded.speech.tokenizer;
        Ok(match self {
            Words::Text { text, begin: true, special } => loaded.speech.encode_text(text, *special)?.ids,
            Words::Text { text, begin: false, special } => {
                tokenizer.encode(text, *special).map_err(sampan_facade::Error::Encode)?
            }
            Words::Conversation(conversation) => {
                let prompt = conversation.render(loaded)?;
                tokenizer.encode_prompt(&prompt).map_err(sampan_facade::Error::Encode)?
            }
        })
    }
}

/// `{prompt | content, add_special_tokens, parse_special}`, or what `/apply-template` takes, to `{tokens, count}`; with
/// `return_token_strs` their texts beside them.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let with_texts = fields.flag("return_token_strs")?.unwrap_or(false);
    let loaded = app.registry.get(model.as_deref()).await?;
    let words = Words::of(&mut fields, &loaded)?;
    fields.finish()?;
    let encoded = tokio::task::spawn_blocking(move || {
        let ids = words.encode(&loaded)?;
        let mut body = json!({"tokens": ids, "count": ids.len(), "max_model_len": loaded.prepared.context});
        if with_texts {
            body["token_strs"] = ids.iter().map(|&id| wire::token_text(&loaded, id).0).collect();
        }
        Ok::<_, Failure>(body)
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

/// `{messages, tools, chat_template_kwargs, add_generation_prompt, continue_final_message}` to `{prompt}`.
pub(crate) async fn apply_template(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let model = fields.text("model")?;
    let loaded = app.registry.get(model.as_deref()).await?;
    let conversation = Conversation::of(&mut fields, &loaded)?;
    fields.finish()?;
    let prompt = conversation.render(&loaded)?;
    Ok(json_body(&json!({"prompt": prompt.text()})))
}
