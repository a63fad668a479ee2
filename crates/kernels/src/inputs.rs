//! What matrices are multiplied with, summed up: the measure of how much each of their columns matters.

use crate::Matrix;
use std::collections::HashMap;

/// The sum of squares of every input of every matrix that was multiplied, column by column.
///
/// A matrix is known by where it lies, so it must stay there while inputs are recorded.
#[derive(Debug, Default)]
pub struct InputSquares {
    by_matrix: HashMap<usize, (u64, Vec<f64>)>,
}

impl InputSquares {
    /// How many rows `matrix` was multiplied with, and their squares summed up for each of its columns; `None` when it
    /// was multiplied with none.
    pub fn of(&self, matrix: &Matrix) -> Option<(u64, &[f64])> {
        self.by_matrix.get(&place(matrix)).map(|(rows, squares)| (*rows, &squares[..]))
    }

    /// Adds the rows `x`.
    pub(crate) fn add(&mut self, matrix: &Matrix, x: &[f32]) {
        let empty = || (0, vec![0.0; matrix.cols()]);
        let (rows, squares) = self.by_matrix.entry(place(matrix)).or_insert_with(empty);
        for row in x.chunks_exact(matrix.cols().max(1)) {
            *rows += 1;
            for (sum, &x) in squares.iter_mut().zip(row) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
    }
}

fn place(matrix: &Matrix) -> usize {
    std::ptr::from_ref(matrix) as usize
}
