//! Attention of one tile over one partition of the keys, written once over [`Lanes`].
//!
//! Scores: a register tile holds `R` rows by two vectors of tokens and walks the dims. Values: `R` rows by `C`
//! vectors of dims, walking the tokens. Either way every sum runs over dims or tokens in ascending order in one
//! lane, so a row's bits do not depend on which register tile it was in. With [`WIDEN`] rows or more a page is
//! widened to f32 once for all of them; the same numbers then come from there.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod ints;
mod paths;
mod turn;

use super::level::{Level, levels};
use crate::Isa;
use crate::attention::{KvFormat, MAX_ROWS, Scratch, Tile};
use crate::cpu::{Amx, Avx512};

/// From this many rows on, widening a page once is cheaper than widening each load.
const WIDEN: usize = 16;

/// What multiplies bf16 pages, together with the proof that this CPU offers it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) enum Bf16Products {
    /// Vectors of f32, as for every format.
    Vectors,
    /// bf16 dot products.
    #[expect(dead_code, reason = "the proof that there are such instructions, not something to read")]
    Dots(Avx512),
    /// bf16 tiles.
    Tiles(Amx),
}

impl Bf16Products {
    /// The fastest that `isa` includes and this CPU offers. Asks the system: not for every call.
    ///
    /// AMD's cores do as many bf16 dot products as f32 products, with twice the numbers; Intel's a quarter as many
    /// (measured: 106 against 213 G operations/s on one core).
    pub(crate) fn of(isa: Isa) -> Bf16Products {
        let tiles = || (isa >= Isa::Amx).then(Amx::detect).flatten().map(Bf16Products::Tiles);
        let wide = || (isa >= Isa::Avx512).then(Avx512::detect).flatten();
        let dots = || wide().filter(|token| token.amd()).map(Bf16Products::Dots);
        tiles().or_else(dots).unwrap_or(Bf16Products::Vectors)
    }
}

/// The functions that attention uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) level: Level,
    pub(crate) bf16: Bf16Products,
}

/// Softmax attention of the tile over one partition: `scratch.part` (cleared before) receives the result.
pub(crate) fn partition(choice: Choice, tile: &Tile<'_>, part: usize, scratch: &mut Scratch) {
    #[cfg(target_arch = "x86_64")]
    if tile.store.shape().format == KvFormat::Bf16 {
        match choice.bf16 {
            Bf16Products::Tiles(token) if amx::fits(tile) => {
                return amx::partition(token, tile, part, scratch);
            }
            // SAFETY: the token proves that the CPU has the features.
            Bf16Products::Dots(_) => return unsafe { dots(tile, part, scratch) },
            _ => {}
        }
    }
    if tile.store.shape().format.block().is_some() {
        by_integers(choice.level, tile, part, scratch);
    } else {
        by_lanes(choice.level, tile, part, scratch);
    }
}

/// Rows of a tile that suit the functions: whole register tiles, few enough for their scores to stay in the cache.
pub(crate) fn tile_rows(choice: Choice, format: KvFormat) -> usize {
    match choice.bf16 {
        Bf16Products::Tiles(_) if format == KvFormat::Bf16 => MAX_ROWS,
        _ => 48,
    }
}

