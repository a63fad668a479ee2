//! What a terminal shows: dimmed text, harmless text, sizes and speeds.

use crate::environment::Environment;
use std::borrow::Cow;
use std::fmt::Write;
use std::io::IsTerminal;

/// Which streams are terminals and may be decorated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) colour: bool,
}

impl Terminal {
    pub(crate) fn detect(environment: &Environment) -> Terminal {
        Terminal {
            stdin: std::io::stdin().is_terminal(),
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal(),
            colour: environment.colour,
        }
    }

    /// Codes that begin and end dimmed text on stdout.
    pub(crate) fn dim_stdout(&self) -> (&'static str, &'static str) {
        dim(self.stdout && self.colour)
    }

    /// Codes that begin and end dimmed text on stderr.
    pub(crate) fn dim_stderr(&self) -> (&'static str, &'static str) {
        dim(self.stderr && self.colour)
    }
}

fn dim(on: bool) -> (&'static str, &'static str) {
    if on { ("\x1b[2m", "\x1b[22m") } else { ("", "") }
}

/// Text from a model as a terminal may get it: control characters other than line feed and tab could move the
/// cursor, retitle the window or type for the user, so they are shown instead of obeyed.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let show = |c: char| match c {
        c if !bad(c) => c,
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        _ => '\u{fffd}',
    };
    Cow::Owned(text.chars().map(show).collect())
}

/// `1.5 GiB`, `12 KiB`, `7 B`.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{} {}", three_digits(value), units[unit]) }
}

/// `751.6 M`, `1.7 B`, `944`: a number of parameters.
pub(crate) fn count(n: u64) -> String {
    let units = ["", " K", " M", " B", " T"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { n.to_string() } else { format!("{}{}", three_digits(value), units[unit]) }
}

/// A figure with about three digits that count.
pub(crate) fn three_digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Lines of `name  value`, the values under each other.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    pub(crate) fn add(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), value.to_string()));
    }
}

impl std::fmt::Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in &self.0 {
            let mut lines = value.lines();
            writeln!(f, "{name:width$}  {}", lines.next().unwrap_or_default())?;
            for line in lines {
                writeln!(f, "{:width$}  {line}", "")?;
            }
        }
        Ok(())
    }
}

/// A table with a header; numbers to the right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let numeric = |column: usize| {
        rows.iter().all(|row| {
            row.get(column).is_none_or(|c| c.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
        })
    };
    let right: Vec<bool> = (0..header.len()).map(numeric).collect();
    let mut out = String::new();
    let mut line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let gap = if column == 0 { "" } else { "  " };
            let _ = match right[column] {
                true => write!(text, "{gap}{pad}{cell}"),
                false => write!(text, "{gap}{cell}{pad}"),
            };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(header.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_047_000, "1022 KiB"),
            (12 << 30, "12.0 GiB"),
        ];
        for (n, text) in cases {
            assert_eq!(bytes(n), text);
        }
        for (n, text) in [(944, "944"), (751_632_384, "752 M"), (1_720_000_000, "1.72 B")] {
            assert_eq!(count(n), text);
        }
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn a_model_cannot_steer_the_terminal() {
        assert_eq!(harmless("plain\n\ttext"), "plain\n\ttext");
        assert_eq!(harmless("\x1b]0;title\x07\u{9b}31m\x7f"), "␛]0;title␇\u{fffd}31m␡");
    }

    #[test]
    fn tables_align() {
        let rows = vec![vec!["one-shot".to_owned(), "1.5".to_owned()], vec!["x".to_owned(), "12".to_owned()]];
        assert_eq!(table(&["pass", "max"], &rows), "pass      max\none-shot  1.5\nx          12\n");
    }
}
