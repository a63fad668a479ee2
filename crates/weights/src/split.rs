//! GGUF sets that are split over files named `NAME-00001-of-00003.gguf`.

use crate::Error;
use crate::metadata::{Metadata, Value};
use std::path::{Path, PathBuf};

const NO: &str = "split.no";
pub(crate) const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";
/// What parts say about their set.
pub(crate) const KEYS: [&str; 3] = [NO, COUNT, TENSORS];

/// `NAME-00002-of-00003.gguf` taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartName {
    prefix: String,
    /// From 1.
    pub(crate) number: usize,
    pub(crate) count: usize,
}

impl PartName {
    /// `None` when the file is not named like a part of a set.
    pub(crate) fn of(path: &Path) -> Option<PartName> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (1..=count).contains(&number).then(|| PartName { prefix: prefix.to_owned(), number, count })
    }

    /// The path of part `number` (from 1) of the set beside `path`.
    pub(crate) fn sibling(&self, path: &Path, number: usize) -> PathBuf {
        path.with_file_name(format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count))
    }
}

/// Part `number` (from 0) of `count` of the set that is called like the file `path`.
pub(crate) fn part(path: &Path, number: usize, count: usize) -> PathBuf {
    let prefix = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    PartName { prefix, number: 1, count }.sibling(path, number + 1)
}

/// What part `number` (from 0) says about its set, in the types that other programs write.
pub(crate) fn keys(number: usize, count: usize, tensors: usize) -> [(&'static str, Value); 3] {
    [
        (NO, Value::U16(number as u16)),
        (COUNT, Value::U16(count as u16)),
        (TENSORS, Value::I32(tensors as i32)),
    ]
}

/// What a file says about the set it belongs to.
pub(crate) struct Split {
    /// Files in the set; 1 when it is whole.
    pub(crate) count: usize,
    /// Position in the set, from 0.
    number: usize,
    /// Tensors of all files together.
    tensors: Option<usize>,
}

impl Split {
    pub(crate) fn of(metadata: &Metadata) -> Result<Split, Error> {
        Ok(Split {
            count: metadata.usize(COUNT)?.unwrap_or(1).max(1),
            number: metadata.usize(NO)?.unwrap_or(0),
            tensors: metadata.usize(TENSORS)?,
        })
    }

    /// The files of the set whose first is `first`, which all exist.
    pub(crate) fn parts(&self, first: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>, Error> {
        let named = PartName::of(first);
        let named_count = named.as_ref().map_or(1, |name| name.count);
        if named_count != self.count {
            let what = match &named {
                None => format!(
                    "one of {} files, but its name does not end in -00001-of-{:05}.gguf; \
                     give the set its names back so that the others can be found",
                    self.count, self.count
                ),
                Some(_) => {
                    format!("{} files by this key, {named_count} by the file's name", self.count)
                }
            };
            return Err(metadata.error(COUNT, what));
        }
        if self.number != 0 {
            return Err(metadata.error(NO, format!("{} in the first file; it must be 0", self.number)));
        }
        let Some(name) = named else { return Ok(vec![first.to_path_buf()]) };
        let mut parts = Vec::new();
        for number in 1..=self.count {
            let part = name.sibling(first, number);
            if !part.is_file() {
                let what = format!("missing: part {number} of a model of {} files", self.count);
                return Err(Error::not_a_model(&part, what));
            }
            parts.push(part);
        }
        Ok(parts)
    }

    /// Checks that a further file belongs at `number` (from 0) and does not contradict the first.
    pub(crate) fn check_part(&self, number: usize, first: &Metadata, part: &Metadata) -> Result<(), Error> {
        let split = Split::of(part)?;
        if split.number != number {
            return Err(part.error(NO, format!("{} where {number} is expected", split.number)));
        }
        if split.count != self.count {
            return Err(
                part.error(COUNT, format!("{} where the first file says {}", split.count, self.count))
            );
        }
        for (key, value) in part.iter().filter(|(key, _)| *key != NO) {
            if first.get(key).is_some_and(|other| other != value) {
                return Err(part.error(key, "another value than in the first file of the set"));
            }
        }
        Ok(())
    }

    /// Checks the number of tensors in the whole set.
    pub(crate) fn check_total(&self, metadata: &Metadata, tensors: usize) -> Result<(), Error> {
        match self.tensors {
            Some(said) if said != tensors => {
                Err(metadata.error(TENSORS, format!("{said}, but the files hold {tensors} tensors")))
            }
            _ => Ok(()),
        }
    }
}