levels! {
    /// Attention in f32, whatever floats the pages hold.
    fn by_lanes(tile: &Tile<'_>, part: usize, scratch: &mut Scratch);
    /// Attention in integers.
    fn by_integers(tile: &Tile<'_>, part: usize, scratch: &mut Scratch);
    /// `to = from * factor`, without negative zeros.
    fn scale_into(from: &[f32], factor: f32, to: &mut [f32]);
    /// Rounds numbers to nearest even in a 16-bit format; beyond the range of f16 to its largest number.
    fn narrow(format: KvFormat, from: &[f32], to: &mut [u16]);
    /// Rounds numbers to multiples of a scale, which is returned: the largest becomes `top`. With `half` the scale is
    /// one that f16 can hold.
    fn whole(from: &[f32], top: f32, half: bool, to: &mut [i16]) -> f32;
    /// `to = to * ours + from * theirs`.
    fn blend(to: &mut [f32], ours: f32, from: &[f32], theirs: f32);
    /// `out[s] = sum_h weights[h] * max(0, q_h * k_s)` over the rows `h` of a tile that all see the same keys.
    fn index(tile: &Tile<'_>, weights: &[f32], scratch: &mut Scratch, out: &mut [f32]);
}

/// Attention by bf16 dot products.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn dots(tile: &Tile<'_>, part: usize, scratch: &mut Scratch) {
    // SAFETY: this function has the features of the vector type.
    unsafe { generic::run::<super::lanes::F32x16, paths::Dot>(tile, part, scratch) }
}

/// # Safety
/// As [`Lanes`](super::lanes::Lanes): callers have the instruction set.
mod generic {
    use super::ints::{Bytes, Integers, Words};
    use super::paths::{Ahead, Bf16, F16, F32, Path, Plain, query_words};
    use super::turn::turn;
    use super::{KvFormat, Scratch, Tile, WIDEN};
    use crate::attention::{LOWEST, PAGE, PARTITION, QUERY_BLOCK, ROW};
    use crate::isa::lanes::{Lanes, exp_down, largest, load_part, magnitude, store_part, sum, tanh};
    use std::ops::Range;

    #[inline(always)]
    pub(super) unsafe fn by_lanes<L: Lanes>(tile: &Tile<'_>, part: usize, scratch: &mut Scratch) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            match tile.store.shape().format {
                KvFormat::F32 => run::<L, Plain<F32>>(tile, part, scratch),
                KvFormat::F16 => run::<L, Plain<F16>>(tile, part, scratch),
                KvFormat::Bf16 => run::<L, Plain<Bf16>>(tile, part, scratch),
                KvFormat::I16 | KvFormat::Q8_0 => unreachable!("integers have a path of their own"),
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn by_integers<L: Lanes>(tile: &Tile<'_>, part: usize, scratch: &mut Scratch) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            match tile.store.shape().format {
                KvFormat::Q8_0 => run::<L, Integers<Bytes>>(tile, part, scratch),
                _ => run::<L, Integers<Words>>(tile, part, scratch),
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn whole<L: Lanes>(from: &[f32], top: f32, half: bool, to: &mut [i16]) -> f32 {
        assert_eq!(from.len(), to.len());
        let whole = from.len() - from.len() % (2 * L::N);
        let (vectors, rest) = from.split_at(whole);
        // SAFETY: the caller has the instruction set; vectors lie inside both slices.
        unsafe {
            let larger = |most: L, x: &[f32]| magnitude(L::load(x.as_ptr())).max(most);
            let most = largest(vectors.chunks_exact(L::N).fold(L::splat(0.0), larger));
            let most = rest.iter().fold(most, |most, x| most.max(x.abs()));
            let scale = if half { half::f16::from_f32(most / top).to_f32() } else { most / top };
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let (least, most) = (L::splat(-top), L::splat(top));
            let code = |at: usize| L::load(from.as_ptr().add(at)).mul(L::splat(inverse)).max(least).min(most);
            for at in (0..whole).step_by(2 * L::N) {
                L::store_two_i16(code(at), code(at + L::N), to.as_mut_ptr().add(at));
            }
            for (to, x) in to[whole..].iter_mut().zip(rest) {
                *to = (x * inverse).clamp(-top, top).round_ties_even() as i16;
            }
            scale
        }
    }

    // These two vectorise by themselves once they are compiled for the level.
    #[inline(always)]
    pub(super) unsafe fn scale_into<L: Lanes>(from: &[f32], factor: f32, to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from * factor + 0.0);
    }

    #[inline(always)]
    pub(super) unsafe fn narrow<L: Lanes>(format: KvFormat, from: &[f32], to: &mut [u16]) {
        assert_eq!(from.len(), to.len());
        if format == KvFormat::Bf16 {
            for (to, x) in to.iter_mut().zip(from) {
                let bits = x.to_bits();
                let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
                *to = if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded };
            }
            return;
        }
        let whole = from.len() - from.len() % L::N;
        // SAFETY: whole vectors inside both slices, then copies of at most a vector.
        unsafe {
            for i in (0..whole).step_by(L::N) {
                L::load(from.as_ptr().add(i)).store_f16(to.as_mut_ptr().add(i));
            }
            if whole < from.len() {
                let mut rest = [0; 16];
                load_part::<L>(from.as_ptr().add(whole), from.len() - whole, 0.0)
                    .store_f16(rest.as_mut_ptr());
                to[whole..].copy_from_slice(&rest[..from.len() - whole]);
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn blend<L: Lanes>(to: &mut [f32], ours: f32, from: &[f32], theirs: f32) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *to * ours + *from * theirs);
    }

    #[inline(always)]
    pub(super) unsafe fn index<L: Lanes>(
        tile: &Tile<'_>,
        weights: &[f32],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            match tile.store.shape().format {
                KvFormat::F32 => index_by::<L, Plain<F32>>(tile, weights, scratch, out),
                KvFormat::F16 => index_by::<L, Plain<F16>>(tile, weights, scratch, out),
                KvFormat::Bf16 => index_by::<L, Plain<Bf16>>(tile, weights, scratch, out),
                KvFormat::I16 | KvFormat::Q8_0 => unreachable!("latent vectors are floats"),
            }
        }
    }

    #[inline(always)]
    unsafe fn index_by<L: Lanes, P: Path<L>>(
        tile: &Tile<'_>,
        weights: &[f32],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let seen = tile.seen(0);
        assert_eq!((tile.rows, tile.heads, out.len()), (weights.len(), weights.len(), seen.len()));
        // SAFETY: the caller has the instruction set; scores are rows of PARTITION columns.
        unsafe {
            pack_queries::<L, P>(tile.rows, tile.store.shape().key_stride(), scratch);
            for (part, out) in out.chunks_mut(PARTITION).enumerate() {
                let first = part * PARTITION / PAGE;
                all_scores::<L, P>(tile, &(first..first + out.len().div_ceil(PAGE)), scratch);
                for (i, out) in out.chunks_mut(L::N).enumerate() {
                    let mut total = L::splat(0.0);
                    for (row, weight) in weights.iter().enumerate() {
                        let score = L::load(scratch.scores.as_ptr().add(row * ROW + i * L::N));
                        total = score.max(L::splat(0.0)).fma(L::splat(*weight), total);
                    }
                    if out.len() == L::N {
                        total.store(out.as_mut_ptr());
                    } else {
                        store_part(total, out.as_mut_ptr(), out.len());
                    }
                }
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn run<L: Lanes, P: Path<L>>(tile: &Tile<'_>, part: usize, scratch: &mut Scratch) {
        let borders = part * PARTITION..(part + 1) * PARTITION;
        let seen = intersect(&tile.seen_by_any(0..tile.rows), &borders);
        if seen.is_empty() {
            return;
        }
        let pages = seen.start / PAGE..seen.end.div_ceil(PAGE);
        // SAFETY: the caller has the instruction set.
        unsafe {
            pack_queries::<L, P>(tile.rows, tile.store.shape().key_stride(), scratch);
            all_scores::<L, P>(tile, &pages, scratch);
            let columns = pages.start * PAGE - borders.start..pages.end * PAGE - borders.start;
            for row in 0..tile.rows {
                let seen = intersect(&tile.seen(row), &borders);
                let scores = &mut scratch.scores[row * ROW..(row + 1) * ROW];
                let max = mask::<L>(scores, &columns, &seen, borders.start, tile.softcap);
                let sum = weights::<L>(scores, &columns, max);
                scratch.part.max[row] = max;
                scratch.part.sum[row] = P::finish_weights(row, &columns, scratch).unwrap_or(sum);
            }
            all_values::<L, P>(tile, &pages, &seen, scratch);
        }
    }

    /// Packs the queries for the register tiles: of the rows of a tile, 16 words each in turn, so that the walk
    /// over the dims reads them in one stream.
    #[inline(always)]
    unsafe fn pack_queries<L: Lanes, P: Path<L>>(rows: usize, stride: usize, scratch: &mut Scratch) {
        let words = query_words::<L, P>(stride);
        let from_stride = scratch.query_stride;
        let mut row = 0;
        while row < rows {
            let tile = step::<L>(rows - row);
            for r in 0..tile {
                // SAFETY: both buffers have room for MAX_ROWS rows of whole blocks.
                unsafe {
                    let from = scratch.q.as_ptr().add((row + r) * from_stride);
                    let to = scratch.packed.as_mut_ptr().add(row * words + r * QUERY_BLOCK);
                    scratch.factors[row + r] =
                        P::pack_query(from, to, tile * QUERY_BLOCK, words / QUERY_BLOCK);
                }
            }
            row += tile;
        }
    }

    pub(super) fn intersect(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
        a.start.max(b.start)..a.end.min(b.end)
    }

    /// The rows of the next register tile out of `left`.
    #[inline(always)]
    fn step<L: Lanes>(left: usize) -> usize {
        match left {
            n if n >= L::ROWS => L::ROWS,
            n if n >= 4 && L::ROWS > 4 => 4,
            n if n >= 2 => 2,
            _ => 1,
        }
    }

    /// Whether any of the rows sees anything of the page.
    #[inline(always)]
    fn visible(tile: &Tile<'_>, rows: Range<usize>, page: usize) -> bool {
        !intersect(&tile.seen_by_any(rows), &(page * PAGE..(page + 1) * PAGE)).is_empty()
    }

    /// The scores of all rows with the tokens of `pages`.
    #[inline(always)]
    unsafe fn all_scores<L: Lanes, P: Path<L>>(tile: &Tile<'_>, pages: &Range<usize>, scratch: &mut Scratch) {
        let stride = tile.store.shape().key_stride();
        let wide = tile.rows >= WIDEN && P::WIDENS;
        let head = |page: usize| tile.store.head(tile.pages[page], tile.kv_head);
        for page in pages.clone() {
            let keys = head(page).0;
            // The values come when all keys of the partition have been seen.
            let next = if page + 1 < pages.end { head(page + 1).0 } else { head(pages.start).1 };
            let ahead = Ahead { next: next.as_ptr(), near: scratch.near };
            let column = page * PAGE % PARTITION;
            // SAFETY: a head's keys are stride dims of PAGE tokens; the scratch has MAX_ROWS rows of each kind.
            unsafe {
                if wide {
                    P::widen_keys(keys.as_ptr(), stride, scratch.wide.as_mut_ptr());
                }
                let mut row = 0;
                while row < tile.rows {
                    let rows = step::<L>(tile.rows - row);
                    if visible(tile, row..row + rows, page) {
                        let to = scratch.scores.as_mut_ptr().add(row * ROW + column);
                        if wide {
                            let keys = scratch.wide.as_ptr().cast();
                            scores::<L, Plain<F32>>(rows, row, keys, ahead, stride, scratch, to);
                        } else {
                            scores::<L, P>(rows, row, keys.as_ptr(), ahead, stride, scratch, to);
                        }
                    }
                    row += rows;
                }
            }
        }
    }

    /// # Safety
    /// As [`Path::scores`].
    #[inline(always)]
    unsafe fn scores<L: Lanes, P: Path<L>>(
        rows: usize,
        row: usize,
        keys: *const u8,
        ahead: Ahead,
        stride: usize,
        scratch: &Scratch,
        to: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                12 => P::scores::<12>(row, keys, ahead, stride, scratch, to),
                6 => P::scores::<6>(row, keys, ahead, stride, scratch, to),
                4 => P::scores::<4>(row, keys, ahead, stride, scratch, to),
                2 => P::scores::<2>(row, keys, ahead, stride, scratch, to),
                _ => P::scores::<1>(row, keys, ahead, stride, scratch, to),
            }
        }
    }

    /// Caps a row's scores, makes those that the row does not see negative infinity, and returns the largest.
    #[inline(always)]
    pub(super) unsafe fn mask<L: Lanes>(
        scores: &mut [f32],
        columns: &Range<usize>,
        seen: &Range<usize>,
        origin: usize,
        softcap: Option<f32>,
    ) -> f32 {
        if seen.is_empty() {
            scores[columns.clone()].fill(f32::NEG_INFINITY);
            return LOWEST;
        }
        let seen = seen.start - origin..seen.end - origin;
        scores[columns.start..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..columns.end].fill(f32::NEG_INFINITY);
        assert!(columns.end <= scores.len());
        let scores = scores.as_mut_ptr();
        // SAFETY: columns are inside the row and a multiple of PAGE wide.
        unsafe {
            let lowest = L::splat(LOWEST);
            let mut most = lowest;
            for i in columns.clone().step_by(L::N) {
                let mut score = L::load(scores.add(i));
                if let Some(cap) = softcap {
                    // tanh would turn the negative infinity of unseen tokens into a number.
                    let cap = L::splat(cap);
                    score = score.select_lt(lowest, score, tanh(score.div(cap)).mul(cap));
                    score.store(scores.add(i));
                }
                most = score.max(most);
            }
            largest(most)
        }
    }

    /// Turns a row's scores into weights relative to `max`; returns their sum.
    #[inline(always)]
    unsafe fn weights<L: Lanes>(scores: &mut [f32], columns: &Range<usize>, max: f32) -> f32 {
        assert!(columns.end <= scores.len());
        let scores = scores.as_mut_ptr();
        // SAFETY: columns are inside the row and a multiple of PAGE wide.
        unsafe {
            let shift = L::splat(max);
            let mut total = L::splat(0.0);
            for i in columns.clone().step_by(L::N) {
                let weight = exp_down(L::load(scores.add(i)).sub(shift));
                weight.store(scores.add(i));
                total = total.add(weight);
            }
            sum(total)
        }
    }

    /// Adds the weighted values of `pages` to the rows' results.
    #[inline(always)]
    unsafe fn all_values<L: Lanes, P: Path<L>>(
        tile: &Tile<'_>,
        pages: &Range<usize>,
        seen: &Range<usize>,
        scratch: &mut Scratch,
    ) {
        let shape = tile.store.shape();
        let stride = shape.value_stride();
        let wide = tile.rows >= WIDEN && P::WIDENS;
        let head = |page: usize| tile.store.head(tile.pages[page], tile.kv_head);
        let end = tile.seen_by_any(0..tile.rows).end.div_ceil(PAGE);
        for page in pages.clone() {
            let (keys, mut values) = head(page);
            // After the last values of a partition come the keys of the next.
            let next = match page + 1 {
                next if next < pages.end => head(next).1,
                next if next < end => head(next).0,
                _ => values,
            };
            let ahead = Ahead { next: next.as_ptr(), near: scratch.near };
            let column = page * PAGE % PARTITION;
            let here = intersect(seen, &(page * PAGE..(page + 1) * PAGE));
            if shape.shared() {
                turn(&shape, keys, &mut scratch.turned);
                values = bytemuck::cast_slice(&scratch.turned[..]);
            }
            if here.len() < PAGE && !P::MASKS {
                tile.store.copy_values(
                    values,
                    here.start % PAGE..here.start % PAGE + here.len(),
                    &mut scratch.ragged,
                );
                values = bytemuck::cast_slice(&scratch.ragged[..]);
            }
            // SAFETY: a head's values are PAGE tokens of stride dims; the scratch has MAX_ROWS rows of each kind.
            unsafe {
                let mut values = values.as_ptr();
                P::weigh(tile, values, stride, column, &here, scratch);
                if wide {
                    P::widen_values(values, stride, scratch.wide.as_mut_ptr());
                    values = scratch.wide.as_ptr().cast();
                }
                let mut row = 0;
                while row < tile.rows {
                    let rows = step::<L>(tile.rows - row);
                    if visible(tile, row..row + rows, page) {
                        let acc = scratch.part.acc.as_mut_ptr().add(row * stride);
                        let from = row * ROW + column;
                        if wide {
                            weigh::<L, Plain<F32>>(rows, from, values, ahead, stride, scratch, acc);
                        } else {
                            weigh::<L, P>(rows, from, values, ahead, stride, scratch, acc);
                        }
                    }
                    row += rows;
                }
            }
        }
    }

    /// # Safety
    /// As [`Path::values`], for all `stride` dims.
    #[inline(always)]
    unsafe fn weigh<L: Lanes, P: Path<L>>(
        rows: usize,
        from: usize,
        values: *const u8,
        ahead: Ahead,
        stride: usize,
        scratch: &Scratch,
        acc: *mut f32,
    ) {
        let vectors = stride / L::N;
        let mut at = 0;
        // SAFETY: the caller's promise; dims stay below vectors * N = stride.
        unsafe {
            while at < vectors {
                let left = vectors - at;
                let dim = at * L::N;
                macro_rules! tile {
                    ($rows:literal, $columns:literal) => {{
                        P::values::<$rows, $columns>(from, values, ahead, dim, stride, scratch, acc);
                        at += $columns;
                    }};
                }
                match (rows, L::N) {
                    (12, _) if left >= 2 => tile!(12, 2),
                    (12, _) => tile!(12, 1),
                    (6, _) if left >= 2 => tile!(6, 2),
                    (6, _) => tile!(6, 1),
                    (4, 16) if left >= 4 => tile!(4, 4),
                    (4, _) if left >= 2 => tile!(4, 2),
                    (4, _) => tile!(4, 1),
                    (2, 16) if left >= 8 => tile!(2, 8),
                    (2, _) if left >= 2 => tile!(2, 2),
                    (2, _) => tile!(2, 1),
                    (_, 16) if left >= 8 => tile!(1, 8),
                    (_, _) if left >= 4 => tile!(1, 4),
                    _ => tile!(1, 1),
                }
            }
        }
    }
}
