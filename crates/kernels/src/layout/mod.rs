//! How packed weights lie in memory.
//!
//! Rows are packed in *panels* of 16, so that a vector register holds one number (or four bytes) of each row and
//! no sum ever runs across a register. A panel of a quantised format is *spans* of 256 columns (the last may have
//! fewer), one after the other, so that whoever goes over its columns reads memory from beginning to end: a second
//! stream beside the first halves what one core of the Zen 4 kind reads. A span is codes, then scales:
//!
//! - *codes*: units of 32 columns, `64 * bits` bytes each. The four codes of columns `4 g .. 4 g + 4` of a row are
//!   a *group*; a byte vector of 64 holds one group of each of the 16 rows. Codes narrower than a byte share
//!   vectors: two groups in the nibbles, four in the bit pairs, eight in the bits; widths of 3, 5 and 6 are a
//!   plane of 2 or 4 bits followed by a plane of the upper 1 or 2 bits.
//! - *scales*: per block the 16 rows' `d`, then `m`, then sub-scales, then minimums.
//!
//! A panel of a float format has 16 numbers per column; bf16 has pairs of columns, row after row, and whole units
//! of 32 columns. Every panel and every span starts at a cache line. Rows and columns that pad a panel are zero.

mod fields;
mod scheme;

use crate::Format;

pub(crate) use fields::Fields;
pub(crate) use scheme::{SPAN, Scheme, SubScales};

/// Rows of a panel.
pub(crate) const PANEL: usize = 16;

/// Sizes and offsets of a packed matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    pub(crate) scheme: Option<Scheme>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Layout {
    /// `None` when the row is not a whole number of blocks or the size cannot be addressed.
    pub(crate) fn new(format: Format, rows: usize, cols: usize) -> Option<Layout> {
        format.row_bytes(cols)?;
        let layout = Layout { format, scheme: Scheme::of(format), rows, cols };
        // No packed panel takes more than 16 f32 per column and padding.
        let bound = cols.checked_add(64)?.checked_mul(64)?.checked_mul(layout.panels())?;
        (bound <= isize::MAX as usize).then_some(layout)
    }

    /// Panels, the last of which may be partly empty.
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes of a panel.
    pub(crate) fn panel_bytes(&self) -> usize {
        let bytes = match (self.scheme, self.format) {
            (Some(scheme), _) => {
                self.cols / SPAN * scheme.span_bytes(SPAN) + scheme.span_bytes(self.cols % SPAN)
            }
            (None, Format::F32) => self.cols * PANEL * 4,
            (None, Format::BF16) => self.cols.next_multiple_of(32) * PANEL * 2,
            (None, _) => self.cols * PANEL * 2,
        };
        bytes.next_multiple_of(64)
    }

    /// Bytes of the whole matrix.
    pub(crate) fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }

    /// Fills a panel, all zero so far, from its rows in the file: the reference of `isa::pack`.
    pub(crate) fn pack_panel(&self, rows: &[u8], row_bytes: usize, out: &mut [u8]) {
        let mut fields = Fields::default();
        for (r, row) in rows.chunks_exact(row_bytes.max(1)).enumerate() {
            let Some(scheme) = self.scheme else {
                self.put_floats(row, r, out);
                continue;
            };
            for block in 0..self.cols / scheme.block {
                fields.read(self.format, row, block);
                let (codes, side) = scheme.place(self.cols, block * scheme.block);
                let units =
                    out[codes..][..scheme.codes_bytes(scheme.block)].chunks_exact_mut(scheme.unit_bytes());
                for (unit, from) in units.zip(fields.codes.chunks_exact(32)) {
                    put_unit(scheme.bits, from, r, unit);
                }
                put_side(&scheme, &fields, r, &mut out[side..][..scheme.side_bytes()]);
            }
        }
    }

    /// Values of row `r` of a packed panel.
    pub(crate) fn decode_row(&self, panel: &[u8], r: usize, out: &mut [f32]) {
        let Some(scheme) = self.scheme else {
            self.get_floats(panel, r, out);
            return;
        };
        let mut fields = Fields::default();
        for (block, out) in out.chunks_exact_mut(scheme.block).enumerate() {
            let (codes, side) = scheme.place(self.cols, block * scheme.block);
            let units = panel[codes..][..scheme.codes_bytes(scheme.block)].chunks_exact(scheme.unit_bytes());
            for (unit, to) in units.zip(fields.codes.chunks_exact_mut(32)) {
                get_unit(scheme.bits, unit, r, to);
            }
            get_side(&scheme, &panel[side..][..scheme.side_bytes()], r, &mut fields);
            fields.values(&scheme, out);
        }
    }

    fn put_floats(&self, row: &[u8], r: usize, out: &mut [u8]) {
        match self.format {
            Format::F32 => {
                for (to, from) in out.chunks_exact_mut(64).zip(row.chunks_exact(4)) {
                    to[4 * r..][..4].copy_from_slice(from);
                }
            }
            Format::BF16 => {
                for (to, from) in out.chunks_exact_mut(64).zip(row.chunks(4)) {
                    to[4 * r..][..from.len()].copy_from_slice(from);
                }
            }
            _ => {
                for (to, from) in out.chunks_exact_mut(32).zip(row.chunks_exact(2)) {
                    to[2 * r..][..2].copy_from_slice(from);
                }
            }
        }
    }

    fn get_floats(&self, panel: &[u8], r: usize, out: &mut [f32]) {
        for (k, out) in out.iter_mut().enumerate() {
            let (at, len) = match self.format {
                Format::F32 => (64 * k + 4 * r, 4),
                Format::BF16 => (64 * (k / 2) + 4 * r + 2 * (k % 2), 2),
                _ => (32 * k + 2 * r, 2),
            };
            self.format.decode(&panel[at..at + len], std::slice::from_mut(out));
        }
    }
}

