//! The types of number that tensors in files are made of.

use half::f16;
use sampan_kernels::Format;

/// What a tensor's data consists of: everything that safetensors and GGUF files can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    /// A format that matrices can be computed with, float or quantized.
    Block(Format),
    F64,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    /// One byte, 0 or 1.
    Bool,
    /// Sign, 4 exponent bits (bias 7), 3 mantissa bits; no infinity (arXiv 2209.05433, "E4M3").
    F8E4M3,
    /// Sign, 5 exponent bits, 2 mantissa bits: the upper byte of an F16 (arXiv 2209.05433, "E5M2").
    F8E5M2,
    /// A power of two, 2^(x-127); 255 is NaN (OCP microscaling formats, "E8M0").
    F8E8M0,
    /// As E4M3 with bias 8 and a single NaN in the place of minus zero (arXiv 2206.02915).
    F8E4M3Fnuz,
    /// As E5M2 with bias 16 and a single NaN in the place of minus zero (arXiv 2206.02915).
    F8E5M2Fnuz,
    /// Four bits, two to a byte.
    F4,
    /// Six bits with 2 exponent bits.
    F6E2M3,
    /// Six bits with 3 exponent bits.
    F6E3M2,
    /// Two F32, the parts of a complex number.
    C64,
    /// A GGUF tensor type, by number, that sampan cannot compute with.
    Unsupported(u32),
}

/// GGUF tensor types that are known by name and size but not computed with: id, name, values and bytes per block.
const FOREIGN: [(u32, &str, usize, usize); 15] = [
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (29, "IQ1_M", 256, 56),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    // Row-interleaved variants that early builds wrote; the layout of a row is that of Q4_0.
    (31, "Q4_0_4_4", 32, 18),
    (32, "Q4_0_4_8", 32, 18),
    (33, "Q4_0_8_8", 32, 18),
];

impl Dtype {
    /// The type with a GGUF number; unknown ones become [`Dtype::Unsupported`].
    pub fn from_ggml(id: u32) -> Dtype {
        match id {
            24 => Dtype::I8,
            25 => Dtype::I16,
            26 => Dtype::I32,
            27 => Dtype::I64,
            28 => Dtype::F64,
            _ => Format::from_ggml(id).map_or(Dtype::Unsupported(id), Dtype::Block),
        }
    }

    /// The number GGUF files use for this type; `None` when GGUF has none.
    pub fn ggml_id(self) -> Option<u32> {
        match self {
            Dtype::Block(format) => Some(format.ggml_id()),
            Dtype::I8 => Some(24),
            Dtype::I16 => Some(25),
            Dtype::I32 => Some(26),
            Dtype::I64 => Some(27),
            Dtype::F64 => Some(28),
            Dtype::Unsupported(id) => Some(id),
            _ => None,
        }
    }

    const SAFETENSORS: [(&'static str, Dtype); 22] = [
        ("BOOL", Dtype::Bool),
        ("F4", Dtype::F4),
        ("F6_E2M3", Dtype::F6E2M3),
        ("F6_E3M2", Dtype::F6E3M2),
        ("U8", Dtype::U8),
        ("I8", Dtype::I8),
        ("F8_E5M2", Dtype::F8E5M2),
        ("F8_E4M3", Dtype::F8E4M3),
        ("F8_E8M0", Dtype::F8E8M0),
        ("F8_E4M3FNUZ", Dtype::F8E4M3Fnuz),
        ("F8_E5M2FNUZ", Dtype::F8E5M2Fnuz),
        ("I16", Dtype::I16),
        ("U16", Dtype::U16),
        ("F16", Dtype::Block(Format::F16)),
        ("BF16", Dtype::Block(Format::BF16)),
        ("I32", Dtype::I32),
        ("U32", Dtype::U32),
        ("F32", Dtype::Block(Format::F32)),
        ("C64", Dtype::C64),
        ("F64", Dtype::F64),
        ("I64", Dtype::I64),
        ("U64", Dtype::U64),
    ];

    /// The type that safetensors files call `name`.
    pub fn from_safetensors(name: &str) -> Option<Dtype> {
        Self::SAFETENSORS.iter().find(|(n, _)| *n == name).map(|(_, dtype)| *dtype)
    }

    /// The name safetensors files use for this type; `None` when they have none.
    pub fn safetensors_name(self) -> Option<&'static str> {
        Self::SAFETENSORS.iter().find(|(_, dtype)| *dtype == self).map(|(name, _)| *name)
    }

