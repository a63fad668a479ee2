//! A cache folder in the layout that all users of the Hugging Face hub share.
//!
//! ```text
//!     models--OWNER--NAME/blobs/DIGEST              the bytes
//!     models--OWNER--NAME/snapshots/COMMIT/PATH     links to them
//!     models--OWNER--NAME/refs/REVISION             the commit that a branch or tag meant when it was last asked
//!     .locks/models--OWNER--NAME/                   who is writing
//! ```

use crate::Error;
use crate::name::{Origin, Repo, RepoPath, Revision, is_commit};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What follows the name of a blob that is being fetched by us; others use other endings.
pub(crate) const PARTIAL: &str = ".sampan-part";
/// What follows the name of the note about which bytes of it have come.
pub(crate) const NOTE: &str = ".sampan-note";
/// What follows the name of a file whose bytes were wrong.
pub(crate) const WRONG: &str = ".sampan-wrong";

/// One cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    origin: Origin,
}

/// A file of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    pub(crate) path: RepoPath,
    /// The name of its blob; `None` where the file itself lies in the snapshot.
    pub(crate) blob: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) used: Option<SystemTime>,
}

/// Says that a repository is being written to, for as long as it lives; also if the process is killed.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Cache {
    pub(crate) fn new(root: PathBuf, origin: Origin) -> Cache {
        Cache { root, origin }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn repo(&self, repo: &Repo) -> PathBuf {
        self.root.join(repo.folder())
    }

    pub(crate) fn blobs(&self, repo: &Repo) -> PathBuf {
        self.repo(repo).join("blobs")
    }

    pub(crate) fn snapshot(&self, repo: &Repo, commit: &str) -> PathBuf {
        self.repo(repo).join("snapshots").join(commit)
    }

    /// The repositories that have a folder here.
    pub(crate) fn repos(&self) -> Vec<Repo> {
        let folders = names(&self.root);
        folders.iter().filter_map(|name| Repo::from_folder(self.origin, name)).collect()
    }

    /// The commits of which there is a snapshot, the newest first.
    pub(crate) fn commits(&self, repo: &Repo) -> Vec<String> {
        let folder = self.repo(repo).join("snapshots");
        let changed = |commit: &String| fs::metadata(folder.join(commit)).and_then(|m| m.modified()).ok();
        let mut commits: Vec<String> = names(&folder).into_iter().filter(|name| is_commit(name)).collect();
        commits.sort_by_key(|commit| std::cmp::Reverse(changed(commit)));
        commits
    }

    /// What a branch or a tag meant when it was last asked for.
    pub(crate) fn reference(&self, repo: &Repo, revision: &Revision) -> Option<String> {
        let path = self.repo(repo).join("refs").join(revision.as_str());
        let commit = fs::read_to_string(path).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub(crate) fn set_reference(&self, repo: &Repo, revision: &Revision, commit: &str) -> Result<(), Error> {
        let path = self.repo(repo).join("refs").join(revision.as_str());
        create(path.parent().unwrap_or(&self.root))?;
        fs::write(&path, commit).map_err(Error::io("write", &path))
    }

    /// The references that mean a commit.
    pub(crate) fn references_to(&self, repo: &Repo, commit: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.repo(repo).join("refs"), &mut |path| {
            if fs::read_to_string(path).is_ok_and(|text| text.trim() == commit) {
                found.push(path.to_path_buf());
            }
        });
        found
    }

    /// The files of a snapshot whose bytes are there.
    pub(crate) fn files(&self, repo: &Repo, commit: &str) -> Vec<Cached> {
        let folder = self.snapshot(repo, commit);
        let mut found = Vec::new();
        walk(&folder, &mut |path| {
            let relative = path.strip_prefix(&folder).ok().and_then(|p| RepoPath::new(&p.to_string_lossy()));
            let Some(relative) = relative else { return };
            let Ok(data) = fs::metadata(path) else { return };
            if data.is_file() {
                let used = data.accessed().ok().max(data.modified().ok());
                found.push(Cached { path: relative, blob: blob_of(path), bytes: data.len(), used });
            }
        });
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// Puts a blob into a snapshot.
    pub(crate) fn link(&self, repo: &Repo, commit: &str, path: &RepoPath, blob: &str) -> Result<(), Error> {
        let link = self.snapshot(repo, commit).join(path.as_str());
        create(link.parent().unwrap_or(&self.root))?;
        if blob_of(&link).as_deref() == Some(blob) {
            return Ok(());
        }
        remove(&link)?;
        let up = "../".repeat(path.as_str().split('/').count() + 1);
        let target = format!("{up}blobs/{blob}");
        #[cfg(unix)]
        let made = std::os::unix::fs::symlink(&target, &link);
        #[cfg(not(unix))]
        let made = fs::hard_link(self.blobs(repo).join(blob), &link).map(|()| drop(target));
        made.map_err(Error::io("make a link", &link))
    }

    /// The blobs that some snapshot of a repository uses.
    pub(crate) fn blobs_in_use(&self, repo: &Repo) -> BTreeSet<String> {
        let commits = self.commits(repo);
        commits.iter().flat_map(|commit| self.files(repo, commit)).filter_map(|file| file.blob).collect()
    }

    /// Waits until nobody else writes to a repository; `waiting` is called if that takes time.
    pub(crate) fn lock(&self, repo: &Repo, waiting: &dyn Fn()) -> Result<Lock, Error> {
        let (file, path) = self.lock_file(repo, "sampan")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(Error::io("lock", &path))?;
            }
            Err(fs::TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        Ok(Lock { _file: file })
    }

    /// The lock, unless somebody is writing now.
    pub(crate) fn try_lock(&self, repo: &Repo) -> Option<Lock> {
        let (file, _) = self.lock_file(repo, "sampan").ok()?;
        file.try_lock().ok().map(|()| Lock { _file: file })
    }

    /// The lock that other programs take for a blob.
    pub(crate) fn lock_blob(&self, repo: &Repo, blob: &str) -> Result<Lock, Error> {
        let (file, path) = self.lock_file(repo, blob)?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(Lock { _file: file })
    }

    fn lock_file(&self, repo: &Repo, name: &str) -> Result<(File, PathBuf), Error> {
        let folder = self.root.join(".locks").join(repo.folder());
        create(&folder)?;
        let path = folder.join(format!("{name}.lock"));
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        Ok((file.map_err(Error::io("open", &path))?, path))
    }

    /// Removes folders of a repository that have become empty, and its own when nothing is left.
    pub(crate) fn tidy(&self, repo: &Repo) {
        let folder = self.repo(repo);
        remove_empty(&folder);
    }
}

/// The blob that a link of a snapshot leads to, if it is one of the repository's own.
fn blob_of(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    let mut parts = target.components().rev();
    let Component::Normal(name) = parts.next()? else { return None };
    let blobs = parts.next()? == Component::Normal("blobs".as_ref());
    name.to_str().filter(|_| blobs).map(str::to_owned)
}

pub(crate) fn create(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Names in a folder, sorted; none when it cannot be read.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Every file and link below a folder.
fn walk(folder: &Path, found: &mut dyn FnMut(&Path)) {
    for name in names(folder) {
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_dir() => walk(&path, found),
            Ok(_) => found(&path),
            Err(_) => {}
        }
    }
}

/// Whether the folder was empty, below too, and is gone.
fn remove_empty(folder: &Path) -> bool {
    for name in names(folder) {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            remove_empty(&path);
        }
    }
    fs::remove_dir(folder).is_ok()
}

/// Free bytes on the disk of a folder, or of the nearest one above it that exists.
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    folder.ancestors().find_map(|folder| fs4::available_space(folder).ok())
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs)
}
