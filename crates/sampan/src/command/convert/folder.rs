//! A vocabulary, a template and settings of a GGUF file as the files beside a config.json.

use super::vocabulary::PROBE;
use crate::error::{AppError, Result};
use sampan::{Error, Pooling, speech};
use sampan_text::{Tokenizer, spelled_out};
use sampan_weights::{ChatTemplateSource, Checkpoint, Metadata};
use serde_json::{Map, Value, json};
use std::path::Path;

/// GGUF's name of a sampling setting, and that in generation_config.json.
pub(super) const SAMPLING: [(&str, &str); 5] = [
    ("temp", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("penalty_repeat", "repetition_penalty"),
];

/// What is written beside the weights.
pub(super) struct Sidecars {
    /// Name and content.
    files: Vec<(&'static str, Value)>,
    /// What config.json says about tokens.
    pub(super) keys: Map<String, Value>,
}

impl Sidecars {
    /// Those of a GGUF file; of one without a vocabulary only its sampling settings.
    pub(super) fn of(name: &str, checkpoint: &Checkpoint) -> Result<Sidecars> {
        let mut generation = sampling(checkpoint.metadata())?;
        let (mut files, mut keys) = (pooling(checkpoint.metadata())?, Map::new());
        if let Some(vocab) = speech::vocabulary(checkpoint)? {
            let wrong = |source| Error::Tokenizer { model: name.to_owned(), source };
            let spelled = spelled_out(&vocab).map_err(wrong)?;
            let original = Tokenizer::from_gguf(vocab).map_err(wrong)?;
            let mut config = spelled.config;
            let bytes = spelled.tokenizer.to_string();
            let again = Tokenizer::from_json(bytes.as_bytes(), Some(&Value::Object(config.clone())));
            if !again.map_err(wrong)?.agrees(&original, PROBE) {
                return Err(AppError::user(format!(
                    "the vocabulary of {name} would cut text otherwise as a tokenizer.json"
                ))
                .hint("run the GGUF file as it is"));
            }
            for (key, value) in [("bos_token_id", json!(original.bos())), ("eos_token_id", ends(&original))] {
                generation.insert(key.into(), value.clone());
                keys.insert(key.into(), value);
            }
            if let Some(template) = checkpoint.chat_template()? {
                config.insert("chat_template".into(), spelled_template(template));
            }
            files.push(("tokenizer.json", spelled.tokenizer));
            files.push(("tokenizer_config.json", Value::Object(config)));
        }
        if !generation.is_empty() {
            files.push(("generation_config.json", Value::Object(generation)));
        }
        Ok(Sidecars { files, keys })
    }

    /// Whether there are words among them.
    pub(super) fn speak(&self) -> bool {
        self.files.iter().any(|(name, _)| *name == "tokenizer.json")
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        for (name, content) in &self.files {
            let path = folder.join(name);
            if let Some(inner) = path.parent().filter(|inner| *inner != folder) {
                std::fs::create_dir_all(inner).map_err(|e| AppError::file("write", inner, &e))?;
            }
            let text = format!("{content:#}\n");
            std::fs::write(&path, text).map_err(|e| AppError::file("write", &path, &e))?;
        }
        Ok(())
    }
}

/// One end or several.
fn ends(tokenizer: &Tokenizer) -> Value {
    match tokenizer.eos() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    }
}

/// A template as text, or with those for special purposes as a list.
fn spelled_template(template: ChatTemplateSource) -> Value {
    if template.named.is_empty() {
        return template.default.into();
    }
    let default = template.default.map(|text| ("default".to_owned(), text));
    let all = default.into_iter().chain(template.named);
    all.map(|(name, text)| json!({"name": name, "template": text})).collect()
}

/// How a model that makes vectors makes one of many, for sentence-transformers.
fn pooling(metadata: &Metadata) -> Result<Vec<(&'static str, Value)>> {
    let arch = metadata.need_str("general.architecture")?;
    let key = format!("{arch}.pooling_type");
    let Some(number) = metadata.u64(&key)? else { return Ok(Vec::new()) };
    let Some(kind) = Pooling::of_number(number) else {
        // 0: no vectors; 4: a head that ranks, which config.json says.
        return match number {
            0 | 4 => Ok(Vec::new()),
            _ => Err(AppError::user(format!("{key} = {number} is no known kind of pooling"))
                .hint("run the GGUF file as it is")),
        };
    };
    let width = metadata.need_usize(&format!("{arch}.embedding_length"))?;
    let modes = [Pooling::First, Pooling::Mean, Pooling::Last].map(|mode| (mode.mode(), json!(mode == kind)));
    let mut config = Map::from_iter([("word_embedding_dimension".to_owned(), json!(width))]);
    config.extend(modes.map(|(mode, on)| (mode.to_owned(), on)));
    let module = |(idx, path, class): (usize, &str, &str)| json!({"idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}")});
    let modules = [(0, "", "Transformer"), (1, "1_Pooling", "Pooling"), (2, "2_Normalize", "Normalize")];
    Ok(vec![
        ("1_Pooling/config.json", Value::Object(config)),
        ("modules.json", modules.map(module).into_iter().collect()),
    ])
}

/// The settings under `general.sampling`.
fn sampling(metadata: &Metadata) -> Result<Map<String, Value>> {
    let mut settings = Map::new();
    for (theirs, ours) in SAMPLING {
        if let Some(value) = metadata.f32(&format!("general.sampling.{theirs}"))? {
            let shortest = value.to_string().parse::<f64>().unwrap_or(f64::from(value));
            let value = if ours == "top_k" { json!(shortest as i64) } else { json!(shortest) };
            settings.insert(ours.into(), value);
        }
    }
    if !settings.is_empty() {
        settings.insert("do_sample".into(), (settings.get("temperature") != Some(&json!(0.0))).into());
    }
    Ok(settings)
}
