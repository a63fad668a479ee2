//! Walking through a file's bytes without ever leaving them.

use crate::Error;
use crate::file::ModelFile;
use std::borrow::Cow;
use std::fmt::Display;
use std::path::Path;

/// A position in a file. Every read names the field it is for.
pub(super) struct Cursor<'a> {
    pub(super) file: &'a Path,
    /// Of the whole file.
    pub(super) size: usize,
    /// Offset of the next byte.
    pub(super) at: usize,
    /// The bytes from `start` on that have been read.
    window: Cow<'a, [u8]>,
    start: usize,
    /// Where those after the window are, and how many are read at a time.
    source: Option<(&'a ModelFile, usize)>,
}

impl<'a> Cursor<'a> {
    /// Over a whole file's bytes.
    pub(super) fn over(file: &'a Path, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { file, size: bytes.len(), at: 0, window: Cow::Borrowed(bytes), start: 0, source: None }
    }

    /// Over a file that is read as the cursor goes on: every byte once, `step` at a time.
    pub(super) fn reading(file: &'a ModelFile, step: usize) -> Result<Cursor<'a>, Error> {
        let (window, source) = (file.head(step)?, Some((file, step)));
        Ok(Cursor { file: file.path(), size: file.len(), at: 0, window, start: 0, source })
    }

    /// What has been read and not been passed.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.window[self.at - self.start..]
    }

    /// Makes the window begin here and hold `length` bytes, which the file has.
    fn widen(&mut self, length: usize) -> Result<(), Error> {
        let Some((file, step)) = self.source.filter(|_| self.ahead().len() < length) else { return Ok(()) };
        let mut window = self.ahead().to_vec();
        let known = window.len();
        window.resize(length.max(step).min(self.left()), 0);
        file.read_into(&"header", self.at + known, &mut window[known..])?;
        (self.window, self.start) = (Cow::Owned(window), self.at);
        Ok(())
    }

    /// Bytes that are left of the file.
    pub(super) fn left(&self) -> usize {
        self.size - self.at
    }

    /// An error about the field that starts at `offset`.
    pub(super) fn error(&self, field: impl Display, offset: usize, what: impl Into<String>) -> Error {
        Error::malformed(self.file, field, offset, what)
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize, field: impl Display) -> Result<&[u8], Error> {
        if length > self.left() {
            let what = format!(
                "{length} bytes are needed and the file has {} left; it is truncated or damaged",
                self.left()
            );
            return Err(self.error(field, self.at, what));
        }
        self.widen(length)?;
        let from = self.at - self.start;
        self.at += length;
        Ok(&self.window[from..from + length])
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, field: impl Display) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, field)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, field: impl Display) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: impl Display) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A number of items that each take at least `least` bytes of what is left.
    pub(super) fn count(&mut self, least: usize, field: impl Display) -> Result<usize, Error> {
        let start = self.at;
        let count = self.u64(&field)?;
        let room = self.left() / least;
        match usize::try_from(count) {
            Ok(count) if count <= room => Ok(count),
            _ => {
                let what = format!(
                    "{count} do not fit the {} bytes that are left; the file is truncated or damaged",
                    self.left()
                );
                Err(self.error(field, start, what))
            }
        }
    }

    /// A string: its length in bytes, then UTF-8.
    pub(super) fn str(&mut self, field: impl Display) -> Result<String, Error> {
        let start = self.at;
        let length = self.count(1, format_args!("{field}: length"))?;
        let text = std::str::from_utf8(self.take(length, &field)?).map(str::to_owned);
        text.map_err(|e| {
            let what = format!("not UTF-8 (the first wrong byte is at {})", start + 8 + e.valid_up_to());
            self.error(field, start, what)
        })
    }
}
