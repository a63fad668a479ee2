//! A text through a model, for what it thinks of every token.

use crate::load::{LoadOptions, Prepared};
use crate::{Error, Source, speech};
use sampan_model::{Cache, CacheSizes, Chunk, Importance, KvFormat, Logits, Model, PAGE, Scratch};
use sampan_text::{Special, Tokenizer};

/// A short text of several kinds and languages, for when there is no better one.
pub const EVALUATION: &str = include_str!("../assets/evaluation.txt");

/// Tokens that see each other, at most.
const WINDOW: usize = 512;

/// Tokens that are computed together: few, because each has a row of logits.
const TOGETHER: usize = 64;

/// A loaded model that reads a text, a window at a time, and generates nothing.
#[derive(Debug)]
pub struct Reader {
    name: String,
    model: Model,
    tokenizer: Tokenizer,
    cache: Cache,
    scratch: Scratch,
    window: usize,
}

/// A text cut into windows of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows(Vec<Vec<u32>>);

impl Windows {
    /// How many tokens follow another one and so are predicted.
    pub fn predicted(&self) -> usize {
        self.0.iter().map(|window| window.len() - 1).sum()
    }
}

/// What the model thinks after a token.
#[derive(Clone, Copy, Debug)]
pub struct Thought<'a> {
    /// A logit for each token of the vocabulary.
    pub logits: &'a [f32],
    /// What really comes next.
    pub next: u32,
}

impl Reader {
    /// Loads a model with no more context than a window.
    ///
    /// # Errors
    /// What is wrong with the files; a model that predicts no tokens or has no tokenizer; too little memory.
    pub fn load(
        source: &Source,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Reader, Error> {
        let options =
            LoadOptions { context: Some(WINDOW), kv: KvFormat::F32, speculate: 0, ..options.clone() };
        let prepared = Prepared::new(source, &options)?;
        prepared.check_generates()?;
        let tokenizer = speech::tokenizer(&prepared.name, &prepared.checkpoint)?;
        let (tokens, rows) = (tokenizer.vocab_size(), prepared.plan.vocab);
        if tokens > rows {
            return Err(Error::Vocabulary { model: prepared.name, tokens, rows });
        }
        let model = prepared.load(progress)?;
        let window = WINDOW.min(prepared.plan.context);
        let sizes = CacheSizes { format: prepared.kv, pages: window.div_ceil(PAGE), slots: 1 };
        let cache = Cache::new(model.plan(), sizes);
        Ok(Reader { name: prepared.name, model, tokenizer, cache, scratch: Scratch::default(), window })
    }

    /// Cuts a text into windows. Each begins as a prompt does.
    ///
    /// # Errors
    /// A text with fewer than two tokens, of which none could be predicted.
    pub fn windows(&self, text: &str) -> Result<Windows, Error> {
        let ids = self.tokenizer.encode(text, Special::AsText).map_err(Error::Encode)?;
        let first = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos());
        let room = self.window - usize::from(first.is_some());
        let begun = |ids: &[u32]| first.into_iter().chain(ids.iter().copied()).collect::<Vec<u32>>();
        let windows: Vec<_> = ids.chunks(room.max(1)).map(begun).filter(|window| window.len() > 1).collect();
        match windows.is_empty() {
            true => Err(Error::TextTooShort { tokens: ids.len() }),
            false => Ok(Windows(windows)),
        }
    }

    /// Reads the windows; `take` gets what the model thinks after each token that another one follows, in order.
    ///
    /// # Errors
    /// What `take` returns; logits that are not finite.
    pub fn read(
        &mut self,
        windows: &Windows,
        take: &mut dyn FnMut(Thought<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let pages: Vec<u32> = (0..self.window.div_ceil(PAGE) as u32).collect();
        let mut logits = Vec::new();
        for window in &windows.0 {
            for (part, tokens) in window.chunks(TOGETHER).enumerate() {
                let start = part * TOGETHER;
                let chunk =
                    Chunk { tokens, start, pages: &pages, slot: 0, logits: Logits::All, adapter: None };
                self.model.forward(&[chunk], &mut self.cache, &mut self.scratch, &mut logits);
                let rows = logits.chunks_exact(logits.len() / tokens.len());
                for (logits, &next) in rows.zip(&window[start + 1..]) {
                    if logits.iter().any(|x| !x.is_finite()) {
                        return Err(Error::NotFinite { model: self.name.clone() });
                    }
                    take(Thought { logits, next })?;
                }
            }
        }
        Ok(())
    }

    /// How much each column of each matrix matters for the text. `progress` gets the tokens read and all.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub fn importance(
        &mut self,
        windows: &Windows,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Importance, Error> {
        let (mut done, total) = (0, windows.predicted() as u64);
        self.scratch.record_inputs();
        let read = self.read(windows, &mut |_| {
            done += 1;
            progress(done, total);
            Ok(())
        });
        let inputs = self.scratch.take_inputs();
        read.map(|()| self.model.importance(&inputs))
    }
}
