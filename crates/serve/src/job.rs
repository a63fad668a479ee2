//! What is wanted of a model, free of any dialect: every API translates to this.

use crate::failure::Failure;
use crate::loaded::Loaded;
use sampan_engine::{Request, Sampling};
use sampan_facade::{Encoded, Settings};
use sampan_text::{OutputFormat, Special, Start, Tools};
use serde_json::{Map, Value};

/// A prompt in one of its forms.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Messages for the model's template.
    Chat {
        /// Objects with `role` and `content`.
        messages: Vec<Value>,
        /// Tools, as the template wants them.
        tools: Option<Value>,
        /// Further variables of the template.
        vars: Map<String, Value>,
    },
    /// A text to be continued as it stands.
    Text(String),
    /// Tokens to be continued.
    Ids(Vec<u32>),
    /// Two texts between which something is to be filled in.
    Fill {
        /// What comes before.
        before: String,
        /// What comes after.
        after: String,
    },
}

/// Changes to what the model's files recommend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_k: Option<usize>,
    pub(crate) top_p: Option<f32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) typical_p: Option<f32>,
    pub(crate) repeat_penalty: Option<f32>,
    pub(crate) repeat_last_n: Option<usize>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) seed: Option<u64>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    /// Token ids that end the answer, beside the model's own.
    pub(crate) stop_tokens: Vec<u32>,
    /// The model's own end tokens do not end the answer.
    pub(crate) ignore_eos: bool,
    pub(crate) logit_bias: Vec<(u32, f32)>,
}

impl Asked {
    /// The model's settings with these changes.
    fn over(&self, recommended: &Settings) -> Settings {
        let r = recommended;
        Settings {
            temperature: self.temperature.unwrap_or(r.temperature),
            top_k: self.top_k.unwrap_or(r.top_k),
            top_p: self.top_p.unwrap_or(r.top_p),
            min_p: self.min_p.unwrap_or(r.min_p),
            typical_p: self.typical_p.unwrap_or(r.typical_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(r.repeat_penalty),
            repeat_last_n: self.repeat_last_n.unwrap_or(r.repeat_last_n),
            presence_penalty: self.presence_penalty.unwrap_or(r.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(r.frequency_penalty),
            ..r.clone()
        }
    }
}

/// What to do with a conversation that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Refuse it, with both numbers.
    #[default]
    Refuse,
    /// Leave out the oldest turns, and say so.
    DropOldTurns,
}

/// What was left out of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Messages left out.
    pub(crate) messages: usize,
    /// Tokens that the prompt would have had.
    pub(crate) tokens_before: usize,
    /// Tokens that it has.
    pub(crate) tokens_after: usize,
}

/// One prompt and how it is to be continued.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) input: Input,
    pub(crate) asked: Asked,
    /// How many answers.
    pub(crate) choices: usize,
    /// Log-probabilities of each token, and of this many of the likeliest.
    pub(crate) logprobs: Option<usize>,
    pub(crate) overflow: Overflow,
    /// The tools that the answer may call.
    pub(crate) tools: Option<Tools>,
    /// Whose it is: the engine shares its time between clients.
    pub(crate) client: u64,
}

impl Job {
    pub(crate) fn new(input: Input) -> Job {
        Job {
            input,
            asked: Asked::default(),
            choices: 1,
            logprobs: None,
            overflow: Overflow::Refuse,
            tools: None,
            client: 0,
        }
    }

    /// Makes the prompt's tokens. Takes long for long prompts: not for a thread that others wait for.
    pub(crate) fn encode(&self, loaded: &Loaded) -> Result<(Encoded, Option<Dropped>), Failure> {
        let speech = &loaded.speech;
        let encoded = match &self.input {
            Input::Chat { messages, tools, vars } => {
                return self.encode_chat(loaded, messages, tools.as_ref(), vars);
            }
            Input::Text(text) => speech.encode_text(text, Special::AsText)?,
            Input::Ids(ids) => Encoded { ids: ids.clone(), start: Start::Answer, format: OutputFormat::TEXT },
            Input::Fill { before, after } => speech.encode_fill(before, after)?,
        };
        Ok((encoded, None))
    }

    fn encode_chat(
        &self,
        loaded: &Loaded,
        messages: &[Value],
        tools: Option<&Value>,
        vars: &Map<String, Value>,
    ) -> Result<(Encoded, Option<Dropped>), Failure> {
        let encode = |messages: &[Value]| {
            let messages = sampan_text::with_parsed_arguments(&Value::Array(messages.to_vec()));
            loaded.speech.encode_messages(&messages, tools, vars)
        };
        let whole = encode(messages)?;
        let context = loaded.prepared.context;
        // Room for the answer: what was asked for, within reason.
        let answer = self.asked.max_tokens.unwrap_or(context / 4).clamp(1, (context / 2).max(1));
        if self.overflow == Overflow::Refuse || whole.ids.len() + answer <= context {
            return Ok((whole, None));
        }
        let tokens_before = whole.ids.len();
        let mut left = messages.to_vec();
        while let Some(shorter) = without_oldest_turn(&left) {
            let encoded = encode(&shorter)?;
            left = shorter;
            if encoded.ids.len() + answer <= context {
                let dropped = Dropped {
                    messages: messages.len() - left.len(),
                    tokens_before,
                    tokens_after: encoded.ids.len(),
                };
                return Ok((encoded, Some(dropped)));
            }
        }
        Ok((whole, None))
    }

    /// The request of one of the answers.
    pub(crate) fn request(&self, loaded: &Loaded, ids: &[u32], seed: u64) -> Request {
        let settings = self.asked.over(&loaded.speech.settings);
        let mut stop_tokens = self.asked.stop_tokens.clone();
        if !self.asked.ignore_eos {
            stop_tokens.extend_from_slice(&loaded.speech.stop_tokens);
        }
        Request {
            sampling: Sampling {
                logit_bias: self.asked.logit_bias.clone(),
                logprobs: self.logprobs,
                ..settings.sampling(seed)
            },
            max_tokens: self.asked.max_tokens,
            stop_tokens,
            ..Request::new(ids.to_vec(), loaded.prepared.context, loaded.speech.tokenizer.vocab_size())
        }
    }
}

/// The messages without the first user's turn and what belongs to it; the last user's turn stays.
fn without_oldest_turn(messages: &[Value]) -> Option<Vec<Value>> {
    let users: Vec<usize> = (0..messages.len()).filter(|&i| messages[i]["role"] == "user").collect();
    let [first, second, ..] = users[..] else { return None };
    let system = |m: &&Value| m["role"] == "system" || m["role"] == "developer";
    let before = messages[..first].iter().filter(system);
    Some(before.chain(&messages[second..]).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_turns_go_first_and_instructions_and_the_last_question_stay() {
        let roles = ["system", "user", "assistant", "user", "assistant", "tool", "assistant", "user"];
        let mut messages: Vec<Value> = roles.iter().map(|role| json!({"role": role})).collect();
        let mut lengths = Vec::new();
        while let Some(shorter) = without_oldest_turn(&messages) {
            assert_eq!((&shorter[0]["role"], &shorter[1]["role"]), (&json!("system"), &json!("user")));
            lengths.push(shorter.len());
            messages = shorter;
        }
        assert_eq!(lengths, [6, 2]);
    }
}
