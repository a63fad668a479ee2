//! What is on this machine.

pub(crate) mod cache;
mod listing;
mod ollama;
pub(crate) mod record;
mod removal;

pub use listing::{Entry, Owner};
pub use record::{Record, RecordedFile};
pub use removal::{Leftover, Removed};

use crate::catalogue::Catalogue;
use crate::name::{ModelName, Origin, Pick, Repo, Revision};
use crate::nearest::meant;
use crate::pull::target;
use crate::select::{Selection, select};
use crate::{Error, HubOptions};
use cache::Cache;
use record::{Records, pick_word};
use std::fs;
use std::path::PathBuf;

/// The folders in which models are.
#[derive(Clone, Debug)]
pub struct Store {
    hugging_face: Cache,
    model_scope: Cache,
    web: Cache,
    records: Records,
    ollama: Vec<PathBuf>,
}

/// A model that is here, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The file or folder to open.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// The state of its repository; empty where that is not known.
    pub commit: String,
}

impl Store {
    /// The store in the folders that the options name.
    ///
    /// # Errors
    /// When no folder is known.
    pub fn new(options: &HubOptions) -> Result<Store, Error> {
        let cache = options.cache.clone().ok_or(Error::NoFolder)?;
        let own = options.own.clone().ok_or(Error::NoFolder)?;
        Ok(Store {
            hugging_face: Cache::new(cache, Origin::HuggingFace),
            model_scope: Cache::new(own.join("modelscope"), Origin::ModelScope),
            web: Cache::new(own.join("web"), Origin::Web),
            records: Records::new(own.join("records")),
            ollama: options.ollama.clone(),
        })
    }

    pub(crate) fn cache(&self, origin: Origin) -> &Cache {
        match origin {
            Origin::HuggingFace => &self.hugging_face,
            Origin::ModelScope => &self.model_scope,
            Origin::Web => &self.web,
        }
    }

    fn caches(&self) -> [(&Cache, Origin); 3] {
        [Origin::HuggingFace, Origin::ModelScope, Origin::Web].map(|origin| (self.cache(origin), origin))
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    /// The model that a name means, if all of its files are here; whoever fetched it. Nothing is asked of any hub.
    pub fn find(&self, name: &ModelName) -> Option<Local> {
        let (repo, pick, revision) = target(name.place());
        let cache = self.cache(repo.origin());
        for commit in candidates(cache, &repo, revision.as_ref()) {
            if let Some((selection, bytes)) = whole(cache, &repo, &commit, &pick) {
                let snapshot = cache.snapshot(&repo, &commit);
                let path = selection.entry.map_or(snapshot.clone(), |entry| snapshot.join(entry.as_str()));
                return Some(Local { path, bytes, commit });
            }
        }
        let found = self.ollama.iter().find_map(|root| ollama::find(root, name))?;
        Some(Local { path: found.blob, bytes: found.bytes, commit: String::new() })
    }

    /// The models on this machine that may have been meant by a name that means none.
    pub fn meant_here(&self, typed: &str) -> Vec<String> {
        meant(typed, &self.names_here())
    }

    fn names_here(&self) -> Vec<String> {
        self.list().into_iter().filter(|entry| !entry.unfinished).map(|entry| entry.name).collect()
    }

    /// The models that may have been meant by a name that means none: here, in the catalogue, by their repository there, or
    /// among `others` that have names of their own.
    pub fn meant(&self, typed: &str, others: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        names.extend(self.names_here());
        let catalogue = Catalogue::builtin();
        names.extend(catalogue.releases().iter().map(|release| release.name.to_owned()));
        names.extend(catalogue.releases().iter().map(|release| release.repo.to_string()));
        meant(typed, &names)
    }

    /// Notes that a model was used now, if sampan fetched it.
    pub fn used(&self, name: &ModelName, local: &Local) {
        let (repo, pick, _) = target(name.place());
        let word = pick_word(&pick);
        let same = |record: &&Record| {
            record.repo().as_ref() == Some(&repo) && record.commit == local.commit && record.pick == word
        };
        if let Some(record) = self.records.all().iter().find(same) {
            self.records.touch(record);
        }
    }
}

/// The commits that may be meant, the likeliest first.
fn candidates(cache: &Cache, repo: &Repo, revision: Option<&Revision>) -> Vec<String> {
    match revision {
        Some(revision) if revision.is_commit() => vec![revision.as_str().to_owned()],
        Some(revision) => cache.reference(repo, revision).into_iter().collect(),
        None => {
            let newest = cache.reference(repo, &Revision::usual(repo.origin()));
            newest.into_iter().chain(cache.commits(repo)).collect()
        }
    }
}

/// The files of a model and their bytes, if a snapshot has them all.
fn whole(cache: &Cache, repo: &Repo, commit: &str, pick: &Pick) -> Option<(Selection, u64)> {
    let files = cache.files(repo, commit);
    let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
    let snapshot = cache.snapshot(repo, commit);
    let read = &mut |path: &crate::RepoPath| {
        let path = snapshot.join(path.as_str());
        fs::read(&path).map_err(Error::io("read", &path))
    };
    let selection = select(&repo.to_string(), &paths, pick, read).ok()?;
    let bytes = files.iter().filter(|file| selection.files.contains(&file.path)).map(|file| file.bytes).sum();
    Some((selection, bytes))
}
