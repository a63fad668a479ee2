//! Adapters: small matrices trained beside those of a model, as PEFT and llama.cpp write them.

use crate::json::read_config;
use crate::{Checkpoint, Error, Kind, Metadata, Tensor};
use serde_json::Value;
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// An adapter on disk: a folder as PEFT saves it, or a GGUF file.
#[derive(Debug)]
pub struct AdapterFiles {
    checkpoint: Checkpoint,
    peft: Option<Peft>,
}

/// A low-rank change (Hu et al. 2021, "LoRA"): `scale * b a` is added to a matrix of the model.
#[derive(Clone, Debug)]
pub struct LowRank<'a> {
    /// The tensor that is changed, as a checkpoint of the adapter's own kind calls it.
    pub target: String,
    /// `rank x inputs`
    pub a: Tensor<'a>,
    /// `outputs x rank`
    pub b: Tensor<'a>,
    /// Factor on the product.
    pub scale: f32,
}

/// What `adapter_config.json` says that matters after training.
#[derive(Debug)]
struct Peft {
    alpha: f32,
    /// Other values for modules whose names end so.
    alphas: Vec<(String, f32)>,
    /// Divide by the root of the rank (Kalajdzievski 2023, "rsLoRA").
    by_root: bool,
}

impl AdapterFiles {
    /// Opens a folder with `adapter_config.json` and `adapter_model.safetensors`, one of these two, or a GGUF file.
    ///
    /// # Errors
    /// What is missing or wrong, or of a kind that changes a model in another way than by [`LowRank`].
    pub fn open(path: &Path) -> Result<AdapterFiles, Error> {
        let named = path.file_name().is_some_and(|name| name == CONFIG || name == WEIGHTS);
        let folder = if named { path.parent().unwrap_or(Path::new("")) } else { path };
        let Some(config) =
            read_config(&folder.join(CONFIG)).or_else(|error| match path.is_dir() || named {
                true => Err(error),
                false => Ok(None), // a path below a file
            })?
        else {
            return AdapterFiles::open_gguf(path);
        };
        let peft = Peft::read(&folder.join(CONFIG), &config)?;
        let weights = folder.join(WEIGHTS);
        if !weights.is_file() && folder.join("adapter_model.bin").is_file() {
            let what = "a pickle, which can run any code; save the adapter as safetensors";
            return Err(Error::not_a_model(&folder.join("adapter_model.bin"), what));
        }
        Ok(AdapterFiles { checkpoint: Checkpoint::open(&weights)?, peft: Some(peft) })
    }

    fn open_gguf(path: &Path) -> Result<AdapterFiles, Error> {
        let checkpoint = Checkpoint::open(path)?;
        let metadata = checkpoint.metadata();
        if checkpoint.kind() != Kind::Gguf {
            let what = format!("no adapter: neither GGUF nor a folder with {CONFIG} and {WEIGHTS}");
            return Err(Error::not_a_model(path, what));
        }
        for (key, wanted) in [("general.type", "adapter"), ("adapter.type", "lora")] {
            match metadata.str(key)? {
                Some(found) if found == wanted => {}
                found => {
                    let what = format!("{found:?}; of an adapter it is {wanted:?}");
                    return Err(metadata.error(key, what));
                }
            }
        }
        const INVOKED: &str = "adapter.alora.invocation_tokens";
        if metadata.get(INVOKED).is_some() {
            return Err(
                metadata.error(INVOKED, "adapters that begin in the middle of a text are not supported")
            );
        }
        Ok(AdapterFiles { checkpoint, peft: None })
    }

    /// The path of the tensors.
    pub fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    /// Whether tensors have the names of GGUF files, and not those of Hugging Face's.
    pub fn is_gguf(&self) -> bool {
        self.peft.is_none()
    }

    /// The architecture of the model that a GGUF adapter says it was made for.
    ///
    /// # Errors
    /// When the key holds something else than a text.
    pub fn architecture(&self) -> Result<Option<&str>, Error> {
        self.checkpoint.metadata().str("general.architecture")
    }

