//! The conversation at a terminal.

mod command;
mod file;
mod input;
mod setting;
mod signal;

use crate::command::{print, say};
use crate::error::{AppError, Exit, Result};
use crate::render::{Terminal, harmless};
use command::{Command, Entry};
use input::{Input, Typed};
use sampan::{Answer, Conversation, Finish, Listener, Part, Role, Session, Settings};
use setting::Adjustable;
use signal::Signals;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What the command line says about a conversation.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) terminal: Terminal,
    pub(crate) dumb_terminal: bool,
    /// Where lines are remembered from one conversation to the next; not at all without it.
    pub(crate) history: Option<PathBuf>,
    pub(crate) state_folder: Option<PathBuf>,
    pub(crate) settings: Settings,
    pub(crate) system: Option<String>,
    pub(crate) stats: bool,
    pub(crate) quiet: bool,
}

/// Talks until the person leaves.
pub(crate) fn chat(session: Session, options: Options) -> Result<()> {
    let rescue = options.state_folder.as_ref().map(|folder| folder.join("interrupted.json"));
    let signals = Signals::listen(session.name(), rescue.clone())
        .map_err(|e| AppError::internal(format!("cannot listen for Ctrl-C: {e}")))?;
    let input =
        Input::new(options.terminal, options.dumb_terminal, options.history.as_deref(), signals.wake())?;
    let mut chat = Chat {
        session,
        terminal: options.terminal,
        adjustable: Adjustable { settings: options.settings, stats: options.stats },
        conversation: Conversation::new(options.system),
        signals,
        rescue,
    };
    if !options.quiet {
        chat.greet()?;
    }
    chat.run(input)
}

struct Chat {
    session: Session,
    terminal: Terminal,
    adjustable: Adjustable,
    conversation: Conversation,
    signals: Signals,
    /// Where a conversation is kept when its terminal is closed.
    rescue: Option<PathBuf>,
}

/// Whether the conversation goes on.
type Flow = ControlFlow<()>;

impl Chat {
    fn greet(&self) -> Result<()> {
        let (dim, off) = self.terminal.dim_stdout();
        let model = self.session.name();
        let mut text = format!(
            "{dim}{model}: {} tokens of context. /help lists commands, Ctrl-D leaves.",
            self.session.context()
        );
        if model == "mini" {
            text.push_str("\nmini is a demonstration, not an assistant; try: What is 274 + 58?");
        }
        if let Some(path) = self.rescue.as_ref().filter(|path| path.exists()) {
            text.push_str(&format!(
                "\nA conversation was interrupted; /load {} goes on with it.",
                path.display()
            ));
        }
        print(&format!("{text}{off}\n"))
    }

