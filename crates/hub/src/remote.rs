//! What a hub says about a repository.

use crate::digest::{self, Digest};
use crate::name::{Origin, Repo, RepoPath, Revision, is_commit};
use crate::net::{Asked, Client, Failure, authority, encode, encode_part, host};
use crate::{Error, HubOptions, Say};
use serde::Deserialize;

/// A file that can be fetched.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    pub(crate) path: RepoPath,
    pub(crate) bytes: u64,
    /// What its bytes add up to; files of no hub come without.
    pub(crate) digest: Option<Digest>,
}

/// One state of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// Forty hexadecimal digits that stand for this state alone.
    pub(crate) commit: String,
    pub(crate) files: Vec<RemoteFile>,
}

/// Where files come from.
#[derive(Clone, Debug)]
pub(crate) enum Remote {
    HuggingFace { endpoint: String, repo: Repo, revision: Revision },
    ModelScope { endpoint: String, repo: Repo, revision: Revision },
    Web { url: String },
}

/// No answer about a repository is longer.
const LONGEST_ANSWER: u64 = 64 << 20;

impl Remote {
    pub(crate) fn of_repo(options: &HubOptions, repo: &Repo, revision: Option<&Revision>) -> Remote {
        let trim = |endpoint: &str| endpoint.trim_end_matches('/').to_owned();
        let revision = revision.cloned().unwrap_or_else(|| Revision::usual(repo.origin()));
        let repo = repo.clone();
        match repo.origin() {
            Origin::ModelScope => Remote::ModelScope { endpoint: trim(&options.modelscope), repo, revision },
            _ => Remote::HuggingFace { endpoint: trim(&options.endpoint), repo, revision },
        }
    }

    /// Who is asked.
    pub(crate) fn source(&self) -> &str {
        match self {
            Remote::HuggingFace { endpoint, .. } | Remote::ModelScope { endpoint, .. } => endpoint,
            Remote::Web { url } => url,
        }
    }

    pub(crate) fn host(&self) -> String {
        host(self.source()).unwrap_or_default()
    }

    /// For messages about a file, or about the repository.
    pub(crate) fn asked(&self, file: Option<&RepoPath>) -> Asked {
        let (repo, page, variable) = match self {
            Remote::HuggingFace { endpoint, repo, .. } => {
                (repo.to_string(), format!("{endpoint}/{repo}"), "HF_TOKEN")
            }
            Remote::ModelScope { endpoint, repo, .. } => {
                (repo.to_string(), format!("{endpoint}/models/{repo}"), "MODELSCOPE_API_TOKEN")
            }
            Remote::Web { url } => (url.clone(), authority(url).unwrap_or_default(), "HF_TOKEN"),
        };
        let revision = match self {
            Remote::HuggingFace { revision, .. } | Remote::ModelScope { revision, .. } => revision.as_str(),
            Remote::Web { .. } => "",
        };
        let what = match (self, file) {
            (Remote::Web { .. }, _) => format!("file at {repo}"),
            (_, Some(file)) => format!("file {file} in {repo}"),
            (_, None) if ["main", "master"].contains(&revision) => format!("repository {repo}"),
            (_, None) => format!("repository {repo} with a revision {revision}"),
        };
        Asked { what, repo, page, variable }
    }

    /// Where a file of a state is.
    pub(crate) fn url(&self, commit: &str, file: &RepoPath) -> String {
        match self {
            Remote::HuggingFace { endpoint, repo, .. } => {
                format!("{endpoint}/{repo}/resolve/{commit}/{}", encode(file.as_str()))
            }
            Remote::ModelScope { endpoint, repo, revision } => format!(
                "{endpoint}/models/{repo}/resolve/{}/{}",
                encode_part(revision.as_str()),
                encode(file.as_str())
            ),
            Remote::Web { url } => url.clone(),
        }
    }

    /// Asks what there is.
    pub(crate) fn list(&self, client: &Client, say: Say<'_>) -> Result<Listing, Error> {
        let asked = self.asked(None);
        client.retry.run(say, || match self {
            Remote::HuggingFace { endpoint, repo, revision } => {
                let revision = encode_part(revision.as_str());
                let url = format!("{endpoint}/api/models/{repo}/revision/{revision}?blobs=true");
                hugging_face(&self.host(), &body(client, &url, &asked)?).map_err(Failure::from)
            }
            Remote::ModelScope { endpoint, repo, revision } => {
                let revision = encode_part(revision.as_str());
                let url =
                    format!("{endpoint}/api/v1/models/{repo}/repo/files?Revision={revision}&Recursive=true");
                model_scope(&self.host(), &body(client, &url, &asked)?).map_err(Failure::from)
            }
            Remote::Web { url } => web(client, url, &asked),
        })
    }

