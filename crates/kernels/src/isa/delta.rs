//! The gated delta rule head by head, and the convolution before it.

#![allow(unsafe_code)]

use super::level::{Level, levels};
use crate::delta::{DeltaShape, DeltaSpan, HEADER, PANEL};
use crate::pool::{Pool, SendPtr};
use std::marker::PhantomData;
use std::ops::Range;

/// Multiplications below which the work stays on the caller's thread.
const SMALL: usize = 1 << 17;

/// What enters the rule, for all rows of a batch.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    /// `n x channels`: queries, keys, values.
    pub(crate) qkv: &'a [f32],
    /// `n x value_heads`
    pub(crate) decay: &'a [f32],
    /// `n x value_heads`
    pub(crate) beta: &'a [f32],
}

/// One head's state and the tokens that pass over it.
///
/// The pointers are good for what `head` does with them: `state` for all panels of a head; the others, at every
/// multiple of their stride below `tokens`, for a head's width (`q`, `k`, `v`, `out`) or one number.
pub(crate) struct Head<'a> {
    state: *mut f32,
    key_dim: usize,
    value_dim: usize,
    tokens: usize,
    q: *const f32,
    k: *const f32,
    v: *const f32,
    channels: usize,
    decay: *const f32,
    beta: *const f32,
    value_heads: usize,
    out: *mut f32,
    outputs: usize,
    life: PhantomData<&'a mut [f32]>,
}

/// Runs the rule over every head of every span.
///
/// # Panics
/// If the slices do not have the shapes that `shape` and the spans ask for, or the spans are not in order.
pub(crate) fn rule(
    pool: &Pool,
    level: Level,
    shape: &DeltaShape,
    spans: &mut [DeltaSpan<'_>],
    x: &Tokens<'_>,
    out: &mut [f32],
) {
    let n = out.len() / shape.outputs();
    assert!(
        spans.iter().all(|span| span.rows.start <= span.rows.end && span.rows.end <= n),
        "rows beyond {n}"
    );
    assert_eq!(x.qkv.len(), n * shape.channels(), "queries, keys and values of {n} rows");
    let gates = n * shape.value_heads;
    assert!(x.decay.len() == gates && x.beta.len() == gates, "gates of {n} rows");
    assert!(spans.iter().all(|span| span.state.len() == shape.state_len()), "length of a state");
    assert!(spans.windows(2).all(|pair| pair[0].rows.end <= pair[1].rows.start), "spans out of order");

    let spans: Vec<(Range<usize>, SendPtr<f32>)> =
        spans.iter_mut().map(|span| (span.rows.clone(), SendPtr(span.state.as_mut_ptr()))).collect();
    let out = SendPtr(out.as_mut_ptr());
    let run = |item: usize| {
        let (rows, state) = &spans[item / shape.value_heads];
        if !rows.is_empty() {
            // SAFETY: an item's head of its span's state, and its columns of its span's rows of the output, belong to
            // no other item (spans are in order, so their rows are disjoint); all lengths were checked above.
            head(level, &unsafe { cut(shape, x, rows, item % shape.value_heads, state, &out) });
        }
    };
    let rows: usize = spans.iter().map(|(rows, _)| rows.len()).sum();
    let items = spans.len() * shape.value_heads;
    if rows * shape.state_len() < SMALL {
        return (0..items).for_each(run);
    }
    pool.run(items, &run);
}

/// One head of a span's work.
///
/// # Safety
/// The slices of `x` have all rows of the span, `state` and `out` point to a state and to all rows, and nobody else
/// touches the head's part of the state and its columns of the span's rows.
unsafe fn cut<'a>(
    shape: &DeltaShape,
    x: &Tokens<'a>,
    rows: &Range<usize>,
    head: usize,
    state: &SendPtr<f32>,
    out: &SendPtr<f32>,
) -> Head<'a> {
    let (key_head, keys) = (shape.key_head(head), shape.key_heads * shape.key_dim);
    let (channels, outputs, column) = (shape.channels(), shape.outputs(), head * shape.value_dim);
    let row = &x.qkv[rows.start * channels..];
    // SAFETY: the offsets stay in the first row of the span, or in the state.
    let (state, out) = unsafe { (state.at(head * shape.head_len()), out.at(rows.start * outputs + column)) };
    Head {
        state,
        key_dim: shape.key_dim,
        value_dim: shape.value_dim,
        tokens: rows.len(),
        q: row[key_head * shape.key_dim..].as_ptr(),
        k: row[keys + key_head * shape.key_dim..].as_ptr(),
        v: row[2 * keys + column..].as_ptr(),
        channels,
        decay: x.decay[rows.start * shape.value_heads + head..].as_ptr(),
        beta: x.beta[rows.start * shape.value_heads + head..].as_ptr(),
        value_heads: shape.value_heads,
        out,
        outputs,
        life: PhantomData,
    }
}

