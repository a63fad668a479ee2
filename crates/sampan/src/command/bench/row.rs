//! What is measured: one row of the table each.

use std::fmt;

/// Tokens in the context before those that are generated, where no other depth is asked for.
const SHALLOW: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Prompt,
    Generate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) kind: Kind,
    /// Tokens to read, or to generate for each stream.
    pub(super) tokens: usize,
    /// Tokens in the context before.
    pub(super) depth: usize,
    /// Requests at a time.
    pub(super) streams: usize,
}

impl Row {
    pub(super) fn prompt(tokens: usize) -> Row {
        Row { kind: Kind::Prompt, tokens, depth: 0, streams: 1 }
    }

    pub(super) fn generate(tokens: usize, depth: usize, streams: usize) -> Row {
        Row { kind: Kind::Generate, tokens, depth, streams }
    }

    /// Tokens of one sequence: a generating one gets a token from its prompt besides those that are measured.
    pub(super) fn context(&self) -> usize {
        self.depth + self.tokens + 2
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { tokens, depth, streams, .. } = self;
        match (self.kind, streams) {
            (Kind::Prompt, _) => write!(f, "prompt {tokens}"),
            (Kind::Generate, 1) => write!(f, "generate {tokens} after {depth}"),
            (Kind::Generate, _) => write!(f, "{streams} streams, {tokens} after {depth}"),
        }
    }
}

/// The rows of the table, each once. A prompt as long as a depth comes right before it: what it leaves in the cache
/// need not be computed again.
pub(super) fn rows(prompts: &[u32], generate: u32, depths: &[u32], batches: &[u32]) -> Vec<Row> {
    let prompt = |&n: &u32| Row::prompt(n as usize);
    let generate = |depth: usize, streams: usize| Row::generate(generate as usize, depth, streams);
    let mut rows: Vec<Row> = prompts.iter().filter(|n| !depths.contains(n)).map(prompt).collect();
    rows.push(generate(SHALLOW, 1));
    for depth in depths {
        rows.extend(prompts.iter().filter(|n| *n == depth).map(prompt));
        rows.push(generate(*depth as usize, 1));
    }
    rows.extend(batches.iter().map(|&streams| generate(SHALLOW, streams as usize)));
    let mut seen = Vec::new();
    rows.retain(|row| {
        let new = !seen.contains(row);
        seen.push(*row);
        new
    });
    rows
}

/// The most requests at a time.
pub(super) fn most_streams(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.streams).max().unwrap_or(1)
}

/// The most tokens that are in a cache at a time.
pub(super) fn cells(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.streams * row.context()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_and_has_a_name() {
        let rows = rows(&[512, 4096, 512], 64, &[4096, 8], &[8, 1]);
        let names: Vec<String> = rows.iter().map(Row::to_string).collect();
        let expected = [
            "prompt 512",
            "generate 64 after 8",
            "prompt 4096",
            "generate 64 after 4096",
            "8 streams, 64 after 8",
        ];
        assert_eq!(names, expected);
        assert_eq!((most_streams(&rows), cells(&rows)), (8, 4096 + 64 + 2));
    }
}
