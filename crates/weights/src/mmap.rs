//! A file's bytes without copying them: the only `unsafe` of this crate.
//!
//! A mapped file is shared with every other process. If one of them shortens the file while it is mapped,
//! reading past the new end raises SIGBUS and the process dies; no check can fully prevent that. So:
//! replace model files by renaming (as this crate's writers do), never by truncating, and call
//! [`MappedFile::check_length`] before long reads to turn the likely cases into an error.
#![allow(unsafe_code)]

use crate::Error;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The bytes of one file, mapped or embedded.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Map(memmap2::Mmap, File),
    Static(&'static [u8]),
}

impl MappedFile {
    /// Maps a regular file for reading.
    pub(crate) fn open(path: &Path) -> Result<MappedFile, Error> {
        let io = |e| Error::io(path, e);
        // A named pipe would block in `open`, a device could be endless: look before opening.
        let kind = std::fs::metadata(path).map_err(io)?;
        if !kind.is_file() {
            return Err(Error::not_a_model(path, "not a regular file"));
        }
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length == 0 {
            return Ok(MappedFile { path: path.to_path_buf(), bytes: Bytes::Static(&[]) });
        }
        // SAFETY: the map is read-only and lives as long as `self`. Soundness rests on no other process
        // changing the file meanwhile, which is the contract stated at the top of this module.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        Ok(MappedFile { path: path.to_path_buf(), bytes: Bytes::Map(map, file) })
    }

    /// Bytes that are part of the program; `name` stands for the file in messages.
    pub(crate) fn embedded(name: &str, bytes: &'static [u8]) -> MappedFile {
        MappedFile { path: PathBuf::from(name), bytes: Bytes::Static(bytes) }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Map(map, _) => map,
            Bytes::Static(bytes) => bytes,
        }
    }

    /// Where `data` lies in this file; `None` when it lies elsewhere.
    pub(crate) fn range_of(&self, data: &[u8]) -> Option<Range<usize>> {
        let ours = self.bytes().as_ptr_range();
        let theirs = data.as_ptr_range();
        (!data.is_empty() && ours.start <= theirs.start && theirs.end <= ours.end).then(|| {
            let start = theirs.start.addr() - ours.start.addr();
            start..start + data.len()
        })
    }

    /// An error when the file on disk is shorter than what is mapped.
    pub(crate) fn check_length(&self) -> Result<(), Error> {
        if let Bytes::Map(map, file) = &self.bytes {
            let now = file.metadata().map_err(|e| Error::io(&self.path, e))?.len();
            if now < map.len() as u64 {
                let what = format!(
                    "the file was {} bytes when it was opened and is {now} now; another program shortened it",
                    map.len()
                );
                return Err(Error::malformed(&self.path, "end of file", now as usize, what));
            }
        }
        Ok(())
    }

    /// Asks the system to read `range` ahead. Advice only: failure is of no consequence.
    pub(crate) fn prefetch(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Map(map, _) = &self.bytes {
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Gives back the memory of the whole pages inside `range`; reading them again reads the file again.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Map(map, _) = &self.bytes {
            // Pages at the rims belong to the neighbours as well.
            const PAGE: usize = 64 * 1024; // the largest page size in common use; a multiple of the others
            let start = range.start.next_multiple_of(PAGE);
            let end = if range.end == map.len() { range.end } else { range.end / PAGE * PAGE };
            if start < end {
                // SAFETY: the mapping is file-backed, shared and never written, so a dropped page comes back
                // with the same bytes: no reference into it sees a change.
                let _ = unsafe {
                    map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
                };
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_bytes_and_shortening_it_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        let content: Vec<u8> = (0..300_000u32).map(|i| (i * 7) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(file.bytes(), content);
        assert_eq!(file.range_of(&file.bytes()[5..9]), Some(5..9));
        assert_eq!(file.range_of(&content), None);
        file.prefetch(0..content.len());
        file.release(1..content.len());
        assert_eq!(file.bytes(), content, "released pages come back");
        file.check_length().unwrap();
        let handle = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        handle.set_len(10).unwrap();
        assert!(file.check_length().unwrap_err().to_string().contains("is 10 now"));
    }

    #[test]
    fn empty_files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::write(&path, []).unwrap();
        assert!(MappedFile::open(&path).unwrap().bytes().is_empty());
        assert!(MappedFile::open(dir.path()).unwrap_err().to_string().contains("not a regular file"));
        assert!(matches!(MappedFile::open(&dir.path().join("absent")), Err(Error::Io { .. })));
    }
}
