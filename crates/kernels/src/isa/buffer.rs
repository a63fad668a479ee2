//! Byte buffers at 64-byte borders; large ones on pages of their own, huge where the system has them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::Pool;

/// A fixed number of bytes, zero at first, that starts at a 64-byte border.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    len: usize,
    memory: Memory,
}

/// Where a buffer's bytes come from.
enum Memory {
    /// From the allocator.
    Heap,
    /// A mapping, or a part of one that no other buffer has.
    Mapped { _keep: Arc<Mapping> },
}

// SAFETY: the buffer owns its bytes like a `Box<[u8]>`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zero bytes. The system hands out large buffers lazily: a page costs memory when it is first written.
    pub(crate) fn zeroed(len: usize) -> Buffer {
        if len >= 1 << 20
            && let Some(mapping) = Mapping::new(len)
        {
            return Buffer { start: mapping.start, len, memory: Memory::Mapped { _keep: Arc::new(mapping) } };
        }
        if len == 0 {
            return Buffer { start: NonNull::<Line>::dangling().cast(), len, memory: Memory::Heap };
        }
        let layout = Buffer::layout(len);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Buffer { start, len, memory: Memory::Heap }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, align_of::<Line>()).expect("a length below isize::MAX")
    }
}

#[repr(align(64))]
struct Line;

/// Memory for many buffers that live about as long: side by side, so that small ones lie on huge pages, too. What
/// one of them had is not used again.
#[derive(Debug)]
pub struct Arena {
    mapping: Option<Arc<Mapping>>,
    /// Bytes handed out, a multiple of 64.
    used: usize,
    /// Bytes whose pages are there.
    ready: usize,
}

impl Arena {
    /// Room for buffers of `bytes` bytes together, each rounded up to a multiple of 64. Buffers that find no room
    /// stand alone.
    pub fn new(bytes: usize) -> Arena {
        Arena { mapping: Mapping::new(bytes).map(Arc::new), used: 0, ready: 0 }
    }

    /// `len` zero bytes. The pages are made by all threads of `pool`: otherwise two that begin on one huge page would
    /// both clear it.
    pub(crate) fn take(&mut self, pool: &Pool, len: usize) -> Buffer {
        let fits = |mapping: &&Arc<Mapping>| len > 0 && mapping.bytes - self.used >= len;
        let Some(mapping) = self.mapping.as_ref().filter(fits) else { return Buffer::zeroed(len) };
        // SAFETY: `used + len` bytes are in the mapping.
        let start = unsafe { mapping.start.add(self.used) };
        self.used = (self.used + len).next_multiple_of(64).min(mapping.bytes);
        if self.used > self.ready {
            let end = self.used.next_multiple_of(32 * HUGE).min(mapping.bytes);
            pool.run((end - self.ready).div_ceil(HUGE), &|page| {
                let first = self.ready + page * HUGE;
                mapping.populate(first, HUGE.min(end - first));
            });
            self.ready = end;
        }
        Buffer { start, len, memory: Memory::Mapped { _keep: Arc::clone(mapping) } }
    }
}

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// Pages of memory from the system, zero at first.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is an address range; buffers see to it that each byte has one owner.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

#[cfg(target_os = "linux")]
impl Mapping {
    fn new(len: usize) -> Option<Mapping> {
        let bytes = len.checked_next_multiple_of(4096).filter(|&bytes| bytes > 0)?;
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
        // SAFETY: `skip + bytes <= room`: all three ranges lie in the new mapping, on page borders, and the ones
        // given back are not used again. Advice changes no contents.
        unsafe {
            let start = base.cast::<u8>().add(skip);
            if skip > 0 {
                libc::munmap(base, skip);
            }
            if skip < HUGE {
                libc::munmap(start.add(bytes).cast(), HUGE - skip);
            }
            libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
            Some(Mapping { start: NonNull::new(start)?, bytes })
        }
    }

    /// Makes the pages of a range that starts at a huge page's border. If the system cannot, the first write will.
    fn populate(&self, first: usize, len: usize) {
        assert!(first.checked_add(len).is_some_and(|end| end <= self.bytes), "a range of the mapping");
        // SAFETY: the range lies in the mapping; making its pages changes no contents.
        unsafe { libc::madvise(self.start.as_ptr().add(first).cast(), len, libc::MADV_POPULATE_WRITE) };
    }
}

#[cfg(not(target_os = "linux"))]
impl Mapping {
    fn new(_len: usize) -> Option<Mapping> {
        None
    }

    fn populate(&self, _first: usize, _len: usize) {}
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        // SAFETY: exactly the range that `new` kept, unmapped once; no buffer is left in it.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.bytes);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if matches!(self.memory, Memory::Heap) && self.len > 0 {
            // SAFETY: allocated with the same layout.
            unsafe { dealloc(self.start.as_ptr(), Buffer::layout(self.len)) };
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

/// Numbers of one length at a time, from a 64-byte border on, so that no vector of them lies across two cache lines;
/// many of them on huge pages where the system has them. For activations, whose rows lie pages apart.
#[derive(Debug)]
pub struct Floats {
    memory: Buffer,
    len: usize,
}

impl Default for Floats {
    fn default() -> Floats {
        Floats { memory: Buffer::zeroed(0), len: 0 }
    }
}

impl Floats {
    /// Makes room for `len` numbers, which may then be any.
    pub fn resize(&mut self, len: usize) {
        if self.memory.len() < len * size_of::<f32>() {
            *self = Floats::default(); // not both at a time
            self.memory = Buffer::zeroed(len * size_of::<f32>());
        }
        self.len = len;
    }
}

impl Deref for Floats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.memory)[..self.len]
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.memory)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_the_length_asked_for_and_an_aligned_start() {
        let mut floats = Floats::default();
        for len in [0, 5, 3, 300_000, 5, 300_001] {
            floats.resize(len);
            assert_eq!((floats.len(), floats.as_ptr().align_offset(64)), (len, 0));
            floats.fill(1.0);
        }
    }

    fn check(mut buffer: Buffer, len: usize, fill: u8) -> Buffer {
        assert_eq!(buffer.len(), len);
        assert_eq!(buffer.as_ptr().align_offset(64), 0);
        assert!(buffer.iter().all(|&byte| byte == 0));
        buffer.fill(fill);
        buffer
    }

    #[test]
    fn buffers_are_zero_aligned_and_whole() {
        for len in [0, 1, 63, 4096, (1 << 20) - 1, 1 << 20, (5 << 20) + 7] {
            let buffer = check(Buffer::zeroed(len), len, 7);
            assert!(buffer.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn buffers_of_an_arena_do_not_touch_and_outlive_it() {
        let pool = Pool::new(2);
        let mut arena = Arena::new((5 << 20) + 3 * 64);
        // The last two find no room.
        let lens = [1, 0, 100, (2 << 20) + 1, 3 << 20, 5 << 20, 4096];
        let taken = |(i, &len): (usize, &usize)| check(arena.take(&pool, len), len, i as u8 + 1);
        let buffers: Vec<Buffer> = lens.iter().enumerate().map(taken).collect();
        drop(arena);
        for (i, buffer) in buffers.iter().enumerate() {
            assert!(buffer.iter().all(|&byte| byte == i as u8 + 1), "buffer {i}");
        }
    }
}
