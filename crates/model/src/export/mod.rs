//! A checkpoint of Hugging Face as a GGUF file with the names and keys that other programs know, and the other way round.
//!
//! Nothing about a family is said a second time here. What the family's translation reads from a file is what
//! the file has to hold: the plan is made once from the checkpoint and once, as a draft, from the metadata (or the
//! config.json) that is to be written. Both ask for the same tensors in the same order, so each pair says where numbers
//! come from and where they go; and the two plans have to mean the same model before a byte is written.

mod draft;
mod folder;
mod json;
mod keys;
mod order;
mod published;
mod quantised;
mod scaling;
mod special;
mod target;
mod tensors;

use crate::config::Config;
use crate::error::{LoadError, PlanError};
use crate::importance::Importance;
use crate::labels::labels;
use crate::plan::{Plan, PlanOptions};
use crate::quant::Quant;
use sampan_kernels::Pool;
use sampan_weights::{Checkpoint, Kind, Value, gguf};
use std::path::{Path, PathBuf};
use target::Types;
use tensors::Layout;

pub(crate) use folder::as_published;
pub use folder::{FolderOptions, folder};
pub(crate) use order::Order;
pub use quantised::{NotWhole, Quantised, quantise};

/// Why a checkpoint could not be written in another form.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The checkpoint has no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A tensor could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file could not be written.
    #[error(transparent)]
    Weights(#[from] sampan_weights::Error),
    /// The checkpoint is GGUF, or has no weights.
    #[error("{path} is no safetensors checkpoint with a config.json; only such can be converted to GGUF")]
    NotSafetensors {
        /// What was opened.
        path: String,
    },
    /// The checkpoint is no GGUF file.
    #[error("{path} is no GGUF file")]
    NotGguf {
        /// What was opened.
        path: String,
    },
    /// A file of the new folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The new form has no convention for the family.
    #[error("family {family} has no convention in {what}")]
    Family {
        /// The family.
        family: String,
        /// The form.
        what: &'static str,
    },
    /// The new form cannot say something of this model.
    #[error("{words} cannot say {what} of this model: {wanted} would be read back as {read}")]
    NotSaid {
        /// What describes the model there.
        words: String,
        /// What would be lost.
        what: String,
        /// In the checkpoint.
        wanted: String,
        /// In the file.
        read: String,
    },
    /// The tensors of the checkpoint do not make up one of the file.
    #[error("tensor {name} of the new file cannot be made: {why}")]
    Tensor {
        /// The file's name for it.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// What the user decides about a GGUF file.
#[derive(Debug, Default)]
pub struct ExportOptions<'a> {
    /// Write FP8 weights as float32 instead of bfloat16.
    pub exact: bool,
    /// `general.name`; else the name of the folder.
    pub name: Option<String>,
    /// More keys, such as `tokenizer.ggml.*`. Without a tokenizer the file says that it has none.
    pub keys: Vec<(String, Value)>,
    /// How a model that makes vectors makes one of many, in the numbers of GGUF: 1 their mean, 2 the first, 3 the last, which
    /// is said of a model without a head in any case.
    pub pooling: Option<u32>,
    /// Quantise the weights; else they keep their type.
    pub quantising: Option<Quantising<'a>>,
    /// Bytes of tensors above which they are written over several files `NAME-00001-of-00003.gguf`.
    pub shard: Option<u64>,
}

/// How weights are quantised.
#[derive(Clone, Copy, Debug)]
pub struct Quantising<'a> {
    /// Which matrix gets which format.
    pub quant: Quant,
    /// Whether weights that are quantised already may be quantised again, which costs more than once.
    pub again: bool,
    /// What errors are weighed with; else all count alike.
    pub importance: Option<&'a Importance>,
    /// The threads that do it.
    pub pool: &'a Pool,
}

impl Quantising<'_> {
    fn plan_options(&self, exact: bool) -> PlanOptions {
        PlanOptions { exact, quant: Some(self.quant), requantise: self.again }
    }
}

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// `general.architecture`, or `model_type`.
    pub arch: &'static str,
    /// Tensors in the file.
    pub tensors: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// What became of the weights, if they were quantised.
    pub quantised: Option<Quantised>,
    /// The plan of the checkpoint, for what it sets aside.
    pub plan: Plan,
}

