//! Where a converted model goes: it appears when it is whole, and nothing is replaced without asking.

use crate::error::{AppError, Result};
use clap::Args;
use sampan_weights::Checkpoint;
use std::path::{Path, PathBuf};

/// What is written.
#[derive(Args, Debug)]
pub(crate) struct Destination {
    /// The file (.gguf) or folder to write; it appears when it is whole
    #[arg(value_name = "TO")]
    pub(crate) path: PathBuf,
    /// Replace what is there
    #[arg(long)]
    force: bool,
}

impl Destination {
    pub(crate) fn is_gguf(&self) -> bool {
        self.path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
    }

    /// Refuses a file that is there, is one of those that are read, or is named as another kind. `split`: there may be
    /// several, with numbers in their names.
    pub(crate) fn check_file(&self, from: &Checkpoint, split: bool) -> Result<()> {
        let to = self.path.display();
        if !self.is_gguf() {
            return Err(AppError::user(format!("{to} does not end in .gguf"))
                .hint("GGUF is what is written here; name the file so"));
        }
        self.is_not_read(from)?;
        let part = if split { self.part() } else { None };
        match part.or_else(|| self.path.exists().then(|| self.path.clone())) {
            Some(there) if !self.force => {
                Err(AppError::user(format!("{} is already there", there.display()))
                    .hint("--force replaces it; or give another name"))
            }
            _ => Ok(()),
        }
    }

    fn is_not_read(&self, from: &Checkpoint) -> Result<()> {
        let Ok(there) = self.path.canonicalize() else { return Ok(()) };
        let read = |file: &Path| file.canonicalize().is_ok_and(|file| file.starts_with(&there));
        match from.files().any(read) {
            false => Ok(()),
            true => Err(AppError::user(format!("{} is the model that is read", self.path.display()))
                .hint("give another name; the original is needed until the new one is whole")),
        }
    }

    /// A part of a set of this name.
    fn part(&self) -> Option<PathBuf> {
        let stem = format!("{}-", self.path.file_stem()?.to_str()?);
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let entries = std::fs::read_dir(parent.unwrap_or(Path::new("."))).ok()?;
        let is_part = |name: &str| {
            let number = name.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(".gguf"));
            number.is_some_and(|rest| rest.len() == 14 && rest[5..].starts_with("-of-"))
        };
        entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_part))
    }

    /// A folder beside the one that is wanted, which takes its place when it is finished.
    pub(super) fn folder(&self, from: &Checkpoint) -> Result<NewFolder> {
        let to = self.path.display();
        self.is_not_read(from)?;
        if self.path.is_file() {
            return Err(AppError::user(format!("{to} is a file, where a folder would be written"))
                .hint("give a name that ends in .gguf for a GGUF file, or another for a folder"));
        }
        let there = std::fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_some());
        if there && !self.force {
            return Err(AppError::user(format!("{to} is already there, with something in it"))
                .hint("--force replaces it if it is a model; or give another name"));
        }
        if there && !self.path.join("config.json").is_file() {
            return Err(AppError::user(format!("{to} holds something else than a model: no config.json"))
                .hint("only folders with a model are replaced; give another name"));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(self.path.file_name().ok_or_else(|| {
            AppError::user(format!("{to} is no name for a folder")).hint("give a name of its own")
        })?);
        hidden.push(format!(".{}.part", std::process::id()));
        let made = self.path.with_file_name(hidden);
        std::fs::create_dir(&made).map_err(|e| AppError::file("write", &made, &e))?;
        Ok(NewFolder { made, to: self.path.clone(), finished: false })
    }
}

/// A folder that is being filled. Dropped unfinished, it leaves nothing behind.
pub(super) struct NewFolder {
    made: PathBuf,
    to: PathBuf,
    finished: bool,
}

impl NewFolder {
    pub(super) fn path(&self) -> &Path {
        &self.made
    }

    /// Gives the folder its name, in the place of an older one.
    pub(super) fn finish(mut self) -> Result<()> {
        let old = self.made.with_extension("old");
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |e| AppError::file("write", &path, &e)
        };
        let replaced = self.to.is_dir();
        if replaced {
            std::fs::rename(&self.to, &old).map_err(failed(&self.to))?;
        }
        if let Err(error) = std::fs::rename(&self.made, &self.to) {
            if replaced {
                let _ = std::fs::rename(&old, &self.to);
            }
            return Err(failed(&self.to)(error));
        }
        self.finished = true;
        if replaced {
            std::fs::remove_dir_all(&old).map_err(failed(&old))?;
        }
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_dir_all(&self.made);
        }
    }
}
