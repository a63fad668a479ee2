//! How each quantised format comes down to a few ideas: codes of some width, an optional table, one or two
//! levels of scales, optional minimums.

use crate::Format;
use crate::format::{KVALUES_IQ4NL, KVALUES_MXFP4};

/// Columns of a span: whole blocks of every format.
pub(crate) const SPAN: usize = 256;

/// Scales of the parts of a 256-value block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubScales {
    /// The block has one scale only.
    None,
    /// One unsigned byte each.
    Unsigned,
    /// One signed byte each.
    Signed,
    /// Two to a byte, the even one in the low nibble; so are the minimums.
    Nibbles,
}

/// What a quantised format is made of.
///
/// `value = d * scale * code' (+ m | - dmin * min)` where `code'` is `TABLE[code]`, or `code - bias`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheme {
    /// Values under one `d`: 32 or 256.
    pub(crate) block: usize,
    /// Values under one sub-scale: 16 or 32; `block` where there are none.
    pub(crate) sub: usize,
    /// Width of a stored code: 2, 3, 4, 5, 6 or 8. Codes of 8 bits are signed.
    pub(crate) bits: usize,
    /// What is subtracted from a code.
    pub(crate) bias: i32,
    /// What a code indexes.
    pub(crate) table: Option<[i8; 16]>,
    /// Sub-scales.
    pub(crate) scales: SubScales,
    /// Blocks of 32: an offset `m` is added. Blocks of 256: `dmin` times an unsigned minimum per sub-block is
    /// subtracted.
    pub(crate) offset: bool,
    /// `d` is a power of two (one byte) instead of a half-precision number.
    pub(crate) power: bool,
}

const SIMPLE: Scheme = Scheme {
    block: 32,
    sub: 32,
    bits: 4,
    bias: 0,
    table: None,
    scales: SubScales::None,
    offset: false,
    power: false,
};

const SUPER: Scheme = Scheme { block: 256, scales: SubScales::Unsigned, ..SIMPLE };

impl Scheme {
    /// The scheme of a quantised format; `None` for the float formats.
    pub(crate) const fn of(format: Format) -> Option<Scheme> {
        Some(match format {
            Format::F32 | Format::F16 | Format::BF16 => return None,
            Format::Q8_0 => Scheme { bits: 8, ..SIMPLE },
            Format::Q4_0 => Scheme { bias: 8, ..SIMPLE },
            Format::Q4_1 => Scheme { offset: true, ..SIMPLE },
            Format::Q5_0 => Scheme { bits: 5, bias: 16, ..SIMPLE },
            Format::Q5_1 => Scheme { bits: 5, offset: true, ..SIMPLE },
            Format::IQ4_NL => Scheme { table: Some(KVALUES_IQ4NL), ..SIMPLE },
            Format::MXFP4 => Scheme { table: Some(KVALUES_MXFP4), power: true, ..SIMPLE },
            Format::Q2_K => Scheme { bits: 2, sub: 16, offset: true, scales: SubScales::Nibbles, ..SUPER },
            Format::Q3_K => Scheme { bits: 3, sub: 16, bias: 4, scales: SubScales::Signed, ..SUPER },
            Format::Q4_K => Scheme { offset: true, ..SUPER },
            Format::Q5_K => Scheme { bits: 5, offset: true, ..SUPER },
            Format::Q6_K => Scheme { bits: 6, sub: 16, bias: 32, scales: SubScales::Signed, ..SUPER },
            Format::IQ4_XS => Scheme { table: Some(KVALUES_IQ4NL), scales: SubScales::Signed, ..SUPER },
        })
    }

    /// Codes that use the whole range of a signed byte: 8-bit codes and table values.
    #[inline(always)]
    pub(crate) const fn wide(&self) -> bool {
        self.bits == 8 || self.table.is_some()
    }

    /// Sub-blocks of a block.
    #[inline(always)]
    pub(crate) const fn subs(&self) -> usize {
        self.block / self.sub
    }

    /// Bytes that 16 rows of 32 codes take.
    #[inline(always)]
    pub(crate) const fn unit_bytes(&self) -> usize {
        64 * self.bits
    }

    /// Offset of the offsets `m` (or `dmin`) within a block's scales for 16 rows.
    #[inline(always)]
    pub(crate) const fn offset_at(&self) -> usize {
        if self.power { 16 } else { 32 }
    }

    /// Offset of the sub-scales: one vector of 16 rows after the other.
    #[inline(always)]
    pub(crate) const fn scales_at(&self) -> usize {
        self.offset_at() + if self.offset { 32 } else { 0 }
    }

    /// Bytes of all sub-scales of 16 rows (and as many of all minimums).
    #[inline(always)]
    const fn scales_bytes(&self) -> usize {
        match self.scales {
            SubScales::None => 0,
            SubScales::Nibbles => 8 * self.subs(),
            SubScales::Unsigned | SubScales::Signed => 16 * self.subs(),
        }
    }

    /// Offset of the minimums: pairs of neighbouring sub-blocks, row after row.
    #[inline(always)]
    pub(crate) const fn mins_at(&self) -> usize {
        self.scales_at() + self.scales_bytes()
    }

    /// Bytes of all scales of a block for 16 rows.
    #[inline(always)]
    pub(crate) const fn side_bytes(&self) -> usize {
        self.mins_at() + if self.offset && self.block == 256 { self.scales_bytes() } else { 0 }
    }

    /// Bytes that 16 rows of `cols` codes take.
    #[inline(always)]
    pub(crate) const fn codes_bytes(&self, cols: usize) -> usize {
        cols / 32 * self.unit_bytes()
    }

    /// Bytes of a span of `cols` columns.
    #[inline(always)]
    pub(crate) const fn span_bytes(&self, cols: usize) -> usize {
        (self.codes_bytes(cols) + cols / self.block * self.side_bytes()).next_multiple_of(64)
    }

    /// Where in a panel of `total` columns the codes and the scales from column `first` on are, up to the end of their
    /// span. A block begins with this column.
    #[inline(always)]
    pub(crate) const fn place(&self, total: usize, first: usize) -> (usize, usize) {
        let (span, within) = (first / SPAN, first % SPAN);
        let left = total - span * SPAN;
        let start = span * self.span_bytes(SPAN);
        let side = start + self.codes_bytes(if left < SPAN { left } else { SPAN });
        (start + self.codes_bytes(within), side + within / self.block * self.side_bytes())
    }
}
