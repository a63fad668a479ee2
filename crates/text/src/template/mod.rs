//! Chat templates: messages to a prompt, as Jinja2 in Hugging Face transformers renders them.

mod engine;
mod guard;
mod messages;
mod methods;
mod open;
mod strftime;
mod tojson;
mod value;

pub use messages::with_parsed_arguments;
pub use strftime::strftime;

use crate::{OutputFormat, Prompt};
use minijinja::Environment;
use serde_json::{Map, Value};

/// What a template needs to know about its model.
#[derive(Clone, Debug, Default)]
pub struct TemplateOptions {
    /// The value of `bos_token`; undefined in the template when absent.
    pub bos_token: Option<String>,
    /// The value of `eos_token`; undefined in the template when absent.
    pub eos_token: Option<String>,
    /// Spellings that text from outside must not turn into tokens: [`crate::Tokenizer::markers`].
    pub markers: Vec<String>,
    /// Seconds since 1970 in local time, for templates that print the date; without it they see 1 January 1970.
    pub now: Option<i64>,
}

/// Why a prompt could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// What went wrong, in the template's or the engine's words.
    pub message: String,
    /// The line of the template, from 1.
    pub line: Option<usize>,
    /// What to do about it.
    pub advice: &'static str,
    /// The template itself refused the messages (`raise_exception`).
    pub refused: bool,
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "chat template, line {line}: {}", self.message)?,
            None => write!(f, "chat template: {}", self.message)?,
        }
        write!(f, " ({})", self.advice)
    }
}

impl std::error::Error for TemplateError {}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    options: TemplateOptions,
    source: String,
    guard: guard::Guard,
}

/// Templates are a few kilobytes; a larger one is not a chat template.
const MAX_SOURCE: usize = 1 << 20;

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn new(source: &str, options: TemplateOptions) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            return Err(TemplateError {
                message: format!(
                    "{} bytes are more than a chat template may have ({MAX_SOURCE})",
                    source.len()
                ),
                line: None,
                advice: "use another template",
                refused: false,
            });
        }
        let env = engine::build(source, options.now.unwrap_or(0)).map_err(error)?;
        let guard = guard::Guard::new(options.markers.clone());
        Ok(Self { env, options, source: source.to_owned(), guard })
    }

    /// How the model of this template writes reasoning and tool calls.
    pub fn output_format(&self) -> OutputFormat {
        OutputFormat::of_template(&self.source)
    }

    /// Whether the template looks at a variable, such as `enable_thinking`, `thinking` or `reasoning_effort`. To set one that it
    /// does not look at would be without effect.
    pub fn understands(&self, variable: &str) -> bool {
        let template = self.env.get_template(engine::NAME);
        template.is_ok_and(|t| t.undeclared_variables(false).contains(variable))
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders `messages` (a list of objects as in OpenAI's API). `vars` are further variables of the template
    /// (`enable_thinking`, …) and win over the standard ones.
    ///
    /// # Errors
    /// What the template refuses, what it does wrong, and templates that do not come to an end.
    pub fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
        vars: &Map<String, Value>,
    ) -> Result<Prompt, TemplateError> {
        let context = self.context(messages, tools, add_generation_prompt, vars)?;
        self.guard.render(&self.source, &context, |context| self.render_text(context))
    }

    /// The variables of the template.
    fn context(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
        vars: &Map<String, Value>,
    ) -> Result<Map<String, Value>, TemplateError> {
        let data = [messages].into_iter().chain(tools).chain(vars.values());
        if data.into_iter().any(|value| !value::is_shallow(value)) {
            return Err(TemplateError {
                message: format!(
                    "messages, tools or variables are nested more than {} levels deep",
                    value::MAX_DEPTH
                ),
                line: None,
                advice: "send flatter data",
                refused: false,
            });
        }
        let mut context = Map::new();
        context.insert("messages".into(), messages.clone());
        context.insert("tools".into(), tools.cloned().unwrap_or_default());
        context.insert("documents".into(), Value::Null);
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        for (name, token) in [("bos_token", &self.options.bos_token), ("eos_token", &self.options.eos_token)]
        {
            if let Some(token) = token {
                context.insert(name.into(), token.clone().into());
            }
        }
        for (name, value) in vars {
            context.insert(name.clone(), value.clone());
        }
        Ok(context)
    }

    fn render_text(&self, context: &Map<String, Value>) -> Result<String, TemplateError> {
        let mut env = self.env.clone();
        let messages = context.get("messages").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        // Honest templates look at every message from every message at most.
        env.set_fuel(Some(3_000_000 + 10_000 * messages + 100 * messages * messages));
        let template = env.get_template(engine::NAME).map_err(error)?;
        let mut out = engine::Bounded(Vec::new());
        let context = value::from_json(&Value::Object(context.clone()));
        template.render_captured_to(context, &mut out).map_err(error)?;
        String::from_utf8(out.0).map_err(|e| TemplateError {
            message: e.to_string(),
            line: None,
            advice: "please report this",
            refused: false,
        })
    }
}

fn error(e: minijinja::Error) -> TemplateError {
    let refused = std::error::Error::source(&e).is_some_and(|s| s.is::<engine::Refused>());
    let detail = e.detail().map(str::to_owned);
    let message = match (refused, detail) {
        (true, Some(detail)) => detail,
        (_, Some(detail)) => format!("{}: {detail}", e.kind()),
        (_, None) => e.kind().to_string(),
    };
    let advice = match e.kind() {
        _ if refused => {
            "the template does not accept these messages: change their order or roles, or send the text raw"
        }
        minijinja::ErrorKind::OutOfFuel => {
            "the template does not come to an end: use another one, or send the text raw"
        }
        minijinja::ErrorKind::SyntaxError => "the template is broken: use another one, or send the text raw",
        _ => "the template cannot handle these messages: use another one, or send the text raw",
    };
    TemplateError { message, line: e.line(), advice, refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_says_which_variables_it_looks_at() {
        let source = "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{% macro m(x) %}{{ effort }}{% endmacro %}\
                      {% if enable_thinking is defined and enable_thinking is false %}<think>{% endif %}{{ thinking }}{{ m('key') }}";
        let template = ChatTemplate::new(source, TemplateOptions::default()).unwrap();
        for (variable, known) in
            [("thinking", true), ("enable_thinking", true), ("effort", true), ("key", false), ("x", false)]
        {
            assert_eq!(template.understands(variable), known, "{variable}");
        }
        assert_eq!(template.output_format().reasoning, Some(crate::ReasoningTags::THINK));
    }
}
