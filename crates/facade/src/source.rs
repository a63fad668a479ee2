//! Where a model comes from.

use crate::Error;
use sampan_hub::nearest_name;
use sampan_weights::Checkpoint;
use std::fmt;
use std::path::{Path, PathBuf};

/// The demonstration model, part of the program.
const MINI: &[u8] = include_bytes!("../assets/mini.gguf");

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The small demonstration model inside the program. It shows that everything works; it is no assistant.
    Mini,
    /// A GGUF file, a safetensors file, or a folder.
    Path(PathBuf),
    /// A model that was found by its name.
    Named {
        /// As it was asked for.
        name: String,
        /// Where it is.
        path: PathBuf,
    },
}

impl Source {
    /// `mini`, or a path. (A folder of that name is `./mini`.)
    pub fn parse(model: &str) -> Source {
        match model {
            "mini" => Source::Mini,
            path => Source::Path(path.into()),
        }
    }

    /// Reads the headers. The weights are read when they are needed.
    ///
    /// # Errors
    /// What cannot be found or is not a model.
    pub fn open(&self) -> Result<Checkpoint, Error> {
        match self {
            Source::Mini => Ok(Checkpoint::from_gguf_bytes("mini", MINI)?),
            Source::Path(path) | Source::Named { path, .. } => {
                if !path.exists() {
                    return Err(Error::NoSuchModel { path: path.clone(), nearest: nearest(path) });
                }
                Ok(Checkpoint::open(path)?)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Mini => f.write_str("mini"),
            Source::Path(path) => path.display().fmt(f),
            Source::Named { name, .. } => f.write_str(name),
        }
    }
}

/// The entry of the same folder whose name is most like the one that is not there.
fn nearest(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?.to_str()?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(parent).ok()?.take(1000).filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let name = nearest_name(wanted, names)?;
    Some(path.with_file_name(name))
}
