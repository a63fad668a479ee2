//! A GGUF file as a folder with the names and keys of Hugging Face.

use super::draft::{self, Drafted, Form};
use super::published::Published;
use super::special::Has;
use super::target::Types;
use super::tensors::Layout;
use super::{ExportError, Exported, json, published};
use crate::config::Config;
use crate::labels::labels;
use crate::plan::{Plan, PlanOptions, TensorId};
use sampan_kernels::Format;
use sampan_weights::{Checkpoint, Kind, safetensors};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;

/// What the user decides about a folder.
#[derive(Debug, Default)]
pub struct FolderOptions {
    /// The type of all matrices; else floats keep theirs, experts in four bits stay so where the family is published with
    /// such, and what is quantised otherwise becomes bfloat16.
    pub dtype: Option<Format>,
    /// Bytes of tensors above which they are written over several files with an index.
    pub shard: Option<u64>,
    /// More keys of config.json, such as the ids of tokens.
    pub keys: Map<String, Value>,
}

const NO_BLOCKS: &[(&str, Has)] = &[];
const BLOCKS: &[(&str, Has)] =
    &[("mlp.experts.gate_up_proj_blocks", Has::Yes), ("mlp.experts.down_proj_blocks", Has::Yes)];

/// Writes the GGUF `checkpoint` to the folder `dir`, which exists: config.json and weights, a tensor or a part of one at a
/// time. `progress` is called with the bytes done and the bytes in total. Every file appears when it is whole.
///
/// What the file holds as float32 beside narrower weights, as norms, gets their type if no number changes by that.
///
/// # Errors
/// When the checkpoint is no GGUF file or has no plan, config.json cannot say something of the model, or a file cannot be
/// read or written.
pub fn folder(
    checkpoint: &Checkpoint,
    dir: &Path,
    options: &FolderOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Exported, ExportError> {
    if checkpoint.kind() != Kind::Gguf {
        return Err(ExportError::NotGguf { path: checkpoint.path().display().to_string() });
    }
    let plan = Plan::from_checkpoint(checkpoint, PlanOptions::default())?;
    let published = published::of(&plan)?;
    let four_bits = published.four_bits.filter(|_| options.dtype.is_none() && in_four_bits(&plan));
    let main = options.dtype.unwrap_or_else(|| main(&plan));
    let blocks = if four_bits == Some(published::FourBits::Blocks) { BLOCKS } else { NO_BLOCKS };
    let (draft, mut config) = drafted(checkpoint, &plan, &published, blocks)?;
    let types = Types::Safetensors { main, all: options.dtype.is_some(), four_bits };
    let layout = Layout::new(checkpoint, &plan, &draft, types)?;
    config.extend(typed(main, four_bits));
    config.extend(ranks(checkpoint, &plan, &published)?);
    config.extend(options.keys.clone());
    let mut writer = safetensors::Writer::new();
    writer.set("format", "pt");
    for (name, shape, dtype) in layout.all() {
        writer.tensor(&name, &shape, dtype)?;
    }
    let mut file = writer.create_in(dir, options.shard)?;
    let mut append = |name: &str, bytes: &[u8]| file.append(name, bytes);
    let (tensors, bytes) = layout.pour(checkpoint, &plan, &mut append, progress)?;
    file.finish()?;
    let path = dir.join("config.json");
    let text = format!("{:#}\n", Value::Object(config));
    std::fs::write(&path, text).map_err(|source| ExportError::Io { path, source })?;
    Ok(Exported { arch: published.model_type, tensors, bytes, quantised: None, plan })
}

/// The plan of the folder that `plan`, of a GGUF file, would be, for those who know tensors by the names in it.
pub(crate) fn as_published(checkpoint: &Checkpoint, plan: &Plan) -> Result<Drafted, ExportError> {
    Ok(drafted(checkpoint, plan, &published::of(plan)?, NO_BLOCKS)?.0)
}

/// The plan of the folder, and its config.json but for the types of weights.
fn drafted(
    checkpoint: &Checkpoint,
    plan: &Plan,
    published: &Published,
    blocks: &[(&'static str, Has)],
) -> Result<(Drafted, Map<String, Value>), ExportError> {
    let config = json::of(plan, &Config::read(checkpoint)?, published)?;
    let form = Form {
        words: "config.json".into(),
        config: Config::from_json(&Value::Object(config.clone()))?,
        has: &[published.has, blocks].concat(),
        prefix: published.prefix,
    };
    Ok((draft::of(checkpoint, plan, form)?, config))
}

/// The type that most weights have, or bfloat16 where they are no floats.
fn main(plan: &Plan) -> Format {
    match plan.main_format() {
        format @ (Format::F32 | Format::F16) => format,
        _ => Format::BF16,
    }
}

/// Whether all experts, and nothing else, are in four bits.
fn in_four_bits(plan: &Plan) -> bool {
    let experts = plan.mixtures().flat_map(|moe| &moe.experts);
    let experts: HashSet<TensorId> =
        experts.flat_map(|e| [e.gate.weight, e.up.weight, e.down.weight]).collect();
    let four = |(id, spec): (TensorId, &crate::plan::TensorSpec)| {
        (spec.format == Format::MXFP4) == experts.contains(&id)
    };
    !experts.is_empty() && plan.tensors.iter().enumerate().all(four)
}

/// What config.json says of a head that ranks.
fn ranks(
    checkpoint: &Checkpoint,
    plan: &Plan,
    published: &published::Published,
) -> Result<Map<String, Value>, ExportError> {
    let Some(labels) = labels(checkpoint, plan)? else { return Ok(Map::new()) };
    let class = published.class.replace("ForCausalLM", "ForSequenceClassification");
    let names = labels.iter().enumerate().map(|(row, label)| (row.to_string(), label.clone().into()));
    let rows = labels.iter().enumerate().map(|(row, label)| (label.clone(), row.into()));
    Ok(Map::from_iter([
        ("architectures".to_string(), serde_json::json!([class])),
        ("id2label".to_string(), Value::Object(names.collect())),
        ("label2id".to_string(), Value::Object(rows.collect())),
    ]))
}

/// What config.json says of the types of weights.
fn typed(main: Format, four_bits: Option<published::FourBits>) -> Map<String, Value> {
    let name = match main {
        Format::F32 => "float32",
        Format::F16 => "float16",
        _ => "bfloat16",
    };
    let mut keys = Map::from_iter([("torch_dtype".to_string(), name.into())]);
    match four_bits {
        Some(published::FourBits::Blocks) => {
            let others =
                ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"];
            let words = serde_json::json!({ "quant_method": "mxfp4", "modules_to_not_convert": others });
            keys.insert("quantization_config".to_string(), words);
        }
        Some(published::FourBits::Scale) => {
            keys.insert("expert_dtype".to_string(), "fp4".into());
        }
        None => {}
    }
    keys
}
