//! Matrix products: which function runs, and the shapes that all of them share.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod codes;
mod entry;
mod float;
mod int;
mod panels;
mod quantise;
mod rows16;
mod step;

use std::ops::Range;

use crate::isa::level::Level;
use crate::layout::{Layout, PANEL, Scheme};
use crate::matmul::Job;
use crate::pool::{Pool, SendPtr};
use crate::{Format, Isa};
use quantise::{Line, Side32, Side256, Tiling};

/// Activation rows whose sums a panel keeps at a time.
const SLAB_ROWS: usize = 256;

/// Columns that are unpacked at a time: whole blocks of every format.
const SLAB_COLS: usize = 256;

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

/// What a batch of activations is turned into, and memory for it.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    lines32: Vec<Line>,
    lines256: Vec<Line>,
    lines16: Vec<Line>,
    sides32: Vec<Side32>,
    sides256: Vec<Side256>,
}

/// A batch of activations in every form that its products need.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    tiling: Tiling,
    floats: &'a [f32],
    lines32: &'a [Line],
    lines256: &'a [Line],
    lines16: &'a [Line],
    sides32: &'a [Side32],
    sides256: &'a [Side256],
}

impl Inputs<'_> {
    /// Lines of a tile in bf16.
    fn tile_lines16(&self) -> usize {
        self.tiling.cols.div_ceil(32) * self.tiling.tile_rows()
    }
}

/// 16 rows of weights.
#[derive(Clone, Copy)]
struct Panel<'a> {
    format: Format,
    scheme: Option<Scheme>,
    cols: usize,
    first_row: usize,
    codes: *const u8,
    side: *const u8,
    _data: std::marker::PhantomData<&'a [u8]>,
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
            // SAFETY: a prefetch may point anywhere, and every x86-64 CPU with AVX-512 has this one.
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

/// One product that is ready to run: shapes checked, activations prepared.
struct Task<'a> {
    method: Method,
    layout: Layout,
    data: &'a [u8],
    out: SendPtr<f32>,
    bias: Option<&'a [f32]>,
    accumulate: bool,
}

