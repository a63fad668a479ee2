//! LoRA adapters: other names for a model, with small changes of its weights beside them.

use crate::budget::Room;
use crate::failure::Failure;
use sampan_engine::Adapter;
use sampan_facade::Error;
use sampan_model::Model;
use sampan_weights::{AdapterFiles, Checkpoint};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An adapter that the server may load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAdapter {
    /// What requests call the model with it.
    pub name: String,
    /// The model that it changes; `None`: the first.
    pub model: Option<String>,
    /// A folder as PEFT saves it, or a GGUF file.
    pub path: PathBuf,
}

impl NamedAdapter {
    /// `NAME=PATH`, or `NAME@MODEL=PATH` for another model than the first.
    ///
    /// # Errors
    /// What is missing.
    pub fn parse(text: &str) -> Result<NamedAdapter, String> {
        let (name, path) = text.split_once('=').ok_or("it must be NAME=PATH or NAME@MODEL=PATH")?;
        let (name, model) = match name.split_once('@') {
            Some((name, model)) => (name, Some(model.to_owned())),
            None => (name, None),
        };
        if name.is_empty() || path.is_empty() || model.as_deref() == Some("") {
            return Err("a name or a path is empty".into());
        }
        Ok(NamedAdapter { name: name.to_owned(), model, path: path.into() })
    }
}

/// Bytes that an adapter will take in memory.
///
/// # Errors
/// What is wrong with the files.
pub(crate) fn bytes_of(path: &Path) -> Result<u64, sampan_weights::Error> {
    let files = AdapterFiles::open(path)?;
    let halves = files.low_rank()?;
    let numbers = |shape: &[usize]| shape.iter().map(|&n| n as u64).product::<u64>();
    Ok(halves.iter().map(|half| 4 * (numbers(half.a.shape) + numbers(half.b.shape))).sum())
}

/// The adapters of one model that are in memory.
#[derive(Debug)]
pub(crate) struct Adapters {
    room: Arc<Room>,
    loaded: Mutex<HashMap<String, Arc<Adapter>>>,
}

impl Adapters {
    pub(crate) fn new(room: Arc<Room>) -> Adapters {
        Adapters { room, loaded: Mutex::default() }
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<String, Arc<Adapter>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Adapter>> {
        self.loaded().get(name).cloned()
    }

    /// Bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.loaded().values().map(|adapter| adapter.bytes()).sum()
    }

    /// Lets go of one; requests under way keep it until they end.
    pub(crate) fn remove(&self, name: &str) {
        self.loaded().remove(name);
    }

    /// Brings an adapter into memory, unless it is there. Blocks.
    pub(crate) fn load(
        &self,
        named: &NamedAdapter,
        model: &Model,
        checkpoint: &Checkpoint,
    ) -> Result<Arc<Adapter>, Failure> {
        if let Some(adapter) = self.get(&named.name) {
            return Ok(adapter);
        }
        let needed = bytes_of(&named.path).map_err(|e| refused(named, Error::Weights(e)))?;
        self.room.check(&format!("adapter {:?}", named.name), needed, self.bytes() as u64)?;
        let files = AdapterFiles::open(&named.path).map_err(|e| refused(named, Error::Weights(e)))?;
        let adapter = Adapter::load(&files, model, checkpoint)
            .map_err(|source| refused(named, Error::Adapter { path: named.path.clone(), source }))?;
        let adapter = Arc::new(adapter);
        self.loaded().insert(named.name.clone(), adapter.clone());
        Ok(adapter)
    }
}

fn refused(named: &NamedAdapter, error: Error) -> Failure {
    let message = format!("adapter {:?} cannot be used: {error}; {}", named.name, error.hint());
    Failure::field("model", "unsuited_adapter", message)
}

/// The file or folder that a request names, if it is inside the folder from which requests may load adapters.
pub(crate) fn inside(folder: Option<&Path>, path: &str) -> Result<PathBuf, Failure> {
    let wrong = |code, why: String| Failure::field("lora_path", code, format!("lora_path {why}"));
    let Some(folder) = folder else {
        let why = "cannot be loaded: this server takes adapters only when it starts (--adapter), or from the folder that it \
                   was started with (--adapter-dir)";
        return Err(wrong("unsupported_value", why.into()));
    };
    let outside = || {
        wrong("unsupported_value", format!("is {path:?}, which is not in this server's folder of adapters"))
    };
    let folder =
        folder.canonicalize().map_err(|e| Failure::internal(format!("the folder of adapters: {e}")))?;
    let found = folder.join(path).canonicalize().map_err(|_| outside())?;
    if found == folder || !found.starts_with(&folder) { Err(outside()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_named_with_their_models() {
        let named = |name: &str, model: Option<&str>, path: &str| {
            Ok(NamedAdapter { name: name.into(), model: model.map(str::to_owned), path: path.into() })
        };
        assert_eq!(NamedAdapter::parse("poet=dir/a=b"), named("poet", None, "dir/a=b"));
        assert_eq!(NamedAdapter::parse("poet@qwen3:4b=dir"), named("poet", Some("qwen3:4b"), "dir"));
        for bad in ["poet", "=dir", "poet=", "poet@=dir"] {
            assert!(NamedAdapter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_load_from_one_folder_only() {
        let folder = std::env::temp_dir().join(format!("sampan-adapters-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("in/a")).unwrap();
        std::fs::create_dir_all(folder.join("out")).unwrap();
        let inside = |path: &str| inside(Some(&folder.join("in")), path);
        let absolute = folder.join("in/a").to_string_lossy().into_owned();
        assert!(inside("a").is_ok() && inside("./a/../a").is_ok() && inside(&absolute).is_ok());
        for outside in ["../out", "a/../../out", "/etc", "nowhere", ".", ""] {
            assert_eq!(inside(outside).unwrap_err().code, "unsupported_value", "{outside}");
        }
        assert!(super::inside(None, "a").is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