levels! {
    /// `out = silu(Σ_j taps[j] * rows[j])`; `taps` are as many rows as `rows`, one after the other.
    fn conv_silu(rows: &[&[f32]], taps: &[f32], out: &mut [f32]);
    /// All tokens over one head.
    fn head(head: &Head<'_>);
}

/// # Safety
/// As [`Lanes`](super::lanes::Lanes): callers have the instruction set.
mod generic {
    use super::{HEADER, Head, PANEL};
    use crate::delta::BLOCK;
    use crate::isa::lanes::{Lanes, exp, load_part, map, store_part, sum};
    use std::mem::MaybeUninit;

    /// Below it, the factor beside a panel goes into the panel.
    const LOW: f32 = 1.0 / (1u64 << 32) as f32;

    /// Most tokens that are gathered at a time.
    const TOKENS: usize = 32;

    /// Tokens from which on a panel is worth a copy that starts at a cache line.
    const COPY: usize = 8;

    /// Widest key whose panel is copied.
    const COPY_DIM: usize = 256;

    #[repr(align(64))]
    struct Aligned<const N: usize>([f32; N]);

    /// Some tokens of a head, close together: `n` rows of a unit key, a unit query and the values, which the outputs
    /// replace.
    struct Block {
        rows: *mut f32,
        width: usize,
        n: usize,
        /// First token.
        first: usize,
        /// Products of each query with its key.
        dots: [f32; TOKENS],
    }

    #[inline(always)]
    pub(super) unsafe fn conv_silu<L: Lanes>(rows: &[&[f32]], taps: &[f32], out: &mut [f32]) {
        let n = out.len();
        assert!(taps.len() == rows.len() * n && rows.iter().all(|row| row.len() == n));
        let (taps, out) = (taps.as_ptr(), out.as_mut_ptr());
        // SAFETY: all rows have n numbers, and indices stay below n.
        unsafe {
            let (zero, one) = (L::splat(0.0), L::splat(1.0));
            for i in (0..n).step_by(L::N) {
                let left = (n - i).min(L::N);
                let load = |from: *const f32| {
                    if left == L::N { L::load(from.add(i)) } else { load_part(from.add(i), left, 0.0) }
                };
                let mut y = zero;
                for (j, row) in rows.iter().enumerate() {
                    y = load(row.as_ptr()).fma(load(taps.add(j * n)), y);
                }
                let y = y.div(one.add(exp(zero.sub(y))));
                if left == L::N { y.store(out.add(i)) } else { store_part(y, out.add(i), left) }
            }
        }
    }

    /// # Safety
    /// As the module, and both point to `n` numbers.
    #[inline(always)]
    unsafe fn dot<L: Lanes>(x: *const f32, y: *const f32, n: usize) -> f32 {
        // SAFETY: indices stay below n.
        unsafe {
            let mut total = L::splat(0.0);
            let whole = n - n % L::N;
            for i in (0..whole).step_by(L::N) {
                total = L::load(x.add(i)).fma(L::load(y.add(i)), total);
            }
            if whole < n {
                let part = |from: *const f32| load_part::<L>(from.add(whole), n - whole, 0.0);
                total = part(x).fma(part(y), total);
            }
            sum(total)
        }
    }

    /// `to = x * scale / sqrt(Σ x^2 + 1e-6)`
    ///
    /// # Safety
    /// As the module, and both point to `n` numbers.
    #[inline(always)]
    unsafe fn unit<L: Lanes>(x: *const f32, n: usize, scale: f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let factor = L::splat(scale / (dot::<L>(x, x, n) + 1e-6).sqrt());
            map::<L>(n, x, x, to, |x, _| x.mul(factor));
        }
    }

    #[inline(always)]
    pub(super) unsafe fn head<L: Lanes>(h: &Head<'_>) {
        let columns = h.value_dim.next_multiple_of(PANEL);
        let width = 2 * h.key_dim + columns;
        assert!(width <= BLOCK, "a token of {width} numbers");
        let per = (BLOCK / width).min(TOKENS);
        let mut buffer = MaybeUninit::<Aligned<BLOCK>>::uninit();
        // SAFETY: at most `per` rows of `width` fit the buffer, and are written before they are read; the state has a
        // panel for every PANEL columns.
        unsafe {
            let rows = (&raw mut (*buffer.as_mut_ptr()).0).cast::<f32>();
            for first in (0..h.tokens).step_by(per) {
                let mut block =
                    Block { rows, width, n: per.min(h.tokens - first), first, dots: [0.0; TOKENS] };
                gather::<L>(h, &mut block);
                for (panel, column) in (0..columns).step_by(PANEL).enumerate() {
                    let state = h.state.add(panel * (HEADER + h.key_dim * PANEL));
                    // Two sets of sums where one would leave the multipliers waiting.
                    if L::N == 16 {
                        over_panel::<L, 2, 2>(h, &block, column, state);
                    } else {
                        over_panel::<L, 4, 1>(h, &block, column, state);
                    }
                }
                for t in 0..block.n {
                    let from = rows.add(t * width + 2 * h.key_dim);
                    std::ptr::copy_nonoverlapping(from, h.out.add((first + t) * h.outputs), h.value_dim);
                }
            }
        }
    }

    /// Brings a block's tokens together.
    ///
    /// # Safety
    /// As the module; the block has room, and its tokens are the head's.
    #[inline(always)]
    unsafe fn gather<L: Lanes>(h: &Head<'_>, block: &mut Block) {
        let scale = 1.0 / (h.key_dim as f32).sqrt();
        // SAFETY: t stays below the tokens; the head vouches for its pointers, the caller for the block's.
        unsafe {
            for t in 0..block.n {
                let from = (block.first + t) * h.channels;
                let k = block.rows.add(t * block.width);
                let (q, v) = (k.add(h.key_dim), k.add(2 * h.key_dim));
                unit::<L>(h.k.add(from), h.key_dim, 1.0, k);
                unit::<L>(h.q.add(from), h.key_dim, scale, q);
                block.dots[t] = dot::<L>(k, q, h.key_dim);
                std::ptr::copy_nonoverlapping(h.v.add(from), v, h.value_dim);
                std::ptr::write_bytes(v.add(h.value_dim), 0, block.width - 2 * h.key_dim - h.value_dim);
            }
        }
    }

    /// A block's tokens over the panel whose first column is `column`; `V` vectors make up its width.
    ///
    /// # Safety
    /// As the module; the block is gathered, and `state` is the panel.
    #[inline(always)]
    unsafe fn over_panel<L: Lanes, const V: usize, const R: usize>(
        h: &Head<'_>,
        block: &Block,
        column: usize,
        state: *mut f32,
    ) {
        let numbers = h.key_dim * PANEL;
        // SAFETY: the caller's promise; the copy is of a panel that fits.
        unsafe {
            let columns = state.add(HEADER);
            if block.n < COPY || h.key_dim > COPY_DIM {
                return pass::<L, V, R>(h, block, column, state, columns);
            }
            let mut copy = MaybeUninit::<Aligned<{ PANEL * COPY_DIM }>>::uninit();
            let aligned = (&raw mut (*copy.as_mut_ptr()).0).cast::<f32>();
            std::ptr::copy_nonoverlapping(columns, aligned, numbers);
            pass::<L, V, R>(h, block, column, state, aligned);
            std::ptr::copy_nonoverlapping(aligned, columns, numbers);
        }
    }

    /// Every token of a block over the panel whose columns are at `s`.
    ///
    /// The columns hold S divided by `factor`, the product of the decays since it was last 1; it goes into the columns
    /// before it could make them overflow. The number in the state is 0 before the first token.
    ///
    /// # Safety
    /// As [`over_panel`]; `s` is the panel's columns or a copy.
    #[inline(always)]
    unsafe fn pass<L: Lanes, const V: usize, const R: usize>(
        h: &Head<'_>,
        block: &Block,
        column: usize,
        state: *mut f32,
        s: *mut f32,
    ) {
        let d = h.key_dim;
        // SAFETY: t stays below the block's tokens.
        unsafe {
            let mut factor = if *state == 0.0 { 1.0 } else { *state };
            let row = |t: usize| -> *mut f32 { block.rows.add(t * block.width) };
            let zeros = [L::splat(0.0); V];
            let (mut u, mut o) = sweep::<L, V, R, false, false, true>(s, d, row(0), zeros, 1.0, row(0));
            for t in 0..block.n {
                let gate = (block.first + t) * h.value_heads;
                let decayed = factor * *h.decay.add(gate);
                let keep = decayed >= LOW;
                let beta = *h.beta.add(gate);
                let step = step::<L, V>(row(t).add(2 * d + column), decayed, beta, block.dots[t], u, o);
                // What is added to the columns is divided like them.
                let share = L::splat(if keep { 1.0 / decayed } else { 1.0 });
                let step = step.map(|d| d.mul(share));
                factor = if keep { decayed } else { 1.0 };
                let k = row(t);
                (u, o) = match (t + 1 < block.n, keep) {
                    (true, true) => sweep::<L, V, R, true, false, true>(s, d, k, step, 1.0, row(t + 1)),
                    (true, false) => sweep::<L, V, R, true, true, true>(s, d, k, step, decayed, row(t + 1)),
                    (false, true) => sweep::<L, V, R, true, false, false>(s, d, k, step, 1.0, k),
                    (false, false) => sweep::<L, V, R, true, true, false>(s, d, k, step, decayed, k),
                };
            }
            *state = factor;
        }
    }

    /// Replaces a token's values by its outputs and returns `β(v - u)`, given `u` and `o` of the state before it.
    ///
    /// # Safety
    /// As the module; `v` has the panel's columns.
    #[inline(always)]
    unsafe fn step<L: Lanes, const V: usize>(
        v: *mut f32,
        decayed: f32,
        beta: f32,
        dot: f32,
        u: [L; V],
        o: [L; V],
    ) -> [L; V] {
        let mut step = u;
        // SAFETY: V vectors make up PANEL columns.
        unsafe {
            let (minus, decayed) = (L::splat(-decayed), L::splat(decayed));
            for j in 0..V {
                let v = v.add(j * L::N);
                step[j] = u[j].fma(minus, L::load(v)).mul(L::splat(beta));
                // S^T q after the step is what S^T q was, decayed, plus (k q) times the step.
                step[j].fma(L::splat(dot), o[j].mul(decayed)).store(v);
            }
        }
        step
    }

    /// Once over the columns: with `WRITE`, `S = scale S + k ⊗ step` (without `SCALE`, `scale` is 1); with `READ`,
    /// returns `S^T k` and `S^T q` of the token at `next`: its key, then its query.
    ///
    /// The sums run over the even rows and the odd rows (`R` = 2) or over all (1) in order, whatever else is done.
    ///
    /// # Safety
    /// As the module; `s` is `key_dim` rows of `V` vectors, the others `key_dim` numbers.
    #[inline(always)]
    unsafe fn sweep<
        L: Lanes,
        const V: usize,
        const R: usize,
        const WRITE: bool,
        const SCALE: bool,
        const READ: bool,
    >(
        s: *mut f32,
        key_dim: usize,
        k: *const f32,
        step: [L; V],
        scale: f32,
        next: *const f32,
    ) -> ([L; V], [L; V]) {
        // SAFETY: rows stay below key_dim.
        unsafe {
            let zero = L::splat(0.0);
            let scale = L::splat(scale);
            let after = next.add(key_dim);
            let (mut u, mut o) = ([[zero; V]; R], [[zero; V]; R]);
            let whole = key_dim - key_dim % R;
            for i in (0..whole).step_by(R) {
                for set in 0..R {
                    let (i, u, o) = (i + set, &mut u[set], &mut o[set]);
                    let keys = [*k.add(i), *next.add(i), *after.add(i)];
                    row::<L, V, WRITE, SCALE, READ>(s.add(i * PANEL), keys, step, scale, u, o);
                }
            }
            for i in whole..key_dim {
                let keys = [*k.add(i), *next.add(i), *after.add(i)];
                row::<L, V, WRITE, SCALE, READ>(s.add(i * PANEL), keys, step, scale, &mut u[0], &mut o[0]);
            }
            for set in 1..R {
                for j in 0..V {
                    u[0][j] = u[0][j].add(u[set][j]);
                    o[0][j] = o[0][j].add(o[set][j]);
                }
            }
            (u[0], o[0])
        }
    }

    /// One row of [`sweep`]: `keys` are the row's numbers of `k`, `next` and `after`.
    ///
    /// # Safety
    /// As the module; `s` is `V` vectors.
    #[inline(always)]
    unsafe fn row<L: Lanes, const V: usize, const WRITE: bool, const SCALE: bool, const READ: bool>(
        s: *mut f32,
        [k, next, after]: [f32; 3],
        step: [L; V],
        scale: L,
        u: &mut [L; V],
        o: &mut [L; V],
    ) {
        for j in 0..V {
            // SAFETY: the caller's promise.
            unsafe {
                let at = s.add(j * L::N);
                let mut x = L::load(at);
                if WRITE {
                    if SCALE {
                        x = x.mul(scale);
                    }
                    x = L::splat(k).fma(step[j], x);
                    x.store(at);
                }
                if READ {
                    u[j] = x.fma(L::splat(next), u[j]);
                    o[j] = x.fma(L::splat(after), o[j]);
                }
            }
        }
    }
}
