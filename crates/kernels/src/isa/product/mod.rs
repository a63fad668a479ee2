//! Matrix products: which function runs, and the shapes that all of them share.

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod bf16;
pub(super) mod codes;
mod entry;
mod float;
mod int;
mod panels;
mod quantise;
mod rows16;
mod sides;
mod step;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::isa::level::Level;
use crate::layout::{Layout, PANEL, SPAN, Scheme};
use crate::pool::{Pool, SendPtr};
use crate::{Format, Isa, Matrix};
pub(crate) use activations::Activations;
use activations::{Group, Inputs};

/// Activation rows whose sums a panel keeps at a time.
const SLAB_ROWS: usize = 256;

/// Columns that are unpacked at a time.
const SLAB_COLS: usize = SPAN;

/// How the products of a format are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Weights decoded to f32, activations as they are.
    Float,
    /// Both in bf16.
    Bf16,
    /// Both in bytes, by dot instructions.
    Int,
    /// Both in bf16, by tiles.
    TilesBf16,
    /// Both in bytes: few activation rows by dot instructions, many by tiles.
    TilesInt,
}

impl Method {
    /// Whether activations are quantised to bytes.
    fn bytes(self) -> bool {
        matches!(self, Method::Int | Method::TilesInt)
    }
}

/// The method for a format; `exact` allows no rounding of activations.
pub(crate) fn method(isa: Isa, exact: bool, format: Format) -> Method {
    match format {
        Format::F32 | Format::F16 => Method::Float,
        _ if exact => Method::Float,
        Format::BF16 => match isa {
            Isa::Portable | Isa::Avx2 => Method::Float,
            Isa::Avx512 => Method::Bf16,
            Isa::Amx => Method::TilesBf16,
        },
        _ if isa == Isa::Amx => Method::TilesInt,
        _ => Method::Int,
    }
}

/// 16 rows of weights.
#[derive(Clone, Copy)]
struct Panel<'a> {
    format: Format,
    scheme: Option<Scheme>,
    cols: usize,
    first_row: usize,
    start: *const u8,
    /// Bytes from this panel to the next.
    bytes: usize,
    _data: std::marker::PhantomData<&'a [u8]>,
}

impl Panel<'_> {
    /// Where the codes and the scales from column `first` on are, up to the end of their span.
    ///
    /// # Safety
    /// A block of the scheme begins with this column.
    #[inline(always)]
    unsafe fn at(&self, scheme: &Scheme, first: usize) -> (*const u8, *const u8) {
        let (codes, side) = scheme.place(self.cols, first);
        // SAFETY: the caller's promise: both lie in the panel.
        unsafe { (self.start.add(codes), self.start.add(side)) }
    }

    /// Asks for what comes after the `cols` columns from `first` on: the panel's next span, or the first of the panel
    /// `group` further on. Into the second-level cache, because it is not its turn yet.
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    fn prefetch_after(&self, scheme: &Scheme, first: usize, cols: usize, group: usize) {
        let next = first + cols;
        let offset = if next < self.cols { scheme.place(self.cols, next).0 } else { group * self.bytes };
        prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(
            self.start.wrapping_add(offset),
            scheme.span_bytes(cols),
        );
    }
}

/// Asks for the cache lines of `bytes` bytes, which need not be valid memory.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
fn prefetch<const HINT: i32>(start: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(64) {
        // SAFETY: a prefetch may point anywhere.
        unsafe { std::arch::x86_64::_mm_prefetch::<HINT>(start.wrapping_add(at).cast()) };
    }
}

/// Where results go.
#[derive(Clone, Copy)]
struct Output<'a> {
    start: *mut f32,
    rows: usize,
    bias: Option<&'a [f32]>,
    accumulate: bool,
}

impl Output<'_> {
    /// Asks for the cache lines that [`Output::put`] will write: rows lie pages apart, so no hardware foresees them.
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    fn prefetch(&self, rows: Range<usize>, first: usize) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        for t in rows {
            let at = self.start.wrapping_add(t * self.rows + first);
            // SAFETY: a prefetch may point anywhere, and every x86-64 CPU has or ignores this one.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) };
        }
    }

    /// Stores 16 results of activation row `t`, from output row `first` on; rows beyond the last are dropped.
    ///
    /// # Safety
    /// There is a row `t`, and nobody else uses these places now.
    #[inline(always)]
    unsafe fn put(&self, t: usize, first: usize, mut y: [f32; PANEL]) {
        let count = PANEL.min(self.rows - first);
        if let Some(bias) = self.bias {
            y.iter_mut().zip(&bias[first..first + count]).for_each(|(y, bias)| *y += bias);
        }
        // SAFETY: the caller's promise.
        let to = unsafe { std::slice::from_raw_parts_mut(self.start.add(t * self.rows + first), count) };
        // The usual length as a constant: four vector moves instead of a call.
        if let Ok(to) = <&mut [f32; PANEL]>::try_from(&mut *to) {
            if self.accumulate {
                to.iter_mut().zip(y).for_each(|(to, y)| *to += y);
            } else {
                *to = y;
            }
        } else if self.accumulate {
            to.iter_mut().zip(y).for_each(|(to, y)| *to += y);
        } else {
            to.copy_from_slice(&y[..count]);
        }
    }
}

