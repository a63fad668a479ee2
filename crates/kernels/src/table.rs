//! Which function serves which format, in words.

use std::fmt;

use crate::cpu;
use crate::{Format, Isa};

/// What was detected and chosen; `Display` prints it for `sampan doctor`.
#[derive(Clone, Debug)]
pub struct Table {
    isa: Isa,
    exact: bool,
}

impl Table {
    pub(crate) fn new(isa: Isa, exact: bool) -> Table {
        Table { isa, exact }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu features:")?;
        for (name, present) in cpu::features() {
            write!(f, " {}{name}", if present { "" } else { "no-" })?;
        }
        writeln!(f, "\ninstruction set: {}", self.isa)?;
        for format in Format::ALL {
            writeln!(f, "{:<8} {}", format.name(), if self.exact { "float32" } else { "plain" })?;
        }
        Ok(())
    }
}
