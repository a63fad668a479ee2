//! The same tensors, byte for byte, in files of other sizes.

use crate::{Checkpoint, Error, gguf, safetensors, split};
use std::path::{Path, PathBuf};

/// What was copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files of a folder that hold weights in other forms, which stay behind.
    pub left: Vec<PathBuf>,
}

/// Ends of the names of files that hold weights in other forms, or say where they are.
const OTHER_FORMS: [&str; 12] = [
    ".gguf",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".onnx_data",
    ".h5",
    ".msgpack",
    ".tflite",
    ".ot",
];

/// Writes a GGUF checkpoint to `path`, over several files where its tensors take more than `shard` bytes; `name` becomes
/// `general.name`. `progress` is called with the bytes done and the bytes in total. Files appear when they are whole.
///
/// # Errors
/// When a tensor has a type of unknown size, or a file cannot be read or written.
pub fn to_gguf(
    from: &Checkpoint,
    path: &Path,
    shard: Option<u64>,
    name: Option<&str>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, Error> {
    let mut writer = gguf::Writer::new();
    // The writer has an alignment of its own and says itself what is whose part.
    let kept = |key: &str| key != "general.alignment" && !split::KEYS.contains(&key);
    for (key, value) in from.metadata().iter().filter(|(key, _)| kept(key)) {
        writer.set(key, value.clone())?;
    }
    if let Some(name) = name {
        writer.set("general.name", crate::Value::Str(name.to_owned()))?;
    }
    for tensor in from.tensors() {
        writer.tensor(tensor.name, tensor.shape, tensor.dtype)?;
    }
    let mut file = writer.create_split(path, shard)?;
    let copied = pour(from, &mut |name, bytes| file.append(name, bytes), progress)?;
    file.finish()?;
    Ok(copied)
}

/// Writes a safetensors checkpoint and all that lies beside its weights to the folder `dir`, which exists.
///
/// # Errors
/// When a file cannot be read or written.
pub fn to_folder(
    from: &Checkpoint,
    dir: &Path,
    shard: Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, Error> {
    let mut writer = safetensors::Writer::new();
    writer.set("format", "pt");
    for tensor in from.tensors() {
        writer.tensor(tensor.name, tensor.shape, tensor.dtype)?;
    }
    let mut file = writer.create_in(dir, shard)?;
    let mut copied = pour(from, &mut |name, bytes| file.append(name, bytes), progress)?;
    file.finish()?;
    if let Some(beside) = from.files().next().and_then(Path::parent) {
        let here = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
        copy_beside(from, here, dir, &mut copied.left)?;
    }
    Ok(copied)
}

/// Takes a tensor's bytes.
type Append<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Result<(), Error>;

fn pour(from: &Checkpoint, append: Append<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Copied, Error> {
    let total = from.tensors().map(|tensor| tensor.size() as u64).sum();
    let (mut tensors, mut bytes) = (0, 0);
    for tensor in from.tensors() {
        for piece in tensor.pieces() {
            append(tensor.name, &piece?)?;
        }
        (tensors, bytes) = (tensors + 1, bytes + tensor.size() as u64);
        progress(bytes, total);
    }
    Ok(Copied { tensors, bytes, left: Vec::new() })
}

/// Copies what lies beside the weights, folders too: there may be small parts of the model with weights of their own.
/// Links lead to files (as in the cache of a hub), never to folders.
fn copy_beside(model: &Checkpoint, from: &Path, to: &Path, left: &mut Vec<PathBuf>) -> Result<(), Error> {
    let io = |path: &Path, e| Error::io(path, e);
    let entries: Result<Vec<_>, _> = std::fs::read_dir(from).and_then(Iterator::collect);
    let mut entries = entries.map_err(|e| io(from, e))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let (there, text) = (to.join(&name), name.to_string_lossy());
        let written = text.ends_with(".safetensors.index.json") || model.files().any(|file| file == path);
        if text.starts_with('.') || written {
            continue;
        }
        if entry.file_type().map_err(|e| io(&path, e))?.is_dir() {
            std::fs::create_dir(&there).map_err(|e| io(&there, e))?;
            copy_beside(model, &path, &there, left)?;
        } else if OTHER_FORMS.iter().any(|end| text.ends_with(end)) || there.exists() {
            left.push(path);
        } else if path.is_file() {
            std::fs::copy(&path, &there).map_err(|e| io(&path, e))?;
        }
    }
    Ok(())
}
