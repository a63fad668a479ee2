//! What can be wrong with a file, said with the file, the field and the byte offset.

use std::path::{Path, PathBuf};

/// A model file or folder that cannot be used, and why.
///
/// Every message names the file. Messages about the inside of a file name the field and the byte offset as well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes of a binary file contradict its format, its size, or themselves.
    #[error("{}: {field} (byte {offset}): {what}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The field, such as `tensor 3 ("blk.0.attn_q.weight"): offset`.
        field: String,
        /// Where in the file the field starts.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A JSON file beside the weights does not parse, or lacks something.
    #[error("{}: {what}", .file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong, with line and column where known.
        what: String,
    },
    /// The path is not a model: another kind of file, an incomplete folder, a missing shard.
    #[error("{}: {what}", .path.display())]
    NotAModel {
        /// The file or folder.
        path: PathBuf,
        /// What was found instead, and what to do.
        what: String,
    },
    /// A GGUF key is missing or holds another type than its reader needs.
    #[error("{}: metadata key {}: {what}", .file.display(), Quoted(key))]
    Metadata {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor holds something that the caller cannot turn into what was asked for.
    #[error("{}: tensor {} (data at byte {offset}): {what}", .file.display(), Quoted(tensor))]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Where in the file its data starts.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A writer was asked for something that the format cannot hold.
    #[error("{}: cannot write: {what}", .file.display())]
    Write {
        /// The file being written.
        file: PathBuf,
        /// What was asked, and why it cannot be.
        what: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
        Error::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn malformed(
        file: &Path,
        field: impl ToString,
        offset: usize,
        what: impl Into<String>,
    ) -> Error {
        Error::Malformed {
            file: file.to_path_buf(),
            field: field.to_string(),
            offset: offset as u64,
            what: what.into(),
        }
    }

    pub(crate) fn json(file: &Path, what: impl ToString) -> Error {
        Error::Json { file: file.to_path_buf(), what: what.to_string() }
    }

    pub(crate) fn not_a_model(path: &Path, what: impl Into<String>) -> Error {
        Error::NotAModel { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn metadata(file: &Path, key: &str, what: impl Into<String>) -> Error {
        Error::Metadata { file: file.to_path_buf(), key: key.to_owned(), what: what.into() }
    }

    pub(crate) fn write(file: &Path, what: impl Into<String>) -> Error {
        Error::Write { file: file.to_path_buf(), what: what.into() }
    }
}

/// A name from a file as a message shows it: escaped, and not longer than a line.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 80;
        match self.0.char_indices().nth(SHOWN) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}... ({} bytes)", &self.0[..end], self.0.len()),
        }
    }
}
