//! Ctrl-C stops the answer and not the program; a closed terminal does not lose the conversation.

use super::file;
use sampan::Conversation;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What the signal handler and the conversation share.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    stop: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    /// The line editor's copy of `end`, which it resets.
    wake: Arc<AtomicBool>,
    plain_prompt: Arc<AtomicBool>,
    said: Arc<Mutex<Conversation>>,
}

impl Signals {
    /// Starts to listen. `rescue` is where the conversation is kept when the terminal is closed.
    pub(super) fn listen(model: &str, rescue: Option<PathBuf>) -> std::io::Result<Signals> {
        let signals = Signals::default();
        spawn(signals.clone(), model.to_owned(), rescue)?;
        Ok(signals)
    }

    /// Set to wake the line editor when the program is asked to end.
    pub(super) fn wake(&self) -> &Arc<AtomicBool> {
        &self.wake
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Whether Ctrl-C was pressed since [`Signals::begin_answer`].
    pub(super) fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.has_ended()
    }

    pub(super) fn begin_answer(&self) {
        self.stop.store(false, Ordering::Relaxed);
    }

    /// Whether the program waits at a prompt that does not handle Ctrl-C itself.
    pub(super) fn at_plain_prompt(&self, yes: bool) {
        self.plain_prompt.store(yes, Ordering::Relaxed);
    }

    /// Tells what would have to be rescued.
    pub(super) fn remember(&self, conversation: &Conversation) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = conversation.clone();
    }

    fn interrupted(&self) {
        if self.plain_prompt.load(Ordering::Relaxed) {
            std::process::exit(130);
        }
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The terminal was closed, or the system asks the program to end.
    fn terminated(&self, model: &str, rescue: Option<&PathBuf>) {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(path) = rescue.filter(|_| !said.turns().is_empty()) {
            let _ = file::rescue(path, model, &said);
        }
        self.end.store(true, Ordering::Relaxed);
        self.wake.store(true, Ordering::Release);
        // The conversation ends by itself, unless it waits for a terminal that is gone.
        std::thread::sleep(std::time::Duration::from_secs(2));
        std::process::exit(1);
    }
}

#[cfg(unix)]
fn spawn(signals: Signals, model: String, rescue: Option<PathBuf>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut incoming = signal_hook::iterator::Signals::new([SIGINT, SIGHUP, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in incoming.forever() {
            match signal {
                SIGINT => signals.interrupted(),
                _ => signals.terminated(&model, rescue.as_ref()),
            }
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn spawn(signals: Signals, _model: String, _rescue: Option<PathBuf>) -> std::io::Result<()> {
    ctrlc::set_handler(move || signals.interrupted()).map_err(std::io::Error::other)
}
