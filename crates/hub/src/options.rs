//! Everything that can be set.

use std::path::PathBuf;
use std::time::Duration;

/// A text that must not get into a message or a log: a token, a proxy's URL with its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one whom it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Secret {
        Secret(text.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Where models are kept and come from. Nothing here is read from the environment: the program does that.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The cache of the Hugging Face hub, which other programs share.
    pub cache: Option<PathBuf>,
    /// sampan's own folder: what it remembers of models, and those that come from elsewhere.
    pub own: Option<PathBuf>,
    /// Folders where Ollama may keep models.
    pub ollama: Vec<PathBuf>,
    /// The Hugging Face hub, or a mirror of it.
    pub endpoint: String,
    /// The ModelScope hub.
    pub modelscope: String,
    /// Who asks the Hugging Face hub. It is sent to the endpoint and nowhere else.
    pub token: Option<Secret>,
    /// Who asks ModelScope.
    pub modelscope_token: Option<Secret>,
    /// The proxy for plain HTTP.
    pub http_proxy: Option<Secret>,
    /// The proxy for HTTPS.
    pub https_proxy: Option<Secret>,
    /// Hosts that are asked without a proxy, separated by commas; `.example.org` stands for all below it, `*` for all.
    pub no_proxy: String,
    /// A file with the root certificates to trust, instead of Mozilla's.
    pub certificates: Option<PathBuf>,
    /// Use what is here and no network.
    pub offline: bool,
    /// Requests at a time.
    pub connections: usize,
    /// Bytes that one request asks for at most.
    pub part: u64,
    /// Requests without any progress before it is given up.
    pub attempts: u32,
    /// How long to wait for the next bytes of an answer.
    pub patience: Duration,
    /// How long to wait before the second; each further wait is twice as long.
    pub first_wait: Duration,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            cache: None,
            own: None,
            ollama: Vec::new(),
            endpoint: "https://huggingface.co".into(),
            modelscope: "https://modelscope.cn".into(),
            token: None,
            modelscope_token: None,
            http_proxy: None,
            https_proxy: None,
            no_proxy: String::new(),
            certificates: None,
            offline: false,
            connections: 6,
            part: 16 << 20,
            attempts: 7,
            patience: Duration::from_secs(30),
            first_wait: Duration::from_millis(300),
        }
    }
}
