//! Walking through a file's bytes without ever leaving them.

use crate::Error;
use std::cell::Cell;
use std::fmt::Display;
use std::path::Path;

/// A position in a file's first bytes. Every read names the field it is for.
pub(super) struct Cursor<'a> {
    pub(super) file: &'a Path,
    bytes: &'a [u8],
    /// Of the whole file.
    pub(super) size: usize,
    /// Set when a read failed only because `bytes` end before the file does.
    short: &'a Cell<bool>,
    /// Offset of the next byte.
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a Path, bytes: &'a [u8], size: usize, short: &'a Cell<bool>) -> Cursor<'a> {
        Cursor { file, bytes, size, short, at: 0 }
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
    pub(super) fn take(&mut self, length: usize, field: impl Display) -> Result<&'a [u8], Error> {
        if length > self.left() {
            let what = format!(
                "{length} bytes are needed and the file has {} left; it is truncated or damaged",
                self.left()
            );
            return Err(self.error(field, self.at, what));
        }
        let Some(taken) = self.bytes.get(self.at..self.at + length) else {
            self.short.set(true);
            return Err(self.error(field, self.at, "more of the file is needed"));
        };
        self.at += length;
        Ok(taken)
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
    pub(super) fn str(&mut self, field: impl Display) -> Result<&'a str, Error> {
        let start = self.at;
        let length = self.count(1, format_args!("{field}: length"))?;
        let bytes = self.take(length, &field)?;
        std::str::from_utf8(bytes).map_err(|e| {
            let what = format!("not UTF-8 (the first wrong byte is at {})", start + 8 + e.valid_up_to());
            self.error(field, start, what)
        })
    }
}
