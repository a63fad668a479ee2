//! From a name to verified files: what is needed, what is there, and the rest from the hub.

use crate::digest::{self, Digest};
use crate::download::{Download, come};
use crate::name::{ModelName, Pick, Place, Repo, Revision};
use crate::net::Client;
use crate::remote::{Listing, Remote, RemoteFile};
use crate::select::{Selection, select};
use crate::store::cache::{Cache, NOTE, PARTIAL, WRONG, create, free_space, remove, seconds};
use crate::store::record::{Record, RecordedFile, pick_word};
use crate::store::{Local, Store};
use crate::{Error, HubOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What happens while a model is pulled.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Somebody else pulls from the same repository; we wait.
    Waiting,
    /// A file is fetched.
    File {
        /// In the repository.
        path: &'a str,
        /// How large it is.
        bytes: u64,
    },
    /// So many bytes of it are there (some may have been there before), or do not count after all.
    Bytes(i64),
    /// The bytes of a file are compared with the hub's digest.
    Verify {
        /// In the repository.
        path: &'a str,
        /// How large it is.
        bytes: u64,
    },
    /// The server names no digest: there was nothing to compare the bytes with.
    Unverified {
        /// In the repository.
        path: &'a str,
        /// What the bytes add up to.
        digest: &'a Digest,
    },
    /// A request failed, and is sent again.
    Retry {
        /// Why.
        why: &'a Error,
        /// After how long.
        wait: Duration,
    },
}

/// Who hears of it; called from several threads.
pub type Listener<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// What a pull will do.
#[derive(Debug)]
pub struct Plan {
    name: String,
    repo: Repo,
    pick: Pick,
    revision: Revision,
    remote: Remote,
    commit: String,
    selection: Selection,
    files: Vec<RemoteFile>,
    /// Bytes of the whole model.
    pub bytes: u64,
    /// Bytes that are not here.
    pub missing: u64,
    /// Files that are not here.
    pub missing_files: usize,
}

impl Plan {
    /// Where the files come from: a host.
    pub fn host(&self) -> String {
        self.remote.host()
    }

    /// The commit of the repository.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Whether the hub says of every file what its bytes add up to.
    pub fn has_digests(&self) -> bool {
        self.files.iter().all(|file| file.digest.is_some())
    }

    /// The repository, or the URL.
    pub fn repository(&self) -> String {
        self.remote.asked(None).repo
    }
}

/// A repository, what is wanted of it, and which of its states.
pub(crate) fn target(place: &Place) -> (Repo, Pick, Option<Revision>) {
    match place {
        Place::Repo { repo, pick, revision } => (repo.clone(), pick.clone(), revision.clone()),
        Place::Url(url) => (Repo::web(url), Pick::Usual, None),
    }
}

/// Pulls models.
#[derive(Clone, Copy, Debug)]
pub struct Hub<'a> {
    options: &'a HubOptions,
    store: &'a Store,
}

