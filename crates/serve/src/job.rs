//! What is wanted of a model, free of any dialect: every API translates to this.

use crate::failure::Failure;
use crate::filter::Filter;
use crate::loaded::Loaded;
use crate::messages;
use crate::shape::Shape;
use crate::tools::Offer;
use sampan_engine::{PromptLogprobs, Request, Sampling, TokenFilter};
use sampan_facade::{Encoded, Error, Settings};
use sampan_text::{ConstraintState, ReasoningLimit, Special, Start};
use serde_json::{Map, Value};

/// A prompt in one of its forms.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Messages for the model's template.
    Chat {
        /// Objects with `role` and `content`.
        messages: Vec<Value>,
        /// Further variables of the template.
        vars: Map<String, Value>,
        /// The answer goes on with the last message.
        open: bool,
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
    /// The most tokens of prompt and answer together, if fewer than the model is served with.
    pub(crate) context: Option<usize>,
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
    /// The same of the prompt's own tokens.
    pub(crate) prompt_logprobs: Option<usize>,
    pub(crate) overflow: Overflow,
    /// The tools that the answer may call.
    pub(crate) offer: Option<Offer>,
    /// What the text of the answer must look like.
    pub(crate) shape: Option<Shape>,
    /// Tokens that may be spent on reasoning.
    pub(crate) max_reasoning: Option<usize>,
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
            prompt_logprobs: None,
            overflow: Overflow::Refuse,
            offer: None,
            shape: None,
            max_reasoning: None,
            client: 0,
        }
    }

    /// The most tokens of prompt and answer together.
    pub(crate) fn context(&self, loaded: &Loaded) -> usize {
        self.asked.context.unwrap_or(usize::MAX).min(loaded.prepared.context)
    }

    /// Makes the prompt's tokens. Takes long for long prompts: not for a thread that others wait for.
    pub(crate) fn encode(&self, loaded: &Loaded) -> Result<(Encoded, Option<Dropped>), Failure> {
        let speech = &loaded.speech;
        let encoded = match &self.input {
            Input::Chat { messages, vars, open } => return self.encode_chat(loaded, messages, vars, *open),
            Input::Text(text) => speech.encode_text(text, Special::AsText)?,
            Input::Ids(ids) => Encoded::continued(ids.clone()),
            Input::Fill { before, after } => speech.encode_fill(before, after)?,
        };
        Ok((encoded, None))
    }

    fn encode_chat(
        &self,
        loaded: &Loaded,
        messages: &[Value],
        vars: &Map<String, Value>,
        open: bool,
    ) -> Result<(Encoded, Option<Dropped>), Failure> {
        let tools = self.offer.as_ref().map(|offer| &offer.list);
        let rendered = |messages: Vec<Value>| match open {
            true => loaded.speech.encode_open(&Value::Array(messages), tools, vars),
            false => loaded.speech.encode_messages(&Value::Array(messages), tools, vars),
        };
        let encode = |messages: &[Value]| {
            let messages = messages::for_template(messages);
            match rendered(messages.clone()) {
                Err(Error::Template(error)) if error.refused => match messages::with_one_system(&messages) {
                    Some(messages) => rendered(messages),
                    None => Err(Error::Template(error)),
                },
                encoded => encoded,
            }
        };
        let whole = encode(messages)?;
        let context = self.context(loaded);
        // Room for the answer: what was asked for, within reason.
        let answer = self.asked.max_tokens.unwrap_or(context / 4).clamp(1, (context / 2).max(1));
        let fits = |encoded: &Encoded| encoded.ids.len() + answer <= context;
        if self.overflow == Overflow::Refuse || fits(&whole) {
            return Ok((whole, None));
        }
        // The fewest turns without which the rest fits are from `low` to `high`, if there are any.
        let (mut low, mut high, mut best) = (1, messages::turns(messages), None);
        while low <= high {
            let middle = (low + high) / 2;
            let left = messages::without_turns(messages, middle);
            let encoded = encode(&left)?;
            if fits(&encoded) {
                best = Some((left.len(), encoded));
                high = middle - 1;
            } else {
                low = middle + 1;
            }
        }
        let Some((left, encoded)) = best else { return Ok((whole, None)) };
        let dropped = Dropped {
            messages: messages.len() - left,
            tokens_before: whole.ids.len(),
            tokens_after: encoded.ids.len(),
        };
        Ok((encoded, Some(dropped)))
    }

    /// What restricts the answers to a prompt. All that can be wrong with a shape is known now, before anything is
    /// computed.
    pub(crate) fn filter(
        &self,
        loaded: &Loaded,
        prompt: &Encoded,
    ) -> Result<Option<Box<dyn TokenFilter>>, Failure> {
        let compile = |shape: &Shape| -> Result<ConstraintState, Failure> {
            let compiled = loaded.constraints()?.compile(&shape.constraint, &prompt.format, &prompt.text);
            compiled.map_err(|error| shape.refused(&error))
        };
        let calls = self.offer.as_ref().and_then(|offer| offer.shape(self.shape.clone()));
        let open = matches!(self.input, Input::Chat { open: true, .. });
        if let Some(shape) = calls.as_ref().or(self.shape.as_ref()).filter(|_| open) {
            let why = "is a shape of the whole answer, and the last message has begun it already; end with a message of \
                       the user, or leave the shape out";
            return Err(Failure::field(&shape.field, "contradiction", format!("{} {why}", shape.field)));
        }
        let alone = self.shape.as_ref().map(compile).transpose()?;
        // The shape by itself first: an error in it is then told by its own field.
        let shape = match &calls {
            // Of several tools it is told whose schema is at fault.
            Some(calls) => {
                Some(compile(calls).map_err(|failure| self.faulty_tool(&compile).unwrap_or(failure))?)
            }
            None => alone,
        };
        let limit = self.max_reasoning.filter(|_| prompt.start != Start::Answer).and_then(|most| {
            ReasoningLimit::new(most, &prompt.format, &prompt.text, &loaded.speech.tokenizer)
        });
        Ok(Filter::boxed(shape, limit))
    }

    /// The failure of the first tool whose arguments' schema cannot be kept by itself.
    fn faulty_tool(&self, compile: &dyn Fn(&Shape) -> Result<ConstraintState, Failure>) -> Option<Failure> {
        let mut schemas = self.offer.as_ref()?.schemas();
        schemas
            .find_map(|(at, constraint)| compile(&Shape { constraint, field: format!("tools[{at}]") }).err())
    }

    /// The request of one of the answers.
    pub(crate) fn request(
        &self,
        loaded: &Loaded,
        ids: &[u32],
        seed: u64,
        filter: Option<Box<dyn TokenFilter>>,
    ) -> Request {
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
            filter,
            prompt_logprobs: self.prompt_logprobs.map(|top| PromptLogprobs { from: 0, top }),
            client: self.client,
            adapter: loaded.adapter.clone(),
            ..Request::new(ids.to_vec(), self.context(loaded), loaded.speech.tokenizer.vocab_size())
        }
    }
}
