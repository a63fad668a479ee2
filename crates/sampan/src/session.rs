//! A loaded model that answers.

use crate::conversation::Conversation;
use crate::load::{LoadOptions, Prepared};
use crate::settings::Settings;
use crate::source::Source;
use crate::speech::{self, Templates};
use crate::stop::StopMatcher;
use crate::{Error, Role};
use sampan_engine::{Engine, EngineOptions, Event, FinishReason, PAGE, Request, RequestId, Usage};
use sampan_model::{KvFormat, Memory, Model, Plan};
use sampan_text::{Kind, ReasoningSplitter, ReasoningTags, Special, Start, TemplateError, Tokenizer};
use serde_json::{Map, Value};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A loaded model that answers, one prompt at a time. What prompts have in common with earlier ones is not computed
/// again.
#[derive(Debug)]
pub struct Session {
    name: String,
    model: Arc<Model>,
    engine: Engine,
    tokenizer: Tokenizer,
    templates: Result<Templates, TemplateError>,
    stop_tokens: Vec<u32>,
    settings: Settings,
    context: usize,
    kv: KvFormat,
    memory: Memory,
    load_time: Duration,
    notices: Vec<String>,
}

/// Token ids to continue, and what the continuation starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The prompt.
    pub ids: Vec<u32>,
    /// Whether the answer begins inside reasoning.
    pub start: Start,
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
        Session::load(Prepared::new(source, options)?, progress)
    }

    /// Loads a model that has been prepared.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn load(prepared: Prepared, progress: &mut dyn FnMut(u64, u64)) -> Result<Session, Error> {
        let begin = Instant::now();
        // Whatever can fail quickly comes before the weights.
        prepared.check_generates()?;
        let tokenizer = speech::tokenizer(&prepared.name, &prepared.checkpoint)?;
        let (tokens, rows) = (tokenizer.vocab_size(), prepared.plan.vocab);
        if tokens > rows {
            return Err(Error::Vocabulary { model: prepared.name, tokens, rows });
        }
        let templates = Templates::of(prepared.checkpoint.chat_template()?.as_ref(), Some(&tokenizer));
        let settings = Settings::of(&prepared.checkpoint)?;
        let stop_tokens = speech::stop_tokens(&prepared.checkpoint, &tokenizer);
        let model = Arc::new(prepared.load(progress)?);
        let pages = prepared.context.div_ceil(PAGE) + 1;
        let engine = EngineOptions { kv_format: prepared.kv, pages, ..EngineOptions::default() };
        Ok(Session {
            engine: Engine::new(model.clone(), engine),
            name: prepared.name,
            model,
            tokenizer,
            templates,
            stop_tokens,
            settings,
            context: prepared.context,
            kv: prepared.kv,
            memory: prepared.memory,
            notices: prepared.notices,
            load_time: begin.elapsed(),
        })
    }

    /// The model as it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the model is.
    pub fn plan(&self) -> &Plan {
        self.model.plan()
    }

    /// The weights, and what they run on.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What the model's files recommend.
    pub fn settings(&self) -> &Settings {
        &self.settings
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

    /// Renders messages (objects with `role` and `content`) with the model's template and encodes the result.
    /// Text in the messages never becomes a control token.
    ///
    /// # Errors
    /// When there is no template or it fails.
    pub fn encode_messages(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        think: Option<bool>,
    ) -> Result<Encoded, Error> {
        let templates = self.templates.as_ref().map_err(|e| Error::Template(e.clone()))?;
        let template =
            templates.get(tools.is_some()).ok_or_else(|| Error::NoTemplate { model: self.name.clone() })?;
        let mut vars = Map::new();
        if let Some(think) = think {
            vars.insert("enable_thinking".into(), think.into());
        }
        let prompt = template.render(messages, tools, true, &vars)?;
        let ids = self.tokenizer.encode_prompt(&prompt).map_err(Error::Encode)?;
        Ok(Encoded { ids, start: ReasoningTags::THINK.start_after(prompt.text()) })
    }

    /// Encodes a text to be continued as it stands, with the begin token if the model wants one.
    ///
    /// # Errors
    /// When the text cannot be encoded.
    pub fn encode_text(&self, text: &str, special: Special) -> Result<Encoded, Error> {
        let begin = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos());
        let mut ids: Vec<u32> = begin.into_iter().collect();
        ids.extend(self.tokenizer.encode(text, special).map_err(Error::Encode)?);
        Ok(Encoded { ids, start: Start::Answer })
    }

    /// Continues a prompt, telling `listener` as the answer comes.
    ///
    /// # Errors
    /// When the prompt is longer than the context (nothing is cut), a setting is out of range, or the model computes
    /// something that is not a number.
    pub fn answer(
        &mut self,
        prompt: &Encoded,
        settings: &Settings,
        listener: &mut dyn Listener,
    ) -> Result<Answer, Error> {
        let seed = settings.seed.unwrap_or_else(random_seed);
        let id = self.engine.submit(Request {
            prompt: prompt.ids.clone(),
            sampling: settings.sampling(seed),
            max_tokens: settings.max_tokens,
            stop_tokens: self.stop_tokens.clone(),
            context: self.context,
            vocab_limit: self.tokenizer.vocab_size(),
        })?;
        let mut output = Output::new(prompt.start, &settings.stop, listener);
        let (reason, usage) = run(&mut self.engine, &self.tokenizer, id, prompt.start, &mut output);
        let finish = match reason {
            FinishReason::Failed(bad) => return Err(bad.into()),
            _ if output.stop.stopped() => Finish::Stop,
            FinishReason::Stop(_) => Finish::Stop,
            FinishReason::Length => Finish::Length,
            FinishReason::Context => Finish::Context,
            FinishReason::Cancelled => Finish::Cancelled,
        };
        let Output { text, reasoning, .. } = output;
        Ok(Answer { text, reasoning, finish, usage, seed })
    }

    /// Adds the model's answer to a conversation that a user's message ends.
    ///
    /// # Errors
    /// As [`Session::encode_messages`] and [`Session::answer`]; the conversation is then as it was.
    pub fn reply(
        &mut self,
        conversation: &mut Conversation,
        settings: &Settings,
        listener: &mut dyn Listener,
    ) -> Result<Answer, Error> {
        debug_assert!(conversation.turns().last().is_some_and(|m| m.role == Role::User));
        let prompt = self.encode_messages(&conversation.to_json(), None, settings.think)?;
        let answer = self.answer(&prompt, settings, listener)?;
        conversation.assistant(answer.text.trim_end(), answer.reasoning.as_str());
        Ok(answer)
    }
}

