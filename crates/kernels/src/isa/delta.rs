//! The gated delta rule head by head.

#![allow(unsafe_code)]

use super::level::{Level, levels};
use crate::delta::{DeltaShape, DeltaSpan};
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
    /// All tokens over one head.
    fn head(head: &Head<'_>);
}

/// # Safety
/// As [`Lanes`](super::lanes::Lanes): callers have the instruction set.
#[allow(
    clippy::needless_range_loop,
    reason = "sums stay in registers only when they are reached by plain indices"
)]
mod generic {
    use super::Head;
    use crate::delta::{BLOCK, CHUNK, HEADER, PANEL, WAITING};
    use crate::isa::lanes::{Lanes, load_part, map, sum};
    use std::mem::MaybeUninit;

    /// Tokens from which on a head is worth a copy that starts at a cache line: vectors across two are slow.
    const COPY: usize = 8;

    /// How many tokens ahead vectors are asked for while tokens are gathered.
    const AHEAD: usize = 6;

    /// Parts of the rows that are summed on their own.
    const PARTS: usize = 4;

    /// Most tokens that are gathered at a time.
    const TOKENS: usize = 32;

    /// Those, and the ones that waited before them.
    const ROWS: usize = TOKENS + WAITING;

    #[repr(align(64))]
    struct Aligned([f32; BLOCK]);

    /// Some tokens of a head, close together: `n` rows of a unit key, a unit query and the values, which the outputs
    /// replace. Rows are numbered from the start of a chunk; the first `waiting` have only keys.
    struct Block {
        rows: *mut f32,
        width: usize,
        waiting: usize,
        n: usize,
        gates: [Gates; ROWS],
    }

