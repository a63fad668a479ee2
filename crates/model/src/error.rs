//! What can be wrong with a checkpoint, seen from the plan. Every error names the key or tensor.

use sampan_kernels::Format;

/// Why no plan could be made from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The architecture is not one of the known families.
    #[error("unknown model family {name:?} (from {key}); known families: {known}")]
    UnknownFamily {
        /// What the checkpoint calls itself.
        name: String,
        /// Where it says so.
        key: String,
        /// The families sampan knows, separated by commas.
        known: String,
    },
    /// A configuration key that the family needs is absent.
    #[error("{key} is missing from the configuration, and it has no default")]
    MissingKey {
        /// The key, as the checkpoint would spell it.
        key: String,
    },
    /// A configuration value has the wrong type or is out of range.
    #[error("{key} = {value}: expected {expected}")]
    BadValue {
        /// The key, as the checkpoint spells it.
        key: String,
        /// The value found.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// The family is known, but it is asked for something that is not implemented.
    #[error("{key} = {value} is not supported for family {family}")]
    Unsupported {
        /// The family.
        family: String,
        /// The key that asks for it.
        key: String,
        /// The value that asks for it.
        value: String,
    },
    /// A tensor that the plan needs is not in the checkpoint.
    #[error("tensor {name} (shape {shape:?}) is missing{more}")]
    MissingTensor {
        /// The first missing tensor.
        name: String,
        /// The shape the plan expects.
        shape: Vec<usize>,
        /// How many more are missing, in words.
        more: String,
    },
    /// The checkpoint holds tensors that no part of the plan reads.
    #[error("{count} tensors of the checkpoint are not used by family {family}: {names}")]
    LeftOver {
        /// The family.
        family: String,
        /// How many.
        count: usize,
        /// The first few names.
        names: String,
    },
    /// A tensor's shape contradicts the configuration.
    #[error("tensor {name} has shape {found:?}, but the configuration says {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a format that cannot be used for its role.
    #[error("tensor {name} is stored as {dtype}, which is not supported here; supported: {supported}")]
    UnsupportedFormat {
        /// The tensor.
        name: String,
        /// Its storage type.
        dtype: String,
        /// What would be readable.
        supported: String,
    },
    /// What is to be quantised is quantised already.
    #[error(
        "tensor {name} is stored as {format}: the checkpoint is quantised already, and only floats can be"
    )]
    AlreadyQuantized {
        /// The tensor.
        name: String,
        /// Its format.
        format: Format,
    },
    /// The tokenizer names more tokens than the embedding has rows.
    #[error(
        "the vocabulary has {tokens} tokens but the embedding {name} only {rows} rows; \
         the tokenizer belongs to another model"
    )]
    Vocabulary {
        /// Tokens in the vocabulary.
        tokens: usize,
        /// The embedding tensor.
        name: String,
        /// Its rows.
        rows: usize,
    },
    /// A head of rows that are no tokens, and not as many names for them.
    #[error("{key} names {labels} outputs of a head of {rows} rows")]
    Labels {
        /// Where the names should be.
        key: String,
        /// Names.
        labels: usize,
        /// Rows.
        rows: usize,
    },
    /// Reading the checkpoint failed.
    #[error(transparent)]
    Weights(#[from] sampan_weights::Error),
}

/// Why an adapter cannot be used with a model.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// Reading the adapter failed.
    #[error(transparent)]
    Weights(#[from] sampan_weights::Error),
    /// Tensors are called by other names in the adapter than in the model.
    #[error(
        "the adapter is a GGUF file and the model a folder of Hugging Face, which have other names of tensors; convert the model to GGUF, or use the adapter as PEFT saved it"
    )]
    Dialect,
    /// A GGUF model whose tensors have no names of Hugging Face's.
    #[error("the adapter has Hugging Face's names, in which this GGUF model cannot be said: {0}")]
    Unsaid(#[from] Box<crate::export::ExportError>),
    /// A tensor that the model does not have.
    #[error("the adapter changes {target}, which this model does not have")]
    Unmatched {
        /// The tensor.
        target: String,
    },
    /// A tensor of which no change is supported.
    #[error("the adapter changes {target}, and that is not supported: {why}")]
    Unsupported {
        /// The tensor.
        target: String,
        /// Why.
        why: String,
    },
    /// A tensor of another shape.
    #[error(
        "the adapter changes {target} as {found:?}, and the model has it as {expected:?} (outputs, inputs): \
         it was made for another model"
    )]
    Shape {
        /// The tensor.
        target: String,
        /// Outputs and inputs in the model.
        expected: [usize; 2],
        /// And in the adapter.
        found: [usize; 2],
    },
    /// Numbers that are none.
    #[error("the adapter's change of {target} has numbers that are not finite")]
    NotFinite {
        /// The tensor.
        target: String,
    },
    /// The kernels refused a matrix.
    #[error("the adapter's change of {target}: {source}")]
    Pack {
        /// The tensor.
        target: String,
        /// What the packer said.
        source: sampan_kernels::PackError,
    },
}

/// Why a model could not be loaded after its plan was made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Reading the checkpoint failed.
    #[error(transparent)]
    Weights(#[from] sampan_weights::Error),
    /// The kernels refused a tensor.
    #[error("tensor {name} ({format}): {source}")]
    Pack {
        /// The tensor.
        name: String,
        /// Its format.
        format: Format,
        /// What the packer said.
        source: sampan_kernels::PackError,
    },
    /// Numbers that the format to quantise to cannot hold.
    #[error("tensor {name}, from row {row}: {source}")]
    Encode {
        /// The tensor.
        name: String,
        /// The first of the rows that were encoded together.
        row: usize,
        /// What the encoder said.
        source: sampan_kernels::format::EncodeError,
    },
    /// A tensor that the plan was made from is gone.
    #[error("tensor {name} is not in this checkpoint: the plan was made from another one")]
    Gone {
        /// The tensor.
        name: String,
    },
}
