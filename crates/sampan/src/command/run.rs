//! `sampan run`: one answer, or a conversation.

use super::{load, print, print_json, read_json, read_messages, read_stdin, say};
use crate::chat;
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::{ModelArgs, SamplingArgs};
use crate::render::{Terminal, harmless};
use crate::stats;
use clap::Args;
use sampan::{
    Answer, Conversation, DEFAULT_SPECULATE, Encoded, Finish, Listener, LoadOptions, Part, Prepared,
};
use sampan::{Session, Settings};
use sampan_text::Special;
use serde_json::{Value, json};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Talk to a model, or pipe text through it.
///
/// With a prompt, or text on stdin, the answer goes to stdout and nothing else does. With both, the model gets the
/// prompt, an empty line, and the text (without its last line break). Without either a conversation begins.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What to say to the model; several words need no quotes
    #[arg(value_name = "PROMPT")]
    prompt: Vec<String>,
    /// Instructions for the whole conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A JSON file with messages to continue: [{"role": "user", "content": "..."}]
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    messages: Option<PathBuf>,
    /// A JSON file with a list of tools for the model's template
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    tools: Option<PathBuf>,
    /// Continue the text as it stands, without the chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// Fill in what belongs between the prompt and this text (models with fill-in-the-middle tokens)
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["system", "messages", "tools", "special"])]
    suffix: Option<String>,
    /// With --raw: let control tokens in the text (such as <|im_start|>) count
    #[arg(long, requires = "raw")]
    special: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Propose at most so many tokens from the text so far and check them in one pass; 0 is off. Faster where an answer
    /// repeats what was said before (edited code), and never another answer
    #[arg(long, value_name = "TOKENS", default_value_t = DEFAULT_SPECULATE)]
    speculate: usize,
    /// Answer with a LoRA adapter: a folder as PEFT saves it, or a GGUF file
    #[arg(long, value_name = "PATH")]
    adapter: Option<PathBuf>,
    /// Print one JSON object with text, reasoning, token counts and timings
    #[arg(long)]
    json: bool,
    /// Print speed and memory after the answer (on stderr)
    #[arg(long)]
    stats: bool,
    /// Print the reasoning (on stderr) also when stderr is not a terminal
    #[arg(long)]
    show_reasoning: bool,
    /// Remember the lines of conversations in this file
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Nothing on stderr but errors (and --stats)
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: RunArgs, context: &Context) -> Result<()> {
    let terminal = context.terminal;
    let request = Input::gather(&args, terminal)?;
    let source = args.model.source(context, args.quiet)?;
    let options = LoadOptions { speculate: args.speculate, ..args.model.load.options() };
    let prepared = Prepared::new(&source, &options)?;
    let mut session = load(&prepared, !args.raw && args.suffix.is_none(), terminal, args.quiet)?;
    if let Some(adapter) = &args.adapter {
        session.use_adapter(adapter, &prepared.checkpoint)?;
    }
    // What the files say beside the weights, the vocabulary above all, is in the session now.
    drop(prepared);
    let mut settings = session.settings().clone();
    args.sampling.apply(&mut settings);
    match request {
        None => {
            let options = chat::Options {
                terminal,
                dumb_terminal: context.environment.dumb_terminal,
                history: args.history,
                state_folder: context.environment.state_folder.clone(),
                settings,
                system: args.system,
                stats: args.stats,
                quiet: args.quiet,
            };
            chat::chat(session, options)
        }
        Some(request) => {
            let prompt = request.encode(&session, &settings, &args)?;
            once(&mut session, &prompt, &settings, &args, terminal)
        }
    }
}

/// What the model is to answer.
enum Input {
    Text(String),
    Messages { messages: Value, tools: Option<Value> },
}

impl Input {
    /// `None`: nothing was given, and there is a person to ask.
    fn gather(args: &RunArgs, terminal: Terminal) -> Result<Option<Input>> {
        let piped = if terminal.stdin { None } else { Some(read_stdin()?) };
        let (said, as_it_stands) = (args.prompt.join(" "), args.raw || args.suffix.is_some());
        let piped = piped.filter(|text| !text.is_empty());
        // The shell's line break at the end is not part of what was said; a text to be continued stays as it is.
        let piped = piped.map(|text| match text.strip_suffix('\n') {
            Some(text) if !as_it_stands => text.strip_suffix('\r').unwrap_or(text).to_owned(),
            _ => text,
        });
        let text = match (said.is_empty(), piped) {
            (true, None) => None,
            (false, None) => Some(said),
            (true, Some(piped)) => Some(piped),
            (false, Some(piped)) => Some(format!("{said}\n\n{piped}")),
        };
        if as_it_stands {
            return text
                .map(|text| Some(Input::Text(text)))
                .ok_or_else(|| nothing("with --raw or --suffix there must be a text"));
        }
        let Some(path) = &args.messages else {
            let tools = args.tools.as_deref().map(read_json).transpose()?;
            return match text {
                Some(text) => Ok(Some(Input::conversation(args.system.clone(), text, tools))),
                None if !terminal.stdin => Err(nothing("no prompt was given and stdin is empty")),
                None if !terminal.stdout => {
                    Err(nothing("no prompt was given, and stdout is no terminal to talk at"))
                }
                None if args.json => Err(nothing("--json needs a prompt")),
                None if tools.is_some() => Err(nothing("--tools needs a prompt or --messages")),
                None => Ok(None),
            };
        };
        let (mut messages, beside) = read_messages(path)?;
        let tools = args.tools.as_deref().map(read_json).transpose()?.or(beside);
        if let Some(list) = messages.as_array_mut() {
            if let Some(system) = &args.system {
                list.insert(0, json!({"role": "system", "content": system}));
            }
            list.extend(text.map(|text| json!({"role": "user", "content": text})));
        }
        Ok(Some(Input::Messages { messages, tools }))
    }

