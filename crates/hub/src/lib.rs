//! From a model's name to verified files on disk.
//!
//! [`ModelName`] says what can be asked for and [`Catalogue`] knows short names. [`Store`] finds what is here: in the
//! cache that all users of the Hugging Face hub share, in Ollama's, and in sampan's own folder. [`Hub`] fetches the rest.
//!
//! The crate `hf-hub` is not used: it begins an interrupted file anew, compares no digest, follows any redirect, reads
//! the environment itself, and brings a second transfer protocol and a C library. What is left is the layout of the
//! cache, which is a few lines (`store/cache.rs`).
#![forbid(unsafe_code)]

mod catalogue;
mod digest;
mod download;
mod error;
mod name;
mod nearest;
mod net;
mod options;
mod pull;
mod remote;
mod select;
mod store;

pub use catalogue::{Catalogue, Purpose, Release};
pub use digest::{Digest, sha256};
pub use error::Error;
pub use name::{ModelName, NameError, Origin, Pick, Place, Repo, RepoPath, Revision};
pub use nearest::nearest_name;
pub use net::check_https;
pub use options::{HubOptions, Secret};
pub use pull::{Event, Hub, Listener, Plan};
pub use store::{Entry, Leftover, Local, Owner, Record, RecordedFile, Removed, Store};

/// Who hears that a request is sent again, and after how long.
pub(crate) type Say<'a> = &'a dyn Fn(&Error, std::time::Duration);