    fn run(&mut self, mut input: Input) -> Result<()> {
        let mut interrupts = 0;
        loop {
            self.signals.remember(&self.conversation);
            self.signals.at_plain_prompt(matches!(input, Input::Plain));
            let typed = input.read()?;
            self.signals.at_plain_prompt(false);
            if self.signals.has_ended() {
                let _ = print("\n"); // the cursor still stands behind the prompt
                return Err(AppError::silent(Exit::User));
            }
            let line = match typed {
                Typed::End => return print(if self.terminal.stdout { "\n" } else { "" }),
                Typed::Interrupt { was_empty: false } => {
                    interrupts = 0;
                    continue;
                }
                Typed::Interrupt { .. } if interrupts > 0 => return Ok(()),
                Typed::Interrupt { .. } => {
                    interrupts += 1;
                    print("(Ctrl-C again or Ctrl-D leaves; /help lists commands)\n")?;
                    continue;
                }
                Typed::Line(line) => line,
            };
            interrupts = 0;
            let flow = match command::parse(&line) {
                Entry::Nothing => Flow::Continue(()),
                Entry::Say(text) => self.talk(text)?,
                Entry::Command(command) => self.obey(command)?,
                Entry::Mistake(what) => {
                    print(&format!("{what}\n"))?;
                    Flow::Continue(())
                }
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, command: Command) -> Result<Flow> {
        let reply = match command {
            Command::Bye => return Ok(Flow::Break(())),
            Command::Retry => return self.retry(),
            Command::Help => command::help(),
            Command::Set(None, _) => setting::list(&self.adjustable),
            Command::Set(Some(name), None) => either(setting::show(&self.adjustable, &name)),
            Command::Set(Some(name), Some(value)) => {
                either(setting::set(&mut self.adjustable, &name, &value))
            }
            Command::System(text) => self.system(text),
            Command::Clear => {
                self.conversation.clear();
                "forgotten; the system message and the settings stay\n".into()
            }
            Command::Save(path) => {
                match file::save(Path::new(&path), self.session.name(), &self.conversation) {
                    Ok(()) => format!("{} messages saved to {path}\n", self.conversation.turns().len()),
                    Err(error) => self.complaint(&error),
                }
            }
            Command::Load(path) => self.load(Path::new(&path)),
        };
        print(&reply)?;
        Ok(Flow::Continue(()))
    }

    fn load(&mut self, path: &Path) -> String {
        match file::load(path) {
            Ok(conversation) => self.conversation = conversation,
            Err(error) => return self.complaint(&error),
        }
        // A rescued conversation that goes on is not waiting any more; if this one is interrupted, it is kept again.
        if self.rescue.as_deref() == Some(path) {
            let _ = std::fs::remove_file(path);
        }
        let open = self.conversation.turns().last().is_some_and(|last| last.role == Role::User);
        let next = if open { "the last has no answer yet: /retry" } else { "the conversation goes on" };
        format!("{} messages loaded; {next}\n", self.conversation.turns().len())
    }

    fn system(&mut self, text: Option<String>) -> String {
        match text.as_deref() {
            None => match self.conversation.system() {
                Some(text) => format!("{text}\n"),
                None => "there is no system message; /system TEXT sets one\n".into(),
            },
            Some("none") => {
                self.conversation.set_system(None);
                "the system message is removed\n".into()
            }
            Some(text) => {
                self.conversation.set_system(Some(text.to_owned()));
                "the system message is set\n".into()
            }
        }
    }

    fn retry(&mut self) -> Result<Flow> {
        let before = self.conversation.clone();
        self.conversation.take_back(Role::Assistant);
        let Some(question) = self.conversation.take_back(Role::User) else {
            self.conversation = before;
            print("there is nothing to retry\n")?;
            return Ok(Flow::Continue(()));
        };
        if self.adjustable.settings.seed.is_some() || self.adjustable.settings.temperature == 0.0 {
            print("note: with a fixed seed, or temperature 0, the answer will be the same (/set)\n")?;
        }
        let flow = self.talk(question.content)?;
        if self.conversation.turns().last().is_none_or(|last| last.role != Role::Assistant) {
            self.conversation = before; // a retry that failed loses nothing
        }
        Ok(flow)
    }

    /// One message and its answer. What fails is taken back, so that the conversation can go on.
    fn talk(&mut self, text: String) -> Result<Flow> {
        self.conversation.user(text);
        self.signals.remember(&self.conversation);
        self.signals.begin_answer();
        let mut printer = Printer::new(self.terminal, self.signals.clone());
        let answer = self.session.reply(&mut self.conversation, &self.adjustable.settings, &mut printer);
        printer.finish()?;
        match answer {
            Err(error) => {
                self.conversation.take_back(Role::User);
                print(&self.complaint(&AppError::from(error)))?;
            }
            Ok(answer) => self.after(&answer)?,
        }
        Ok(if self.signals.has_ended() { Flow::Break(()) } else { Flow::Continue(()) })
    }

    fn after(&mut self, answer: &Answer) -> Result<()> {
        let (dim, off) = self.terminal.dim_stdout();
        let note = match answer.finish {
            Finish::Cancelled if answer.text.is_empty() => {
                self.conversation.take_back(Role::Assistant);
                self.conversation.take_back(Role::User);
                "(stopped; your message was taken back)".into()
            }
            Finish::Cancelled => "(stopped; what was said so far stays)".into(),
            Finish::Length => {
                format!("(stopped after {} tokens: /set max_tokens)", answer.usage.generated_tokens)
            }
            Finish::Context => {
                format!("(the context of {} tokens is full: /clear, or --context)", self.session.context())
            }
            Finish::Stop => String::new(),
        };
        if !note.is_empty() {
            print(&format!("{dim}{note}{off}\n"))?;
        }
        if self.adjustable.stats {
            let (dim, off) = self.terminal.dim_stderr();
            let facts = crate::stats::facts(&self.session, answer);
            say(format!("{dim}{facts}{off}").trim_end_matches('\n'));
        }
        Ok(())
    }

    fn complaint(&self, error: &AppError) -> String {
        error.render(self.terminal.stdout && self.terminal.colour)
    }
}

fn either(outcome: Result<String, String>) -> String {
    outcome.unwrap_or_else(|why| why) + "\n"
}

/// Shows an answer as it comes: reasoning dimmed, then the answer.
struct Printer {
    terminal: Terminal,
    signals: Signals,
    part: Option<Part>,
    at_line_start: bool,
    error: Option<std::io::Error>,
}

impl Printer {
    fn new(terminal: Terminal, signals: Signals) -> Printer {
        Printer { terminal, signals, part: None, at_line_start: true, error: None }
    }

    fn put(&mut self, part: Part, text: &str) -> std::io::Result<()> {
        let (dim, off) = self.terminal.dim_stdout();
        let mut out = std::io::stdout().lock();
        match (self.part, part) {
            (Some(Part::Reasoning), Part::Answer) => write!(out, "{off}\n\n")?,
            (None | Some(Part::Answer), Part::Reasoning) => out.write_all(dim.as_bytes())?,
            _ => {}
        }
        self.part = Some(part);
        self.at_line_start = text.ends_with('\n');
        out.write_all(harmless(text).as_bytes())?;
        out.flush()
    }

    /// Ends dimming and the line.
    fn finish(self) -> Result<()> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        let (_, off) = self.terminal.dim_stdout();
        let off = if self.part == Some(Part::Reasoning) { off } else { "" };
        print(&format!("{off}{}", if self.at_line_start { "" } else { "\n" }))
    }
}

impl Listener for Printer {
    fn text(&mut self, part: Part, text: &str) -> ControlFlow<()> {
        match self.put(part, text) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn step(&mut self) -> ControlFlow<()> {
        if self.signals.stop_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
