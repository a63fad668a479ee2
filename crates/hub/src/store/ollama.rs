//! Models that Ollama has fetched, read where they are.

use crate::digest::is_hex;
use crate::name::{ModelName, Pick, Place};
use crate::store::cache::names;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The layer of a manifest that is the GGUF file.
const WEIGHTS: &str = "application/vnd.ollama.image.model";
/// The registry of names without a host.
const REGISTRY: &str = "registry.ollama.ai";

/// A model in Ollama's store.
#[derive(Clone, Debug)]
pub(crate) struct OllamaModel {
    /// As Ollama prints it.
    pub(crate) name: String,
    /// The GGUF file.
    pub(crate) blob: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) used: Option<SystemTime>,
}

/// The model that a name means, if Ollama has it.
pub(crate) fn find(root: &Path, name: &ModelName) -> Option<OllamaModel> {
    let lower = |text: &str| text.to_ascii_lowercase();
    let wanted = match name.place() {
        Place::Repo { repo, pick, revision: None } => match pick {
            Pick::Usual => format!("hf.co/{repo}:latest"),
            Pick::Format(format) => format!("hf.co/{repo}:{format}"),
            Pick::File(_) => return None,
        },
        _ => return None,
    };
    let typed = name.as_str();
    let same = |model: &OllamaModel| {
        let theirs = lower(&model.name);
        theirs == lower(&wanted) || theirs == lower(typed)
    };
    all(root).into_iter().find(same)
}

/// All models of a store that have weights.
pub(crate) fn all(root: &Path) -> Vec<OllamaModel> {
    let manifests = root.join("manifests");
    let mut found = Vec::new();
    for host in names(&manifests) {
        for owner in names(&manifests.join(&host)) {
            for model in names(&manifests.join(&host).join(&owner)) {
                for tag in names(&manifests.join(&host).join(&owner).join(&model)) {
                    let path = manifests.join(&host).join(&owner).join(&model).join(&tag);
                    let name = match (host.as_str(), owner.as_str()) {
                        (REGISTRY, "library") => format!("{model}:{tag}"),
                        (REGISTRY, owner) => format!("{owner}/{model}:{tag}"),
                        (host, owner) => format!("{host}/{owner}/{model}:{tag}"),
                    };
                    found.extend(read(root, &path, name));
                }
            }
        }
    }
    found
}

fn read(root: &Path, manifest: &Path, name: String) -> Option<OllamaModel> {
    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer {
        media_type: String,
        digest: String,
    }
    let manifest: Manifest = serde_json::from_slice(&fs::read(manifest).ok()?).ok()?;
    let layer = manifest.layers.into_iter().find(|layer| layer.media_type == WEIGHTS)?;
    let digits = layer.digest.strip_prefix("sha256:").filter(|digits| is_hex(digits, 64))?;
    let blob = root.join("blobs").join(format!("sha256-{digits}"));
    let data = fs::metadata(&blob).ok()?;
    let used = data.accessed().ok().max(data.modified().ok());
    Some(OllamaModel { name, blob, bytes: data.len(), used })
}
