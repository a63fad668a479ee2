//! Prompts that end inside an answer, for the model to go on there.

use super::{ChatTemplate, TemplateError};
use crate::Prompt;
use serde_json::{Map, Value};

impl ChatTemplate {
    /// Renders `messages` and leaves the last one open at the end of its content, for the model to go on there.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`], and when the last message has no text or the template does not show it.
    pub fn render_open(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        vars: &Map<String, Value>,
    ) -> Result<Prompt, TemplateError> {
        let fail = |message: &str| TemplateError {
            message: message.to_owned(),
            line: None,
            advice: "end with a message of the user",
            refused: false,
        };
        let mut context = self.context(messages, tools, false, vars)?;
        // Noncharacters, which no honest text contains, and no template trims.
        let said = Value::Object(context.clone()).to_string();
        let free = |c: &char| !said.contains(*c) && !self.source.contains(*c);
        let mark = ('\u{fdd0}'..='\u{fdef}').rev().find(free);
        let last = context.get_mut("messages").and_then(Value::as_array_mut).and_then(|list| list.last_mut());
        match (last.and_then(|message| message.get_mut("content")), mark) {
            (Some(Value::String(content)), Some(mark)) => {
                content.push(mark);
                self.guard.render(&self.source, &context, |context| {
                    let text = self.render_text(context)?;
                    let end = text.rfind(mark);
                    let end = end
                        .ok_or_else(|| fail("it does not show the last message, which is to be continued"))?;
                    Ok(text[..end].replace(mark, ""))
                })
            }
            _ => Err(fail("the last message has no text that could be continued")),
        }
    }
}
