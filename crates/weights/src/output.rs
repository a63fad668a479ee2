//! Writing files that appear whole or not at all, and tensors into them in any order.

use crate::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file under a temporary name beside its destination; [`NewFile::finish`] gives it its own.
/// Dropping it unfinished removes it.
#[derive(Debug)]
struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    finished: bool,
}

impl NewFile {
    fn create(path: &Path) -> Result<NewFile, Error> {
        let Some(name) = path.file_name() else {
            return Err(Error::write(path, "this is not a file name"));
        };
        // Two programs, or two writers in one, may write the same file: each needs its own name.
        for attempt in 0..100u32 {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{attempt}.part", std::process::id()));
            let temporary = path.with_file_name(hidden);
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    let file = BufWriter::with_capacity(1 << 20, file);
                    return Ok(NewFile { path: path.to_path_buf(), temporary, file, finished: false });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(&temporary, e)),
            }
        }
        Err(Error::write(path, "every temporary name beside it is taken; remove its old .part files"))
    }

    fn finish(mut self) -> Result<(), Error> {
        let io = |e| Error::io(&self.temporary, e);
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)?;
        std::fs::rename(&self.temporary, &self.path).map_err(|e| Error::io(&self.path, e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// A small file at once.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut new = NewFile::create(path)?;
    new.file.write_all(bytes).map_err(|e| Error::io(&new.temporary, e))?;
    new.finish()
}

/// Where a tensor's data goes in the file.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) written: u64,
}

/// A file whose header is written and whose tensors are being filled in, in any order and in pieces.
#[derive(Debug)]
pub(crate) struct Output {
    new: NewFile,
    at: u64,
    end: u64,
    slots: Vec<Slot>,
    /// Where the last piece went: pieces usually come in order.
    last: usize,
}

impl Output {
    /// Starts the file at `path` with `header`; `end` is its final length.
    pub(crate) fn create(path: &Path, header: &[u8], slots: Vec<Slot>, end: u64) -> Result<Output, Error> {
        let mut new = NewFile::create(path)?;
        new.file.write_all(header).map_err(|e| Error::io(&new.temporary, e))?;
        // Gaps between tensors are then zero without being written.
        new.file.get_ref().set_len(end).map_err(|e| Error::io(&new.temporary, e))?;
        Ok(Output { new, at: header.len() as u64, end, slots, last: 0 })
    }

    /// Adds the next piece of the tensor called `name`.
    pub(crate) fn append(&mut self, name: &str, piece: &[u8]) -> Result<(), Error> {
        let count = self.slots.len();
        let near = [self.last, self.last + 1].into_iter().find(|&i| i < count && self.slots[i].name == name);
        let Some(i) = near.or_else(|| self.slots.iter().position(|slot| slot.name == name)) else {
            return Err(Error::write(&self.new.path, format!("tensor {name:?} was not declared")));
        };
        self.last = i;
        let slot = &mut self.slots[i];
        let (left, more) = (slot.size - slot.written, piece.len() as u64);
        if more > left {
            let what = format!("tensor {name:?} has {} bytes, not {}", slot.size, slot.written + more);
            return Err(Error::write(&self.new.path, what));
        }
        let io = |e| Error::io(&self.new.temporary, e);
        let wanted = slot.offset + slot.written;
        if wanted != self.at {
            self.new.file.seek(SeekFrom::Start(wanted)).map_err(io)?;
        }
        self.new.file.write_all(piece).map_err(io)?;
        self.at = wanted + more;
        slot.written += more;
        Ok(())
    }

    /// Checks that every tensor is whole, then gives the file its name.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if let Some(slot) = self.slots.iter().find(|slot| slot.written != slot.size) {
            let what = format!("tensor {:?} has {} of {} bytes", slot.name, slot.written, slot.size);
            return Err(Error::write(&self.new.path, what));
        }
        debug_assert!(self.at <= self.end);
        self.new.finish()
    }
}