    /// All changes.
    ///
    /// # Errors
    /// Names a tensor that is no half of a change, or does not go with its other half.
    pub fn low_rank(&self) -> Result<Vec<LowRank<'_>>, Error> {
        let (prefix, [first, second]) = match self.peft {
            Some(_) => ("base_model.model.", [".lora_A.weight", ".lora_B.weight"]),
            None => ("", [".lora_a", ".lora_b"]),
        };
        let mut changes = Vec::new();
        for tensor in self.checkpoint.tensors() {
            let Some(name) = tensor.name.strip_prefix(prefix) else { return Err(unknown(&tensor)) };
            if let Some(module) = name.strip_suffix(second) {
                let other = format!("{prefix}{module}{first}");
                if self.checkpoint.tensor(&other).is_none() {
                    return Err(tensor.error(format!("the other half is missing: {other}")));
                }
                continue;
            }
            let Some(module) = name.strip_suffix(first) else { return Err(unknown(&tensor)) };
            let other = format!("{prefix}{module}{second}");
            let b = self.checkpoint.tensor(&other);
            let b = b.ok_or_else(|| tensor.error(format!("the other half is missing: {other}")))?;
            let ([rank, _], [_, also]) = (tensor.shape, b.shape) else {
                let what =
                    format!("shapes {:?} and {:?}; both halves must be matrices", tensor.shape, b.shape);
                return Err(tensor.error(what));
            };
            if rank != also || *rank == 0 {
                return Err(tensor.error(format!("rank {rank}, and its other half has rank {also}")));
            }
            let (target, scale) = match &self.peft {
                Some(peft) => (format!("{module}.weight"), peft.scale(module, *rank)),
                None => (module.to_owned(), gguf_scale(self.checkpoint.metadata(), *rank)?),
            };
            changes.push(LowRank { target, a: tensor, b, scale });
        }
        if changes.is_empty() {
            return Err(Error::not_a_model(self.path(), "an adapter without tensors"));
        }
        Ok(changes)
    }
}

fn unknown(tensor: &Tensor<'_>) -> Error {
    let advice = "merge the adapter into the model with the program that made it";
    let what = if tensor.name.contains("lora_embedding") {
        format!("changes an embedding, which is not supported; {advice}")
    } else if tensor.name.contains("lora_magnitude") {
        format!("DoRA, which is not supported; {advice}")
    } else {
        format!("no half of a low-rank change, which is all that is supported; {advice}")
    };
    tensor.error(what)
}

fn gguf_scale(metadata: &Metadata, rank: usize) -> Result<f32, Error> {
    const ALPHA: &str = "adapter.lora.alpha";
    let alpha = metadata.f32(ALPHA)?.unwrap_or(0.0);
    if !alpha.is_finite() {
        return Err(metadata.error(ALPHA, format!("{alpha} is no factor")));
    }
    // Writers leave it 0 where the factor is in the numbers already.
    Ok(if alpha == 0.0 { 1.0 } else { alpha / rank as f32 })
}

impl Peft {
    fn read(file: &Path, config: &Value) -> Result<Peft, Error> {
        let fail = |what: String| Error::json(file, what);
        let unset = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if config["peft_type"] != "LORA" {
            return Err(fail(format!("peft_type is {}; only \"LORA\" is supported", config["peft_type"])));
        }
        const REFUSED: [&str; 14] = [
            "use_dora",
            "use_qalora",
            "use_bdlora",
            "kasa_config",
            "monteclora_config",
            "velora_config",
            "arrow_config",
            "target_parameters",
            "fan_in_fan_out",
            "lora_bias",
            "layer_replication",
            "alora_invocation_tokens",
            "modules_to_save",
            "trainable_token_indices",
        ];
        if let Some(key) = REFUSED.into_iter().find(|key| !unset(&config[*key])) {
            let value = &config[key];
            return Err(fail(format!(
                "{key} is {value}, which is not supported; merge the adapter into the model"
            )));
        }
        if !matches!(config["bias"].as_str(), None | Some("none")) {
            return Err(fail(format!("bias is {}: trained biases are not supported", config["bias"])));
        }
        // These begin from a model that they have changed, and what is saved goes with that one.
        let begin = config["init_lora_weights"].as_str().unwrap_or_default().to_lowercase();
        if ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|kind| begin.starts_with(kind)) {
            return Err(fail(format!(
                "init_lora_weights is {begin:?}: the adapter belongs to a changed model; convert it to a plain one"
            )));
        }
        let number = |value: &Value, name: &str| match value.as_f64() {
            Some(x) if (x as f32).is_finite() => Ok(x as f32),
            _ => Err(fail(format!("{name} is {value}; it must be a number"))),
        };
        let mut alphas = Vec::new();
        for (key, value) in config["alpha_pattern"].as_object().into_iter().flatten() {
            if key.chars().any(|c| !(c.is_alphanumeric() || "._-".contains(c))) {
                return Err(fail(format!("alpha_pattern has {key:?}; only plain names are supported")));
            }
            alphas.push((key.clone(), number(value, "alpha_pattern")?));
        }
        let alpha = number(&config["lora_alpha"], "lora_alpha")?;
        let by_root = config["use_rslora"].as_bool().unwrap_or(false);
        Ok(Peft { alpha, alphas, by_root })
    }

    fn scale(&self, module: &str, rank: usize) -> f32 {
        let named =
            |key: &str| module.strip_suffix(key).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let own = self.alphas.iter().find(|(key, _)| named(key));
        let rank = rank as f32;
        own.map_or(self.alpha, |(_, alpha)| *alpha) / if self.by_root { rank.sqrt() } else { rank }
    }
}