impl Activations {
    /// Runs `jobs`, whose shapes agree with `x` (`n x cols`), on the pool.
    pub(crate) fn run(
        &mut self,
        isa: Isa,
        exact: bool,
        pool: &Pool,
        x: &[f32],
        n: usize,
        jobs: &mut [Job<'_>],
    ) {
        let Some(cols) = jobs.first().map(|job| job.weights.cols()).filter(|_| n > 0) else { return };
        let level = Level::of(isa);
        let tasks: Vec<Task<'_>> = jobs
            .iter_mut()
            .map(|job| Task {
                method: method(isa, exact, job.weights.format()),
                layout: *job.weights.layout(),
                data: job.weights.data(),
                out: SendPtr(job.out.as_mut_ptr()),
                bias: job.bias,
                accumulate: job.accumulate,
            })
            .collect();
        let tiling = Tiling { n, cols };
        self.prepare(level, pool, x, tiling, &tasks);
        let inputs = Inputs {
            tiling,
            floats: x,
            lines32: &self.lines32,
            lines256: &self.lines256,
            lines16: &self.lines16,
            sides32: &self.sides32,
            sides256: &self.sides256,
        };
        let chunks = chunks(pool.threads(), n, &tasks);
        pool.run(chunks.len(), &|chunk| {
            let (task, panels) = &chunks[chunk];
            // SAFETY: the caller checked the shapes; chunks are disjoint panels, hence disjoint output rows.
            unsafe { tasks[*task].run(level, &inputs, panels.clone()) };
        });
    }

    /// Fills in the forms of `x` that the tasks need, a tile of rows per chunk.
    fn prepare(&mut self, level: Level, pool: &Pool, x: &[f32], tiling: Tiling, tasks: &[Task<'_>]) {
        let Tiling { n, cols } = tiling;
        let (tiles, stride) = (tiling.tiles(), tiling.tile_rows());
        let needs = |block: usize| {
            tasks
                .iter()
                .any(|task| task.method.bytes() && task.layout.scheme.is_some_and(|s| s.block == block))
        };
        let rows =
            |tile: usize| x[tile * 16 * cols..].chunks_exact(cols.max(1)).take(tiling.used(tile)).enumerate();
        if needs(32) {
            let (lines, sides) = (tiling.tile_lines(), cols / 32 * stride);
            grow(&mut self.lines32, tiles * lines, Line([0; 64]));
            grow(&mut self.sides32, tiles * sides, Side32::default());
            let (to, beside) = (SendPtr(self.lines32.as_mut_ptr()), SendPtr(self.sides32.as_mut_ptr()));
            pool.run(tiles, &|tile| {
                for (r, x) in rows(tile) {
                    // SAFETY: tiles are disjoint, and each ends within the vector.
                    unsafe {
                        let to = piece(&to, tile * lines + r, lines - r);
                        entry::row32(level, x, to, piece(&beside, tile * sides + r, sides - r), stride);
                    }
                }
            });
        }
        if needs(256) {
            let (lines, sides) = (tiling.tile_lines(), cols / 256 * stride);
            grow(&mut self.lines256, tiles * lines, Line([0; 64]));
            grow(&mut self.sides256, tiles * sides, Side256::default());
            let (to, beside) = (SendPtr(self.lines256.as_mut_ptr()), SendPtr(self.sides256.as_mut_ptr()));
            pool.run(tiles, &|tile| {
                for (r, x) in rows(tile) {
                    // SAFETY: tiles are disjoint, and each ends within the vector.
                    unsafe {
                        let to = piece(&to, tile * lines + r, lines - r);
                        entry::row256(level, x, to, piece(&beside, tile * sides + r, sides - r), stride);
                    }
                }
            });
        }
        #[cfg(target_arch = "x86_64")]
        if tasks.iter().any(|task| matches!(task.method, Method::Bf16 | Method::TilesBf16)) {
            let lines = cols.div_ceil(32) * stride;
            grow(&mut self.lines16, n.div_ceil(16) * lines, Line([0; 64]));
            pool.run_slices(&mut self.lines16[..tiles * lines], lines, |tile, to| {
                for (r, x) in rows(tile) {
                    // SAFETY: the method is chosen only where the level has the instructions.
                    unsafe { bf16::row(x, &mut to[r..], stride) };
                }
            });
        }
    }
}

fn grow<T: Clone>(vec: &mut Vec<T>, len: usize, value: T) {
    if vec.len() < len {
        vec.resize(len, value);
    }
}

/// # Safety
/// The range lies in the allocation, and nobody else uses it while the slice lives.
unsafe fn piece<'a, T: Send>(base: &SendPtr<T>, start: usize, len: usize) -> &'a mut [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(base.at(start), len) }
}

/// Cuts the panels of all tasks into pieces of even cost: enough of them to share out evenly, not so small that
/// claiming them shows.
fn chunks(threads: usize, n: usize, tasks: &[Task<'_>]) -> Vec<(usize, Range<usize>)> {
    let total: usize = tasks.iter().map(|task| task.layout.bytes()).sum();
    let floor = (48 << 10) / n.min(8);
    let target = if threads == 1 { usize::MAX } else { (total / (threads * 8)).clamp(floor, 1 << 20) };
    let mut chunks = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let panels = task.layout.panels();
        // An even number: panels may be worked on in pairs.
        let per = (target / task.layout.panel_bytes().max(1)).clamp(2, panels.max(2)) & !1;
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
        let panels: Vec<Panel<'_>> = panels.map(|index| self.panel(index)).collect();
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
                _ => panels.iter().for_each(|panel| panels::int(level, panel, x, &out)),
            }
        }
    }

    fn panel(&self, index: usize) -> Panel<'_> {
        let bytes = self.layout.panel_bytes();
        let data = &self.data[index * bytes..][..bytes];
        Panel {
            format: self.layout.format,
            scheme: self.layout.scheme,
            cols: self.layout.cols,
            first_row: index * PANEL,
            codes: data.as_ptr(),
            side: data[self.layout.side_at()..].as_ptr(),
            _data: std::marker::PhantomData,
        }
    }
}