    fn conversation(system: Option<String>, text: String, tools: Option<Value>) -> Input {
        let mut conversation = Conversation::new(system);
        conversation.user(text);
        Input::Messages { messages: conversation.to_json(), tools }
    }

    fn encode(&self, session: &Session, settings: &Settings, args: &RunArgs) -> Result<Encoded> {
        let special = if args.special { Special::Parse } else { Special::AsText };
        Ok(match (self, &args.suffix) {
            (Input::Text(before), Some(after)) => session.speech().encode_fill(before, after)?,
            (Input::Text(text), None) => session.speech().encode_text(text, special)?,
            (Input::Messages { messages, tools }, _) => {
                session.speech().encode_messages(messages, tools.as_ref(), &settings.template_variables())?
            }
        })
    }
}

fn nothing(why: &str) -> AppError {
    AppError::user(format!("there is nothing to answer: {why}"))
        .hint("write the prompt after the model, or pipe text in: echo hello | sampan run mini")
}

fn once(
    session: &mut Session,
    prompt: &Encoded,
    settings: &Settings,
    args: &RunArgs,
    terminal: Terminal,
) -> Result<()> {
    let mut printer = Printer {
        terminal,
        silent: args.json,
        reasoning: !args.json && (args.show_reasoning || (terminal.stderr && !args.quiet)),
        part: None,
        ends_line: true,
        error: None,
    };
    let answer = session.answer(prompt, settings, &mut printer)?;
    printer.finish(args.raw)?;
    if args.json {
        print_json(&stats::as_json(session, &answer))?;
    }
    if !args.quiet {
        note(session, &answer);
    }
    if args.stats {
        say(stats::facts(session, &answer).to_string().trim_end());
    }
    Ok(())
}

/// What a reader would otherwise take for the end.
fn note(session: &Session, answer: &Answer) {
    match answer.finish {
        Finish::Length => {
            say(&format!("note: stopped after {} tokens, as asked", answer.usage.generated_tokens))
        }
        Finish::Context => say(&format!(
            "note: the answer is cut off: the context of {} tokens is full (--context)",
            session.context()
        )),
        Finish::Stop | Finish::Cancelled => {}
    }
}

/// Streams the answer to stdout and, if anybody is to see it, the reasoning to stderr.
struct Printer {
    terminal: Terminal,
    silent: bool,
    reasoning: bool,
    part: Option<Part>,
    ends_line: bool,
    error: Option<std::io::Error>,
}

impl Printer {
    fn put(&mut self, part: Part, text: &str) -> std::io::Result<()> {
        let before = self.part.replace(part);
        match part {
            Part::Reasoning if self.reasoning => {
                let (dim, off) = self.terminal.dim_stderr();
                let shown = if self.terminal.stderr { harmless(text) } else { text.into() };
                // Each piece is dimmed by itself: whatever ends the program leaves no dimmed terminal behind.
                write!(std::io::stderr().lock(), "{dim}{shown}{off}")
            }
            Part::Reasoning => Ok(()),
            Part::Answer => {
                if before == Some(Part::Reasoning) && self.reasoning {
                    let _ = std::io::stderr().lock().write_all(b"\n\n");
                }
                self.ends_line = text.ends_with('\n');
                let mut out = std::io::stdout().lock();
                let shown = if self.terminal.stdout { harmless(text) } else { text.into() };
                out.write_all(shown.as_bytes())?;
                out.flush()
            }
        }
    }

    /// Ends the last line, except of a raw text that goes to a file or a program: that is kept as it is.
    fn finish(self, raw: bool) -> Result<()> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        if self.part == Some(Part::Reasoning) && self.reasoning {
            let _ = std::io::stderr().lock().write_all(b"\n");
        }
        let wanted = !self.silent && !self.ends_line && (self.terminal.stdout || !raw);
        if wanted { print("\n") } else { Ok(()) }
    }
}

impl Listener for Printer {
    fn text(&mut self, part: Part, text: &str) -> ControlFlow<()> {
        if self.silent {
            return ControlFlow::Continue(());
        }
        match self.put(part, text) {
            Ok(()) => ControlFlow::Continue(()),
            // Nobody reads the answer any more: stop generating it.
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}
