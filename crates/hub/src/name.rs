//! What a model is called: parsed once, so that no later step has to doubt it.
//!
//! Owner, repository, revision and paths become parts of file names and URLs. The types here can only be made by
//! checking them, so a name that leaves the store cannot be written down.

use crate::catalogue::Catalogue;
use crate::nearest::did_you_mean;
use std::fmt;

/// Whose repositories a name means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// huggingface.co, or the endpoint that stands for it.
    #[default]
    HuggingFace,
    /// modelscope.cn, or the endpoint that stands for it.
    ModelScope,
    /// Any other address; each file counts as a repository of its own.
    Web,
}

impl Origin {
    /// How it is remembered.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Origin::HuggingFace => "huggingface",
            Origin::ModelScope => "modelscope",
            Origin::Web => "web",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Origin> {
        [Origin::HuggingFace, Origin::ModelScope, Origin::Web]
            .into_iter()
            .find(|origin| origin.word() == word)
    }
}

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A word without an owner that the catalogue does not know.
    #[error("no release is called {name:?}")]
    Unknown {
        /// What was typed.
        name: String,
        /// What may have been meant, the likeliest first.
        nearest: Vec<String>,
    },
    /// A part that cannot be part of a name.
    #[error("{name:?} is no model name: {why}")]
    Malformed {
        /// What was typed.
        name: String,
        /// Which part is wrong.
        why: &'static str,
    },
    /// A repository, and after another slash a file.
    #[error("{name:?} is no model name: a file of a repository stands behind a colon")]
    FileAfterSlash {
        /// What was typed.
        name: String,
        /// The same as it has to be written.
        meant: String,
    },
    /// A file that runs code when it is read.
    #[error("{name:?} is a pickle checkpoint, which can run any code while it is read")]
    Pickle {
        /// What was typed.
        name: String,
    },
}

impl NameError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            NameError::Unknown { nearest, .. } if !nearest.is_empty() => {
                did_you_mean(nearest).unwrap_or_default()
            }
            NameError::FileAfterSlash { meant, .. } => format!("write {meant}"),
            NameError::Pickle { .. } => "give the repository's safetensors or GGUF files".into(),
            _ => "give a short name (qwen3:4b), OWNER/NAME, OWNER/NAME:Q4_K_M, OWNER/NAME:path/in/it.gguf, hf.co/OWNER/NAME, \
                  or the URL of a GGUF file"
                .into(),
        }
    }
}

/// A repository: `OWNER/NAME` somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repo {
    origin: Origin,
    owner: String,
    name: String,
}

impl Repo {
    /// `None` when a part is not what hubs allow: letters, digits and `-_.`, at most 96, with `-` and `.` neither at an
    /// end nor doubled.
    pub fn new(origin: Origin, owner: &str, name: &str) -> Option<Repo> {
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= 96
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
        };
        (good(owner) && good(name)).then(|| Repo { origin, owner: owner.into(), name: name.into() })
    }

    /// What stands for the repository of a file that is in none.
    pub(crate) fn web(url: &str) -> Repo {
        let host: String = crate::net::host(url).unwrap_or_default();
        let plain: String =
            host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(90).collect();
        Repo {
            origin: Origin::Web,
            owner: plain,
            name: crate::digest::sha256(url.as_bytes())[..24].to_owned(),
        }
    }

    /// Where it is.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// `models--OWNER--NAME`, the folder that every user of the shared cache agrees on.
    pub fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }

    /// The repository that a cache folder belongs to.
    pub fn from_folder(origin: Origin, folder: &str) -> Option<Repo> {
        let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
        Repo::new(origin, owner, name)
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Revision {
    /// `None` when it cannot be the name of a revision.
    pub fn new(text: &str) -> Option<Revision> {
        let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./+".contains(&b));
        (good && is_relative(text) && text.len() <= 160).then(|| Revision(text.into()))
    }

    /// The branch that is meant when none is named.
    pub(crate) fn usual(origin: Origin) -> Revision {
        Revision(if origin == Origin::ModelScope { "master" } else { "main" }.into())
    }

    /// Whether it names one state for ever.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Forty hexadecimal digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A path inside a repository, which stays inside any folder it is joined to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(String);

impl RepoPath {
    /// `None` when it is not relative, goes up, or holds characters that some file system treats as something else.
    pub fn new(text: &str) -> Option<RepoPath> {
        let good = |c: char| !c.is_control() && !r#"\:*?"<>|"#.contains(c);
        (text.len() <= 512 && text.chars().all(good) && is_relative(text)).then(|| RepoPath(text.into()))
    }

    /// As it is written, with forward slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last slash.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parts between slashes, each an ordinary name.
fn is_relative(text: &str) -> bool {
    let ordinary = |part: &str| {
        !part.is_empty() && part.len() <= 200 && part != "." && part != ".." && !part.ends_with([' ', '.'])
    };
    text.split('/').all(ordinary)
}

/// What of a repository is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// The weights as published, or the usual quantisation where there are only quantised ones.
    Usual,
    /// A quantisation, such as `Q4_K_M`.
    Format(String),
    /// One GGUF file (or the set it belongs to).
    File(RepoPath),
}

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A repository of a hub.
    Repo {
        /// The repository.
        repo: Repo,
        /// Which of its files.
        pick: Pick,
        /// Which of its states; the newest when `None`.
        revision: Option<Revision>,
    },
    /// A GGUF file anywhere.
    Url(String),
}

/// A model's name as a user gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    typed: String,
    place: Place,
}

