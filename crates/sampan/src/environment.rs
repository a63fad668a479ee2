//! Every environment variable that sampan reads, in one place.
//!
//! | variable         | effect                                                                            |
//! |------------------|-----------------------------------------------------------------------------------|
//! | `NO_COLOR`       | set to anything but the empty string: no colours, no dimmed text                  |
//! | `TERM`           | `dumb`: as `NO_COLOR`, and no line editing                                        |
//! | `XDG_CACHE_HOME` | where it is kept how fast this machine is (`$XDG_CACHE_HOME/sampan`, else `~/.cache/sampan`) |
//! | `XDG_STATE_HOME` | where an interrupted conversation is kept (`$XDG_STATE_HOME/sampan`)               |
//! | `SAMPAN_API_KEY` | the key that `sampan serve` demands of its clients                                  |
//! | `HOME`           | the same, as `$HOME/.local/state/sampan`, when `XDG_STATE_HOME` is not set         |
//!
//! | `HF_HUB_CACHE`   | the cache of models that other programs share (else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`) |
//! | `HF_HOME`        | the folder around it, with the token in it (else `$XDG_CACHE_HOME/huggingface`)     |
//! | `XDG_DATA_HOME`  | what sampan remembers of models, and those from elsewhere (`$XDG_DATA_HOME/sampan`, else `~/.local/share/sampan`) |
//! | `OLLAMA_MODELS`  | where Ollama keeps its models (else `~/.ollama/models` and where its service keeps them) |
//! | `HF_TOKEN`       | who asks the hub (else the file `HF_TOKEN_PATH`, else `$HF_HOME/token`)             |
//! | `HF_ENDPOINT`    | a mirror to ask instead of huggingface.co                                          |
//! | `HF_HUB_OFFLINE` | `1`: no network, as `--offline`                                                    |
//! | `MODELSCOPE_ENDPOINT`, `MODELSCOPE_API_TOKEN` | the same for ModelScope                               |
//! | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies, also in lower case                    |
//! | `SSL_CERT_FILE`  | root certificates to trust instead of Mozilla's                                    |
//!
//! Everything else is a flag. (The terminal libraries look at some variables of their own, such as `COLUMNS`.)

use sampan_hub::HubOptions;
use std::path::PathBuf;

/// What the environment says, read once when the program starts.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// Whether a terminal may get colours.
    pub(crate) colour: bool,
    /// Whether the terminal cannot move its cursor.
    pub(crate) dumb_terminal: bool,
    /// The folder for what should outlive the program, if one is known.
    pub(crate) state_folder: Option<PathBuf>,
    /// The folder for what can be made again, if one is known.
    pub(crate) cache_folder: Option<PathBuf>,
    /// The key for clients of `sampan serve`.
    pub(crate) api_key: Option<Secret>,
    /// Where models are kept and come from.
    hub: HubOptions,
    /// The file with the hub's token.
    token_file: Option<PathBuf>,
}

/// A text that does not show itself.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Environment {
    pub(crate) fn read() -> Environment {
        let dumb_terminal = path("TERM").is_some_and(|term| term.as_os_str() == "dumb");
        let state = path("XDG_STATE_HOME").filter(|p| p.is_absolute());
        let key = std::env::var("SAMPAN_API_KEY").ok().filter(|key| !key.trim().is_empty());
        Environment {
            api_key: key.map(|key| Secret(key.trim().to_owned())),
            colour: path("NO_COLOR").is_none() && !dumb_terminal,
            dumb_terminal,
            state_folder: state
                .or_else(|| Some(path("HOME")?.join(".local/state")))
                .map(|p| p.join("sampan")),
            cache_folder: cache_home().map(|cache| cache.join("sampan")),
            hub: hub(),
            token_file: path("HF_TOKEN_PATH").or_else(|| Some(hugging_face_home()?.join("token"))),
        }
    }

    /// Where models are kept and come from.
    pub(crate) fn hub(&self) -> HubOptions {
        let mut hub = self.hub.clone();
        if let (None, Some(file)) = (&hub.token, &self.token_file) {
            let token = std::fs::read_to_string(file).unwrap_or_default();
            hub.token = Some(token.trim()).filter(|token| !token.is_empty()).map(Into::into);
        }
        hub
    }
}

fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn cache_home() -> Option<PathBuf> {
    path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")))
}

fn hugging_face_home() -> Option<PathBuf> {
    path("HF_HOME").or_else(|| Some(cache_home()?.join("huggingface")))
}

fn hub() -> HubOptions {
    let usual = HubOptions::default();
    let data = path("XDG_DATA_HOME").or_else(|| Some(path("HOME")?.join(".local/share")));
    let ollama = match path("OLLAMA_MODELS") {
        Some(models) => vec![models],
        None => path("HOME")
            .map(|home| home.join(".ollama/models"))
            .into_iter()
            .chain([PathBuf::from("/usr/share/ollama/.ollama/models")])
            .collect(),
    };
    let either = |name: &str| text(name).or_else(|| text(&name.to_lowercase()));
    let proxy = |name: &str| either(name).or_else(|| either("ALL_PROXY"));
    let offline = text("HF_HUB_OFFLINE").unwrap_or_default().to_uppercase();
    HubOptions {
        cache: path("HF_HUB_CACHE").or_else(|| Some(hugging_face_home()?.join("hub"))),
        own: data.map(|data| data.join("sampan")),
        ollama,
        endpoint: text("HF_ENDPOINT").unwrap_or(usual.endpoint),
        modelscope: text("MODELSCOPE_ENDPOINT").unwrap_or(usual.modelscope),
        token: text("HF_TOKEN").map(Into::into),
        modelscope_token: text("MODELSCOPE_API_TOKEN").map(Into::into),
        http_proxy: proxy("HTTP_PROXY").map(Into::into),
        https_proxy: proxy("HTTPS_PROXY").map(Into::into),
        no_proxy: either("NO_PROXY").unwrap_or_default(),
        certificates: path("SSL_CERT_FILE"),
        offline: ["1", "ON", "YES", "TRUE"].contains(&offline.as_str()),
        ..HubOptions::default()
    }
}
