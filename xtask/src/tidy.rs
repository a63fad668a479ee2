//! Reads the source tree as text: budgets of size, and the invariants that a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file of the repository.
#[derive(Debug)]
pub struct Source {
    /// Path from the root, with forward slashes.
    pub path: String,
    /// The text.
    pub text: String,
}

impl Source {
    /// Lines in the file.
    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Lines of code before the tests, without blank lines and comments.
    pub fn code_lines(&self) -> usize {
        self.code().filter(|(_, line)| !line.is_empty()).count()
    }

    /// Numbered lines without comments and without string literals.
    pub fn code(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, strip(line)))
    }

    /// Functions with their first line and their length, found by indentation (the tree is formatted).
    pub fn functions(&self) -> Vec<(usize, usize, String)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut found = Vec::new();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let Some(name) = function_name(line.trim_start()) else { continue };
            let close = format!("{}}}", " ".repeat(indent));
            let body = lines[start..].iter().position(|l| **l == close || l.ends_with(" {}"));
            let end = lines[start..].iter().position(|l| l.trim_end().ends_with(';') && !l.contains('{'));
            match (body, end) {
                (Some(body), Some(end))
                    if end < body && !lines[start..start + end + 1].concat().contains('{') => {}
                (Some(body), _) => found.push((start + 1, body + 1, name)),
                (None, _) => {}
            }
        }
        found
    }
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let known = ["pub", "const", "async", "unsafe", "extern", "\"C\"", "\"sysv64\""];
    let word = words.by_ref().find(|w| !known.contains(w) && !w.starts_with("pub("))?;
    if word != "fn" {
        return None;
    }
    let name = words.next()?;
    Some(name.split(['(', '<']).next().unwrap_or(name).to_string())
}

/// A line without its comment and without the inside of string literals.
fn strip(line: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut characters = line.trim().chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' if quoted => {
                characters.next();
            }
            '"' => quoted = !quoted,
            '/' if !quoted && characters.peek() == Some(&'/') => break,
            _ if quoted => {}
            c => out.push(c),
        }
    }
    out.trim().to_string()
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below `crates/`, `xtask/` and `fuzz/`.
pub fn sources() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "fuzz"] {
        walk(&root.join(folder), &mut files);
    }
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let path = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{path}: {e}"));
            Source { path, text }
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                walk(&path, files);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// A manifest's `sampan-*` dependencies outside `[dev-dependencies]`.
pub fn own_dependencies(name: &str) -> Vec<String> {
    let path = root().join("crates").join(name).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && let Some(rest) = line.strip_prefix("sampan-")
        {
            found.extend(rest.split(['.', ' ', '=']).next().map(str::to_string));
        }
    }
    found.sort();
    found
}