/// Writes `checkpoint` to the GGUF file `path`, a tensor or a part of one at a time. `progress` is called with the
/// bytes done and the bytes in total. The file appears when it is whole.
///
/// Float weights keep their type unless they are to be quantised, FP4 becomes MXFP4 without loss, FP8 becomes bfloat16 (or float32 on demand); vectors
/// and routers are float32.
///
/// # Errors
/// When the checkpoint has no plan, GGUF cannot say something of the model, or a file cannot be read or written.
pub fn gguf(
    checkpoint: &Checkpoint,
    path: &Path,
    options: &ExportOptions<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Exported, ExportError> {
    if checkpoint.kind() != Kind::Safetensors || checkpoint.config().is_none() {
        return Err(ExportError::NotSafetensors { path: checkpoint.path().display().to_string() });
    }
    let plain = PlanOptions { exact: options.exact, ..PlanOptions::default() };
    let plan_options = options.quantising.map_or(plain, |quantising| quantising.plan_options(options.exact));
    let plan = Plan::from_checkpoint(checkpoint, plan_options)?;
    let special = special::of(&plan)?;
    let vector = keys::Vector { pooling: options.pooling, labels: labels(checkpoint, &plan)? };
    let keys = keys::of(&plan, &Config::read(checkpoint)?, special, vector)?;
    let get = |key: &str| keys.iter().find(|(k, _)| k == key).map(|(_, value)| value);
    let form = draft::Form {
        words: format!("GGUF files of {}", special.arch),
        config: Config::of_gguf(special.arch, get),
        has: special.has,
        prefix: "",
    };
    let draft = draft::of(checkpoint, &plan, form)?;
    let types = Types::Gguf { quantising: options.quantising };
    let layout = Layout::new(checkpoint, &plan, &draft, types)?;
    let census = options.quantising.map(|q| {
        let listed = layout.listed();
        Quantised::of(q.quant, listed.iter().map(|(name, shape, dtype)| (name.as_str(), &shape[..], *dtype)))
    });
    let mut writer = gguf::Writer::new();
    for (key, value) in general(checkpoint, special.arch, &layout, options) {
        writer.set(&key, value)?;
    }
    for (key, value) in keys.into_iter().chain(options.keys.iter().cloned()) {
        writer.set(&key, value)?;
    }
    for (name, shape, dtype) in layout.all() {
        writer.tensor(&name, &shape, dtype)?;
    }
    let mut file = writer.create_split(path, options.shard)?;
    let mut append = |name: &str, bytes: &[u8]| file.append(name, bytes);
    let (tensors, bytes) = layout.pour(checkpoint, &plan, &mut append, progress)?;
    file.finish()?;
    Ok(Exported { arch: special.arch, tensors, bytes, quantised: census, plan })
}

/// The keys that every file has.
fn general(
    checkpoint: &Checkpoint,
    arch: &str,
    layout: &Layout<'_>,
    options: &ExportOptions<'_>,
) -> Vec<(String, Value)> {
    let text = |text: &str| Value::Str(text.to_string());
    let folder = checkpoint.path().canonicalize().ok();
    let folder = folder.as_deref().and_then(|path| if path.is_dir() { Some(path) } else { path.parent() });
    let folder = folder.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let mut keys = vec![("general.architecture", text(arch)), ("general.type", text("model"))];
    if let Some(name) = options.name.clone().or(folder) {
        keys.push(("general.name", Value::Str(name)));
    }
    if let Some(licence) = checkpoint.licence() {
        keys.push(("general.license", Value::Str(licence)));
    }
    keys.push(("general.file_type", Value::U32(layout.file_type())));
    keys.push(("general.quantization_version", Value::U32(2)));
    if !options.keys.iter().any(|(key, _)| key == "tokenizer.ggml.model") {
        keys.push(("tokenizer.ggml.model", text("none")));
    }
    keys.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}