    /// Values per block and bits per block; `None` when the size is not known.
    fn block(self) -> Option<(usize, usize)> {
        let bits = match self {
            Dtype::Block(format) => return Some((format.block_len(), format.block_bytes() * 8)),
            Dtype::Unsupported(id) => {
                let (_, _, len, bytes) = FOREIGN.iter().find(|row| row.0 == id)?;
                return Some((*len, bytes * 8));
            }
            Dtype::F4 => 4,
            Dtype::F6E2M3 | Dtype::F6E3M2 => 6,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 8,
            Dtype::F8E4M3 | Dtype::F8E5M2 | Dtype::F8E8M0 | Dtype::F8E4M3Fnuz | Dtype::F8E5M2Fnuz => 8,
            Dtype::I16 | Dtype::U16 => 16,
            Dtype::I32 | Dtype::U32 => 32,
            Dtype::F64 | Dtype::I64 | Dtype::U64 | Dtype::C64 => 64,
        };
        Some((1, bits))
    }

    /// Bits per value, rounded up; 0 when the size is not known.
    pub(crate) fn bits(self) -> usize {
        self.block().map_or(0, |(len, bits)| bits.div_ceil(len))
    }

    /// Bytes that a tensor of this type and row-major `shape` takes, or why it cannot exist.
    ///
    /// `Ok(None)` when the type is [`Dtype::Unsupported`] and its size is not known.
    pub fn size(self, shape: &[usize]) -> Result<Option<usize>, String> {
        let overflow = || format!("the shape {shape:?} overflows");
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(overflow)?;
        let Some((len, bits)) = self.block() else { return Ok(None) };
        let row = shape.last().copied().unwrap_or(1);
        if row % len != 0 {
            return Err(format!("rows of {row} values are not whole {self} blocks of {len}"));
        }
        let total = (count / len).checked_mul(bits).ok_or_else(overflow)?;
        if total % 8 != 0 {
            return Err(format!("{count} values of {self} do not fill whole bytes"));
        }
        Ok(Some(total / 8))
    }

    /// Decodes one-byte floats.
    pub(crate) fn f8_to_f32(self, byte: u8) -> Option<f32> {
        let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
        // Fraction of `mantissa_bits`, exponent bias; the subnormals have no leading one.
        let small = |mantissa_bits: i32, bias: i32| {
            let exponent = i32::from(byte & 0x7f) >> mantissa_bits;
            let steps = f32::from(byte & ((1 << mantissa_bits) - 1));
            let one = if exponent == 0 { 0.0 } else { (mantissa_bits as f32).exp2() };
            sign * (one + steps) * ((exponent.max(1) - bias - mantissa_bits) as f32).exp2()
        };
        Some(match self {
            Dtype::F8E4M3 if byte & 0x7f == 0x7f => f32::NAN,
            Dtype::F8E4M3 => small(3, 7),
            Dtype::F8E5M2 => f16::from_bits(u16::from(byte) << 8).to_f32(),
            Dtype::F8E8M0 if byte == 255 => f32::NAN,
            Dtype::F8E8M0 => (f32::from(byte) - 127.0).exp2(),
            Dtype::F8E4M3Fnuz | Dtype::F8E5M2Fnuz if byte == 0x80 => f32::NAN,
            Dtype::F8E4M3Fnuz => small(3, 8),
            Dtype::F8E5M2Fnuz => small(2, 16),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dtype::Block(format) => format.fmt(f),
            Dtype::Unsupported(id) => match FOREIGN.iter().find(|row| row.0 == *id) {
                Some((_, name, ..)) => f.write_str(name),
                None => write!(f, "unknown type {id}"),
            },
            other => f.write_str(other.safetensors_name().unwrap_or("?")),
        }
    }
}
