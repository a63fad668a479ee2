//! One way to read a configuration, whether it is a `config.json` or GGUF metadata.
//!
//! Families ask for the keys of `config.json`; for a GGUF file [`GGUF_KEYS`] says where the same fact is kept.

use crate::error::PlanError;
use sampan_weights::{Array, Checkpoint};
use serde_json::{Map, Value, json};

/// `config.json` key, key below `{arch}.` in GGUF metadata.
const GGUF_KEYS: &[(&str, &str)] = &[
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("value_head_dim", "attention.value_length"),
    ("intermediate_size", "feed_forward_length"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("max_position_embeddings", "context_length"),
    ("vocab_size", "vocab_size"),
    ("rope_theta", "rope.freq_base"),
    ("rope_dim", "rope.dimension_count"),
    ("rope_sections", "rope.dimension_sections"),
    ("rope_scaling.rope_type", "rope.scaling.type"),
    ("rope_scaling.factor", "rope.scaling.factor"),
    ("is_causal", "attention.causal"),
    ("rope_scaling.original_max_position_embeddings", "rope.scaling.original_context_length"),
    ("rope_scaling.beta_fast", "rope.scaling.yarn_beta_fast"),
    ("rope_scaling.beta_slow", "rope.scaling.yarn_beta_slow"),
    ("rope_scaling.yarn_log_multiplier", "rope.scaling.yarn_log_multiplier"),
    ("rope_scaling.truncate", "rope.scaling.truncate"),
    ("rope_scaling.relative_attention_factor", "rope.scaling.attn_factor"),
    ("rope_local_base_freq", "rope.freq_base_swa"),
    ("query_pre_attn_scalar", "attention.query_pre_attn_scalar"),
    ("swiglu_alpha", "swiglu_alpha"),
    ("laurel_rank", "laurel_rank"),
    ("vocab_size_per_layer_input", "vocab_size_per_layer_input"),
    ("sliding_window", "attention.sliding_window"),
    ("sliding_window_pattern", "attention.sliding_window_pattern"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("num_nextn_predict_layers", "nextn_predict_layers"),
    ("num_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"),
    ("moe_intermediate_size", "expert_feed_forward_length"),
    ("shared_expert_intermediate_size", "expert_shared_feed_forward_length"),
    ("n_routed_experts", "expert_count"),
    ("n_shared_experts", "expert_shared_count"),
    ("expert_gating_func", "expert_gating_func"),
    ("expert_weights_scale", "expert_weights_scale"),
    ("expert_weights_norm", "expert_weights_norm"),
    ("routed_scaling_factor", "expert_weights_scale"),
    ("norm_topk_prob", "expert_weights_norm"),
    ("n_group", "expert_group_count"),
    ("topk_group", "expert_group_used_count"),
    ("first_k_dense_replace", "leading_dense_block_count"),
    ("q_lora_rank", "attention.q_lora_rank"),
    ("kv_lora_rank", "attention.kv_lora_rank"),
    ("qk_head_dim", "attention.key_length_mla"),
    ("v_head_dim", "attention.value_length_mla"),
    ("index_n_heads", "attention.indexer.head_count"),
    ("index_head_dim", "attention.indexer.key_length"),
    ("index_topk", "attention.indexer.top_k"),
    ("o_groups", "attention.output_group_count"),
    ("o_lora_rank", "attention.output_lora_rank"),
    ("compress_ratios", "attention.compress_ratios"),
    ("compress_rope_theta", "attention.compress_rope_freq_base"),
    ("hc_mult", "hyper_connection.count"),
    ("hc_sinkhorn_iters", "hyper_connection.sinkhorn_iterations"),
    ("hc_eps", "hyper_connection.epsilon"),
    ("num_hash_layers", "hash_layer_count"),
    ("swiglu_limit", "swiglu_clamp_exp"),
    ("full_attention_interval", "full_attention_interval"),
    ("recurrent_layers", "attention.recurrent_layers"),
    ("linear_conv_kernel_dim", "ssm.conv_kernel"),
    ("linear_key_head_dim", "ssm.state_size"),
    ("linear_num_key_heads", "ssm.group_count"),
    ("linear_num_value_heads", "ssm.time_step_rank"),
    ("linear_inner_size", "ssm.inner_size"),
    ("global_head_dim", "attention.key_length"),
    ("local_head_dim", "attention.key_length_swa"),
    ("local_rope_theta", "rope.freq_base_swa"),
    ("num_kv_shared_layers", "attention.shared_kv_layers"),
    ("hidden_size_per_layer_input", "embedding_length_per_layer_input"),
    ("altup_num_inputs", "altup.num_inputs"),
    ("altup_active_idx", "altup.active_idx"),
    ("activation_sparsity_scale", "activation_sparsity_scale"),
];

/// Where a checkpoint's facts and tensor names come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `config.json` and the names that Hugging Face transformers gives tensors.
    HuggingFace,
    /// GGUF metadata and the names of the GGUF world.
    Gguf,
}

/// A checkpoint's configuration under the keys of `config.json`.
#[derive(Debug)]
pub struct Config {
    family: String,
    dialect: Dialect,
    values: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` or the GGUF metadata of a checkpoint.
    pub fn read(checkpoint: &Checkpoint) -> Result<Config, PlanError> {
        if let Some(config) = checkpoint.config() {
            return Config::from_json(config);
        }
        let metadata = checkpoint.metadata();
        let arch = metadata.need_str("general.architecture")?;
        Ok(Config::of_gguf(arch, |key| metadata.get(key)))
    }

    /// The configuration in GGUF metadata of which `get` gives the values.
    pub(crate) fn of_gguf<'a>(arch: &str, get: impl Fn(&str) -> Option<&'a sampan_weights::Value>) -> Config {
        Config { family: arch.to_string(), dialect: Dialect::Gguf, values: values_of_gguf(get, arch) }
    }

    /// The configuration in a `config.json`; a nested `text_config` is laid over the outer keys.
    pub fn from_json(config: &Value) -> Result<Config, PlanError> {
        let outer = config.as_object().ok_or_else(|| PlanError::BadValue {
            key: "config.json".into(),
            value: brief(config),
            expected: "an object".into(),
        })?;
        let mut values = outer.clone();
        if let Some(Value::Object(text)) = outer.get("text_config") {
            values.extend(text.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        let mut config = Config { family: String::new(), dialect: Dialect::HuggingFace, values };
        config.family = config.string("model_type")?.ok_or_else(|| config.missing("model_type"))?;
        Ok(config)
    }

    /// Gives a value to every key of `defaults` (a JSON object) that the configuration leaves out.
    pub fn or_defaults(mut self, defaults: &Value) -> Config {
        for (key, value) in defaults.as_object().into_iter().flatten() {
            self.values.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self
    }

    /// The family's name as the checkpoint spells it.
    pub fn family(&self) -> &str {
        &self.family
    }

    /// Whose keys and names the checkpoint uses.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The value at `key`; a dot descends into an object. `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let first = self.values.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part)).filter(|value| !value.is_null())
    }

    /// A whole number.
    pub fn usize(&self, key: &str) -> Result<Option<usize>, PlanError> {
        self.typed(key, "a whole number below 2^31", |v| {
            v.as_u64().filter(|&n| n < 1 << 31).and_then(|n| usize::try_from(n).ok())
        })
    }

    /// A whole number that must be there and must not be 0.
    pub fn size(&self, key: &str) -> Result<usize, PlanError> {
        match self.usize(key)? {
            Some(0) => Err(self.bad(key, "a whole number above 0")),
            Some(n) => Ok(n),
            None => Err(self.missing(key)),
        }
    }

    /// A whole number that may differ from layer to layer: one for all, or a list with one for each.
    pub fn usize_at(&self, key: &str, layer: usize) -> Result<Option<usize>, PlanError> {
        let Some(Value::Array(list)) = self.get(key) else { return self.usize(key) };
        let number = list.get(layer).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        match number.filter(|&n| n < 1 << 31) {
            Some(n) => Ok(Some(n)),
            None => Err(self.bad(key, "a list with a whole number for each layer")),
        }
    }

    /// [`Config::usize_at`] for a number that must be there and must not be 0.
    pub fn size_at(&self, key: &str, layer: usize) -> Result<usize, PlanError> {
        match self.usize_at(key, layer)? {
            Some(0) => Err(self.bad(key, "whole numbers above 0")),
            Some(n) => Ok(n),
            None => Err(self.missing(key)),
        }
    }

    /// Layers of the text model; GGUF counts those that predict further tokens too.
    pub fn layers(&self) -> Result<usize, PlanError> {
        let (layers, more) = (self.size("num_hidden_layers")?, self.usize("num_nextn_predict_layers")?);
        match (self.dialect, more) {
            (Dialect::Gguf, Some(more)) if more >= layers => {
                Err(self.bad("num_nextn_predict_layers", "less than the number of layers"))
            }
            (Dialect::Gguf, Some(more)) => Ok(layers - more),
            _ => Ok(layers),
        }
    }

    /// The kind of every layer by name (`layer_types`), if the configuration lists them.
    pub fn layer_types(&self, layers: usize) -> Result<Option<Vec<&str>>, PlanError> {
        let key = "layer_types";
        let Some(value) = self.get(key) else { return Ok(None) };
        let names: Option<Vec<&str>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        match names {
            Some(names) if names.len() == layers => Ok(Some(names)),
            _ => Err(self.bad(key, &format!("a list of {layers} names, one for each layer"))),
        }
    }

    /// A number.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, PlanError> {
        self.typed(key, "a finite number", |v| v.as_f64().map(|x| x as f32).filter(|x| x.is_finite()))
    }

    /// A number that may differ from layer to layer: one for all, or a list with one for each.
    pub fn f32_at(&self, key: &str, layer: usize) -> Result<Option<f32>, PlanError> {
        let Some(Value::Array(list)) = self.get(key) else { return self.f32(key) };
        match list.get(layer).and_then(Value::as_f64).filter(|x| x.is_finite()) {
            Some(x) => Ok(Some(x as f32)),
            None => Err(self.bad(key, "a list with a finite number for each layer")),
        }
    }

    /// A truth value; absent means false.
    pub fn flag(&self, key: &str) -> Result<bool, PlanError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<String>, PlanError> {
        self.typed(key, "a string", |v| v.as_str().map(str::to_string))
    }

    /// Refuses a string that is none of those a translation knows.
    pub fn only(&self, key: &str, known: &[&str]) -> Result<(), PlanError> {
        match self.string(key)? {
            Some(value) if !known.contains(&value.as_str()) => Err(self.unsupported(key)),
            _ => Ok(()),
        }
    }

    /// The error for a key that must be there.
    pub fn missing(&self, key: &str) -> PlanError {
        PlanError::MissingKey { key: self.spelled(key) }
    }

    /// The error for a value that makes no sense.
    pub fn bad(&self, key: &str, expected: &str) -> PlanError {
        PlanError::BadValue {
            key: self.spelled(key),
            value: self.get(key).map_or("nothing".into(), brief),
            expected: expected.to_string(),
        }
    }

    /// The error for a value that is understood but not implemented.
    pub fn unsupported(&self, key: &str) -> PlanError {
        PlanError::Unsupported {
            family: self.family.clone(),
            key: self.spelled(key),
            value: self.get(key).map_or("nothing".into(), brief),
        }
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, PlanError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.bad(key, expected)),
        }
    }

    fn spelled(&self, key: &str) -> String {
        match self.dialect {
            Dialect::HuggingFace => key.to_string(),
            Dialect::Gguf => GGUF_KEYS
                .iter()
                .find(|(ours, _)| *ours == key)
                .map_or_else(|| key.to_string(), |(_, theirs)| format!("{}.{theirs}", self.family)),
        }
    }
}

fn values_of_gguf<'a>(
    get: impl Fn(&str) -> Option<&'a sampan_weights::Value>,
    arch: &str,
) -> Map<String, Value> {
    let mut values = Map::new();
    for (ours, theirs) in GGUF_KEYS {
        let Some(value) = get(&format!("{arch}.{theirs}")).and_then(json_of) else { continue };
        match ours.split_once('.') {
            None => {
                values.insert((*ours).to_string(), value);
            }
            Some((object, field)) => {
                let object = values.entry(object).or_insert_with(|| json!({}));
                object[field] = value;
            }
        }
    }
    values
}

/// A metadata value as JSON; `None` for arrays of text, which no configuration key uses.
fn json_of(value: &sampan_weights::Value) -> Option<Value> {
    use sampan_weights::Value as V;
    Some(match value {
        V::Bool(flag) => json!(flag),
        V::Str(text) => json!(text),
        V::F32(x) => json!(x),
        V::F64(x) => json!(x),
        V::Array(Array::Bool(flags)) => json!(flags),
        V::Array(array) => match array.to_i64s() {
            Some(numbers) => json!(numbers),
            None => json!(array.to_f32s()?),
        },
        number => json!(number.to_i64()?),
    })
}

/// A value as an error message can show it.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}
