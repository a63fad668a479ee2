//! Which bytes of an unfinished file have come.
//!
//! A small file beside it: a word, the size and the size of a part, then for every part how many bytes of it are there,
//! each as eight bytes. It is written after the bytes it speaks of, so a process that is killed finds at least those.

use crate::Error;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const WORD: &[u8; 8] = b"sampan01";
const HEAD: usize = 24;

/// The note, open for writing.
#[derive(Debug)]
pub(crate) struct Note {
    path: PathBuf,
    file: File,
    bytes: u64,
    part: u64,
    come: Vec<u64>,
}

impl Note {
    /// Opens the note `path` about `data`; both are made anew when they are not about a file of so many bytes in such parts.
    pub(crate) fn open(path: &Path, data: &Path, bytes: u64, part: u64) -> Result<Note, Error> {
        let part = part.clamp(1, bytes.max(1));
        let known = read(path).filter(|(b, p, _)| (*b, *p) == (bytes, part));
        let whole = fs::metadata(data).is_ok_and(|data| data.len() == bytes);
        let come = match known.filter(|_| whole) {
            Some((_, _, come)) => come,
            None => {
                let file = File::create(data).map_err(Error::io("write", data))?;
                file.set_len(bytes).map_err(Error::io("write", data))?;
                let come = vec![0; bytes.div_ceil(part) as usize];
                fs::write(path, text(bytes, part, &come)).map_err(Error::io("write", path))?;
                come
            }
        };
        let file = File::options().write(true).open(path).map_err(Error::io("write", path))?;
        Ok(Note { path: path.into(), file, bytes, part, come })
    }

    /// How many parts there are.
    pub(crate) fn parts(&self) -> usize {
        self.come.len()
    }

    /// The parts that are not whole.
    pub(crate) fn missing(&self) -> Vec<usize> {
        (0..self.come.len())
            .filter(|&part| {
                let (from, to) = self.range(part);
                from < to
            })
            .collect()
    }

    /// Where a part goes on, and where it ends.
    pub(crate) fn range(&self, part: usize) -> (u64, u64) {
        let start = part as u64 * self.part;
        (start + self.come[part], (start + self.part).min(self.bytes))
    }

    /// The bytes that are there.
    pub(crate) fn come(&self) -> u64 {
        self.come.iter().sum()
    }

    /// A part is there up to byte `at` of the file.
    pub(crate) fn set(&mut self, part: usize, at: u64) -> Result<(), Error> {
        self.come[part] = at - part as u64 * self.part;
        let place = (HEAD + part * 8) as u64;
        let written = self
            .file
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.file.write_all(&self.come[part].to_le_bytes()));
        written.map_err(Error::io("write", &self.path))
    }

    /// Nothing of a part counts any more.
    pub(crate) fn restart(&mut self, part: usize) -> Result<(), Error> {
        self.set(part, part as u64 * self.part)
    }
}

/// How many bytes have come of the file that a note is about.
pub(crate) fn come(path: &Path) -> u64 {
    read(path).map_or(0, |(_, _, come)| come.iter().sum())
}

fn text(bytes: u64, part: u64, come: &[u64]) -> Vec<u8> {
    let numbers = [bytes, part].into_iter().chain(come.iter().copied());
    WORD.iter().copied().chain(numbers.flat_map(u64::to_le_bytes)).collect()
}

/// Size, size of a part, and what has come of each; `None` when it makes no sense.
fn read(path: &Path) -> Option<(u64, u64, Vec<u64>)> {
    let text = fs::read(path).ok()?;
    let numbers = text.strip_prefix(WORD)?;
    let mut numbers = numbers.chunks_exact(8).filter_map(|n| n.try_into().ok().map(u64::from_le_bytes));
    let (bytes, part) = (numbers.next()?, numbers.next().filter(|part| *part > 0)?);
    let come: Vec<u64> = numbers.collect();
    let fits = |(n, come): (usize, &u64)| *come <= part.min(bytes - (n as u64 * part).min(bytes));
    (come.len() as u64 == bytes.div_ceil(part) && come.iter().enumerate().all(fits))
        .then_some((bytes, part, come))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_again_and_a_strange_one_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, data) = (folder.path().join("note"), folder.path().join("data"));
        let open = |bytes, part| Note::open(&path, &data, bytes, part).unwrap();
        let mut note = open(25, 10);
        assert_eq!((note.parts(), note.missing(), note.come()), (3, vec![0, 1, 2], 0));
        note.set(1, 14).unwrap();
        note.set(2, 25).unwrap();
        let note = open(25, 10);
        assert_eq!((note.range(1), note.missing(), note.come(), come(&path)), ((14, 20), vec![0, 1], 9, 9));
        for spoil in [
            &|| fs::write(&path, b"nonsense").unwrap(),
            &|| fs::write(&path, text(25, 10, &[11, 0, 0])).unwrap(),
            &|| fs::write(&path, text(25, 10, &[0, 0, 6])).unwrap(),
            &|| fs::write(&path, text(25, 0, &[])).unwrap(),
            &|| fs::write(&path, text(u64::MAX, 1, &[])).unwrap(),
            &|| fs::write(&data, b"short").unwrap() as (),
        ] as [&dyn Fn(); 6]
        {
            open(25, 10).set(0, 5).unwrap();
            spoil();
            assert_eq!(open(25, 10).come(), 0);
        }
        assert_eq!(open(24, 10).come(), 0);
        assert_eq!(open(0, 10).missing(), Vec::<usize>::new());
    }
}
