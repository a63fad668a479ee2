//! Packing: sixteen rows of a file become a panel, in the order that [`Layout`] describes.
//!
//! Two steps for every 256 columns. A row's codes become the words that it has in the panel's vectors: plain loops,
//! which the compiler vectorises for each level. Then the words of sixteen rows are transposed.

#![allow(unsafe_code)]

mod turn;

use super::level::Level;
use super::product::codes::{Codes, by_format};
use crate::Format;
use crate::layout::{Fields, Layout, PANEL, SPAN, ones, planes, put_side};
use turn::{Plain, Turn};
#[cfg(target_arch = "x86_64")]
use turn::{Ymm, Zmm};

/// Columns of a step.
const STEP: usize = SPAN;

/// A row's words of a step; 64 if the codes are whole bytes.
type Words = [u32; STEP / 4];

/// Fills a panel, all zero so far, from its rows in the file (of the last there may be fewer): the same bytes as
/// [`Layout::pack_panel`].
pub(crate) fn panel(level: Level, layout: &Layout, rows: &[u8], row_bytes: usize, out: &mut [u8]) {
    let halves_of_pairs = layout.scheme.is_none() && layout.format != Format::F32 && layout.cols % 2 == 1;
    if rows.len() < PANEL * row_bytes || halves_of_pairs {
        return layout.pack_panel(rows, row_bytes, out);
    }
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that the CPU has the features.
        Level::Avx512(_) => unsafe { avx512(layout, rows, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that the CPU has the features.
        Level::Avx2(_) => unsafe { avx2(layout, rows, out) },
        // SAFETY: plain arrays need no feature.
        _ => unsafe { full::<Plain>(layout, rows, out) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2(layout: &Layout, rows: &[u8], out: &mut [u8]) {
    // SAFETY: this function has the features.
    unsafe { full::<Ymm>(layout, rows, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
fn avx512(layout: &Layout, rows: &[u8], out: &mut [u8]) {
    // SAFETY: this function has the features.
    unsafe { full::<Zmm>(layout, rows, out) }
}

/// # Safety
/// As [`Turn`].
#[inline(always)]
unsafe fn full<T: Turn>(layout: &Layout, rows: &[u8], out: &mut [u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        match layout.scheme {
            None => floats::<T>(layout.format, rows, out),
            Some(_) => by_format!(layout.format, C => quantised::<C, T>(layout, rows, out)),
        }
    }
}

/// # Safety
/// As [`Turn`].
#[inline(always)]
unsafe fn quantised<C: Codes, T: Turn>(layout: &Layout, rows: &[u8], out: &mut [u8]) {
    let scheme = const { C::SCHEME };
    let (mut fields, mut codes) = (Fields::default(), [0; STEP]);
    let mut words: [Words; PANEL] = [[0; STEP / 4]; PANEL];
    for (step, span) in out.chunks_mut(scheme.span_bytes(STEP)).enumerate() {
        let cols = STEP.min(layout.cols - step * STEP);
        let first = step * (STEP / scheme.block);
        let (codes_out, side_out) = span.split_at_mut(scheme.codes_bytes(cols));
        let side_out = &mut side_out[..cols / scheme.block * scheme.side_bytes()];
        let row_bytes = rows.len() / PANEL;
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            // The next panel's part, which mostly follows.
            let ahead = row.as_ptr().wrapping_add(rows.len() + first * C::FORMAT.block_bytes());
            for line in (0..row_bytes.min(STEP / scheme.block * C::FORMAT.block_bytes())).step_by(64) {
                // SAFETY: the caller's promise.
                unsafe { T::prefetch(ahead.wrapping_add(line)) };
            }
            for (block, side) in side_out.chunks_exact_mut(scheme.side_bytes()).enumerate() {
                fields.read(C::FORMAT, row, first + block);
                codes[block * scheme.block..][..scheme.block].copy_from_slice(&fields.codes[..scheme.block]);
                put_side(&scheme, &fields, r, side);
            }
            words_of(scheme.bits, &codes, &mut words[r]);
        }
        let from = words.as_ptr().cast::<u32>();
        for (group, vectors) in codes_out.chunks_mut(16 * 64).enumerate() {
            // SAFETY: the caller's promise; the group is one of four in the words of a row.
            unsafe { turned::<T>(from.add(16 * group), size_of::<Words>(), vectors) };
        }
    }
}

/// The words of 256 codes of a row: one for each byte vector of the panel, in order.
#[inline(always)]
fn words_of(bits: usize, codes: &[u8; STEP], out: &mut Words) {
    let groups: Words = std::array::from_fn(|g| {
        u32::from_le_bytes([codes[4 * g], codes[4 * g + 1], codes[4 * g + 2], codes[4 * g + 3]])
    });
    let (low, high) = planes(bits);
    if high == 0 {
        plane(low, &groups, out);
        return;
    }
    let (mut lower, mut upper) = ([0; STEP / 4], [0; STEP / 4]);
    plane(low, &groups.map(|word| word & ones(low)), &mut lower);
    plane(high, &groups.map(|word| word >> low & ones(high)), &mut upper);
    for unit in 0..STEP / 32 {
        let out = &mut out[unit * bits..][..bits];
        out[..low].copy_from_slice(&lower[unit * low..][..low]);
        out[low..].copy_from_slice(&upper[unit * high..][..high]);
    }
}

#[inline(always)]
fn plane(bits: usize, groups: &Words, out: &mut Words) {
    let per = 8 / bits;
    for (word, groups) in out.iter_mut().zip(groups.chunks_exact(per)) {
        *word = groups.iter().enumerate().fold(0, |word, (s, group)| word | group << (s * bits));
    }
}

/// # Safety
/// As [`Turn`].
#[inline(always)]
unsafe fn floats<T: Turn>(format: Format, rows: &[u8], out: &mut [u8]) {
    let row_bytes = rows.len() / PANEL;
    let words = row_bytes / 4;
    for first in (0..words).step_by(16) {
        let count = (words - first).min(16);
        let vectors = &mut out[64 * first..][..64 * count];
        if count == 16 {
            // SAFETY: the caller's promise; 16 words of each row start there.
            unsafe { turned::<T>(rows.as_ptr().cast::<u32>().add(first), row_bytes, vectors) };
        } else {
            for (k, vector) in vectors.chunks_exact_mut(64).enumerate() {
                for (r, to) in vector.chunks_exact_mut(4).enumerate() {
                    to.copy_from_slice(&rows[r * row_bytes + 4 * (first + k)..][..4]);
                }
            }
        }
        if format == Format::F16 {
            vectors.chunks_exact_mut(64).for_each(unpair);
        }
    }
}

/// Sixteen pairs of 2-byte numbers become the sixteen firsts and the sixteen seconds.
#[inline(always)]
fn unpair(vector: &mut [u8]) {
    let words: [u32; 16] = std::array::from_fn(|r| {
        u32::from_le_bytes([vector[4 * r], vector[4 * r + 1], vector[4 * r + 2], vector[4 * r + 3]])
    });
    let (firsts, seconds) = vector.split_at_mut(32);
    for ((first, second), word) in firsts.chunks_exact_mut(2).zip(seconds.chunks_exact_mut(2)).zip(words) {
        first.copy_from_slice(&(word as u16).to_le_bytes());
        second.copy_from_slice(&((word >> 16) as u16).to_le_bytes());
    }
}

/// Transposes words of sixteen rows, `stride` bytes apart, into at most sixteen vectors.
///
/// # Safety
/// As [`Turn`]; sixteen words of each row are there.
#[inline(always)]
unsafe fn turned<T: Turn>(from: *const u32, stride: usize, vectors: &mut [u8]) {
    // SAFETY: the caller's promise; there is room for sixteen vectors.
    unsafe {
        if vectors.len() == 16 * 64 {
            T::turn(from, stride, vectors.as_mut_ptr());
        } else {
            let mut all = [0; 16 * 64];
            T::turn(from, stride, all.as_mut_ptr());
            vectors.copy_from_slice(&all[..vectors.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Numbers of columns that end in every part of a step.
    fn widths(format: Format) -> &'static [usize] {
        match format.block_len() {
            1 => &[1, 2, 30, 31, 32, 33, 64, 94, 256],
            32 => &[32, 64, 96, 224, 256, 288, 544],
            _ => &[256, 512, 1280],
        }
    }

    #[test]
    fn every_level_packs_the_same_bytes() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for format in Format::ALL {
            for &cols in widths(format) {
                for rows in [1, 15, 16, 17, 48] {
                    let layout = Layout::new(format, rows, cols).unwrap();
                    let row_bytes = format.row_bytes(cols).unwrap();
                    let data: Vec<u8> = (0..rows * row_bytes).map(|_| random()).collect();
                    for (index, data) in data.chunks(PANEL * row_bytes).enumerate() {
                        let mut expected = vec![0; layout.panel_bytes()];
                        layout.pack_panel(data, row_bytes, &mut expected);
                        for isa in Isa::ALL {
                            let mut packed = vec![0; layout.panel_bytes()];
                            panel(Level::of(isa), &layout, data, row_bytes, &mut packed);
                            assert!(packed == expected, "{format} {rows} x {cols}, panel {index}, {isa}");
                        }
                    }
                }
            }
        }
    }
}
