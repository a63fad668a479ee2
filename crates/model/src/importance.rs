//! How much each column of each matrix matters: the mean squares of what it was multiplied with on some text.
//!
//! An error `e` of a weight changes an output by `e x`; over a text the expected square of that is `e²` times the mean
//! square of the input `x`. That is what the encoders weigh errors with.

use crate::load::Model;
use crate::plan::TensorId;
use sampan_kernels::InputSquares;

/// Mean squares by tensor of a plan. They hold for every plan of the same checkpoint, whatever its formats.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    columns: Vec<Option<Vec<f32>>>,
}

/// What is added to each mean square, as a share of their average: a text that never excites an input does not prove
/// that no text will.
const FLOOR: f64 = 0.01;

impl Importance {
    /// A weight for each column of a matrix; `None` when it was not used.
    pub fn of(&self, id: TensorId) -> Option<&[f32]> {
        self.columns.get(id)?.as_deref()
    }

    /// How many matrices were used.
    pub fn len(&self) -> usize {
        self.columns.iter().flatten().count()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Model {
    /// The importance of every matrix, from what it was multiplied with.
    pub fn importance(&self, inputs: &InputSquares) -> Importance {
        let columns = (0..self.plan().tensors.len()).map(|id| {
            let (rows, squares) = inputs.of(self.matrix_if_any(id)?)?;
            let mean = squares.iter().sum::<f64>() / squares.len().max(1) as f64;
            let weigh = |sum: &f64| ((sum + FLOOR * mean) / rows.max(1) as f64) as f32;
            let weights: Vec<f32> = squares.iter().map(weigh).collect();
            // What overflowed says nothing.
            weights.iter().all(|weight| weight.is_finite()).then_some(weights)
        });
        Importance { columns: columns.collect() }
    }
}
