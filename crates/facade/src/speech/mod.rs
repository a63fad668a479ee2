//! What a checkpoint says about words: its tokenizer, its chat template, the tokens that end an answer.

mod fill;
mod prompt;

pub use prompt::{Encoded, Speech};

use crate::Error;
use crate::settings::end_ids;
use sampan_text::{ChatTemplate, GgufVocab, TemplateError, TemplateOptions, Tokenizer};
use sampan_weights::{ChatTemplateSource, Checkpoint};

/// Tokens that end a turn or a text in the families that sampan knows, for files that forget to say so.
const END_TOKENS: [&str; 12] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    // A call waits for its result: harmony, Gemma 4.
    "<|return|>",
    "<|call|>",
    "<|tool_response>",
];

/// The tokenizer of a checkpoint, from its tokenizer.json or its GGUF keys.
///
/// # Errors
/// When there is none, or it cannot be used.
pub fn tokenizer(name: &str, checkpoint: &Checkpoint) -> Result<Tokenizer, Error> {
    let files = checkpoint.tokenizer()?;
    let made = match files.tokenizer_json {
        Some(json) => Tokenizer::from_json(&json, files.tokenizer_config),
        None => match vocabulary(checkpoint)? {
            Some(vocab) => Tokenizer::from_gguf(vocab),
            None => return Err(Error::NoTokenizer { model: name.to_owned() }),
        },
    };
    made.map_err(|source| Error::Tokenizer { model: name.to_owned(), source })
}

/// The vocabulary in a GGUF file, if it has one.
///
/// # Errors
/// When its keys contradict each other.
pub fn vocabulary(checkpoint: &Checkpoint) -> Result<Option<GgufVocab>, Error> {
    let Some(vocab) = checkpoint.tokenizer()?.gguf else { return Ok(None) };
    let architecture = checkpoint.metadata().str("general.architecture")?.map(str::to_owned);
    Ok(Some(GgufVocab {
        model: vocab.model,
        pre: vocab.pre,
        architecture,
        tokens: vocab.tokens,
        token_types: vocab.token_types,
        scores: vocab.scores,
        merges: vocab.merges,
        bos: vocab.bos,
        eos: vocab.eos,
        eot: vocab.eot,
        eom: vocab.eom,
        unk: vocab.unk,
        pad: vocab.pad,
        add_bos: vocab.add_bos,
        add_eos: vocab.add_eos,
        add_space_prefix: vocab.add_space_prefix,
    }))
}

/// Chat templates of a checkpoint, compiled.
#[derive(Debug)]
pub struct Templates {
    chat: Option<ChatTemplate>,
    tools: Option<ChatTemplate>,
}

impl Templates {
    /// Compiles the templates that a checkpoint brings.
    ///
    /// # Errors
    /// When one of them has a syntax error, with its line.
    pub fn of(
        source: Option<&ChatTemplateSource>,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Templates, TemplateError> {
        let options = template_options(tokenizer);
        let compile = |text: Option<&str>| text.map(|t| ChatTemplate::new(t, options.clone())).transpose();
        Ok(Templates {
            chat: compile(source.and_then(|s| s.default.as_deref()))?,
            tools: compile(source.and_then(|s| s.named("tool_use")))?,
        })
    }

    /// The template for a conversation with or without tools.
    pub fn get(&self, with_tools: bool) -> Option<&ChatTemplate> {
        let special = if with_tools { self.tools.as_ref() } else { None };
        special.or(self.chat.as_ref())
    }
}

/// What a template is told about its model.
pub fn template_options(tokenizer: Option<&Tokenizer>) -> TemplateOptions {
    let text = |id: Option<u32>| Some(tokenizer?.token_text(id?)?.to_owned());
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    TemplateOptions {
        bos_token: text(tokenizer.and_then(Tokenizer::bos)),
        eos_token: text(tokenizer.and_then(|t| t.eos().first().copied())),
        markers: tokenizer.map(Tokenizer::markers).unwrap_or_default(),
        now: since_1970.ok().and_then(|d| i64::try_from(d.as_secs()).ok()),
    }
}

/// Every token that ends an answer: those that generation_config.json, config.json and the tokenizer name, and the
/// well-known ones that the vocabulary has.
fn stop_tokens(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Vec<u32> {
    let known =
        END_TOKENS.iter().filter_map(|name| tokenizer.id_of(name)).filter(|&id| tokenizer.is_special(id));
    let mut ids = end_ids(checkpoint.generation_config());
    ids.extend(end_ids(checkpoint.config()));
    ids.extend_from_slice(tokenizer.eos());
    ids.extend(known);
    ids.sort_unstable();
    ids.dedup();
    ids
}
