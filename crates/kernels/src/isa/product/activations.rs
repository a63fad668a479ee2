//! Activations in the forms that products read: bytes with scales, or bf16, by tiles.

#[cfg(target_arch = "x86_64")]
use super::bf16;
use super::entry;
#[cfg(target_arch = "x86_64")]
use super::prefetch;
use super::quantise::{Line, Row, Side32, Side256, TILE_ROWS, Tiling};
use super::{Method, Task};
use crate::isa::level::Level;
#[cfg(target_arch = "x86_64")]
use crate::layout::Scheme;
use crate::pool::{Pool, SendPtr};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::_MM_HINT_T0;
use std::ops::Range;

/// What a batch of activations is turned into, and memory for it.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    lines32: Vec<Line>,
    lines256: Vec<Line>,
    lines16: Vec<Line>,
    sides32: Vec<Side32>,
    sides256: Vec<Side256>,
}

/// Consecutive rows of a batch that are multiplied together; tiles begin with the first of them.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) rows: Range<usize>,
    pub(super) tiling: Tiling,
    /// Rows of the tiles of all groups before this one, unused ones included.
    first: usize,
}

impl Group {
    /// The group of `rows`, after `before`.
    pub(super) fn after(before: Option<&Group>, rows: Range<usize>, cols: usize) -> Group {
        let first = before.map_or(0, Group::end);
        Group { tiling: Tiling { n: rows.len(), cols }, rows, first }
    }

    fn end(&self) -> usize {
        self.first + self.tiling.tiles() * self.tiling.tile_rows()
    }
}

/// A group of activations in every form that its products need.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) tiling: Tiling,
    pub(super) floats: &'a [f32],
    pub(super) lines32: &'a [Line],
    pub(super) lines256: &'a [Line],
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) lines16: &'a [Line],
    pub(super) sides32: &'a [Side32],
    pub(super) sides256: &'a [Side256],
}

#[cfg(target_arch = "x86_64")]
impl Inputs<'_> {
    /// Lines of a tile in bf16.
    pub(super) fn tile_lines16(&self) -> usize {
        self.tiling.cols.div_ceil(32) * self.tiling.tile_rows()
    }

    /// Asks for `cols` columns of a tile in bytes: they come from the second-level cache at best.
    #[inline(always)]
    pub(super) fn prefetch(&self, scheme: &Scheme, tile: usize, first: usize, cols: usize) {
        let rows = self.tiling.tile_rows();
        let ask = prefetch::<_MM_HINT_T0>;
        let line = tile * self.tiling.tile_lines() + first / 64 * rows;
        let lines = cols.div_ceil(64) * 64 * rows;
        let side = (tile * (self.tiling.cols / scheme.block) + first / scheme.block) * rows;
        if scheme.block == 256 {
            ask(self.lines256.as_ptr().wrapping_add(line).cast(), lines);
            let sides = size_of::<Side256>() * rows * cols / 256;
            ask(self.sides256.as_ptr().wrapping_add(side).cast(), sides);
        } else {
            ask(self.lines32.as_ptr().wrapping_add(line).cast(), lines);
            let sides = size_of::<Side32>() * rows * cols / 32;
            ask(self.sides32.as_ptr().wrapping_add(side).cast(), sides);
        }
    }
}

/// Where one form goes: lines, and what lies beside them per `block` columns.
struct Place<S> {
    lines: SendPtr<Line>,
    sides: SendPtr<S>,
    block: usize,
}

impl<S: Clone + Default + Send> Place<S> {
    /// Room for `rows` rows.
    fn new(lines: &mut Vec<Line>, sides: &mut Vec<S>, rows: usize, cols: usize, block: usize) -> Place<S> {
        grow(lines, rows * cols.div_ceil(64), Line([0; 64]));
        grow(sides, rows * (cols / block), S::default());
        Place { lines: SendPtr(lines.as_mut_ptr()), sides: SendPtr(sides.as_mut_ptr()), block }
    }

    /// The lines and sides of row `r` of a tile that begins `before` rows into the form.
    ///
    /// # Safety
    /// The tile is there.
    unsafe fn row(&self, before: usize, r: usize, tiling: Tiling) -> (Row<Line>, Row<S>) {
        let (lines, sides) = (tiling.cols.div_ceil(64), tiling.cols / self.block);
        let stride = tiling.tile_rows();
        // SAFETY: the caller's promise.
        unsafe {
            (
                Row { first: self.lines.at(before * lines + r), stride },
                Row { first: self.sides.at(before * sides + r), stride },
            )
        }
    }
}

