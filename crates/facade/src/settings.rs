//! How an answer is generated: what the model's files recommend, and what a user changes.

use sampan_engine::Sampling;
use sampan_weights::{Checkpoint, Error};
use serde_json::{Map, Value};

/// How an answer is generated.
///
/// [`Settings::of`] takes what a checkpoint recommends; what it leaves open is [`Settings::default`]: temperature
/// 0.7, the 40 likeliest tokens, of which those that make up 95 %, and no penalties.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// 0 takes the likeliest token; higher is more varied.
    pub temperature: f32,
    /// Choose among this many likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Choose among the likeliest tokens of this probability together; 1 is off.
    pub top_p: f32,
    /// Leave out tokens less likely than this times the likeliest; 0 is off.
    pub min_p: f32,
    /// Choose among the tokens of most typical surprise, of this probability together; 1 is off.
    pub typical_p: f32,
    /// Divides the logits of recent tokens; 1 is off.
    pub repeat_penalty: f32,
    /// How many recent tokens the repeat penalty looks at.
    pub repeat_last_n: usize,
    /// Taken from the logit of every token generated before; 0 is off.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time it was generated before; 0 is off.
    pub frequency_penalty: f32,
    /// `None` takes another one for each answer.
    pub seed: Option<u64>,
    /// `None` generates until the model ends or the context is full.
    pub max_tokens: Option<usize>,
    /// The answer ends before any of these. Reasoning is not searched.
    pub stop: Vec<String>,
    /// The template's `enable_thinking`; `None` leaves it to the template.
    pub think: Option<bool>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
            max_tokens: None,
            stop: Vec::new(),
            think: None,
        }
    }
}

impl Settings {
    /// What the checkpoint recommends in `generation_config.json` or under the GGUF keys `general.sampling.*`.
    ///
    /// # Errors
    /// When a recommendation is there but is not a usable number.
    pub fn of(checkpoint: &Checkpoint) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        let metadata = checkpoint.metadata();
        let key = |name: &str| format!("general.sampling.{name}");
        let number = |name: &str, good: &dyn Fn(f32) -> bool| match metadata.f32(&key(name))? {
            Some(value) if !good(value) => {
                Err(metadata.error(&key(name), format!("{value} is not a usable setting")))
            }
            value => Ok(value),
        };
        put(&mut settings.temperature, number("temp", &|x| x >= 0.0 && x.is_finite())?);
        put(&mut settings.top_p, number("top_p", &is_probability)?);
        put(&mut settings.min_p, number("min_p", &is_probability)?);
        put(&mut settings.repeat_penalty, number("penalty_repeat", &|x| x > 0.0 && x.is_finite())?);
        put(&mut settings.top_k, number("top_k", &f32::is_finite)?.map(|k| k.max(0.0) as usize));
        put(&mut settings.repeat_last_n, number("penalty_last_n", &|x| x >= 0.0)?.map(|n| n as usize));
        if let Some(config) = checkpoint.generation_config() {
            settings.recommended(config).map_err(|what| Error::Json {
                file: checkpoint.path().join("generation_config.json"),
                what,
            })?;
        }
        Ok(settings)
    }

    fn recommended(&mut self, config: &Value) -> Result<(), String> {
        let number = |name: &str, good: &dyn Fn(f32) -> bool| match &config[name] {
            Value::Null => Ok(None),
            value => match value.as_f64().map(|x| x as f32).filter(|&x| good(x)) {
                Some(x) => Ok(Some(x)),
                None => Err(format!("{name} = {value} is not a usable setting")),
            },
        };
        put(&mut self.temperature, number("temperature", &|x| x >= 0.0 && x.is_finite())?);
        put(&mut self.top_p, number("top_p", &is_probability)?);
        put(&mut self.min_p, number("min_p", &is_probability)?);
        put(&mut self.typical_p, number("typical_p", &is_probability)?);
        put(&mut self.repeat_penalty, number("repetition_penalty", &|x| x > 0.0 && x.is_finite())?);
        put(&mut self.top_k, number("top_k", &|x| x >= 0.0)?.map(|k| k as usize));
        if config["do_sample"] == Value::Bool(false) {
            self.temperature = 0.0;
        }
        Ok(())
    }

    /// What the chat template is told beside the messages.
    pub fn template_variables(&self) -> Map<String, Value> {
        self.think.map(|think| ("enable_thinking".into(), think.into())).into_iter().collect()
    }

    /// The same for the engine, which wants a seed.
    pub fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed,
            ..Sampling::default()
        }
    }
}

fn is_probability(x: f32) -> bool {
    (0.0..=1.0).contains(&x)
}

fn put<T>(to: &mut T, from: Option<T>) {
    if let Some(value) = from {
        *to = value;
    }
}

/// Ids in `generation_config.json` that end an answer.
pub(crate) fn end_ids(config: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    match config.map(|config| &config["eos_token_id"]) {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recommendations_are_taken_and_checked() {
        let with = |config: Value| {
            let mut settings = Settings::default();
            settings.recommended(&config).map(|()| settings)
        };
        let qwen = json!({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.8});
        let settings = with(qwen).unwrap();
        assert_eq!((settings.temperature, settings.top_k, settings.top_p), (0.6, 20, 0.8));
        assert_eq!(with(json!({"do_sample": false})).unwrap().temperature, 0.0);
        assert_eq!(with(json!({})).unwrap(), Settings::default());
        assert!(with(json!({"top_p": 7})).unwrap_err().contains("top_p = 7"));
        assert!(with(json!({"temperature": "hot"})).unwrap_err().contains("\"hot\""));
    }

    #[test]
    fn end_ids_are_one_or_many() {
        for (config, ids) in [
            (json!({"eos_token_id": 7}), vec![7]),
            (json!({"eos_token_id": [7, 9]}), vec![7, 9]),
            (json!({"eos_token_id": null}), vec![]),
            (json!({}), vec![]),
        ] {
            assert_eq!(end_ids(Some(&config)), ids);
        }
    }
}
