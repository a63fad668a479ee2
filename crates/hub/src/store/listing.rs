//! What is here, whose it is, and when it was used.

use super::cache::{Cache, NOTE, PARTIAL, names, seconds};
use super::record::Record;
use super::{Store, ollama};
use crate::download::come;
use crate::name::{Origin, Pick, Repo};
use crate::select::{formats_of, select};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// Who fetched a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// sampan did.
    Ours,
    /// Another program did, into the shared cache.
    Shared,
    /// Ollama did, into its own.
    Ollama,
}

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct Entry {
    /// A name that means it.
    pub name: String,
    /// The folder or file.
    pub path: PathBuf,
    /// Bytes of its files; of an unfinished one, what has come.
    pub bytes: u64,
    /// When it was used last, in seconds since 1970.
    pub used: Option<u64>,
    /// Who fetched it.
    pub owner: Owner,
    /// The state of its repository, where that is known.
    pub commit: Option<String>,
    /// Whether files of it are still missing.
    pub unfinished: bool,
}

impl Store {
    /// Every model, those that sampan fetched first.
    pub fn list(&self) -> Vec<Entry> {
        let records = self.records().all();
        let mut entries = Vec::new();
        for (cache, origin) in self.caches() {
            for repo in cache.repos() {
                let ours: Vec<&Record> =
                    records.iter().filter(|r| r.repo().as_ref() == Some(&repo)).collect();
                entries.extend(ours.iter().filter_map(|record| recorded(cache, &repo, record)));
                entries.extend(shared(cache, origin, &repo, &ours));
                entries.extend(unfinished(cache, &repo));
            }
        }
        for root in &self.ollama {
            entries.extend(ollama::all(root).into_iter().map(|model| Entry {
                name: model.name,
                path: model.blob,
                bytes: model.bytes,
                used: model.used.map(seconds),
                owner: Owner::Ollama,
                commit: None,
                unfinished: false,
            }));
        }
        entries.sort_by_key(|entry| (entry.owner as u8, entry.unfinished, entry.name.to_lowercase()));
        entries
    }
}

/// A model of ours, unless its files are gone.
fn recorded(cache: &Cache, repo: &Repo, record: &Record) -> Option<Entry> {
    let files = cache.files(repo, &record.commit);
    let here = |path: &str| files.iter().any(|file| file.path.as_str() == path);
    let unfinished = !record.files.iter().all(|file| here(&file.path));
    let any = record.files.iter().any(|file| here(&file.path));
    any.then(|| Entry {
        name: record.name.clone(),
        path: cache.snapshot(repo, &record.commit),
        bytes: record.bytes(),
        used: Some(record.used),
        owner: Owner::Ours,
        commit: Some(record.commit.clone()),
        unfinished,
    })
}

/// What others fetched: of each snapshot the safetensors model, and the GGUF models by format.
fn shared(cache: &Cache, origin: Origin, repo: &Repo, ours: &[&Record]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for commit in cache.commits(repo) {
        let known: BTreeSet<&str> = ours
            .iter()
            .filter(|record| record.commit == commit)
            .flat_map(|record| record.files.iter().map(|file| file.path.as_str()))
            .collect();
        let files = cache.files(repo, &commit);
        let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
        let picks = [Pick::Usual].into_iter().chain(formats_of(&paths).into_iter().map(Pick::Format));
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for pick in picks {
            let folder = cache.snapshot(repo, &commit);
            let read = &mut |path: &crate::RepoPath| {
                let path = folder.join(path.as_str());
                fs::read(&path).map_err(crate::Error::io("read", &path))
            };
            let Ok(selection) = select("", &paths, &pick, read) else { continue };
            // The usual pick is listed as a format where it is a GGUF file.
            let by_format = selection.entry.is_some() && pick == Pick::Usual;
            let weights = selection.files.last().map(|path| path.as_str()).unwrap_or_default();
            if by_format || known.contains(weights) || !taken.insert(weights.to_owned()) {
                continue;
            }
            let chosen = || files.iter().filter(|file| selection.files.contains(&file.path));
            let host = if origin == Origin::ModelScope { "modelscope.cn/models/" } else { "" };
            let format = if let Pick::Format(format) = &pick { format!(":{format}") } else { String::new() };
            entries.push(Entry {
                name: format!("{host}{repo}{format}"),
                path: selection.entry.as_ref().map_or(folder.clone(), |entry| folder.join(entry.as_str())),
                bytes: chosen().map(|file| file.bytes).sum(),
                used: chosen().filter_map(|file| file.used).max().map(seconds),
                owner: Owner::Shared,
                commit: Some(commit.clone()),
                unfinished: false,
            });
        }
    }
    entries
}

/// What has come of files that are not whole, by us or by others.
fn unfinished(cache: &Cache, repo: &Repo) -> Option<Entry> {
    let blobs = cache.blobs(repo);
    let (mut bytes, mut used, mut any) = (0, None::<SystemTime>, false);
    for name in names(&blobs) {
        let path = blobs.join(&name);
        bytes += match (name.strip_suffix(PARTIAL), name.ends_with(".incomplete")) {
            (Some(blob), _) => come(&blobs.join(format!("{blob}{NOTE}"))),
            (None, true) => fs::metadata(&path).map_or(0, |data| data.len()),
            (None, false) => continue,
        };
        any = true;
        used = used.max(fs::metadata(&path).and_then(|data| data.modified()).ok());
    }
    any.then(|| Entry {
        name: repo.to_string(),
        path: cache.repo(repo),
        bytes,
        used: used.map(seconds),
        owner: Owner::Ours,
        commit: None,
        unfinished: true,
    })
}