/// The eight groups of a unit as words: one byte per code.
fn groups(codes: &[u8]) -> [u32; 8] {
    std::array::from_fn(|g| {
        u32::from_le_bytes([codes[4 * g], codes[4 * g + 1], codes[4 * g + 2], codes[4 * g + 3]])
    })
}

/// Width of the lower plane and of the upper one.
pub(crate) const fn planes(bits: usize) -> (usize, usize) {
    match bits {
        3 => (2, 1),
        5 => (4, 1),
        6 => (4, 2),
        whole => (whole, 0),
    }
}

pub(crate) const fn ones(bits: usize) -> u32 {
    ((1 << bits) - 1) * 0x0101_0101
}

/// Writes row `r` of a unit of 32 codes.
fn put_unit(bits: usize, codes: &[u8], r: usize, unit: &mut [u8]) {
    let groups = groups(codes);
    let (low, high) = planes(bits);
    let (low_plane, high_plane) = unit.split_at_mut(64 * low);
    put_plane(low, groups.map(|word| word & ones(low)), r, low_plane);
    if high > 0 {
        put_plane(high, groups.map(|word| word >> low & ones(high)), r, high_plane);
    }
}

fn put_plane(bits: usize, groups: [u32; 8], r: usize, plane: &mut [u8]) {
    let per = 8 / bits;
    for (vector, groups) in plane.chunks_exact_mut(64).zip(groups.chunks_exact(per)) {
        let word = groups.iter().enumerate().fold(0, |word, (s, group)| word | group << (s * bits));
        vector[4 * r..][..4].copy_from_slice(&word.to_le_bytes());
    }
}

fn get_unit(bits: usize, unit: &[u8], r: usize, codes: &mut [u8]) {
    let (low, high) = planes(bits);
    let (low_plane, high_plane) = unit.split_at(64 * low);
    for (g, codes) in codes.chunks_exact_mut(4).enumerate() {
        let mut word = get_group(low, low_plane, g, r);
        if high > 0 {
            word |= get_group(high, high_plane, g, r) << low;
        }
        codes.copy_from_slice(&word.to_le_bytes());
    }
}

fn get_group(bits: usize, plane: &[u8], g: usize, r: usize) -> u32 {
    let per = 8 / bits;
    let at = 64 * (g / per) + 4 * r;
    let word = u32::from_le_bytes([plane[at], plane[at + 1], plane[at + 2], plane[at + 3]]);
    word >> (g % per * bits) & ones(bits)
}

#[inline(always)]
pub(crate) fn put_side(scheme: &Scheme, fields: &Fields, r: usize, side: &mut [u8]) {
    if scheme.power {
        side[r] = fields.d[0];
    } else {
        side[2 * r..][..2].copy_from_slice(&fields.d);
    }
    if scheme.offset {
        side[scheme.offset_at() + 2 * r..][..2].copy_from_slice(&fields.m);
    }
    let mins = scheme.offset && scheme.block == 256;
    match scheme.scales {
        SubScales::None => {}
        SubScales::Nibbles => {
            for pair in 0..scheme.subs() / 2 {
                let nibbles = |from: &[u8; 16]| from[2 * pair] | from[2 * pair + 1] << 4;
                side[scheme.scales_at() + 16 * pair + r] = nibbles(&fields.scales);
                side[scheme.mins_at() + 16 * pair + r] = nibbles(&fields.mins);
            }
        }
        SubScales::Unsigned | SubScales::Signed => {
            for j in 0..scheme.subs() {
                side[scheme.scales_at() + 16 * j + r] = fields.scales[j];
                if mins {
                    side[scheme.mins_at() + 32 * (j / 2) + 2 * r + j % 2] = fields.mins[j];
                }
            }
        }
    }
}

fn get_side(scheme: &Scheme, side: &[u8], r: usize, fields: &mut Fields) {
    fields.d = if scheme.power { [side[r], 0] } else { [side[2 * r], side[2 * r + 1]] };
    if scheme.offset {
        let at = scheme.offset_at() + 2 * r;
        fields.m = [side[at], side[at + 1]];
    }
    let mins = scheme.offset && scheme.block == 256;
    for j in 0..scheme.subs() {
        match scheme.scales {
            SubScales::None => {}
            SubScales::Nibbles => {
                let nibble = |at: usize| side[at + 16 * (j / 2) + r] >> (4 * (j % 2)) & 15;
                fields.scales[j] = nibble(scheme.scales_at());
                fields.mins[j] = nibble(scheme.mins_at());
            }
            SubScales::Unsigned | SubScales::Signed => {
                fields.scales[j] = side[scheme.scales_at() + 16 * j + r];
                if mins {
                    fields.mins[j] = side[scheme.mins_at() + 32 * (j / 2) + 2 * r + j % 2];
                }
            }
        }
    }
}
