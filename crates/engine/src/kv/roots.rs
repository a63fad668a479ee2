//! Where prefixes begin: what one adapter has computed is of no use to another, or to the model alone.

use sampan_model::Adapter;
use std::sync::{Arc, Weak};

/// The parent of a sequence's first page, without an adapter.
pub(crate) const ROOT: u32 = u32::MAX;

/// A root for every adapter that was ever seen. No other adapter gets the root of one that is gone, whose pages may
/// still be in the cache.
#[derive(Debug, Default)]
pub(crate) struct Roots(Vec<Weak<Adapter>>);

impl Roots {
    /// The parent of a sequence's first page.
    pub(crate) fn of(&mut self, adapter: Option<&Arc<Adapter>>) -> u32 {
        let Some(adapter) = adapter else { return ROOT };
        // What a weak reference points to keeps its address, so that no other adapter can have it.
        let known = self.0.iter().position(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(adapter)));
        let index = known.unwrap_or_else(|| {
            self.0.push(Arc::downgrade(adapter));
            self.0.len() - 1
        });
        ROOT - 1 - index as u32
    }
}
