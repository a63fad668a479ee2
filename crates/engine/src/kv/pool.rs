//! Reference counts and the free list.

/// Pages by number. Knows how many sequences hold a page, and nothing of what is in it.
#[derive(Debug)]
pub(super) struct Pool {
    refs: Vec<u32>,
    free: Vec<u32>,
}

impl Pool {
    pub(super) fn new(pages: usize) -> Pool {
        // Low numbers are given out first, so that a lightly used pool touches little memory.
        Pool { refs: vec![0; pages], free: (0..pages as u32).rev().collect() }
    }

    pub(super) fn total(&self) -> usize {
        self.refs.len()
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn refs(&self, page: u32) -> u32 {
        self.refs[page as usize]
    }

    pub(super) fn free_list(&self) -> &[u32] {
        &self.free
    }

    /// Takes a page off the free list, without a reference yet.
    pub(super) fn pop_free(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Puts a page without references on the free list.
    pub(super) fn push_free(&mut self, page: u32) {
        debug_assert_eq!(self.refs(page), 0);
        self.free.push(page);
    }

    /// Adds a reference and returns how many there are now.
    pub(super) fn retain(&mut self, page: u32) -> u32 {
        self.refs[page as usize] += 1;
        self.refs(page)
    }

    /// Takes a reference away and returns how many are left.
    pub(super) fn release(&mut self, page: u32) -> u32 {
        self.refs[page as usize] -= 1;
        self.refs(page)
    }

    pub(super) fn check(&self, refs: &[u32]) -> Result<(), String> {
        let wrong = self.refs.iter().zip(refs).position(|(a, b)| a != b);
        wrong.map_or(Ok(()), |i| Err(format!("page {i}: {} references, {} holders", self.refs[i], refs[i])))
    }
}
