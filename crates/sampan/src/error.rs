//! How the program ends: an exit code, and on stderr what went wrong, where, and what to do about it.

use std::fmt::Display;
use std::process::ExitCode;

/// What the exit code tells a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything that was asked for was done.
    Success = 0,
    /// The input cannot be used; changing it helps.
    User = 1,
    /// The program is at fault.
    Internal = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error as the person at the terminal gets it.
#[derive(Debug)]
pub(crate) struct AppError {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

/// What a command returns.
pub(crate) type Result<T, E = AppError> = std::result::Result<T, E>;

impl AppError {
    /// Something that the user can put right. Say how with [`AppError::hint`].
    pub(crate) fn user(message: impl Display) -> AppError {
        AppError { exit: Exit::User, message: message.to_string(), hint: None }
    }

    /// Something that should not be able to happen.
    pub(crate) fn internal(message: impl Display) -> AppError {
        AppError { exit: Exit::Internal, message: message.to_string(), hint: None }
    }

    /// The end of a command that has already said everything there is to say.
    pub(crate) fn silent(exit: Exit) -> AppError {
        AppError { exit, message: String::new(), hint: None }
    }

    /// Adds the advice that is printed after `hint:`.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Display) -> AppError {
        self.hint = Some(hint.to_string());
        self
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(doing: &str, path: impl AsRef<std::path::Path>, error: &std::io::Error) -> AppError {
        let path = path.as_ref().display();
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the spelling; the path counts from the current folder",
            std::io::ErrorKind::PermissionDenied => "the file's permissions do not let this user do that",
            _ => "see what the system says after the last colon",
        };
        AppError::user(format!("cannot {doing} {path}: {error}")).hint(hint)
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The lines for stderr; empty when everything has been said.
    pub(crate) fn render(&self, colour: bool) -> String {
        if self.message.is_empty() {
            return String::new();
        }
        let (red, cyan, off) = if colour { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        let kind = match self.exit {
            Exit::Internal => "internal error",
            _ => "error",
        };
        let mut text = format!("{red}{kind}{off}: {}\n", self.message);
        let default = "this should not happen; please report it with the command and the lines above";
        let hint = match (&self.hint, self.exit) {
            (Some(hint), _) => Some(hint.as_str()),
            (None, Exit::Internal) => Some(default),
            (None, _) => None,
        };
        if let Some(hint) = hint {
            text.push_str(&format!("{cyan}hint{off}: {hint}\n"));
        }
        text
    }
}

/// Writing to stdout or stderr failed. A reader that has gone away (`| head`) or a closed terminal is no error.
impl From<std::io::Error> for AppError {
    fn from(error: std::io::Error) -> AppError {
        /// What Linux says about a terminal that has been closed.
        const EIO: i32 = 5;
        if error.kind() == std::io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(EIO) {
            return AppError::silent(Exit::Success);
        }
        AppError::user(format!("cannot write the output: {error}"))
            .hint("is the disk full, or the output closed?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendering() {
        let error = AppError::user("no such file: x.gguf").hint("check the spelling");
        assert_eq!(error.render(false), "error: no such file: x.gguf\nhint: check the spelling\n");
        assert!(error.render(true).starts_with("\x1b[1;31merror\x1b[0m: no"));
        assert!(AppError::internal("x").render(false).contains("please report it"));
        assert_eq!(AppError::silent(Exit::User).render(false), "");
    }

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is() {
        let exit = |kind: std::io::ErrorKind| AppError::from(std::io::Error::from(kind)).exit();
        assert_eq!(exit(std::io::ErrorKind::BrokenPipe), Exit::Success);
        assert_eq!(exit(std::io::ErrorKind::StorageFull), Exit::User);
    }
}
