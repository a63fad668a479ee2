//! One file per command, and what they share.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod fetch;
pub(crate) mod fit;
pub(crate) mod list;
pub(crate) mod pull;
pub(crate) mod quantize;
pub(crate) mod rerank;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod template;
pub(crate) mod tokenize;

use crate::error::{AppError, Result};
use crate::render::Terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sampan::{Error, Prepared, Session};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// Whatever the library refuses is for the user to put right; it says how.
impl From<Error> for AppError {
    fn from(error: Error) -> AppError {
        AppError::user(&error).hint(error.hint())
    }
}

impl From<sampan_weights::Error> for AppError {
    fn from(error: sampan_weights::Error) -> AppError {
        Error::from(error).into()
    }
}

/// A bar on stderr that shows how far loading has come, and at how many bytes per second; nothing where stderr is
/// not a terminal or loading is over at once.
pub(crate) struct LoadingBar(Option<ProgressBar>);

impl LoadingBar {
    pub(crate) fn new(terminal: Terminal, quiet: bool) -> LoadingBar {
        LoadingBar::doing("loading", terminal, quiet)
    }

    /// A bar for something else that goes through all weights.
    pub(crate) fn doing(what: &str, terminal: Terminal, quiet: bool) -> LoadingBar {
        let rest = "{bar:24} {bytes:>10} / {total_bytes}  {binary_bytes_per_sec}  {eta} left";
        LoadingBar::with(&format!("{what} {rest}"), terminal, quiet)
    }

    /// A bar that counts.
    pub(crate) fn counting(what: &str, terminal: Terminal, quiet: bool) -> LoadingBar {
        LoadingBar::with(&format!("{what} {{pos}} of {{len}}  {{bar:24}}  {{eta}} left"), terminal, quiet)
    }

    fn with(template: &str, terminal: Terminal, quiet: bool) -> LoadingBar {
        if quiet || !terminal.stderr {
            return LoadingBar(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(12));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        LoadingBar(Some(bar))
    }

    pub(crate) fn update(&mut self, done: u64, total: u64) {
        /// Shorter waits are not worth a bar.
        const PATIENCE: Duration = Duration::from_millis(300);
        if let Some(bar) = &self.0 {
            if bar.elapsed() < PATIENCE {
                return;
            }
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

impl Drop for LoadingBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Loads a model with a bar, and passes on what the user should know. Whether somebody can talk with it, where `converses`
/// asks for that, comes before its weights, which take seconds.
pub(crate) fn load(prepared: &Prepared, converses: bool, terminal: Terminal, quiet: bool) -> Result<Session> {
    if converses {
        prepared.check_converses()?;
    }
    if !quiet {
        announce(prepared);
    }
    let mut bar = LoadingBar::new(terminal, quiet);
    Ok(Session::load(prepared, &mut |done, total| bar.update(done, total))?)
}

/// Passes on what the user should know before a model is loaded.
pub(crate) fn announce(prepared: &Prepared) {
    for notice in &prepared.notices {
        say(&format!("note: {notice}"));
    }
}

/// Texts from the command line and the lines of a file; where neither is given, the lines of stdin.
pub(crate) fn texts(given: Vec<String>, file: Option<&Path>) -> Result<Vec<String>> {
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut texts = given;
    match file {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| AppError::file("read", path, &e))?;
            texts.extend(lines(utf8(bytes, &path.display().to_string())?));
        }
        None if texts.is_empty() => texts = lines(read_stdin()?),
        None => {}
    }
    match texts.is_empty() {
        true => Err(AppError::user("there is no text").hint("give texts, a --file, or lines on stdin")),
        false => Ok(texts),
    }
}

/// A line on stderr. If nobody can read it any more, that is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Text on stdout, complete or an error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// A JSON value on stdout, readable by people too.
pub(crate) fn print_json(value: &Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

/// All of stdin, exactly; it has to be text.
pub(crate) fn read_stdin() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| AppError::file("read", "stdin", &e))?;
    utf8(bytes, "stdin")
}

fn utf8(bytes: Vec<u8>, from: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        AppError::user(format!("{from} is not UTF-8 text (at byte {at})"))
            .hint("convert it first, for example with `iconv -t utf-8`")
    })
}

/// A JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(|e| AppError::file("read", path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        AppError::user(format!("{} is not JSON: {e}", path.display())).hint("the line and column are above")
    })
}

/// A list of chat messages from a file: `[...]` or `{"messages": [...]}`. The second part is `tools`, if the file
/// has them.
pub(crate) fn read_messages(path: &Path) -> Result<(Value, Option<Value>)> {
    let mut value = read_json(path)?;
    let mut tools = None;
    if let Some(object) = value.as_object_mut() {
        tools = object.remove("tools").filter(|tools| !tools.is_null());
        value = object.remove("messages").unwrap_or_default();
    }
    let good =
        value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(|m| m["role"].is_string()));
    if !good {
        let what = format!("{} holds no list of messages", path.display());
        return Err(AppError::user(what).hint(r#"write [{"role": "user", "content": "..."}]"#));
    }
    Ok((value, tools))
}
