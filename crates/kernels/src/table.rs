//! Which function serves which format, in words.

use std::fmt;

use crate::cpu;
use crate::isa::product::{Method, method};
use crate::layout::Scheme;
use crate::{Format, Isa};

/// What was detected and chosen; `Display` prints it for `sampan doctor`.
#[derive(Clone, Debug)]
pub struct Table {
    isa: Isa,
    /// The way of each format's products.
    entries: Vec<(Format, Method)>,
}

impl Table {
    pub(crate) fn new(isa: Isa, exact: bool) -> Table {
        Table {
            isa,
            entries: Format::ALL.into_iter().map(|format| (format, method(isa, exact, format))).collect(),
        }
    }

    /// How products of weights in `format` are computed.
    pub fn describe(&self, format: Format) -> String {
        let method = self.entries.iter().find(|entry| entry.0 == format).map(|entry| entry.1);
        let block = Scheme::of(format).map_or(1, |scheme| scheme.block);
        let bytes = format!("activations int8 per {block}");
        match (method, self.isa) {
            (None | Some(Method::Float), _) => "decoded to float32, activations float32".into(),
            (Some(Method::Bf16), _) => "bf16 dots, activations bf16".into(),
            (Some(Method::TilesBf16), _) => "bf16 tiles, activations bf16".into(),
            (Some(Method::TilesInt), _) => format!("int8 tiles (few rows: VNNI dots), {bytes}"),
            (Some(Method::Int), Isa::Portable) => format!("integer loops, {bytes}"),
            (Some(Method::Int), Isa::Avx2) => format!("int8 dots by maddubs, {bytes}"),
            (Some(Method::Int), Isa::Avx512 | Isa::Amx) => format!("int8 dots by VNNI, {bytes}"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu features:")?;
        for (name, present) in cpu::features() {
            write!(f, " {}{name}", if present { "" } else { "no-" })?;
        }
        writeln!(f, "\ninstruction set: {}", self.isa)?;
        for &(format, _) in &self.entries {
            writeln!(f, "{:<8} {}", format.name(), self.describe(format))?;
        }
        Ok(())
    }
}
