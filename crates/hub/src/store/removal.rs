//! Taking models away again, and what was left lying about.

use super::cache::{Cache, NOTE, PARTIAL, WRONG, names, remove};
use super::record::{Record, pick_word};
use super::{Store, candidates, ollama, whole};
use crate::Error;
use crate::digest::is_hex;
use crate::name::{ModelName, Repo, Revision};
use crate::pull::target;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// What a removal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files that are gone.
    pub files: usize,
    /// Bytes that are free again.
    pub bytes: u64,
    /// Files that stay: another program fetched them, or another model uses them.
    pub kept: usize,
}

/// Something that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The file.
    pub path: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Why nobody needs it.
    pub why: &'static str,
    /// Links to it, which go first.
    links: Vec<PathBuf>,
}

impl Store {
    /// Removes a model: the files that sampan fetched for it, with `shared` also those that others fetched into the shared
    /// cache. Blobs that another model uses stay.
    ///
    /// # Errors
    /// When it is not here, or somebody else's, or cannot be removed.
    pub fn remove(&self, name: &ModelName, shared: bool) -> Result<Removed, Error> {
        let (repo, pick, revision) = target(name.place());
        let cache = self.cache(repo.origin());
        let records = self.records().all();
        let commits = candidates(cache, &repo, revision.as_ref());
        let word = pick_word(&pick);
        let mine = |record: &&Record| {
            let this = record.repo().as_ref() == Some(&repo) && record.pick == word;
            this && (revision.is_none() || commits.contains(&record.commit))
        };
        let ours: Vec<&Record> = records.iter().filter(mine).collect();
        if !ours.is_empty() {
            let _lock = cache.lock(&repo, &|| {})?;
            let mut removed = Removed::default();
            for record in ours {
                let others: BTreeSet<&str> = records
                    .iter()
                    .filter(|other| {
                        *other != record && other.commit == record.commit && other.folder == record.folder
                    })
                    .flat_map(|other| other.files.iter().map(|file| file.path.as_str()))
                    .collect();
                let goes = |ours: bool, path: &str| (ours || shared) && !others.contains(path);
                let files = record.files.iter().map(|file| (file.path.clone(), goes(file.ours, &file.path)));
                take(cache, &repo, &record.commit, files.collect(), &mut removed)?;
                self.records().remove(record)?;
            }
            cache.tidy(&repo);
            return Ok(removed);
        }
        let found = commits.iter().find_map(|commit| Some((commit, whole(cache, &repo, commit, &pick)?.0)));
        match found {
            Some((commit, selection)) if shared => {
                let _lock = cache.lock(&repo, &|| {})?;
                let mut removed = Removed::default();
                let files = selection.files.iter().map(|path| (path.to_string(), true)).collect();
                take(cache, &repo, commit, files, &mut removed)?;
                cache.tidy(&repo);
                Ok(removed)
            }
            Some(_) => Err(Error::NotOurs {
                name: name.to_string(),
                owner: "it is in the cache that several programs share",
                how: format!("`sampan rm --shared {name}` removes it for all of them"),
            }),
            None => Err(self.not_here(name)),
        }
    }

    fn not_here(&self, name: &ModelName) -> Error {
        if let Some(model) = self.ollama.iter().find_map(|root| ollama::find(root, name)) {
            let how = format!("`ollama rm {}` removes it", model.name);
            return Error::NotOurs { name: name.to_string(), owner: "it is in Ollama's store", how };
        }
        Error::NotHere { name: name.to_string(), nearest: self.meant_here(name.as_str()) }
    }

