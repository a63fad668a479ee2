//! Which page of the KV cache belongs to whom. The pages' contents live in the model's cache; here are only numbers.
//!
//! A page is in one of three states: *free* (contents meaningless), *used* (at least one sequence holds a
//! reference), or *cached* (nobody holds it, but its contents are known and may be found again by [`Prefix`]).
//! A full page that is *published* never changes; a page that is still being filled belongs to one sequence.
//! Where a model has state beside its pages, [`Slots`] knows behind which pages there is one to go on from.

mod pool;
mod prefix;
mod roots;
mod slots;

pub(crate) use roots::{ROOT, Roots};
pub(crate) use slots::Slots;

use pool::Pool;
use prefix::Prefix;
use sampan_kernels::attention::PAGE;

/// Pages needed for `tokens` positions.
pub(crate) fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE)
}

/// The pool, the index over it and the slots, kept in step.
#[derive(Debug)]
pub(crate) struct Pages {
    pool: Pool,
    prefix: Prefix,
    pub(crate) slots: Slots,
    clock: u64,
}

impl Pages {
    pub(crate) fn new(pages: usize, slots: Slots) -> Pages {
        Pages { pool: Pool::new(pages), prefix: Prefix::new(pages), slots, clock: 0 }
    }

    pub(crate) fn total(&self) -> usize {
        self.pool.total()
    }

    pub(crate) fn free(&self) -> usize {
        self.pool.free()
    }

    /// Pages that nobody uses but whose contents may be found again.
    pub(crate) fn cached(&self) -> usize {
        self.prefix.idle()
    }

    pub(crate) fn used(&self) -> usize {
        self.total() - self.free() - self.cached()
    }

    /// How often [`Pages::take`] will succeed in a row.
    pub(crate) fn available(&self) -> usize {
        self.free() + self.cached()
    }

    /// Gives a page to one sequence: a free one, else the least recently used cached one, whose contents are then
    /// forgotten. The caller holds one reference.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let page = self.pool.pop_free().or_else(|| self.prefix.evict())?;
        self.slots.forget(page);
        self.pool.retain(page);
        Some(page)
    }

    /// Looks for the page that holds `tokens` (one page full) after the page `parent` (a root at the start of a
    /// sequence), of which the caller must hold a reference. If there is one, the caller gets a reference to it.
    pub(crate) fn find(&mut self, parent: u32, tokens: &[u32]) -> Option<u32> {
        let page = self.prefix.get(parent, tokens)?;
        if self.pool.retain(page) == 1 {
            self.prefix.mark_used(page);
        }
        Some(page)
    }

    /// Makes a page that has just become full findable. Returns the page to go on with: `page` itself, or, when an
    /// equal one was published before, that one; the caller's reference moves to it and `page` is given back.
    pub(crate) fn publish(&mut self, parent: u32, tokens: &[u32], page: u32) -> u32 {
        if let Some(twin) = self.find(parent, tokens) {
            self.release(&[page]);
            return twin;
        }
        self.prefix.insert(parent, tokens, page);
        page
    }

    /// Gives back one reference to each of a sequence's pages. Published pages stay findable until evicted.
    pub(crate) fn release(&mut self, pages: &[u32]) {
        self.clock += 1;
        for &page in pages.iter().rev() {
            if self.pool.release(page) > 0 {
                continue;
            }
            if self.prefix.contains(page) {
                self.prefix.mark_idle(page, self.clock);
            } else {
                self.pool.push_free(page);
            }
        }
    }

    /// Whether a page may still be written to by the one sequence that holds it.
    fn is_private(&self, page: u32) -> bool {
        self.pool.refs(page) == 1 && !self.prefix.contains(page)
    }

    /// Checks every count against the page tables in use, each given as the pages and how many of them are full, and
    /// the slots in use.
    pub(crate) fn check<'a>(
        &self,
        tables: impl Iterator<Item = (&'a [u32], usize)>,
        slots: impl Iterator<Item = u32>,
    ) -> Result<(), String> {
        self.slots.check(slots, |page| self.prefix.contains(page))?;
        let mut refs = vec![0; self.total()];
        for (pages, full) in tables {
            for (i, &page) in pages.iter().enumerate() {
                refs[page as usize] += 1;
                if i >= full && !self.is_private(page) {
                    return Err(format!("page {page} is being filled and is shared or published"));
                }
                if i < full && !self.prefix.contains(page) {
                    return Err(format!("page {page} is full and not published"));
                }
            }
        }
        self.pool.check(&refs)?;
        self.prefix.check(&refs)?;
        let mut states: Vec<usize> = refs.iter().map(|&n| usize::from(n > 0)).collect();
        for (page, state) in states.iter_mut().enumerate() {
            *state += usize::from(self.prefix.is_idle(page as u32));
        }
        for &page in self.pool.free_list() {
            states[page as usize] += 1;
        }
        let wrong = states.iter().position(|&n| n != 1);
        wrong.map_or(Ok(()), |page| Err(format!("page {page} is in {} states and not in one", states[page])))
    }
}