impl ModelName {
    /// Parses a name; `origin` is where `OWNER/NAME` is looked for.
    ///
    /// - `qwen3:4b`: a release of the [`Catalogue`]; `qwen3:4b-q8_0`: in another quantisation
    /// - `OWNER/NAME`, `OWNER/NAME:Q4_K_M`, `OWNER/NAME:path/in/repository.gguf`, each with `@REVISION`
    /// - the same after `hf.co/`, `huggingface.co/` or `modelscope.cn/models/`, with or without `https://`, also as copied
    ///   from a browser (`.../tree/main`, `.../blob/main/x.gguf`)
    /// - the URL of a GGUF file
    ///
    /// # Errors
    /// What is wrong, or what else may have been meant.
    pub fn parse(typed: &str, origin: Origin) -> Result<ModelName, NameError> {
        let malformed = |why| NameError::Malformed { name: typed.into(), why };
        let place = if let Some((origin, rest)) = on_hub(typed) {
            in_browser(rest, origin).or_else(|| in_repo(rest, origin)).ok_or(malformed(
                "after the host come OWNER/NAME and at most :FORMAT and @REVISION, or the path of a file",
            ))?
        } else if typed.contains("://") {
            Place::Url(url(typed)?)
        } else if typed.contains('/') {
            in_repo(typed, origin).ok_or_else(|| {
                after_slash(typed).map_or_else(
                    || {
                        malformed(
                            "owner and name are letters, digits and single - _ . with one slash between; then at most \
                             :FORMAT or :PATH-OF-A-FILE, and @REVISION",
                        )
                    },
                    |meant| NameError::FileAfterSlash { name: typed.into(), meant },
                )
            })?
        } else {
            let catalogue = Catalogue::builtin();
            match catalogue.find(typed) {
                Some(place) => place.with_origin(origin),
                None => {
                    let nearest = catalogue.nearest(typed);
                    return Err(NameError::Unknown { name: typed.into(), nearest });
                }
            }
        };
        if let Place::Repo { pick: Pick::File(file), .. } = &place {
            check_file(typed, file.as_str())?;
        }
        Ok(ModelName { typed: typed.into(), place })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// As it was typed.
    pub fn as_str(&self) -> &str {
        &self.typed
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

impl Place {
    fn with_origin(mut self, to: Origin) -> Place {
        if let Place::Repo { repo, .. } = &mut self {
            repo.origin = to;
        }
        self
    }
}

/// What follows the host, of an address on a known hub.
fn on_hub(typed: &str) -> Option<(Origin, &str)> {
    let rest = typed.strip_prefix("https://").or_else(|| typed.strip_prefix("http://")).unwrap_or(typed);
    let rest = rest.strip_prefix("www.").unwrap_or(rest);
    let (host, path) = rest.split_once('/')?;
    match host.to_ascii_lowercase().as_str() {
        "hf.co" | "huggingface.co" => Some((Origin::HuggingFace, path)),
        "modelscope.cn" | "modelscope.ai" => {
            Some((Origin::ModelScope, path.strip_prefix("models/").unwrap_or(path)))
        }
        _ => None,
    }
}

/// `OWNER/NAME/tree/REVISION` or `OWNER/NAME/blob/REVISION/FILE` (also `resolve`).
fn in_browser(path: &str, origin: Origin) -> Option<Place> {
    let path = path.split(['?', '#']).next().unwrap_or(path).trim_end_matches('/');
    let parts: Vec<&str> = path.splitn(5, '/').collect();
    let (repo, what, revision, file) = match parts.as_slice() {
        [owner, name] => return in_repo(&format!("{owner}/{name}"), origin),
        [owner, name, what, revision, file @ ..] => (Repo::new(origin, owner, name)?, *what, *revision, file),
        _ => return None,
    };
    let pick = match (what, file) {
        ("tree", []) => Pick::Usual,
        ("blob" | "resolve", [file]) => Pick::File(RepoPath::new(file)?),
        _ => return None,
    };
    Some(Place::Repo { repo, pick, revision: Some(Revision::new(revision)?) })
}

/// How `OWNER/NAME/FILE` has to be written.
fn after_slash(typed: &str) -> Option<String> {
    let mut parts = typed.splitn(3, '/');
    let (owner, name, file) = (parts.next()?, parts.next()?, parts.next()?);
    let file = RepoPath::new(file).filter(|file| file.file_name().contains('.'))?;
    Repo::new(Origin::HuggingFace, owner, name).map(|repo| format!("{repo}:{file}"))
}

/// `OWNER/NAME[:PICK][@REVISION]`; the last two in any order.
fn in_repo(text: &str, origin: Origin) -> Option<Place> {
    let end = text.find([':', '@']).unwrap_or(text.len());
    let (owner, name) = text[..end].split_once('/')?;
    let repo = Repo::new(origin, owner, name)?;
    let (mut pick, mut revision) = (None, None);
    let mut rest = &text[end..];
    while let Some(mark) = rest.chars().next() {
        let end = rest[1..].find([':', '@']).map_or(rest.len(), |at| at + 1);
        let part = &rest[1..end];
        let twice = match mark {
            ':' => pick.replace(parse_pick(part)?).is_some(),
            _ => revision.replace(Revision::new(part)?).is_some(),
        };
        if twice {
            return None;
        }
        rest = &rest[end..];
    }
    Some(Place::Repo { repo, pick: pick.unwrap_or(Pick::Usual), revision })
}

/// `Q4_K_M`, `latest` (which other programs write for nothing at all), or a path.
pub(crate) fn parse_pick(text: &str) -> Option<Pick> {
    if text.eq_ignore_ascii_case("latest") {
        return Some(Pick::Usual);
    }
    if text.contains(['/', '.']) {
        return RepoPath::new(text).map(Pick::File);
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let format = !text.is_empty() && text.len() <= 40 && text.bytes().all(good);
    format.then(|| Pick::Format(text.to_ascii_uppercase()))
}

/// A URL that names a GGUF file and no more than that.
fn url(typed: &str) -> Result<String, NameError> {
    let malformed = |why| NameError::Malformed { name: typed.into(), why };
    let rest = typed.strip_prefix("https://").or_else(|| typed.strip_prefix("http://"));
    let rest = rest.ok_or(malformed("a URL begins with https:// or http://"))?;
    let (host, path) = rest.split_once('/').ok_or(malformed("the URL names no file"))?;
    if host.is_empty() || host.contains('@') {
        return Err(malformed("a URL names a host, and no user or password"));
    }
    if !typed.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(malformed("a URL has no spaces and only ASCII characters"));
    }
    let file = path.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    check_file(typed, file)?;
    Ok(typed.into())
}

/// Only GGUF files stand alone.
fn check_file(typed: &str, file: &str) -> Result<(), NameError> {
    let lower = file.to_ascii_lowercase();
    if is_pickle(&lower) {
        return Err(NameError::Pickle { name: typed.into() });
    }
    match lower.ends_with(".gguf") {
        true => Ok(()),
        false => Err(NameError::Malformed { name: typed.into(), why: "a single file has to be a GGUF file" }),
    }
}

/// Whether a file of this name is read by running what it says.
pub(crate) fn is_pickle(file: &str) -> bool {
    let ends = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"];
    ends.iter().any(|end| file.to_ascii_lowercase().ends_with(end))
}