impl<'a> Hub<'a> {
    /// A hub that fills a store.
    pub fn new(options: &'a HubOptions, store: &'a Store) -> Hub<'a> {
        Hub { options, store }
    }

    fn remote(&self, name: &ModelName) -> Remote {
        match name.place() {
            Place::Repo { repo, revision, .. } => Remote::of_repo(self.options, repo, revision.as_ref()),
            Place::Url(url) => Remote::Web { url: url.clone() },
        }
    }

    fn client(&self, name: &ModelName) -> Result<Client, Error> {
        if self.options.offline {
            let nearest = self.store.meant(name.as_str(), &[]);
            return Err(Error::Offline { what: name.to_string(), nearest });
        }
        let named: Vec<&str> = match name.place() {
            Place::Url(url) => vec![url],
            Place::Repo { .. } => vec![],
        };
        Client::new(self.options, &named)
    }

    /// What a repository holds, or which one may have been meant.
    fn list(
        &self,
        name: &ModelName,
        remote: &Remote,
        client: &Client,
        say: crate::Say<'_>,
    ) -> Result<Listing, Error> {
        remote.list(client, say).map_err(|error| match error {
            Error::NotFound { host, what, token, .. } => {
                Error::NotFound { host, what, token, nearest: self.store.meant(name.as_str(), &[]) }
            }
            other => other,
        })
    }

    /// Asks the hub which files a model has, and looks which of them are here.
    ///
    /// # Errors
    /// When the hub cannot be asked, does not have it, or it cannot be loaded.
    pub fn plan(&self, name: &ModelName, listener: Listener<'_>) -> Result<Plan, Error> {
        let client = self.client(name)?;
        let remote = self.remote(name);
        let say = |why: &Error, wait: Duration| listener(Event::Retry { why, wait });
        let Listing { commit, files } = self.list(name, &remote, &client, &say)?;
        let (repo, pick, revision) = target(name.place());
        let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
        let shown = remote.asked(None).repo;
        let selection =
            select(&shown, &paths, &pick, &mut |path| match files.iter().find(|file| file.path == *path) {
                Some(file) => remote.small(&client, &commit, file, &say),
                None => Err(Error::NoModel { repo: shown.clone(), why: format!("{path} is missing") }),
            })?;
        let wanted = |path: &crate::RepoPath| files.iter().find(|file| file.path == *path).cloned();
        let files: Vec<RemoteFile> = selection.files.iter().filter_map(wanted).collect();
        let (cache, mut missing, mut missing_files) = (self.store.cache(repo.origin()), 0u64, 0);
        for file in &files {
            let blob = cache.blobs(&repo).join(blob_name(&commit, file));
            if !is_whole(&blob, file.bytes) {
                // Sizes are what a hub says, and it may say anything.
                missing = missing.saturating_add(file.bytes.saturating_sub(come(&with_end(&blob, NOTE))));
                missing_files += 1;
            }
        }
        let revision = revision.unwrap_or_else(|| Revision::usual(repo.origin()));
        let bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
        let name = name.to_string();
        Ok(Plan {
            name,
            repo,
            pick,
            revision,
            remote,
            commit,
            selection,
            files,
            bytes,
            missing,
            missing_files,
        })
    }

    /// A small file of a repository that need not be pulled for it, such as config.json. `None` when there is none.
    ///
    /// # Errors
    /// When the hub cannot be asked or does not have the repository.
    pub fn peek(
        &self,
        name: &ModelName,
        path: &str,
        listener: Listener<'_>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let client = self.client(name)?;
        let remote = self.remote(name);
        let say = |why: &Error, wait: Duration| listener(Event::Retry { why, wait });
        let Listing { commit, files } = self.list(name, &remote, &client, &say)?;
        let file = files.iter().find(|file| file.path.as_str() == path);
        file.map(|file| remote.small(&client, &commit, file, &say)).transpose()
    }

    /// Does what a plan says. What is there already is verified too, once.
    ///
    /// # Errors
    /// What the hub or the disk says, or bytes that are not those that were promised. What has come is kept, and the next
    /// pull goes on from there.
    pub fn pull(&self, name: &ModelName, plan: &Plan, listener: Listener<'_>) -> Result<Local, Error> {
        let client = self.client(name)?;
        let cache = self.store.cache(plan.repo.origin());
        create(&cache.blobs(&plan.repo))?;
        let _lock = cache.lock(&plan.repo, &|| listener(Event::Waiting))?;
        let free = free_space(cache.root());
        if let Some(free) = free.filter(|free| *free < plan.missing) {
            let mib = |bytes: u64| bytes >> 20;
            let folder = cache.root().to_path_buf();
            return Err(Error::NoSpace { folder, needed: mib(plan.missing).max(1), available: mib(free) });
        }
        let known = self.store.records().all();
        let known: Vec<&Record> =
            known.iter().filter(|record| record.repo().as_ref() == Some(&plan.repo)).collect();
        let mut files = Vec::new();
        for file in &plan.files {
            let recorded = self.file(&client, plan, file, cache, &known, listener)?;
            cache.link(&plan.repo, &plan.commit, &file.path, &recorded.blob)?;
            files.push(recorded);
        }
        if !plan.revision.is_commit() {
            cache.set_reference(&plan.repo, &plan.revision, &plan.commit)?;
        }
        let now = seconds(SystemTime::now());
        // Who asked for this state by its commit wants it whatever its branch becomes.
        let pick = pick_word(&plan.pick);
        let pinned = known.iter().any(|record| {
            (&record.commit, &record.revision, &record.pick) == (&plan.commit, &plan.commit, &pick)
        });
        let revision = if pinned { &plan.commit } else { plan.revision.as_str() };
        self.store.records().save(&Record {
            name: plan.name.clone(),
            repository: plan.repository(),
            folder: plan.repo.folder(),
            origin: plan.repo.origin().word().into(),
            source: plan.remote.source().into(),
            revision: revision.into(),
            commit: plan.commit.clone(),
            pick,
            files,
            pulled: now,
            used: now,
        })?;
        let snapshot = cache.snapshot(&plan.repo, &plan.commit);
        let path =
            plan.selection.entry.as_ref().map_or(snapshot.clone(), |entry| snapshot.join(entry.as_str()));
        Ok(Local { path, bytes: plan.bytes, commit: plan.commit.clone() })
    }

    /// One file: found and verified, or fetched and verified.
    fn file(
        &self,
        client: &Client,
        plan: &Plan,
        file: &RemoteFile,
        cache: &Cache,
        known: &[&Record],
        listener: Listener<'_>,
    ) -> Result<RecordedFile, Error> {
        let name = blob_name(&plan.commit, file);
        let blob = cache.blobs(&plan.repo).join(&name);
        let path = file.path.as_str();
        let recorded = |digest: Digest, ours: bool| RecordedFile {
            path: path.into(),
            bytes: file.bytes,
            blob: name.clone(),
            digest,
            ours,
        };
        let _lock = cache.lock_blob(&plan.repo, &name)?;
        if is_whole(&blob, file.bytes) {
            let before = known.iter().flat_map(|record| &record.files).find(|other| other.blob == name);
            if let Some(before) = before {
                return Ok(recorded(before.digest.clone(), before.ours));
            }
            let digest = self.verify(&blob, file, listener)?;
            return Ok(recorded(digest, false));
        }
        listener(Event::File { path, bytes: file.bytes });
        let (partial, note) = (with_end(&blob, PARTIAL), with_end(&blob, NOTE));
        let download = Download {
            client,
            url: plan.remote.url(&plan.commit, &file.path),
            asked: plan.remote.asked(Some(&file.path)),
            bytes: file.bytes,
            connections: self.options.connections,
            part: self.options.part,
            listener,
        };
        let fetched = download.fetch(&partial, &note);
        if fetched.is_err() && come(&note) == 0 {
            // Nothing has come: there is nothing to go on from.
            [&note, &partial].into_iter().try_for_each(|file| remove(file))?;
        }
        fetched?;
        fs::remove_file(&note).map_err(Error::io("remove", &note))?;
        let digest = self.verify(&partial, file, listener)?;
        fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(Error::io("write", &partial))?;
        fs::rename(&partial, &blob).map_err(Error::io("rename", &partial))?;
        Ok(recorded(digest, true))
    }

    /// The digest of a file that is what the hub promised; any other is set aside.
    fn verify(&self, path: &Path, file: &RemoteFile, listener: Listener<'_>) -> Result<Digest, Error> {
        listener(Event::Verify { path: file.path.as_str(), bytes: file.bytes });
        let found = digest::of_file(path, file.digest.as_ref(), &mut |_| {})?;
        let Some(expected) = &file.digest else {
            listener(Event::Unverified { path: file.path.as_str(), digest: &found });
            return Ok(found);
        };
        if *expected == found {
            return Ok(found);
        }
        let stem = path.to_string_lossy();
        let kept = PathBuf::from(format!("{}{WRONG}", stem.strip_suffix(PARTIAL).unwrap_or(&stem)));
        fs::rename(path, &kept).map_err(Error::io("rename", path))?;
        let (expected, found) = (short(expected), short(&found));
        Err(Error::WrongHash { file: file.path.to_string(), expected, found, kept })
    }
}

/// `sha256 0123456789ab...`
fn short(digest: &Digest) -> String {
    let kind = if matches!(digest, Digest::Git(_)) { "git sha1" } else { "sha256" };
    format!("{kind} {}...", &digest.hex()[..12])
}

/// The name of a file's bytes in the cache.
fn blob_name(commit: &str, file: &RemoteFile) -> String {
    file.digest.as_ref().map_or_else(|| commit.to_owned(), |digest| digest.hex().to_owned())
}

fn is_whole(blob: &Path, bytes: u64) -> bool {
    fs::metadata(blob).is_ok_and(|data| data.is_file() && data.len() == bytes)
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