/// Steps the engine until the request has ended.
fn run(
    engine: &mut Engine,
    tokenizer: &Tokenizer,
    id: RequestId,
    start: Start,
    output: &mut Output<'_>,
) -> (FinishReason, Usage) {
    let mut decoder = if start == Start::Answer { tokenizer.stream_continued() } else { tokenizer.stream() };
    let mut piece = String::new();
    loop {
        if output.listener.step().is_break() {
            engine.cancel(id);
        }
        for event in engine.step() {
            match event {
                Event::Started { .. } => {}
                Event::Token { token, .. } => {
                    piece.clear();
                    decoder.push_into(token, &mut piece);
                    if output.push(&piece).is_break() {
                        engine.cancel(id);
                    }
                }
                Event::Finished { reason, usage, .. } => {
                    let _ = output.push(&decoder.finish());
                    output.finish();
                    return (reason, usage);
                }
            }
        }
    }
}

/// Sorts the text of an answer into reasoning and answer, and ends it at a stop string.
struct Output<'a> {
    splitter: ReasoningSplitter,
    stop: StopMatcher,
    text: String,
    reasoning: String,
    listener: &'a mut dyn Listener,
}

impl<'a> Output<'a> {
    fn new(start: Start, stops: &[String], listener: &'a mut dyn Listener) -> Output<'a> {
        Output {
            splitter: ReasoningSplitter::new(ReasoningTags::THINK, start),
            stop: StopMatcher::new(stops),
            text: String::new(),
            reasoning: String::new(),
            listener,
        }
    }

    fn push(&mut self, text: &str) -> ControlFlow<()> {
        for piece in self.splitter.push(text) {
            self.piece(piece.kind, &piece.text)?;
        }
        ControlFlow::Continue(())
    }

    fn finish(&mut self) {
        for piece in self.splitter.finish() {
            let _ = self.piece(piece.kind, &piece.text);
        }
        let rest = self.stop.finish();
        let _ = self.say(&rest);
    }

    fn piece(&mut self, kind: Kind, text: &str) -> ControlFlow<()> {
        match kind {
            Kind::Answer => {
                let text = self.stop.push(text);
                self.say(&text)?;
                if self.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Kind::Reasoning => {
                self.reasoning.push_str(text);
                self.listener.text(Part::Reasoning, text)
            }
            Kind::Tag => ControlFlow::Continue(()),
            // What was taken for the answer was reasoning; whoever watched it stream has seen it already.
            Kind::LateTag => {
                self.text.push_str(&self.stop.finish());
                self.reasoning = std::mem::take(&mut self.text);
                ControlFlow::Continue(())
            }
        }
    }

    fn say(&mut self, text: &str) -> ControlFlow<()> {
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.text.push_str(text);
        self.listener.text(Part::Answer, text)
    }
}

/// The standard library seeds its hash tables from the system's randomness; that is enough here. Kept below 2^53
/// so that every JSON reader gets it exactly.
fn random_seed() -> u64 {
    RandomState::new().hash_one(Instant::now()) >> 11
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and reasoning of an output given in pieces, and what the listener heard.
    fn sorted(start: Start, stops: &[&str], pieces: &[&str]) -> (String, String, String) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut heard = String::new();
        let mut listener = |part: Part, text: &str| {
            heard.push_str(if part == Part::Answer { "A" } else { "R" });
            heard.push_str(text);
            ControlFlow::Continue(())
        };
        let mut output = Output::new(start, &stops, &mut listener);
        for piece in pieces {
            if output.push(piece).is_break() {
                break;
            }
        }
        output.finish();
        let Output { text, reasoning, .. } = output;
        (text, reasoning, heard)
    }

    #[test]
    fn reasoning_answer_and_stop_strings() {
        let strings = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let thought = ["<think>\n", "Hm", " END", "\n</think>\n\n", "Four. E", "ND Five"];
        assert_eq!(sorted(Start::Either, &["END"], &thought), strings("Four. ", "Hm END", "RHmR ENDAFour. "));
        assert_eq!(sorted(Start::Either, &[], &["plain"]), strings("plain", "", "Aplain"));
        assert_eq!(sorted(Start::Either, &[], &["hm</think>", "yes"]), strings("yes", "hm", "AhmAyes"));
        assert_eq!(sorted(Start::Answer, &["."], &["a", "b.c"]), strings("ab", "", "AaAb"));
    }

    #[test]
    fn seeds_differ_and_are_exact_in_json() {
        let seeds: std::collections::BTreeSet<u64> = (0..100).map(|_| random_seed()).collect();
        assert!(seeds.len() == 100 && seeds.iter().all(|s| *s < 1 << 53));
    }
}
