//! Lines from the person at the terminal: with editing and history, or plain where the terminal cannot.

use super::command::is_incomplete;
use crate::error::{AppError, Result};
use crate::render::Terminal;
use reedline::{
    DefaultHinter, EditCommand, Emacs, FileBackedHistory, Highlighter, KeyCode, KeyModifiers, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, Signal,
    StyledText, ValidationResult, Validator, default_emacs_keybindings, kitty_protocol_available,
};
use std::borrow::Cow;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const HISTORY_LINES: usize = 1000;

/// What came from the terminal.
#[derive(Debug)]
pub(super) enum Typed {
    /// A line; with line breaks inside if it was typed so.
    Line(String),
    /// Ctrl-C at the prompt; what was typed, if anything, is dropped.
    Interrupt { was_empty: bool },
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// Where lines come from.
pub(super) enum Input {
    Editor { editor: Box<Reedline>, typed: Arc<AtomicBool> },
    Plain,
}

impl Input {
    /// `wake` makes a waiting [`Input::read`] return [`Typed::End`].
    pub(super) fn new(
        terminal: Terminal,
        dumb: bool,
        history: Option<&Path>,
        wake: &Arc<AtomicBool>,
    ) -> Result<Input> {
        if dumb {
            return Ok(Input::Plain);
        }
        let history = match history {
            Some(path) => FileBackedHistory::with_file(HISTORY_LINES, path.to_path_buf())
                .map_err(|e| AppError::user(format!("cannot use {} for the history: {e}", path.display())))?,
            None => FileBackedHistory::new(HISTORY_LINES)
                .map_err(|e| AppError::internal(format!("cannot set up the history: {e}")))?,
        };
        let mut keys = default_emacs_keybindings();
        let line_break = ReedlineEvent::Edit(vec![EditCommand::InsertNewline]);
        for modifier in [KeyModifiers::ALT, KeyModifiers::SHIFT] {
            keys.add_binding(modifier, KeyCode::Enter, line_break.clone());
        }
        let grey = nu_ansi_term::Style::new().dimmed();
        let typed = Arc::new(AtomicBool::new(false));
        let mut editor = Reedline::create()
            .with_history(Box::new(history))
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_validator(Box::new(SeveralLines))
            .with_highlighter(Box::new(Unadorned { typed: typed.clone() }))
            .with_ansi_colors(terminal.colour)
            .with_break_signal(wake.clone())
            .use_bracketed_paste(true)
            .use_kitty_keyboard_enhancement(kitty_protocol_available());
        if terminal.colour {
            editor = editor.with_hinter(Box::new(DefaultHinter::default().with_style(grey)));
        }
        Ok(Input::Editor { editor: Box::new(editor), typed })
    }

    /// Waits for a line.
    pub(super) fn read(&mut self) -> Result<Typed> {
        match self {
            Input::Editor { editor, typed } => Ok(match editor.read_line(&Arrows) {
                Ok(Signal::Success(line)) => Typed::Line(line),
                Ok(Signal::CtrlC) => Typed::Interrupt { was_empty: !typed.load(Ordering::Relaxed) },
                Ok(Signal::HostCommand(_)) => Typed::Line(String::new()),
                // A terminal that cannot be read any more has been closed.
                Ok(_) | Err(_) => Typed::End,
            }),
            Input::Plain => read_plain(),
        }
    }
}

fn read_plain() -> Result<Typed> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock();
    let mut prompt = Arrows::FIRST;
    loop {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(prompt.as_bytes())?;
        stdout.flush()?;
        let mut line = String::new();
        match stdin.read_line(&mut line) {
            Ok(0) => return Ok(if text.is_empty() { Typed::End } else { Typed::Line(text) }),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                return Err(AppError::user("the line is not UTF-8 text").hint("set the terminal to UTF-8"));
            }
            Err(_) => return Ok(Typed::End),
        }
        text.push_str(line.strip_suffix('\n').unwrap_or(&line));
        if !is_incomplete(&text) {
            return Ok(Typed::Line(text));
        }
        text.push('\n');
        prompt = Arrows::NEXT;
    }
}

struct SeveralLines;

impl Validator for SeveralLines {
    fn validate(&self, line: &str) -> ValidationResult {
        if is_incomplete(line) { ValidationResult::Incomplete } else { ValidationResult::Complete }
    }
}

/// Shows what is typed in the terminal's own colour, and notes whether there is anything: when Ctrl-C is reported,
/// the editor has forgotten already.
struct Unadorned {
    typed: Arc<AtomicBool>,
}

impl Highlighter for Unadorned {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        self.typed.store(!line.is_empty(), Ordering::Relaxed);
        let mut text = StyledText::new();
        text.push((nu_ansi_term::Style::new(), line.to_owned()));
        text
    }
}

struct Arrows;

impl Arrows {
    const FIRST: &str = ">>> ";
    const NEXT: &str = "... ";
}

impl Prompt for Arrows {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Self::FIRST.into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Self::NEXT.into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = matches!(search.status, PromptHistorySearchStatus::Failing);
        format!("({}search: {}) ", if failing { "failing " } else { "" }, search.term).into()
    }
}
