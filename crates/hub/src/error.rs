//! What can keep a model from getting to the disk, with advice.

use crate::name::NameError;
use crate::nearest::did_you_mean;
use std::path::{Path, PathBuf};

/// Why a model cannot be found, fetched or removed. [`Error::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The hub has no such repository, revision or file, or does not show it to strangers.
    #[error("{host} has no {what}")]
    NotFound {
        /// Who was asked.
        host: String,
        /// For what.
        what: String,
        /// Whether a token was sent.
        token: bool,
        /// What may have been meant.
        nearest: Vec<String>,
    },
    /// The hub wants to know who asks, or has not let them in.
    #[error("{repo} is gated: {why}")]
    Gated {
        /// The repository.
        repo: String,
        /// What the hub misses.
        why: &'static str,
        /// Where its terms can be accepted.
        page: String,
        /// The variable that holds the token.
        variable: &'static str,
        /// Whether one was sent.
        token: bool,
    },
    /// Nobody answers.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What the system says.
        why: String,
    },
    /// An answer that is no success.
    #[error("{host} answers {status} for {what}")]
    Status {
        /// Who was asked.
        host: String,
        /// The HTTP status.
        status: u16,
        /// For what.
        what: String,
    },
    /// The hub asks to come back much later.
    #[error("{host} has had too many requests, and asks to wait for {seconds} seconds")]
    RateLimited {
        /// Who was asked.
        host: String,
        /// How long.
        seconds: u64,
    },
    /// An answer that makes no sense.
    #[error("{host} gives an answer that cannot be used: {why}")]
    BadAnswer {
        /// Who was asked.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// A redirect into a private network, which no public hub has reason for.
    #[error("{from} redirects to {to}, {why}; that is not followed")]
    Redirect {
        /// Who sent the redirect.
        from: String,
        /// Where to.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// The network may not be used.
    #[error("{what} is not on this machine, and sampan is offline")]
    Offline {
        /// What would have to be fetched.
        what: String,
        /// What is here and may have been meant.
        nearest: Vec<String>,
    },
    /// HTTPS cannot be spoken here.
    #[error("this CPU lacks {lacks}, which HTTPS needs here")]
    Tls {
        /// The instructions.
        lacks: String,
    },
    /// A proxy, a certificate file or an endpoint that cannot be used.
    #[error("{setting} cannot be used: {why}")]
    Setting {
        /// The variable or flag.
        setting: String,
        /// What is wrong with it.
        why: String,
    },
    /// The repository has no such quantisation.
    #[error("{repo} has no {wanted}; it has {}", .have.join(", "))]
    NoSuchFormat {
        /// The repository.
        repo: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        have: Vec<String>,
    },
    /// The repository has nothing that can be loaded.
    #[error("{repo} holds no model that can be loaded: {why}")]
    NoModel {
        /// The repository.
        repo: String,
        /// What it has instead.
        why: String,
    },
    /// The repository has only files that run code when they are read.
    #[error(
        "{repo} has its weights only as a pickle checkpoint ({file}), which can run any code while it is read"
    )]
    Pickle {
        /// The repository.
        repo: String,
        /// One of them.
        file: String,
    },
    /// The disk is too small.
    #[error("{} has {available} MiB free, and {needed} MiB are to be fetched", .folder.display())]
    NoSpace {
        /// The store.
        folder: PathBuf,
        /// MiB still to fetch.
        needed: u64,
        /// MiB free.
        available: u64,
    },
    /// The bytes are not those that the hub promised.
    #[error("{file} has {found} where {expected} was promised; it was set aside as {}", .kept.display())]
    WrongHash {
        /// The file in its repository.
        file: String,
        /// What the hub says.
        expected: String,
        /// What came.
        found: String,
        /// Where the bytes are.
        kept: PathBuf,
    },
    /// The store cannot be read or written.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no such model here.
    #[error("{name} is not on this machine")]
    NotHere {
        /// The name.
        name: String,
        /// What is here and may have been meant.
        nearest: Vec<String>,
    },
    /// The model belongs to somebody else.
    #[error("{name} was not fetched by sampan: {owner}")]
    NotOurs {
        /// The name.
        name: String,
        /// Whose it is.
        owner: &'static str,
        /// How it can be removed.
        how: String,
    },
    /// No place for models is known.
    #[error("there is no folder for models: neither HF_HOME nor HOME is set")]
    NoFolder,
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { doing, path, source }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        use std::io::ErrorKind as Kind;
        match self {
            Error::Name(error) => error.hint(),
            Error::NotFound { nearest, token, .. } => {
                let spelling = did_you_mean(nearest);
                let (spelling, or) = match &spelling {
                    Some(question) => (question.as_str(), " Otherwise:"),
                    None => ("check the spelling;", ""),
                };
                let reader = match token {
                    false => "a private repository needs the token of someone who may read it (HF_TOKEN)",
                    true => "the token's owner has to be one who may read it",
                };
                format!("{spelling}{or} {reader}")
            }
            Error::Gated { page, variable, token: true, .. } => format!(
                "accept the terms at {page} with the account that the token in {variable} belongs to, and let the token \
                 read such repositories"
            ),
            Error::Gated { page, variable, .. } => format!(
                "accept the terms at {page}, make a token that may read, and set {variable}=... to it"
            ),
            Error::Unreachable { .. } => {
                "check the network and the proxy (HTTPS_PROXY); what has come so far is kept, \
                                          and the same command goes on from there"
                    .into()
            }
            Error::Status { status: 500.., .. } | Error::RateLimited { .. } => {
                "try again later; what has come so far is kept, and the same command goes on from there"
                    .into()
            }
            Error::Status { .. } | Error::BadAnswer { .. } => {
                "if a proxy or a mirror (HF_ENDPOINT) is in between, try without it".into()
            }
            Error::Redirect { .. } => {
                "if that address is yours, make it the endpoint itself (HF_ENDPOINT)".into()
            }
            Error::Offline { nearest, .. } => {
                let online = "leave --offline out, or unset HF_HUB_OFFLINE";
                did_you_mean(nearest)
                    .map_or(online.into(), |question| format!("{question} Otherwise {online}"))
            }
            Error::Tls { .. } => "fetch the files with another program and give their folder".into(),
            Error::Setting { setting, .. } => format!("mend or unset {setting}"),
            Error::NoSuchFormat { .. } => "choose one of these".into(),
            Error::NoModel { .. } => {
                "choose a repository with safetensors and config.json, or with GGUF files".into()
            }
            Error::Pickle { .. } => "look for a repository with the same model as safetensors or GGUF".into(),
            Error::NoSpace { .. } => {
                "free some space (`sampan list`, `sampan rm`, `sampan gc`), or set HF_HOME to a \
                                      folder on a larger disk"
                    .into()
            }
            Error::WrongHash { .. } => {
                "pull again; if it happens again, do not trust the place where the file comes from".into()
            }
            Error::Io { source, .. } => match source.kind() {
                Kind::StorageFull | Kind::QuotaExceeded => {
                    "the disk is full: free some space; what has come so far is kept"
                }
                Kind::ReadOnlyFilesystem | Kind::PermissionDenied => {
                    "set HF_HOME to a folder that can be written, or change its permissions"
                }
                _ => "set HF_HOME to another folder, or see what the system says after the last colon",
            }
            .into(),
            Error::NotHere { nearest, .. } => {
                did_you_mean(nearest).unwrap_or_else(|| "`sampan list` shows what is here".into())
            }
            Error::NotOurs { how, .. } => how.clone(),
            Error::NoFolder => "set HF_HOME to a folder for models".into(),
        }
    }
}
