//! Everything about a model that concerns words, and the prompts that it makes of them.

use super::{Templates, fill, stop_tokens, tokenizer};
use crate::settings::Settings;
use crate::{Error, Prepared};
use sampan_text::{ChatTemplate, OutputFormat, Prompt, Special, Start, TemplateError, Tokenizer};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Token ids to continue, and what the continuation starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The prompt.
    pub ids: Vec<u32>,
    /// What it was as text, as far as constraints on the answer look at it; empty where they begin with the answer.
    pub text: String,
    /// Whether the answer begins inside reasoning.
    pub start: Start,
    /// How the model writes reasoning and tool calls.
    pub format: OutputFormat,
}

impl Encoded {
    /// A text that is continued as it stands: there is no reasoning, and no call of a tool.
    pub fn continued(ids: Vec<u32>) -> Encoded {
        let format = OutputFormat { reasoning: None, ..OutputFormat::TEXT };
        Encoded { ids, text: String::new(), start: Start::Answer, format }
    }
}

/// Everything about a model that concerns words: vocabulary, chat templates, the tokens that end an answer, and what its
/// files recommend for answers.
#[derive(Debug)]
pub struct Speech {
    /// The model as it was named.
    pub name: String,
    /// The vocabulary.
    pub tokenizer: Arc<Tokenizer>,
    /// Tokens that end an answer.
    pub stop_tokens: Vec<u32>,
    /// What the model's files recommend.
    pub settings: Settings,
    templates: Result<Templates, TemplateError>,
}

impl Speech {
    /// Reads what a model's files say about words. A template that cannot be compiled is an error only when it is needed.
    ///
    /// # Errors
    /// When there is no usable tokenizer, it does not belong to the weights, or a recommended setting makes no sense.
    pub fn of(prepared: &Prepared) -> Result<Speech, Error> {
        let tokenizer = Arc::new(tokenizer(&prepared.name, &prepared.checkpoint)?);
        let (tokens, rows) = (tokenizer.vocab_size(), prepared.plan.vocab);
        if tokens > rows {
            return Err(Error::Vocabulary { model: prepared.name.clone(), tokens, rows });
        }
        let templates = Templates::of(prepared.checkpoint.chat_template()?.as_ref(), Some(&tokenizer));
        let settings = Settings::of(&prepared.checkpoint)?;
        let mut stop_tokens = stop_tokens(&prepared.checkpoint, &tokenizer);
        stop_tokens.extend(fill::stop_tokens(&tokenizer));
        Ok(Speech { name: prepared.name.clone(), tokenizer, stop_tokens, settings, templates })
    }

    /// Renders messages (objects with `role` and `content`) with the model's template. `vars` are further variables of
    /// the template (`enable_thinking`, ...). `answer`: whether the prompt ends where the model's answer begins.
    ///
    /// # Errors
    /// When there is no template or it fails.
    pub fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        vars: &Map<String, Value>,
        answer: bool,
    ) -> Result<Prompt, Error> {
        Ok(self.template(tools.is_some())?.render(messages, tools, answer, vars)?)
    }

    /// Renders messages with the model's template and encodes the result. Text in the messages never becomes a control
    /// token.
    ///
    /// # Errors
    /// As [`Speech::render`].
    pub fn encode_messages(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        vars: &Map<String, Value>,
    ) -> Result<Encoded, Error> {
        let format = self.template(tools.is_some())?.output_format();
        self.encoded(self.render(messages, tools, vars, true)?, format)
    }

    fn encoded(&self, prompt: Prompt, format: OutputFormat) -> Result<Encoded, Error> {
        let ids = self.tokenizer.encode_prompt(&prompt).map_err(Error::Encode)?;
        Ok(Encoded { ids, start: format.start_after(prompt.text()), format, text: prompt.text().to_owned() })
    }

    /// Renders messages and leaves the last one open at the end of its content.
    ///
    /// # Errors
    /// As [`Speech::render`], and when the template does not show the last message.
    pub fn render_open(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        vars: &Map<String, Value>,
    ) -> Result<Prompt, Error> {
        Ok(self.template(tools.is_some())?.render_open(messages, tools, vars)?)
    }

    /// As [`Speech::encode_messages`], for an answer that goes on with the last message.
    ///
    /// # Errors
    /// As [`Speech::render_open`].
    pub fn encode_open(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        vars: &Map<String, Value>,
    ) -> Result<Encoded, Error> {
        let format = self.template(tools.is_some())?.output_format();
        let encoded = self.encoded(self.render_open(messages, tools, vars)?, format)?;
        let last = messages.as_array().and_then(|list| list.last());
        let begun =
            last.is_some_and(|message| message["content"].as_str().is_some_and(|text| !text.is_empty()));
        Ok(match begun {
            // Whoever has begun to answer does not reason any more.
            true => Encoded { text: String::new(), start: Start::Answer, ..encoded },
            false => encoded,
        })
    }

    /// Encodes a text to be continued as it stands, with the begin token if the model wants one.
    ///
    /// # Errors
    /// When the text cannot be encoded.
    pub fn encode_text(&self, text: &str, special: Special) -> Result<Encoded, Error> {
        let begin = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos());
        let mut ids: Vec<u32> = begin.into_iter().collect();
        ids.extend(self.tokenizer.encode(text, special).map_err(Error::Encode)?);
        Ok(Encoded::continued(ids))
    }

    /// The template for conversations with or without tools.
    ///
    /// # Errors
    /// When there is none or it cannot be compiled.
    pub fn template(&self, with_tools: bool) -> Result<&ChatTemplate, Error> {
        let templates = self.templates.as_ref().map_err(|e| Error::Template(e.clone()))?;
        templates.get(with_tools).ok_or_else(|| Error::NoTemplate { model: self.name.clone() })
    }
}
