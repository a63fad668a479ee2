//! Tensors: what the model holds, and where in the file it comes from.

use sampan_kernels::Format;
use std::sync::Arc;

/// Index into [`Plan::tensors`](super::Plan::tensors).
pub type TensorId = usize;

/// What a tensor is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix of a product, kept packed in its own format.
    Matrix,
    /// A vector of weights (a norm, a bias), kept in f32.
    Vector,
    /// Whole numbers (a table of experts by token), kept as u32.
    Ids,
    /// Read while planning (rope divisors); not kept.
    Constant,
}

/// One tensor that the plan reads.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// The name in the file. Several tensors of the plan may come from one of the file.
    pub name: String,
    /// Rows and columns of a matrix, or the length of a vector, as the model sees it.
    pub shape: Vec<usize>,
    /// The layer that it belongs to; `None`: to the model as a whole.
    pub layer: Option<usize>,
    /// What it is to the model.
    pub role: Role,
    /// How it is held in memory.
    pub format: Format,
    /// Where in the file's tensor it comes from.
    pub source: Source,
}

impl TensorSpec {
    /// Weights in the tensor.
    pub fn count(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// Rows and columns; a vector has one row.
    pub fn rows_cols(&self) -> (usize, usize) {
        match self.shape[..] {
            [rows, cols] => (rows, cols),
            _ => (1, self.shape.iter().product()),
        }
    }
}

/// How a tensor of the model is made from one of the file.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// How the file stores its numbers.
    pub storage: Storage,
    /// Which rows of the file's tensor, seen as `[everything but the last dimension, last dimension]`; of a
    /// vector, which numbers of all.
    pub rows: Rows,
    /// The rows taken are the columns of the model's matrix.
    pub transposed: bool,
    /// Of a transposed tensor, which columns of the file are the rows of the model's matrix.
    pub columns: Rows,
    /// Applied to every number of a vector.
    pub map: Map,
}

/// Which rows of a file's tensor make up a tensor of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// All of them.
    #[default]
    All,
    /// Row `start + i * step`.
    Strided {
        /// The first.
        start: usize,
        /// From one to the next.
        step: usize,
    },
    /// Row `list[i]`.
    List(Arc<[u32]>),
}

impl Rows {
    /// Consecutive rows from `start`.
    pub fn from(start: usize) -> Rows {
        Rows::Strided { start, step: 1 }
    }

    /// The file's row for row `i` of the model.
    pub fn index(&self, i: usize) -> usize {
        match self {
            Rows::All => i,
            Rows::Strided { start, step } => start + i * step,
            Rows::List(list) => list[i] as usize,
        }
    }

    /// Whether the rows lie one after the other.
    pub fn consecutive(&self) -> bool {
        matches!(self, Rows::All | Rows::Strided { step: 1, .. })
    }
}

impl Storage {
    /// The tensor of factors beside the numbers, if there is one.
    pub fn scale(&self) -> Option<&str> {
        match self {
            Storage::Plain => None,
            Storage::Fp8 { scale, .. } | Storage::Fp4 { scale } | Storage::Mxfp4 { scale } => Some(scale),
        }
    }
}

/// How a file stores the numbers of a tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In the type that it names.
    #[default]
    Plain,
    /// FP8 E4M3; the tensor `scale` has a factor for every block of `block` rows and columns (DeepSeek V3, Qwen FP8).
    Fp8 {
        /// Name of the tensor of factors.
        scale: String,
        /// Rows and columns of a block.
        block: (usize, usize),
    },
    /// FP4 E2M1, two in a byte, the low half first; the tensor `scale` has an E8M0 factor for every 32 columns
    /// (DeepSeek V4).
    Fp4 {
        /// Name of the tensor of factors.
        scale: String,
    },
    /// FP4 E2M1 in blocks of 16 bytes, the low half first; the tensor `scale` has an E8M0 factor for every block
    /// (gpt-oss).
    Mxfp4 {
        /// Name of the tensor of factors.
        scale: String,
    },
}

/// What happens to every number of a vector when it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Map {
    /// Nothing.
    #[default]
    Same,
    /// `1 + w`: norms that store the distance from 1.
    PlusOne,
    /// `-exp(w)`: decay rates that store a logarithm.
    NegExp,
}

impl Map {
    /// The number that the model uses.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Map::Same => x,
            Map::PlusOne => 1.0 + x,
            Map::NegExp => -x.exp(),
        }
    }

    /// The number in a file of which the model uses `x`; `None`, if there is none.
    pub(crate) fn invert(self, x: f32) -> Option<f32> {
        match self {
            Map::Same => Some(x),
            Map::PlusOne => Some(x - 1.0),
            Map::NegExp => (x < 0.0).then(|| (-x).ln()),
        }
    }
}

/// A matrix product with an optional bias: `y = W x + b`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// The matrix, `rows x cols`.
    pub weight: TensorId,
    /// Added to the result.
    pub bias: Option<TensorId>,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

impl Linear {
    /// Its tensors.
    pub fn tensors(&self) -> impl Iterator<Item = TensorId> + use<> {
        [Some(self.weight), self.bias].into_iter().flatten()
    }
}

/// RMS norm, with a weight per channel or without.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// The weights; `None` means ones.
    pub weight: Option<TensorId>,
    /// Added to the mean square.
    pub eps: f32,
}
