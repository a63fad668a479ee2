//! What sampan itself remembers of a model that it fetched.

use crate::Error;
use crate::digest;
use crate::name::{Origin, Pick, Repo};
use crate::store::cache::{create, names, seconds};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A model that was pulled: which state of which repository, file by file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name that it was asked for by.
    pub name: String,
    /// `OWNER/NAME`, or the URL.
    pub repository: String,
    /// `models--OWNER--NAME`
    pub(crate) folder: String,
    pub(crate) origin: String,
    /// The endpoint or URL that it came from.
    pub source: String,
    /// The branch, tag or commit that was asked for.
    pub revision: String,
    /// The state that this was when it was pulled, for ever.
    pub commit: String,
    /// What was picked of the repository.
    pub(crate) pick: String,
    /// Its files.
    pub files: Vec<RecordedFile>,
    /// When, in seconds since 1970.
    pub pulled: u64,
    /// When it was used last.
    pub used: u64,
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// In the repository.
    pub path: String,
    /// How large.
    pub bytes: u64,
    /// The name of its blob.
    pub blob: String,
    /// The digest that was verified: `sha256` or `git`, and the digits.
    pub digest: digest::Digest,
    /// Whether sampan fetched it; otherwise it was there already.
    pub ours: bool,
}

impl Record {
    pub(crate) fn repo(&self) -> Option<Repo> {
        Repo::from_folder(Origin::from_word(&self.origin)?, &self.folder)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// How a pick is remembered.
pub(crate) fn pick_word(pick: &Pick) -> String {
    match pick {
        Pick::Usual => "usual".into(),
        Pick::Format(format) => format.clone(),
        Pick::File(file) => file.to_string(),
    }
}

/// The folder of records.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(crate) fn new(folder: PathBuf) -> Records {
        Records { folder }
    }

    /// All that can be read. A record that cannot is as good as none: its model counts as somebody else's.
    pub(crate) fn all(&self) -> Vec<Record> {
        let read = |name: String| serde_json::from_slice(&fs::read(self.folder.join(name)).ok()?).ok();
        names(&self.folder).into_iter().filter(|name| name.ends_with(".json")).filter_map(read).collect()
    }

    pub(crate) fn save(&self, record: &Record) -> Result<(), Error> {
        create(&self.folder)?;
        let path = self.path(record);
        let text = serde_json::to_vec_pretty(record).unwrap_or_default();
        let new = path.with_extension("new");
        fs::write(&new, text).map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("write", &path))
    }

    pub(crate) fn remove(&self, record: &Record) -> Result<(), Error> {
        crate::store::cache::remove(&self.path(record))
    }

    /// Notes that a model was used. That this fails where nothing can be written is no reason not to use it.
    pub(crate) fn touch(&self, record: &Record) {
        let used = seconds(SystemTime::now());
        let _ = self.save(&Record { used, ..record.clone() });
    }

    /// The name of a record's file: a digest, so that no name in it matters.
    fn path(&self, record: &Record) -> PathBuf {
        let Record { origin, folder, commit, pick, .. } = record;
        let key = digest::sha256(format!("{origin}\n{folder}\n{commit}\n{pick}").as_bytes());
        Path::new(&self.folder).join(format!("{}.json", &key[..32]))
    }
}