impl Activations {
    /// Fills in the forms of `x` that the tasks need, a few tiles of rows per chunk.
    pub(super) fn prepare(
        &mut self,
        level: Level,
        pool: &Pool,
        x: &[f32],
        groups: &[Group],
        tasks: &[Task<'_>],
    ) {
        let Some(last) = groups.last() else { return };
        let (rows, cols) = (last.end(), last.tiling.cols);
        let needs = |block: usize| {
            tasks
                .iter()
                .any(|task| task.method.bytes() && task.layout.scheme.is_some_and(|s| s.block == block))
        };
        let by32 = needs(32).then(|| Place::new(&mut self.lines32, &mut self.sides32, rows, cols, 32));
        let by256 = needs(256).then(|| Place::new(&mut self.lines256, &mut self.sides256, rows, cols, 256));
        let bf16 = tasks.iter().any(|task| matches!(task.method, Method::Bf16 | Method::TilesBf16));
        let bf16 = bf16.then(|| {
            grow(&mut self.lines16, rows * cols.div_ceil(32), Line([0; 64]));
            SendPtr(self.lines16.as_mut_ptr())
        });
        if by32.is_none() && by256.is_none() && bf16.is_none() {
            return;
        }
        // About a full tile's rows per chunk: handing out less costs more than it saves, unless others would have none.
        let used: usize = groups.iter().map(|group| group.tiling.n).sum();
        let most = (used / (2 * pool.threads())).clamp(4, TILE_ROWS);
        let pieces: Vec<(&Group, Range<usize>)> = groups
            .iter()
            .flat_map(|group| {
                let n = group.tiling.n;
                (0..n).step_by(most).map(move |first| (group, first..n.min(first + most)))
            })
            .collect();
        let per = (most * pieces.len() / used.max(1)).max(1);
        pool.run(pieces.len().div_ceil(per), &|chunk| {
            for (group, rows) in pieces[chunk * per..].iter().take(per) {
                let tiling = group.tiling;
                for row in rows.clone() {
                    let (before, r) = (group.first + row / TILE_ROWS * TILE_ROWS, row % TILE_ROWS);
                    let x = &x[(group.rows.start + row) * cols..][..cols];
                    // SAFETY: rows are disjoint, each lies within its vector, and each is in one chunk. The method
                    // of bf16 is chosen only where the level has the instructions.
                    unsafe {
                        if let Some(place) = &by32 {
                            let (lines, sides) = place.row(before, r, tiling);
                            entry::row32(level, x, lines, sides);
                        }
                        if let Some(place) = &by256 {
                            let (lines, sides) = place.row(before, r, tiling);
                            entry::row256(level, x, lines, sides);
                        }
                        #[cfg(target_arch = "x86_64")]
                        if let Some(place) = &bf16 {
                            let first = place.at(before * cols.div_ceil(32) + r);
                            bf16::row(x, Row { first, stride: tiling.tile_rows() });
                        }
                    }
                }
            }
        });
    }

    /// The prepared forms of a group of `x`. Those that no product reads may be empty.
    pub(super) fn inputs<'a>(&'a self, x: &'a [f32], group: &Group) -> Inputs<'a> {
        fn from<T>(all: &[T], start: usize) -> &[T] {
            all.get(start..).unwrap_or_default()
        }
        let (first, cols) = (group.first, group.tiling.cols);
        Inputs {
            tiling: group.tiling,
            floats: &x[group.rows.start * cols..group.rows.end * cols],
            lines32: from(&self.lines32, first * cols.div_ceil(64)),
            lines256: from(&self.lines256, first * cols.div_ceil(64)),
            lines16: from(&self.lines16, first * cols.div_ceil(32)),
            sides32: from(&self.sides32, first * (cols / 32)),
            sides256: from(&self.sides256, first * (cols / 256)),
        }
    }
}

fn grow<T: Clone>(vec: &mut Vec<T>, len: usize, value: T) {
    if vec.len() < len {
        vec.resize(len, value);
    }
}
