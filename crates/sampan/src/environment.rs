//! Every environment variable that sampan reads, in one place.
//!
//! | variable         | effect                                                                            |
//! |------------------|-----------------------------------------------------------------------------------|
//! | `NO_COLOR`       | set to anything but the empty string: no colours, no dimmed text                  |
//! | `TERM`           | `dumb`: as `NO_COLOR`, and no line editing                                        |
//! | `XDG_STATE_HOME` | where an interrupted conversation is kept (`$XDG_STATE_HOME/sampan`)               |
//! | `SAMPAN_API_KEY` | the key that `sampan serve` demands of its clients                                  |
//! | `HOME`           | the same, as `$HOME/.local/state/sampan`, when `XDG_STATE_HOME` is not set         |
//!
//! Everything else is a flag. (The terminal libraries look at some variables of their own, such as `COLUMNS`.)

use std::path::PathBuf;

/// What the environment says, read once when the program starts.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// Whether a terminal may get colours.
    pub(crate) colour: bool,
    /// Whether the terminal cannot move its cursor.
    pub(crate) dumb_terminal: bool,
    /// The folder for what should outlive the program, if one is known.
    pub(crate) state_folder: Option<PathBuf>,
    /// The key for clients of `sampan serve`.
    pub(crate) api_key: Option<Secret>,
}

/// A text that does not show itself.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Environment {
    pub(crate) fn read() -> Environment {
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let dumb_terminal = path("TERM").is_some_and(|term| term.as_os_str() == "dumb");
        let state = path("XDG_STATE_HOME").filter(|p| p.is_absolute());
        let key = std::env::var("SAMPAN_API_KEY").ok().filter(|key| !key.trim().is_empty());
        Environment {
            api_key: key.map(|key| Secret(key.trim().to_owned())),
            colour: path("NO_COLOR").is_none() && !dumb_terminal,
            dumb_terminal,
            state_folder: state
                .or_else(|| Some(path("HOME")?.join(".local/state")))
                .map(|p| p.join("sampan")),
        }
    }
}
