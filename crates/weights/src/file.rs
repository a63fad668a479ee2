//! The bytes of one file, read where they are wanted.
//!
//! Files are read by position and never mapped. Another program may shorten a file at any time: reading a mapped file
//! beyond its end kills the process (SIGBUS), and no check before can prevent that. A read says so instead.

use crate::Error;
use std::borrow::Cow;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One file, open for reading, or bytes that are part of the program.
#[derive(Debug)]
pub(crate) struct ModelFile {
    path: PathBuf,
    length: usize,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    OnDisk(File),
    Static(&'static [u8]),
}

impl ModelFile {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> Result<ModelFile, Error> {
        let io = |e| Error::io(path, e);
        // A named pipe would block in `open`, a device could be endless: look before opening.
        let kind = std::fs::metadata(path).map_err(io)?;
        if !kind.is_file() {
            return Err(Error::not_a_model(path, "not a regular file"));
        }
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let length = usize::try_from(length).map_err(|_| {
            Error::not_a_model(path, format!("{length} bytes are more than this machine can address"))
        })?;
        Ok(ModelFile { path: path.to_path_buf(), length, bytes: Bytes::OnDisk(file) })
    }

    /// Bytes that are part of the program; `name` stands for the file in messages.
    pub(crate) fn embedded(name: &str, bytes: &'static [u8]) -> ModelFile {
        ModelFile { path: PathBuf::from(name), length: bytes.len(), bytes: Bytes::Static(bytes) }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes when it was opened.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// At most the first `length` bytes.
    pub(crate) fn head(&self, length: usize) -> Result<Cow<'_, [u8]>, Error> {
        self.read(&"header", 0..length.min(self.length))
    }

    /// A range of the bytes. `what` says in errors whose they are.
    ///
    /// # Panics
    /// If the range ends beyond the length at opening.
    pub(crate) fn read(&self, what: &dyn Display, range: Range<usize>) -> Result<Cow<'_, [u8]>, Error> {
        if let Bytes::Static(bytes) = self.bytes {
            return Ok(Cow::Borrowed(&bytes[range]));
        }
        let mut out = vec![0; range.len()];
        self.read_into(what, range.start, &mut out)?;
        Ok(Cow::Owned(out))
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Panics
    /// If they end beyond the length at opening.
    pub(crate) fn read_into(&self, what: &dyn Display, offset: usize, out: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(out.len()).filter(|end| *end <= self.length);
        let end = end.unwrap_or_else(|| panic!("{what}: beyond the {} bytes of the file", self.length));
        match &self.bytes {
            Bytes::Static(bytes) => {
                out.copy_from_slice(&bytes[offset..end]);
                Ok(())
            }
            Bytes::OnDisk(file) => {
                read_exact_at(file, out, offset as u64).map_err(|e| self.unreadable(file, what, offset, &e))
            }
        }
    }

    fn unreadable(&self, file: &File, what: &dyn Display, offset: usize, error: &io::Error) -> Error {
        let why = match file.metadata() {
            Ok(now) if now.len() < self.length as u64 => format!(
                "the file is {} bytes now and was {} when it was opened: another program has shortened it; put the \
                 whole file back (download it again) and load it again",
                now.len(),
                self.length
            ),
            _ => format!("reading failed: {error}; check the disk, or download the file again"),
        };
        Error::malformed(&self.path, what, offset, why)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                out = &mut out[read..];
                offset += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
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
        let file = ModelFile::open(&path).unwrap();
        assert_eq!(file.read(&"all", 0..file.len()).unwrap(), content);
        assert_eq!(*file.head(4).unwrap(), content[..4]);
        let handle = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        handle.set_len(10).unwrap();
        assert_eq!(*file.read(&"what is left", 0..10).unwrap(), content[..10]);
        let error = file.read(&"tensor \"x\"", 5..20).unwrap_err().to_string();
        for part in ["weights: tensor \"x\" (byte 5)", "is 10 bytes now and was 300000", "download it again"]
        {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    #[test]
    fn empty_files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::write(&path, []).unwrap();
        assert!(ModelFile::open(&path).unwrap().head(100).unwrap().is_empty());
        assert!(ModelFile::open(dir.path()).unwrap_err().to_string().contains("not a regular file"));
        assert!(matches!(ModelFile::open(&dir.path().join("absent")), Err(Error::Io { .. })));
    }
}
