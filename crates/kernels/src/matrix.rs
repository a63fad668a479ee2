//! Weight matrices, packed for the CPU.

use std::convert::Infallible;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::isa::buffer::{Arena, Buffer};
use crate::isa::pack;
use crate::layout::{Layout, PANEL};
use crate::pool::lock;
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
        self.pack_in(&mut Arena::new(0), format, rows, cols, data)
    }

    /// As [`Kernels::pack`], into memory from `arena`.
    ///
    /// # Errors
    /// As [`Kernels::pack`].
    pub fn pack_in(
        &self,
        arena: &mut Arena,
        format: Format,
        rows: usize,
        cols: usize,
        data: &[u8],
    ) -> Result<Matrix, PackError> {
        let (layout, expected) = checked(format, rows, cols)?;
        if data.len() != expected {
            return Err(PackError::Length { format, rows, cols, expected, found: data.len() });
        }
        let packed = self.packed(arena, layout, |bytes, pack| {
            pack(&data[bytes]);
            Ok::<(), Infallible>(())
        });
        Ok(match packed {
            Ok(matrix) => matrix,
            Err(never) => match never {},
        })
    }

    /// As [`Kernels::pack_in`], from data that `read` gives: it is asked, by several threads, to fill a buffer with the
    /// bytes from an offset on. Each thread packs what it has read while that is in its cache, so no more than some
    /// kilobytes of the data are in memory beside the packed weights.
    ///
    /// # Errors
    /// Outside: as [`Kernels::pack`]. Inside: the first error of `read`, which is then not asked again.
    pub fn pack_from<E: Send>(
        &self,
        arena: &mut Arena,
        format: Format,
        rows: usize,
        cols: usize,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Result<Matrix, E>, PackError> {
        let (layout, _) = checked(format, rows, cols)?;
        let buffers = Mutex::new(Vec::<Vec<u8>>::new());
        Ok(self.packed(arena, layout, |bytes, pack| {
            let mut buffer = lock(&buffers).pop().unwrap_or_default();
            buffer.resize(bytes.len(), 0);
            read(bytes.start, &mut buffer)?;
            pack(&buffer);
            lock(&buffers).push(buffer);
            Ok(())
        }))
    }

    /// A matrix whose data `give` hands to its second argument, a range of bytes at a time.
    fn packed<E: Send>(
        &self,
        arena: &mut Arena,
        layout: Layout,
        give: impl Fn(Range<usize>, &mut dyn FnMut(&[u8])) -> Result<(), E> + Sync,
    ) -> Result<Matrix, E> {
        /// Packed bytes of a thread's task.
        const TASK: usize = 64 << 10;
        let row_bytes = layout.format.row_bytes(layout.cols).unwrap_or(0);
        let bytes = layout.panel_bytes().max(1);
        let panels = (TASK / bytes).max(1);
        let mut packed = arena.take(self.pool(), layout.bytes());
        let failure = Mutex::new(None);
        self.pool().run_slices(&mut packed, panels * bytes, |task, out| {
            if lock(&failure).is_some() {
                return;
            }
            let row = |panel: usize| (panel * PANEL).min(layout.rows) * row_bytes;
            let first = task * panels;
            let given = give(row(first)..row(first + panels), &mut |data| {
                for (rows, out) in data.chunks(PANEL * row_bytes.max(1)).zip(out.chunks_exact_mut(bytes)) {
                    pack::panel(self.level, &layout, rows, row_bytes, out);
                }
            });
            if let Err(error) = given {
                lock(&failure).get_or_insert(error);
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Matrix { layout, data: packed }),
        }
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

/// How such a matrix is packed, and the bytes that it takes in the file.
fn checked(format: Format, rows: usize, cols: usize) -> Result<(Layout, usize), PackError> {
    if !cols.is_multiple_of(format.block_len()) {
        return Err(PackError::RaggedRow { format, cols });
    }
    let bytes = format.row_bytes(cols).and_then(|bytes| bytes.checked_mul(rows));
    let layout = Layout::new(format, rows, cols);
    layout.zip(bytes).ok_or(PackError::TooLarge { format, rows, cols })
}