    /// The whole of a small file.
    pub(crate) fn small(
        &self,
        client: &Client,
        commit: &str,
        file: &RemoteFile,
        say: Say<'_>,
    ) -> Result<Vec<u8>, Error> {
        let (url, asked) = (self.url(commit, &file.path), self.asked(Some(&file.path)));
        let bytes = client.retry.run(say, || body(client, &url, &asked))?;
        match &file.digest {
            Some(digest) if digest.of_bytes(&bytes) != *digest => {
                let why = format!("{} is not the file that the hub lists", file.path);
                Err(Error::BadAnswer { host: self.host(), why })
            }
            _ => Ok(bytes),
        }
    }
}

fn body(client: &Client, url: &str, asked: &Asked) -> Result<Vec<u8>, Failure> {
    let mut response = client.get(url, None, asked)?;
    response.body.with_config().limit(LONGEST_ANSWER).read_to_vec().map_err(|error| Failure::Again {
        error: Error::Unreachable { host: host(url).unwrap_or_default(), why: error.to_string() },
        wait: None,
    })
}

fn hugging_face(host: &str, answer: &[u8]) -> Result<Listing, Error> {
    #[derive(Deserialize)]
    struct Info {
        sha: String,
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sibling {
        rfilename: String,
        size: Option<u64>,
        blob_id: Option<String>,
        lfs: Option<Lfs>,
    }
    #[derive(Deserialize)]
    struct Lfs {
        #[serde(alias = "oid")]
        sha256: String,
        size: Option<u64>,
    }
    let bad = |why: String| Error::BadAnswer { host: host.into(), why };
    let info: Info = serde_json::from_slice(answer).map_err(|e| bad(e.to_string()))?;
    if !is_commit(&info.sha) {
        return Err(bad(format!("{:?} is no commit", info.sha)));
    }
    let mut files = Vec::new();
    for sibling in info.siblings {
        // What has no ordinary path cannot be part of a model; whoever asks for it hears that it is not there.
        let Some(path) = RepoPath::new(&sibling.rfilename) else { continue };
        let digest = match &sibling.lfs {
            Some(lfs) => Digest::sha256(&lfs.sha256),
            None => sibling.blob_id.as_deref().and_then(Digest::git),
        };
        let bytes = sibling.lfs.as_ref().and_then(|lfs| lfs.size).or(sibling.size);
        let (Some(bytes), Some(digest)) = (bytes, digest) else {
            return Err(bad(format!("{path} comes without a size or a digest")));
        };
        files.push(RemoteFile { path, bytes, digest: Some(digest) });
    }
    Ok(Listing { commit: info.sha, files })
}

fn model_scope(host: &str, answer: &[u8]) -> Result<Listing, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        data: Option<Data>,
        #[serde(default)]
        message: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Data {
        files: Vec<File>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct File {
        path: String,
        #[serde(rename = "Type")]
        kind: String,
        size: u64,
        #[serde(default)]
        sha256: String,
    }
    let bad = |why: String| Error::BadAnswer { host: host.into(), why };
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| bad(e.to_string()))?;
    let data = answer.data.ok_or_else(|| bad(answer.message))?;
    let mut files = Vec::new();
    for file in data.files.into_iter().filter(|file| file.kind == "blob") {
        let Some(path) = RepoPath::new(&file.path) else { continue };
        let digest =
            Digest::sha256(&file.sha256).ok_or_else(|| bad(format!("{path} comes without a digest")))?;
        files.push(RemoteFile { path, bytes: file.size, digest: Some(digest) });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    // This hub names no commit for a whole state, so its content names it.
    let hex = |file: &RemoteFile| file.digest.as_ref().map(|d| d.hex().to_owned()).unwrap_or_default();
    let state: String = files.iter().map(|file| format!("{} {}\n", hex(file), file.path)).collect();
    Ok(Listing { commit: digest::sha256(state.as_bytes())[..40].to_owned(), files })
}

/// A single file somewhere: its size, and a mark that changes with it.
fn web(client: &Client, url: &str, asked: &Asked) -> Result<Listing, Failure> {
    let response = client.get(url, Some((0, 0)), asked)?;
    let bad = |why: &str| Error::BadAnswer { host: host(url).unwrap_or_default(), why: why.into() };
    let total = response.header("Content-Range").and_then(|range| range.rsplit_once('/')?.1.parse().ok());
    let whole = || response.header("Content-Length").and_then(|length| length.parse().ok());
    let bytes = if response.status == 206 { total } else { whole() };
    let bytes = bytes.ok_or_else(|| bad("the file comes without a size"))?;
    let mark = response.header("ETag").or_else(|| response.header("Last-Modified")).unwrap_or_default();
    let name = url.split(['?', '#']).next().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
    let path = RepoPath::new(name).ok_or_else(|| bad("the file's name cannot be used"))?;
    let commit = digest::sha256(format!("{url}\n{mark}\n{bytes}").as_bytes())[..40].to_owned();
    Ok(Listing { commit, files: vec![RemoteFile { path, bytes, digest: None }] })
}
