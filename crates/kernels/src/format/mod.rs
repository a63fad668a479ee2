//! Block formats: how a row of weights lies in a file. Bit-compatible with GGUF.
//!
//! A *block* is the smallest unit a format can encode: [`Format::block_len`] values in
//! [`Format::block_bytes`] bytes. A row is a whole number of blocks.

/// A storage format of a weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    MXFP4,
}

impl Format {
    /// Every format, in a fixed order.
    pub const ALL: [Format; 16] = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q8_0,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::IQ4_NL,
        Format::IQ4_XS,
        Format::MXFP4,
    ];

    /// The name the GGUF world uses, for example `Q4_K`.
    pub fn name(self) -> &'static str {
        self.spec().0
    }

    /// Values per block.
    pub fn block_len(self) -> usize {
        self.spec().1
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.spec().2
    }

    /// Bytes of a row of `cols` values; `None` when `cols` is not a whole number of blocks or overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    fn spec(self) -> (&'static str, usize, usize) {
        match self {
            Format::F32 => ("F32", 1, 4),
            Format::F16 => ("F16", 1, 2),
            Format::BF16 => ("BF16", 1, 2),
            Format::Q8_0 => ("Q8_0", 32, 34),
            Format::Q4_0 => ("Q4_0", 32, 18),
            Format::Q4_1 => ("Q4_1", 32, 20),
            Format::Q5_0 => ("Q5_0", 32, 22),
            Format::Q5_1 => ("Q5_1", 32, 24),
            Format::Q2_K => ("Q2_K", 256, 84),
            Format::Q3_K => ("Q3_K", 256, 110),
            Format::Q4_K => ("Q4_K", 256, 144),
            Format::Q5_K => ("Q5_K", 256, 176),
            Format::Q6_K => ("Q6_K", 256, 210),
            Format::IQ4_NL => ("IQ4_NL", 32, 18),
            Format::IQ4_XS => ("IQ4_XS", 256, 136),
            Format::MXFP4 => ("MXFP4", 32, 17),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
