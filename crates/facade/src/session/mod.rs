//! A loaded model that answers.

mod answer;
mod output;

use crate::Error;
use crate::load::{LoadOptions, Prepared};
use crate::settings::Settings;
use crate::source::Source;
use crate::speech::Speech;
use sampan_engine::{Engine, Usage};
use sampan_model::{Adapter, KvFormat, Memory, Model, Plan};
use sampan_text::Tokenizer;
use sampan_weights::{AdapterFiles, Checkpoint};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A loaded model that answers, one prompt at a time. What prompts have in common with earlier ones is not computed
/// again.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    engine: Engine,
    adapter: Option<Arc<Adapter>>,
    speech: Speech,
    context: usize,
    kv: KvFormat,
    memory: Memory,
    load_time: Duration,
    notices: Vec<String>,
}

/// Where a piece of streamed text belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the model thinks before it answers.
    Reasoning,
    /// What it answers.
    Answer,
}

/// Gets an answer while it is generated, and may end it.
pub trait Listener {
    /// More text. [`ControlFlow::Break`] ends the answer.
    fn text(&mut self, part: Part, text: &str) -> ControlFlow<()>;
    /// Called before every step of the engine, also while the prompt is read.
    fn step(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Hears nothing: the answer is only wanted whole.
impl Listener for () {
    fn text(&mut self, _: Part, _: &str) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(Part, &str) -> ControlFlow<()>> Listener for F {
    fn text(&mut self, part: Part, text: &str) -> ControlFlow<()> {
        self(part, text)
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The context is full.
    Context,
    /// The listener ended it.
    Cancelled,
}

impl Finish {
    /// `stop`, `length`, `context` or `cancelled`.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Context => "context",
            Finish::Cancelled => "cancelled",
        }
    }
}

/// An answer and what it cost.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer.
    pub text: String,
    /// What the model thought before; empty if it did not.
    pub reasoning: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens and times.
    pub usage: Usage,
    /// The seed that was used.
    pub seed: u64,
}

impl Answer {
    /// Prompt tokens computed per second; `None` when all came from the cache.
    pub fn prompt_speed(&self) -> Option<f64> {
        per_second(self.usage.prompt_tokens.saturating_sub(self.usage.cached_tokens), self.usage.prefill)
    }

    /// Tokens generated per second after the first, which comes with the prompt; `None` when there was only one.
    pub fn generation_speed(&self) -> Option<f64> {
        per_second(self.usage.generated_tokens.saturating_sub(1), self.usage.decode)
    }

    /// Tokens generated per forward pass; more than 1 where proposals ([`crate::LoadOptions::speculate`]) were right.
    pub fn tokens_per_pass(&self) -> f64 {
        let generated = self.usage.generated_tokens.max(1);
        generated as f64 / generated.saturating_sub(self.usage.accepted_tokens).max(1) as f64
    }
}

fn per_second(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

impl Session {
    /// Loads a model. `progress` gets the bytes done and the bytes in total.
    ///
    /// # Errors
    /// What is wrong with the files or the options, or that the model does not fit into memory.
    pub fn open(
        source: &Source,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Session, Error> {
        Session::load(&Prepared::new(source, options)?, progress)
    }

    /// Loads a model that has been prepared. Its files stay with `prepared`, for [`Session::use_adapter`].
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn load(prepared: &Prepared, progress: &mut dyn FnMut(u64, u64)) -> Result<Session, Error> {
        let begin = Instant::now();
        // Whatever can fail quickly comes before the weights.
        prepared.check_generates()?;
        let speech = Speech::of(prepared)?;
        let model = Arc::new(prepared.load(progress)?);
        Ok(Session {
            engine: Engine::new(model.clone(), prepared.engine.clone()),
            adapter: None,
            model,
            speech,
            context: prepared.context,
            kv: prepared.kv,
            memory: prepared.memory,
            notices: prepared.notices.clone(),
            load_time: begin.elapsed(),
        })
    }

    /// Answers with a LoRA adapter from here on: a folder as PEFT saves it, or a GGUF file. `files`: what the model was
    /// loaded from.
    ///
    /// # Errors
    /// What is wrong with the adapter, or that it was made for another model.
    pub fn use_adapter(&mut self, path: &Path, files: &Checkpoint) -> Result<(), Error> {
        let adapter = Adapter::load(&AdapterFiles::open(path)?, &self.model, files)
            .map_err(|source| Error::Adapter { path: path.to_owned(), source })?;
        self.adapter = Some(Arc::new(adapter));
        Ok(())
    }

    /// The model as it was named.
    pub fn name(&self) -> &str {
        &self.speech.name
    }

    /// What the model is.
    pub fn plan(&self) -> &Plan {
        self.model.plan()
    }

    /// The weights, and what they run on.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the model knows of words, and how prompts are made.
    pub fn speech(&self) -> &Speech {
        &self.speech
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.speech.tokenizer
    }

    /// What the model's files recommend.
    pub fn settings(&self) -> &Settings {
        &self.speech.settings
    }

    /// Tokens that prompt and answer may have together.
    pub fn context(&self) -> usize {
        self.context
    }

    /// How keys and values are kept.
    pub fn kv(&self) -> KvFormat {
        self.kv
    }

    /// What the plan says the model needs.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// What the user should know about how the model was loaded.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}