    /// What a token brings besides its vectors.
    #[derive(Clone, Copy)]
    struct Gates {
        decay: f32,
        beta: f32,
        /// The product of the decays from the chunk's first token to this one.
        decayed: f32,
        /// Products of the chunk's keys up to this token's with its key.
        keys: [f32; CHUNK],
        /// Products of the chunk's keys up to this token's with its query.
        queries: [f32; CHUNK],
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
            map!(L, n, x, x, to, |x, _| x.mul(factor));
        }
    }

    #[inline(always)]
    pub(super) unsafe fn head<L: Lanes>(h: &Head<'_>) {
        let columns = h.value_dim.next_multiple_of(PANEL);
        let width = 2 * h.key_dim + columns;
        assert!(BLOCK / width > WAITING, "a token of {width} numbers");
        let mut buffer = MaybeUninit::<Aligned>::uninit();
        let mut copy = MaybeUninit::<Aligned>::uninit();
        let none = Gates { decay: 0.0, beta: 0.0, decayed: 1.0, keys: [0.0; CHUNK], queries: [0.0; CHUNK] };
        let numbers = h.key_dim * columns;
        let copied = h.tokens >= COPY && numbers <= BLOCK;
        // SAFETY: the offsets are those of a head's state; the copy is of one that fits.
        unsafe {
            let rows = (&raw mut (*buffer.as_mut_ptr()).0).cast::<f32>();
            let mut block = Block { rows, width, waiting: 0, n: 0, gates: [none; ROWS] };
            let keys = h.state.add(HEADER);
            let steps = keys.add(WAITING * h.key_dim);
            let s = steps.add(WAITING * columns);
            if !copied {
                return blocks::<L>(h, &mut block, keys, steps, s);
            }
            let aligned = (&raw mut (*copy.as_mut_ptr()).0).cast::<f32>();
            std::ptr::copy_nonoverlapping(s, aligned, numbers);
            blocks::<L>(h, &mut block, keys, steps, aligned);
            std::ptr::copy_nonoverlapping(aligned, s, numbers);
        }
    }

    /// All tokens, block by block. `keys` and `steps` are those that wait in the state, `s` are the panels of `S`.
    ///
    /// # Safety
    /// As the module; the block's rows are as many as fit [`BLOCK`], and the pointers are to the head's state or, for
    /// `s`, a copy.
    #[inline(always)]
    unsafe fn blocks<L: Lanes>(
        h: &Head<'_>,
        block: &mut Block,
        keys: *mut f32,
        steps: *mut f32,
        s: *mut f32,
    ) {
        let columns = block.width - 2 * h.key_dim;
        let per = (BLOCK / block.width - WAITING).min(TOKENS);
        // SAFETY: at most `per + WAITING` rows fit the buffer, and are written before they are read.
        unsafe {
            for first in (0..h.tokens).step_by(per) {
                let new = per.min(h.tokens - first);
                gather::<L>(h, first, new, keys, block);
                for column in (0..columns).step_by(PANEL) {
                    let (steps, s) = (steps.add(column), s.add(column * h.key_dim));
                    if L::N == 16 {
                        pass::<L, 2>(h.key_dim, block, column, steps, s);
                    } else {
                        for part in (0..PANEL).step_by(L::N) {
                            pass::<L, 1>(h.key_dim, block, column + part, steps.add(part), s.add(part));
                        }
                    }
                }
                for t in 0..new {
                    let from = block.rows.add((block.waiting + t) * block.width + 2 * h.key_dim);
                    std::ptr::copy_nonoverlapping(from, h.out.add((first + t) * h.outputs), h.value_dim);
                }
                let left = block.n % CHUNK;
                for i in 0..left {
                    let from = block.rows.add((block.n - left + i) * block.width);
                    std::ptr::copy_nonoverlapping(from, keys.add(i * h.key_dim), h.key_dim);
                }
                *h.state = left as f32;
                *h.state.add(1) = block.gates[block.n - 1].decayed;
            }
        }
    }

    /// Brings `new` tokens from `first` on together, behind those that wait in the state.
    ///
    /// # Safety
    /// As the module; the block has room, the tokens are the head's, and `keys` are the state's waiting keys.
    #[inline(always)]
    unsafe fn gather<L: Lanes>(h: &Head<'_>, first: usize, new: usize, keys: *const f32, block: &mut Block) {
        let (d, scale) = (h.key_dim, 1.0 / (h.key_dim as f32).sqrt());
        // SAFETY: rows stay below the block's, tokens below the head's; the head vouches for its pointers.
        unsafe {
            block.waiting = (*h.state as usize).min(WAITING);
            block.n = block.waiting + new;
            let mut decayed = if block.waiting == 0 { 1.0 } else { *h.state.add(1) };
            for i in 0..block.waiting {
                std::ptr::copy_nonoverlapping(keys.add(i * d), block.rows.add(i * block.width), d);
            }
            for row in block.waiting..block.n {
                let t = first + row - block.waiting;
                ahead::<L>(h, t + AHEAD);
                let from = t * h.channels;
                let k = block.rows.add(row * block.width);
                let (q, v) = (k.add(d), k.add(2 * d));
                unit::<L>(h.k.add(from), d, 1.0, k);
                unit::<L>(h.q.add(from), d, scale, q);
                std::ptr::copy_nonoverlapping(h.v.add(from), v, h.value_dim);
                std::ptr::write_bytes(v.add(h.value_dim), 0, block.width - 2 * d - h.value_dim);
                let gates = &mut block.gates[row];
                gates.decay = *h.decay.add(t * h.value_heads);
                gates.beta = *h.beta.add(t * h.value_heads);
                decayed = if row % CHUNK == 0 { gates.decay } else { decayed * gates.decay };
                gates.decayed = decayed;
                for i in 0..=row % CHUNK {
                    let before = block.rows.add((row - row % CHUNK + i) * block.width);
                    gates.keys[i] = dot::<L>(before, k, d);
                    gates.queries[i] = dot::<L>(before, q, d);
                }
            }
        }
    }

    /// Asks for a token's key, query, values and outputs: rows lie too far apart for the hardware to guess.
    ///
    /// # Safety
    /// As the module.
    #[inline(always)]
    unsafe fn ahead<L: Lanes>(h: &Head<'_>, t: usize) {
        let (from, out) = (t * h.channels, t * h.outputs);
        // SAFETY: a prefetch of any address is harmless.
        unsafe {
            for i in (0..h.key_dim).step_by(16) {
                L::prefetch(h.k.wrapping_add(from + i).cast());
                L::prefetch(h.q.wrapping_add(from + i).cast());
            }
            for i in (0..h.value_dim).step_by(16) {
                L::prefetch(h.v.wrapping_add(from + i).cast());
                L::prefetch(h.out.wrapping_add(out + i).cast());
            }
        }
    }

    /// A block's tokens over `V` vectors of columns of a panel: those at `s`, whose waiting steps are at `steps`.
    ///
    /// Within a chunk, the state is `decayed * S + Σ_i k_i ⊗ e_i` with `S` as it was before the chunk and `e_i` the step
    /// of token `i` decayed since; `S` itself is only written when the chunk is complete.
    ///
    /// # Safety
    /// As the module; the block is gathered, `column` is one of its values', and the pointers are to the state.
    #[inline(always)]
    unsafe fn pass<L: Lanes, const V: usize>(
        key_dim: usize,
        block: &Block,
        column: usize,
        steps: *mut f32,
        s: *mut f32,
    ) {
        let columns = block.width - 2 * key_dim;
        // SAFETY: rows stay below the block's; vectors are within the panel's columns.
        unsafe {
            let mut e = [[L::splat(0.0); V]; CHUNK];
            for (i, e) in e.iter_mut().enumerate().take(block.waiting) {
                *e = load::<L, V>(steps.add(i * columns));
            }
            let mut next = block.waiting;
            while next < block.n {
                let first = next - next % CHUNK;
                let end = block.n.min(first + CHUNK);
                let k = block.rows.add(first * block.width);
                let row = block.rows.add(next * block.width);
                let mut read = [[[L::splat(0.0); V]; 2]; CHUNK];
                match end - next {
                    4 => sweep::<L, V, 4>(s, key_dim, row, block.width, &mut read),
                    3 => sweep::<L, V, 3>(s, key_dim, row, block.width, &mut read),
                    2 => sweep::<L, V, 2>(s, key_dim, row, block.width, &mut read),
                    _ => sweep::<L, V, 1>(s, key_dim, row, block.width, &mut read),
                }
                for (t, [u, o]) in (next..end).zip(read) {
                    let v = block.rows.add(t * block.width + 2 * key_dim + column);
                    token::<L, V>(&block.gates[t], t - first, u, o, &mut e, v);
                }
                if end == first + CHUNK {
                    write::<L, V>(s, key_dim, k, block.width, block.gates[end - 1].decayed, &e);
                }
                next = end;
            }
            for (i, e) in e.iter().enumerate().take(block.n % CHUNK) {
                store::<L, V>(*e, steps.add(i * columns));
            }
        }
    }

    /// Token `j` of a chunk, given `u = S^T k` and `o = S^T q` of the state before the chunk: replaces its values by
    /// its outputs, decays the steps before it and adds its own.
    ///
    /// # Safety
    /// As the module; `v` points to `V` vectors.
    #[inline(always)]
    unsafe fn token<L: Lanes, const V: usize>(
        gates: &Gates,
        j: usize,
        u: [L; V],
        o: [L; V],
        e: &mut [[L; V]; CHUNK],
        v: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let (decay, decayed) = (L::splat(gates.decay), L::splat(gates.decayed));
            let (mut u, mut o) = (u.map(|u| u.mul(decayed)), o.map(|o| o.mul(decayed)));
            for i in 0..j {
                let (key, query) = (L::splat(gates.keys[i]), L::splat(gates.queries[i]));
                for c in 0..V {
                    e[i][c] = e[i][c].mul(decay);
                    u[c] = e[i][c].fma(key, u[c]);
                    o[c] = e[i][c].fma(query, o[c]);
                }
            }
            let values = load::<L, V>(v);
            let (beta, query) = (L::splat(gates.beta), L::splat(gates.queries[j]));
            for c in 0..V {
                e[j][c] = values[c].sub(u[c]).mul(beta);
                o[c] = e[j][c].fma(query, o[c]);
            }
            store::<L, V>(o, v);
        }
    }

    /// `S^T k` and `S^T q` for `M` tokens: sums over four parts of the rows of `S`, each in order, and over the rest,
    /// added up in order. A token is `width` numbers that begin with its key and its query.
    ///
    /// # Safety
    /// As the module; `s` is `key_dim` rows of a panel.
    #[inline(always)]
    unsafe fn sweep<L: Lanes, const V: usize, const M: usize>(
        s: *const f32,
        key_dim: usize,
        tokens: *const f32,
        width: usize,
        read: &mut [[[L; V]; 2]; CHUNK],
    ) {
        let part = key_dim / PARTS;
        // SAFETY: rows stay below key_dim, tokens below M.
        unsafe {
            let zeros = [[[L::splat(0.0); V]; 2]; M];
            let mut total = zeros;
            if M == 1 {
                // All parts together: one sum at a time would wait for itself.
                let mut sums = [zeros; PARTS];
                for i in 0..part {
                    for p in 0..PARTS {
                        row::<L, V, M>(s, p * part + i, key_dim, tokens, width, &mut sums[p]);
                    }
                }
                for p in 0..PARTS {
                    add::<L, V, M>(&mut total, &sums[p]);
                }
            } else {
                for p in 0..PARTS {
                    let mut sums = zeros;
                    for i in p * part..(p + 1) * part {
                        row::<L, V, M>(s, i, key_dim, tokens, width, &mut sums);
                    }
                    add::<L, V, M>(&mut total, &sums);
                }
            }
            let mut rest = zeros;
            for i in PARTS * part..key_dim {
                row::<L, V, M>(s, i, key_dim, tokens, width, &mut rest);
            }
            add::<L, V, M>(&mut total, &rest);
            read[..M].copy_from_slice(&total);
        }
    }

    /// Adds row `i` of `S` times `k[i]` and `q[i]`.
    ///
    /// # Safety
    /// As [`sweep`].
    #[inline(always)]
    unsafe fn row<L: Lanes, const V: usize, const M: usize>(
        s: *const f32,
        i: usize,
        key_dim: usize,
        tokens: *const f32,
        width: usize,
        sums: &mut [[[L; V]; 2]; M],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = load::<L, V>(s.add(i * PANEL));
            for t in 0..M {
                let k = tokens.add(t * width + i);
                let (k, q) = (L::splat(*k), L::splat(*k.add(key_dim)));
                for c in 0..V {
                    sums[t][0][c] = x[c].fma(k, sums[t][0][c]);
                    sums[t][1][c] = x[c].fma(q, sums[t][1][c]);
                }
            }
        }
    }

    /// # Safety
    /// As the module.
    #[inline(always)]
    unsafe fn add<L: Lanes, const V: usize, const M: usize>(
        total: &mut [[[L; V]; 2]; M],
        sums: &[[[L; V]; 2]; M],
    ) {
        for t in 0..M {
            for side in 0..2 {
                for c in 0..V {
                    // SAFETY: no memory is touched.
                    total[t][side][c] = unsafe { total[t][side][c].add(sums[t][side][c]) };
                }
            }
        }
    }

    /// `S = decayed * S + Σ_i k_i ⊗ e_i` over a whole chunk, in its order. A key every `width` numbers.
    ///
    /// # Safety
    /// As the module; `s` is `key_dim` rows of a panel.
    #[inline(always)]
    unsafe fn write<L: Lanes, const V: usize>(
        s: *mut f32,
        key_dim: usize,
        k: *const f32,
        width: usize,
        decayed: f32,
        e: &[[L; V]; CHUNK],
    ) {
        // SAFETY: rows stay below key_dim.
        unsafe {
            let decayed = L::splat(decayed);
            for i in 0..key_dim {
                let at = s.add(i * PANEL);
                let mut x = load::<L, V>(at).map(|x| x.mul(decayed));
                for (t, e) in e.iter().enumerate() {
                    let k = L::splat(*k.add(t * width + i));
                    for c in 0..V {
                        x[c] = e[c].fma(k, x[c]);
                    }
                }
                store::<L, V>(x, at);
            }
        }
    }

    /// # Safety
    /// As the module, and for `V` vectors.
    #[inline(always)]
    unsafe fn load<L: Lanes, const V: usize>(from: *const f32) -> [L; V] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut x = [L::splat(0.0); V];
            for (c, x) in x.iter_mut().enumerate() {
                *x = L::load(from.add(c * L::N));
            }
            x
        }
    }

    /// # Safety
    /// As the module, and for `V` vectors.
    #[inline(always)]
    unsafe fn store<L: Lanes, const V: usize>(x: [L; V], to: *mut f32) {
        for (c, x) in x.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { x.store(to.add(c * L::N)) };
        }
    }
}
