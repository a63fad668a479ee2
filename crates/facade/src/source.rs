//! Where a model comes from.

use crate::Error;
use sampan_weights::Checkpoint;
use std::fmt;
use std::path::{Path, PathBuf};

/// The demonstration model, part of the program.
const MINI: &[u8] = include_bytes!("../assets/mini.gguf");

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The small demonstration model inside the program. It shows that everything works; it is no assistant.
    Mini,
    /// A GGUF file, a safetensors file, or a folder.
    Path(PathBuf),
}

impl Source {
    /// `mini`, or a path. (A folder of that name is `./mini`.)
    pub fn parse(model: &str) -> Source {
        match model {
            "mini" => Source::Mini,
            path => Source::Path(path.into()),
        }
    }

    /// Reads the headers. The weights are read when they are needed.
    ///
    /// # Errors
    /// What cannot be found or is not a model.
    pub fn open(&self) -> Result<Checkpoint, Error> {
        match self {
            Source::Mini => Ok(Checkpoint::from_gguf_bytes("mini", MINI)?),
            Source::Path(path) => {
                if !path.exists() {
                    return Err(Error::NoSuchModel { path: path.clone(), nearest: nearest(path) });
                }
                Ok(Checkpoint::open(path)?)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Mini => f.write_str("mini"),
            Source::Path(path) => path.display().fmt(f),
        }
    }
}

/// The entry of the same folder whose name is most like the one that is not there.
fn nearest(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?.to_str()?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(parent).ok()?.take(1000).filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let name = nearest_name(wanted, names)?;
    Some(path.with_file_name(name))
}

/// The name closest to `wanted`, if any is close enough to be meant.
pub fn nearest_name<S: AsRef<str>>(wanted: &str, names: impl Iterator<Item = S>) -> Option<S> {
    let limit = (wanted.chars().count() / 3).clamp(1, 4);
    let distances = names.map(|name| (distance(&wanted.to_lowercase(), &name.as_ref().to_lowercase()), name));
    distances.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let above = &rows[i - 1];
            let mut best =
                (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_find_what_was_meant() {
        let names = ["help", "system", "set", "clear", "retry", "save", "load", "bye"];
        for (typed, meant) in
            [("hlep", Some("help")), ("claer", Some("clear")), ("sytem", Some("system")), ("quux", None)]
        {
            assert_eq!(nearest_name(typed, names.into_iter()), meant, "{typed}");
        }
        for (a, b, d) in [("", "abc", 3), ("abc", "abc", 0), ("ab", "ba", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), d);
        }
    }
}
