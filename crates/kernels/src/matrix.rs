//! Weight matrices, packed for the CPU.

use std::fmt;
use std::ops::Range;

use crate::isa::buffer::{Arena, Buffer};
use crate::isa::pack;
use crate::layout::{Layout, PANEL};
use crate::{Format, Kernels};

/// `rows x cols` weights in some format, packed for the CPU without loss.
pub struct Matrix {
    layout: Layout,
    data: Buffer,
}

/// Bytes that are not a matrix of the format and shape stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A row must be a whole number of blocks.
    #[error("{format} stores blocks of {} values; a row of {cols} is not a whole number of them", format.block_len())]
    RaggedRow {
        /// The format.
        format: Format,
        /// The row length asked for.
        cols: usize,
    },
    /// The data has the wrong length.
    #[error("{rows} x {cols} values as {format} take {expected} bytes; there are {found}")]
    Length {
        /// The format.
        format: Format,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// Bytes that the shape asks for.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The size does not fit this machine's address space.
    #[error("{rows} x {cols} values as {format} are more bytes than this machine can address")]
    TooLarge {
        /// The format.
        format: Format,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
}

impl Matrix {
    /// Rows: outputs of a product.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Columns: inputs of a product.
    pub fn cols(&self) -> usize {
        self.layout.cols
    }

    /// The format the weights came in.
    pub fn format(&self) -> Format {
        self.layout.format
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({} {} x {})", self.format(), self.rows(), self.cols())
    }
}

impl Kernels {
    /// The bytes that [`Kernels::pack`] will hold for such a matrix; 0 for one that it would refuse.
    pub fn packed_bytes(&self, format: Format, rows: usize, cols: usize) -> usize {
        Layout::new(format, rows, cols).map_or(0, |layout| layout.bytes())
    }

    /// Packs weights in the file's layout, row-major.
    ///
    /// # Errors
    /// When `data` is not `rows x cols` values of `format`.
    pub fn pack(&self, format: Format, rows: usize, cols: usize, data: &[u8]) -> Result<Matrix, PackError> {
        self.pack_in_parts(&mut Arena::new(0), format, rows, cols, data, &mut |_| {})
    }

    /// As [`Kernels::pack`], into memory from `arena`; tells `done` every few megabytes which bytes of `data` are not
    /// needed any more.
    ///
    /// # Errors
    /// As [`Kernels::pack`].
    pub fn pack_in_parts(
        &self,
        arena: &mut Arena,
        format: Format,
        rows: usize,
        cols: usize,
        data: &[u8],
        done: &mut dyn FnMut(Range<usize>),
    ) -> Result<Matrix, PackError> {
        /// Packed bytes of a part.
        const PART: usize = 8 << 20;
        /// Packed bytes of a thread's task.
        const TASK: usize = 64 << 10;
        if !cols.is_multiple_of(format.block_len()) {
            return Err(PackError::RaggedRow { format, cols });
        }
        let layout = Layout::new(format, rows, cols).ok_or(PackError::TooLarge { format, rows, cols })?;
        let expected = format.row_bytes(cols).and_then(|bytes| bytes.checked_mul(rows));
        let expected = expected.ok_or(PackError::TooLarge { format, rows, cols })?;
        if data.len() != expected {
            return Err(PackError::Length { format, rows, cols, expected, found: data.len() });
        }
        let mut packed = arena.take(self.pool(), layout.bytes());
        let bytes = layout.panel_bytes().max(1);
        let panels = (PART / bytes).max(1);
        let task = (TASK / bytes).max(1);
        let row_bytes = format.row_bytes(cols).unwrap_or(0);
        for (part, out) in packed.chunks_mut(panels * bytes).enumerate() {
            let first = part * panels;
            self.pool().run_slices(out, task * bytes, |index, out| {
                for (i, out) in out.chunks_exact_mut(bytes).enumerate() {
                    pack::panel(self.level, &layout, data, first + index * task + i, out);
                }
            });
            let row = |panel: usize| (panel * PANEL).min(rows) * row_bytes;
            done(row(first)..row(first + panels));
        }
        Ok(Matrix { layout, data: packed })
    }

    /// The values of one row, exactly as the format defines them.
    ///
    /// # Panics
    /// If there is no such row or `out` is not `cols` long.
    pub fn decode_row(&self, matrix: &Matrix, row: usize, out: &mut [f32]) {
        let layout = matrix.layout();
        assert_eq!(out.len(), layout.cols, "places for a row of {matrix:?}");
        assert!(row < layout.rows, "row {row} of {matrix:?}");
        let bytes = layout.panel_bytes();
        layout.decode_row(&matrix.data[row / PANEL * bytes..][..bytes], row % PANEL, out);
    }
}