    /// What nobody needs: what is left of pulls that were not finished, files with wrong bytes, and blobs of repositories
    /// that sampan used in which no snapshot has them; also states of a repository that sampan pulled and whose branch it has
    /// pulled again since. Repositories that are being pulled from now are left alone.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let records = self.records().all();
        let mut found = Vec::new();
        for (cache, _) in self.caches() {
            for repo in cache.repos() {
                let blobs = cache.blobs(&repo);
                let all = names(&blobs);
                let known = records.iter().any(|record| record.repo().as_ref() == Some(&repo));
                if all.is_empty() || cache.try_lock(&repo).is_none() {
                    continue;
                }
                let old = superseded(cache, &repo, &records);
                let used = used_besides(cache, &repo, &old);
                for name in all {
                    let plain = is_hex(&name, 64) || is_hex(&name, 40);
                    let links: Vec<PathBuf> =
                        old.iter().filter(|(_, blob)| *blob == name).map(|(link, _)| link.clone()).collect();
                    let why = match name {
                        _ if name.ends_with(PARTIAL) || name.ends_with(NOTE) => {
                            "a pull that was not finished"
                        }
                        _ if name.ends_with(WRONG) => "bytes that were not what the hub promised",
                        _ if !links.is_empty() && !used.contains(&name) => {
                            "only an older state of its branch has it"
                        }
                        _ if known && plain && !used.contains(&name) => "no model uses it",
                        _ => continue,
                    };
                    let path = blobs.join(&name);
                    let bytes = fs::metadata(&path).map_or(0, |data| on_disk(&data));
                    found.push(Leftover { path, bytes, why, links });
                }
            }
        }
        found
    }

    /// Removes leftovers, and records of models that are gone.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn collect(&self, leftovers: &[Leftover]) -> Result<(), Error> {
        for leftover in leftovers {
            leftover.links.iter().try_for_each(|link| remove(link))?;
            remove(&leftover.path)?;
        }
        let records = self.records().all();
        for record in &records {
            let Some(repo) = record.repo() else { continue };
            let cache = self.cache(repo.origin());
            let old = superseded(cache, &repo, &records);
            let shared = |(link, blob): &(PathBuf, String)| {
                used_besides(cache, &repo, &old).contains(blob).then(|| link.clone())
            };
            // What newer states have too stays, without the older state's link to it.
            old.iter().filter_map(shared).try_for_each(|link| remove(&link))?;
            if cache.files(&repo, &record.commit).is_empty() {
                self.records().remove(record)?;
            }
            cache.tidy(&repo);
        }
        for (cache, _) in self.caches() {
            cache.repos().iter().for_each(|repo| cache.tidy(repo));
        }
        Ok(())
    }
}

/// The files that sampan pulled as a state of a branch (or tag) which by now means another: links in the snapshot, and their
/// blobs. A state that was asked for by its commit, or that another reference means, is none.
fn superseded(cache: &Cache, repo: &Repo, records: &[Record]) -> Vec<(PathBuf, String)> {
    let here = |record: &&Record| record.repo().as_ref() == Some(repo);
    let mut found = Vec::new();
    for record in records.iter().filter(here) {
        let Some(revision) = Revision::new(&record.revision).filter(|revision| !revision.is_commit()) else {
            continue;
        };
        let moved = cache.reference(repo, &revision).is_some_and(|now| now != record.commit);
        let asked = |other: &Record| other.commit == record.commit && other.revision == record.commit;
        let meant = !cache.references_to(repo, &record.commit).is_empty();
        if !moved || meant || records.iter().filter(here).any(asked) {
            continue;
        }
        let snapshot = cache.snapshot(repo, &record.commit);
        let ours = record.files.iter().filter(|file| file.ours);
        found.extend(ours.map(|file| (snapshot.join(&file.path), file.blob.clone())));
    }
    found
}

/// The blobs that snapshots use by other links than these.
fn used_besides(cache: &Cache, repo: &Repo, links: &[(PathBuf, String)]) -> BTreeSet<String> {
    let commits = cache.commits(repo);
    let files = commits.iter().flat_map(|commit| {
        let snapshot = cache.snapshot(repo, commit);
        cache.files(repo, commit).into_iter().map(move |file| (snapshot.join(file.path.as_str()), file.blob))
    });
    let others = files.filter(|(link, _)| !links.iter().any(|(old, _)| old == link));
    others.filter_map(|(_, blob)| blob).collect()
}

/// Takes files out of a snapshot (those marked), and their blobs where no other snapshot has them.
fn take(
    cache: &Cache,
    repo: &Repo,
    commit: &str,
    files: Vec<(String, bool)>,
    removed: &mut Removed,
) -> Result<(), Error> {
    let snapshot = cache.snapshot(repo, commit);
    let here = cache.files(repo, commit);
    let mut blobs = Vec::new();
    for (path, goes) in files {
        let Some(file) = here.iter().find(|file| file.path.as_str() == path) else { continue };
        if !goes {
            removed.kept += 1;
            continue;
        }
        remove(&snapshot.join(&path))?;
        removed.files += 1;
        match &file.blob {
            Some(blob) => blobs.push((blob.clone(), file.bytes)),
            None => removed.bytes += file.bytes,
        }
    }
    let used = cache.blobs_in_use(repo);
    for (blob, bytes) in blobs.into_iter().filter(|(blob, _)| !used.contains(blob)) {
        remove(&cache.blobs(repo).join(blob))?;
        removed.bytes += bytes;
    }
    if cache.files(repo, commit).is_empty() {
        for reference in cache.references_to(repo, commit) {
            remove(&reference)?;
        }
    }
    Ok(())
}

/// What a file takes of the disk: one that is being fetched has holes.
fn on_disk(data: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    return data.len().min(std::os::unix::fs::MetadataExt::blocks(data) * 512);
    #[cfg(not(unix))]
    return data.len();
}
