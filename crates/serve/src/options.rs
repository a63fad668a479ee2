//! What a server is told when it is made.

use crate::adapters::NamedAdapter;
use crate::edge::Key;
use crate::registry::{KeepAlive, Named};
use sampan_facade::LoadOptions;
use sampan_hub::HubOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a server is told when it is made.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The models, the first of which answers requests that name none.
    pub models: Vec<Named>,
    /// Their adapters, which are loaded with them.
    pub adapters: Vec<NamedAdapter>,
    /// The folder from which requests may load more; `None`: they may not.
    pub adapter_folder: Option<PathBuf>,
    /// How models are loaded.
    pub load: LoadOptions,
    /// How long one stays in memory after its last request.
    pub keep: KeepAlive,
    /// Load a model when it is first asked for, and not at the start.
    pub lazy: bool,
    /// Where to listen. Off loopback there must be keys.
    pub address: SocketAddr,
    /// Speak TLS with this certificate.
    pub tls: Option<TlsFiles>,
    /// Write what clients send into the log.
    pub log_prompts: bool,
    /// Where models are pulled from and kept; `None`: none are pulled or deleted by request.
    pub hub: Option<HubOptions>,
    /// Keys that get in; none: everyone.
    pub keys: Vec<Key>,
    /// Names, beside `localhost` and addresses, by which clients may call this server.
    pub hosts: Vec<String>,
    /// Origins of web pages, beside the server's own, that may use it.
    pub origins: Vec<String>,
    /// What a request may take.
    pub limits: Limits,
}

impl ServeOptions {
    /// These models for this machine alone, on a port that is free, and nothing else.
    pub fn new(models: Vec<Named>, load: LoadOptions) -> ServeOptions {
        ServeOptions {
            models,
            adapters: Vec::new(),
            adapter_folder: None,
            load,
            keep: KeepAlive::Forever,
            lazy: false,
            address: ([127, 0, 0, 1], 0).into(),
            tls: None,
            log_prompts: false,
            hub: None,
            keys: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// A certificate, with those between it and a root behind it, and its private key; both in PEM form.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificates.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What a request may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Tokens of a prompt; `None`: what the context holds.
    pub prompt: Option<usize>,
    /// Time for an answer.
    pub answer_time: Duration,
    /// Time for a request's head, and again for its body.
    pub read_time: Duration,
    /// Time after which a client that takes nothing is given up.
    pub write_time: Duration,
    /// Connections at the same time; more wait.
    pub connections: usize,
    /// Time for requests under way when the server is told to end.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body: 32 << 20,
            prompt: None,
            answer_time: Duration::from_secs(3600),
            read_time: Duration::from_secs(30),
            write_time: Duration::from_secs(60),
            connections: 1024,
            grace: Duration::from_secs(30),
        }
    }
}
