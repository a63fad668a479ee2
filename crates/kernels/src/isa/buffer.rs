//! Zeroed bytes on cache-line borders; large ones on pages of their own, huge where the system has them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A fixed number of bytes, zero at first, that starts at a 64-byte border.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    len: usize,
    /// Bytes of the mapping, when the memory is a mapping of its own.
    mapped: Option<usize>,
}

// SAFETY: the buffer owns its bytes like a `Box<[u8]>`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zero bytes. The system hands out large buffers lazily: a page costs memory when it is first written.
    pub(crate) fn zeroed(len: usize) -> Buffer {
        #[cfg(target_os = "linux")]
        if len >= 1 << 20
            && let Some(buffer) = map(len)
        {
            return buffer;
        }
        if len == 0 {
            return Buffer { start: NonNull::<Line>::dangling().cast(), len, mapped: None };
        }
        let layout = Buffer::layout(len);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Buffer { start, len, mapped: None }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, align_of::<Line>()).expect("a length below isize::MAX")
    }
}

#[repr(align(64))]
struct Line;

#[cfg(target_os = "linux")]
fn map(len: usize) -> Option<Buffer> {
    const HUGE: usize = 2 << 20;
    let bytes = len.checked_next_multiple_of(4096)?;
    // Room to start at a huge page's border; what is left over on both sides goes back.
    let room = bytes.checked_add(HUGE)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping touches no existing memory.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), room, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return None;
    }
    let skip = base.align_offset(HUGE);
    // SAFETY: `skip + bytes <= room`: all three ranges lie in the new mapping, on page borders, and the ones given
    // back are not used again. Advice changes no contents.
    unsafe {
        let start = base.cast::<u8>().add(skip);
        if skip > 0 {
            libc::munmap(base, skip);
        }
        if skip < HUGE {
            libc::munmap(start.add(bytes).cast(), HUGE - skip);
        }
        libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
        Some(Buffer { start: NonNull::new(start)?, len, mapped: Some(bytes) })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.mapped {
            #[cfg(target_os = "linux")]
            // SAFETY: exactly the range that `map` kept, unmapped once.
            Some(bytes) => unsafe {
                libc::munmap(self.start.as_ptr().cast(), bytes);
            },
            _ if self.len == 0 => {}
            // SAFETY: allocated with the same layout.
            _ => unsafe { dealloc(self.start.as_ptr(), Buffer::layout(self.len)) },
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that this buffer owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` initialised bytes that this buffer owns.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zero_aligned_and_whole() {
        for len in [0, 1, 63, 4096, (1 << 20) - 1, 1 << 20, (5 << 20) + 7] {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().align_offset(64), 0);
            assert!(buffer.iter().all(|&byte| byte == 0));
            buffer.fill(7);
            assert!(buffer.iter().all(|&byte| byte == 7));
        }
    }
}
