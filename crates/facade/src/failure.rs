//! What can keep a model from being loaded or from answering, with advice.

use crate::load::MemoryShortage;
use sampan_engine::{BadLogits, FilterError, SubmitError};
use sampan_text::TemplateError;
use std::path::PathBuf;

/// Why a model cannot be loaded, or cannot answer. [`Error::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing at the path.
    #[error("there is no model at {}", .path.display())]
    NoSuchModel {
        /// The path.
        path: PathBuf,
        /// What has nearly that name.
        nearest: Option<PathBuf>,
    },
    /// The files are there and wrong.
    #[error(transparent)]
    Weights(#[from] sampan_weights::Error),
    /// The configuration and the tensors do not make a model.
    #[error("{model}: {source}")]
    Plan {
        /// The model as it was named.
        model: String,
        /// What is wrong.
        source: sampan_model::PlanError,
    },
    /// A quantisation that is not known.
    #[error("no memory can be worked out for {mix} of {model}: that format is not known here")]
    Mix {
        /// The model as it was named.
        model: String,
        /// What was asked for.
        mix: String,
        /// `known: ` and what is.
        known: String,
    },
    /// A tensor cannot be loaded.
    #[error("{model}: {source}")]
    Load {
        /// The model as it was named.
        model: String,
        /// What is wrong.
        source: sampan_model::LoadError,
    },
    /// The files hold a tokenizer without weights.
    #[error("{model} holds no weights, only a vocabulary or a configuration")]
    NoWeights {
        /// The model as it was named.
        model: String,
    },
    /// The instruction set is not there.
    #[error(transparent)]
    Isa(#[from] sampan_kernels::IsaUnavailable),
    /// The model and its context do not fit.
    #[error("{model} does not fit into memory: {shortage}")]
    Memory {
        /// The model as it was named.
        model: String,
        /// The figures.
        shortage: MemoryShortage,
    },
    /// The adapter does not go with the model.
    #[error("{}: {source}", .path.display())]
    Adapter {
        /// The adapter.
        path: PathBuf,
        /// What is wrong.
        source: sampan_model::AdapterError,
    },
    /// The files hold no vocabulary.
    #[error("{model} has no tokenizer (no tokenizer.json and no tokenizer.ggml keys)")]
    NoTokenizer {
        /// The model as it was named.
        model: String,
    },
    /// The vocabulary cannot be used.
    #[error("{model}: {source}")]
    Tokenizer {
        /// The model as it was named.
        model: String,
        /// What is wrong with it.
        source: sampan_text::Error,
    },
    /// The tokenizer belongs to another model.
    #[error("{model}: the tokenizer has {tokens} tokens, but the embedding has rows for {rows} only")]
    Vocabulary {
        /// The model as it was named.
        model: String,
        /// Tokens in the vocabulary.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The model was not made for conversations, or its template was lost.
    #[error("{model} has no chat template")]
    NoTemplate {
        /// The model as it was named.
        model: String,
    },
    /// The model was not made to fill in text.
    #[error("{model} has no tokens for filling in the middle")]
    NoFill {
        /// The model as it was named.
        model: String,
    },
    /// The chat template cannot be compiled, or fails on these messages.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The text cannot be encoded.
    #[error(transparent)]
    Encode(sampan_text::Error),
    /// The engine does not take the request.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The model's output is not a number.
    #[error(transparent)]
    BadLogits(#[from] BadLogits),
    /// What restricts the answer allows nothing.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A vector or a score is not a number.
    #[error("{model} computes numbers that are not finite")]
    NotFinite {
        /// The model as it was named.
        model: String,
    },
    /// A model that is made for something else.
    #[error("{model} cannot do this: {why}")]
    Unsuited {
        /// The model as it was named.
        model: String,
        /// What it is instead.
        why: String,
        /// What to do.
        instead: String,
    },
    /// A text that is read whole does not fit the context.
    #[error("{what} has {tokens} tokens, but the context holds {context}")]
    TextTooLong {
        /// Which text.
        what: String,
        /// Its tokens, with what was put around it.
        tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// A text of which no token could be predicted.
    #[error("the text has {tokens} tokens; it takes two, so that one can be predicted")]
    TextTooShort {
        /// Its tokens.
        tokens: usize,
    },
    /// There is nothing to make a vector of.
    #[error("an empty text has no vector in this model, which puts no token around it")]
    EmptyText,
    /// More numbers than the model's vectors have.
    #[error("{asked} dimensions were asked for, but the model's vectors have 1 to {whole}")]
    Dimensions {
        /// Asked for.
        asked: usize,
        /// There are.
        whole: usize,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> String {
        use Error as E;
        match self {
            E::NoSuchModel { nearest: Some(path), .. } => format!("did you mean {}?", path.display()),
            E::NoSuchModel { .. } => {
                "give a GGUF file, a folder with config.json and safetensors, or `mini`".into()
            }
            E::Weights(error) => weights_hint(error),
            E::Plan { source, .. } => plan_hint(source),
            E::Mix { known, .. } => known.clone(),
            E::Load { .. } => "the file may be damaged; download it again, or compare its checksum".into(),
            E::NoWeights { .. } => {
                "`sampan tokenize` and `sampan template` work on it; running needs the weights".into()
            }
            E::Isa(error) => format!("use --isa {}, or leave the flag out", error.best),
            E::Memory { shortage, .. } => shortage.advice(),
            E::Adapter { .. } => {
                "use the model that the adapter was trained for, in the files of its own kind".into()
            }
            E::NoTokenizer { .. } => "put the tokenizer.json of the original model beside the weights".into(),
            E::Tokenizer { .. } => {
                "use a newer conversion of the model, or the original tokenizer.json".into()
            }
            E::Vocabulary { .. } => {
                "the files belong to different models; download both from the same place".into()
            }
            E::NoTemplate { .. } => {
                "`--raw` continues the text as it stands; chat needs an instruction-tuned model".into()
            }
            E::NoFill { .. } => "coder models have them: Qwen2.5-Coder, DeepSeek-Coder, CodeGemma".into(),
            E::Template(_) => {
                "`--raw` runs without the template; `sampan template` shows what it makes of messages".into()
            }
            E::Encode(_) => "look for unusual characters in the text".into(),
            E::Submit(SubmitError::ContextExceeded { .. } | SubmitError::PoolTooSmall { .. }) => {
                "shorten the prompt, or raise --context; nothing was cut".into()
            }
            E::Submit(SubmitError::EmptyPrompt) => "give the model something to continue".into(),
            E::Submit(_) => "change the setting named above".into(),
            E::BadLogits(_) | E::NotFinite { .. } => {
                "try --isa portable; if that is the same, the file is damaged: download it again".into()
            }
            E::Filter(_) => "compare what the answer is restricted to with what the model can write".into(),
            E::Unsuited { instead, .. } => instead.clone(),
            E::TextTooLong { .. } => "split the text, or raise --context; nothing was cut".into(),
            E::TextTooShort { .. } => "give a longer text".into(),
            E::EmptyText => "leave empty lines out".into(),
            E::Dimensions { .. } => "ask for fewer".into(),
        }
    }
}

fn weights_hint(error: &sampan_weights::Error) -> String {
    use sampan_weights::Error as E;
    match error {
        E::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "the file's permissions do not let this user read it"
        }
        E::Io { .. } => "check the path and the disk",
        E::Malformed { .. } | E::Tensor { .. } => "the file is damaged or incomplete; download it again",
        E::Json { .. } => "compare the file with the original model's",
        E::NotAModel { .. } => "give a GGUF file, or a folder with config.json and safetensors",
        E::Metadata { .. } => "use a newer conversion of the model",
        _ => "check the file",
    }
    .into()
}

fn plan_hint(error: &sampan_model::PlanError) -> String {
    use sampan_model::PlanError as E;
    match error {
        E::UnknownFamily { .. } => "choose a model of a known family; a newer sampan may know more",
        E::MissingKey { .. } | E::BadValue { .. } => "compare config.json with the original model's",
        E::Unsupported { .. } => "this variant is not built yet; another model of the family may do",
        E::MissingTensor { .. } => {
            "the file is incomplete, or belongs to another config.json; download it again"
        }
        E::LeftOver { .. } => {
            "running would ignore part of the model; the configuration may belong to another one"
        }
        E::Shape { .. } => "weights and configuration belong to different models",
        E::UnsupportedFormat { .. } => {
            "choose a file in one of the supported formats, such as Q4_K_M or Q8_0"
        }
        E::Vocabulary { .. } => "download tokenizer and weights from the same place",
        E::AlreadyQuantized { .. } => "leave --quant out, or give the original checkpoint",
        E::Weights(error) => return weights_hint(error),
        #[allow(unreachable_patterns)] // families may bring new causes
        _ => "check the model's files",
    }
    .into()
}
