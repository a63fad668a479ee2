//! `sampan template`: the prompt that a chat template makes of messages.

use super::{fetch, print, read_json, read_messages};
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::HubArgs;
use clap::{ArgAction, Args};
use sampan::{Error, speech};
use sampan_text::ChatTemplate;
use sampan_weights::ChatTemplateSource;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Print the prompt that a chat template makes of messages, exactly, without a line break of its own.
#[derive(Args, Debug)]
pub(crate) struct TemplateArgs {
    /// A model, or a Jinja template (*.jinja)
    #[arg(value_name = "MODEL|TEMPLATE.jinja")]
    model: String,
    /// A JSON file with a list of messages
    #[arg(long, value_name = "FILE")]
    messages: PathBuf,
    /// A JSON file with a list of tools
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Do not begin the assistant's answer
    #[arg(long)]
    no_generation_prompt: bool,
    /// Set a variable of the template; the value is JSON, or else a string (for example enable_thinking=false)
    #[arg(long = "var", value_name = "NAME=VALUE", action = ArgAction::Append, value_parser = variable)]
    vars: Vec<(String, Value)>,
    #[command(flatten)]
    hub: HubArgs,
}

fn variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("needs NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

pub(crate) fn run(args: TemplateArgs, context: &Context) -> Result<()> {
    let (messages, tools_beside) = read_messages(&args.messages)?;
    let tools = match &args.tools {
        Some(path) => Some(read_json(path)?),
        None => tools_beside,
    };
    let template = find(&args.model, tools.is_some(), &args.hub, context)?;
    let vars: Map<String, Value> = args.vars.into_iter().collect();
    let prompt = template.render(&messages, tools.as_ref(), !args.no_generation_prompt, &vars);
    print(prompt.map_err(failed)?.text())
}

fn find(model: &str, with_tools: bool, hub: &HubArgs, context: &Context) -> Result<ChatTemplate> {
    if is_template(Path::new(model)) {
        let text = std::fs::read_to_string(model).map_err(|e| AppError::file("read", model, &e))?;
        return ChatTemplate::new(&text, speech::template_options(None)).map_err(failed);
    }
    let checkpoint = fetch::source(model, hub, context, false)?.open()?;
    let source: Option<ChatTemplateSource> = checkpoint.chat_template()?;
    // Without a vocabulary the template still renders; it only cannot name the begin and end tokens.
    let tokenizer = match speech::tokenizer(model, &checkpoint) {
        Ok(tokenizer) => Some(tokenizer),
        Err(Error::NoTokenizer { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let named = source.as_ref().and_then(|s| if with_tools { s.named("tool_use") } else { None });
    match named.or(source.as_ref().and_then(|s| s.default.as_deref())) {
        Some(text) => ChatTemplate::new(text, speech::template_options(tokenizer.as_ref())).map_err(failed),
        None => Err(AppError::user(format!("{model} has no chat template"))
            .hint("give the path of a *.jinja file instead")),
    }
}

fn is_template(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ext| ["jinja", "jinja2", "j2"].iter().any(|known| ext.eq_ignore_ascii_case(known)))
}

fn failed(error: sampan_text::TemplateError) -> AppError {
    let hint = error.advice;
    let line = error.line.map(|n| format!(", line {n}")).unwrap_or_default();
    AppError::user(format!("chat template{line}: {}", error.message)).hint(hint)
}