/// A matrix applied to consecutive rows of a batch of activations.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    pub(crate) rows: Range<usize>,
    pub(crate) weights: &'a Matrix,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) out: &'a mut [f32],
    pub(crate) accumulate: bool,
}

/// One product that is ready to run: shapes checked, activations prepared.
struct Task<'a> {
    method: Method,
    layout: Layout,
    data: &'a [u8],
    out: SendPtr<f32>,
    bias: Option<&'a [f32]>,
    accumulate: bool,
    /// Which rows.
    group: usize,
}

impl Activations {
    /// Runs `products`, whose shapes agree with `x` (row-major), on the pool. None of them is of no rows.
    pub(crate) fn run<'a>(
        &mut self,
        isa: Isa,
        exact: bool,
        pool: &Pool,
        x: &[f32],
        products: impl Iterator<Item = Product<'a>>,
    ) {
        self.run_at(Level::of(isa), isa, exact, pool, x, products);
    }

    /// The same at a level that may differ in what is chosen by the core.
    fn run_at<'a>(
        &mut self,
        level: Level,
        isa: Isa,
        exact: bool,
        pool: &Pool,
        x: &[f32],
        products: impl Iterator<Item = Product<'a>>,
    ) {
        let mut groups: Vec<Group> = Vec::new();
        let task = |product: Product<'a>| {
            let rows = product.rows;
            // Products of the same rows share them; they follow each other.
            if groups.last().is_none_or(|group| group.rows != rows) {
                groups.push(Group::after(groups.last(), rows, product.weights.cols()));
            }
            Task {
                method: method(isa, exact, product.weights.format()),
                layout: *product.weights.layout(),
                data: product.weights.data(),
                out: SendPtr(product.out.as_mut_ptr()),
                bias: product.bias,
                accumulate: product.accumulate,
                group: groups.len() - 1,
            }
        };
        let tasks: Vec<Task<'_>> = products.map(task).collect();
        self.prepare(level, pool, x, &groups, &tasks);
        let inputs: Vec<Inputs<'_>> = groups.iter().map(|group| self.inputs(x, group)).collect();
        let chunks = chunks(pool.threads(), &groups, &tasks);
        pool.run(chunks.len(), &|chunk| {
            let (task, panels) = &chunks[chunk];
            let task = &tasks[*task];
            // SAFETY: the caller checked the shapes; chunks are disjoint panels, hence disjoint output rows.
            unsafe { task.run(level, &inputs[task.group], panels.clone()) };
        });
    }
}

/// Cuts the panels of all tasks into pieces of even cost: enough of them to share out evenly, not so small that
/// claiming them shows.
fn chunks(threads: usize, groups: &[Group], tasks: &[Task<'_>]) -> Vec<(usize, Range<usize>)> {
    // Up to a few rows, a product takes the time of reading its weights.
    let weight = |task: &Task<'_>| groups[task.group].tiling.n.max(4);
    let total: usize = tasks.iter().map(|task| task.layout.bytes().saturating_mul(weight(task))).sum();
    let mut chunks = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let floor = (48 << 10) / groups[task.group].tiling.n.min(8);
        let share = total / (threads * 8) / weight(task);
        let target = if threads == 1 { usize::MAX } else { share.clamp(floor, 1 << 20) };
        let panels = task.layout.panels();
        // Panels are worked on in groups of up to four.
        let per = (target / task.layout.panel_bytes().max(1)).clamp(4, panels.max(4)) & !3;
        chunks.extend((0..panels).step_by(per).map(|first| (index, first..panels.min(first + per))));
    }
    chunks
}

impl Task<'_> {
    /// # Safety
    /// Inputs and outputs have the task's shape; nobody else writes to the output rows of these panels.
    unsafe fn run(&self, level: Level, x: &Inputs<'_>, panels: Range<usize>) {
        let out = Output {
            start: self.out.0,
            rows: self.layout.rows,
            bias: self.bias,
            accumulate: self.accumulate,
        };
        let bytes = self.layout.panel_bytes();
        let panels: Vec<Panel<'_>> = panels.map(|index| self.panel(index, bytes)).collect();
        // SAFETY: the caller's promise; methods are chosen only where the level has their instructions.
        unsafe {
            match self.method {
                Method::Float => panels.iter().for_each(|panel| panels::float(level, panel, x, &out)),
                #[cfg(target_arch = "x86_64")]
                Method::Bf16 => panels.iter().for_each(|panel| bf16::panel(panel, x, &out)),
                #[cfg(target_arch = "x86_64")]
                Method::TilesBf16 => amx::bf16(&panels, x, &out),
                #[cfg(target_arch = "x86_64")]
                Method::TilesInt if x.tiling.n >= amx::MIN_ROWS => amx::int(level, &panels, x, &out),
                _ => panels::int(level, &panels, x, &out),
            }
        }
    }

    /// Panel `index`; each has `bytes` bytes.
    fn panel(&self, index: usize, bytes: usize) -> Panel<'_> {
        let data = &self.data[index * bytes..][..bytes];
        Panel {
            format: self.layout.format,
            scheme: self.layout.scheme,
            cols: self.layout.cols,
            first_row: index * PANEL,
            start: data.as_ptr(),
            bytes,
            _data: std::marker::PhantomData,
        }
    }
}
