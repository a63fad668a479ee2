//! The paged KV cache of a whole model: one store per attention layer, all sharing page numbers.

use crate::plan::{Attention, Plan};
use sampan_kernels::attention::{KvFormat, KvShape, KvStore};

/// Keys and values of every layer. Page `p` of a sequence is page `p` in every layer's store.
///
/// Memory is committed by the operating system when a page is first written, so a generous number of pages costs
/// address space only.
#[derive(Debug)]
pub struct Cache {
    stores: Vec<KvStore>,
    pages: usize,
    format: KvFormat,
}

impl Cache {
    /// A cache of `pages` pages of [`PAGE`](crate::PAGE) tokens.
    pub fn new(plan: &Plan, format: KvFormat, pages: usize) -> Cache {
        let stores = plan.attentions().map(|a| KvStore::new(shape(a, format), pages)).collect();
        Cache { stores, pages, format }
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// How keys and values are stored.
    pub fn format(&self) -> KvFormat {
        self.format
    }

    /// Bytes when every page is in use.
    pub fn bytes(&self) -> usize {
        self.stores.iter().map(KvStore::bytes).sum()
    }

    pub(crate) fn store(&mut self, layer: usize) -> &mut KvStore {
        &mut self.stores[layer]
    }
}

/// What one layer keeps per page.
pub(crate) fn shape(attention: &Attention, format: KvFormat) -> KvShape {
    KvShape::new(attention.kv_heads, attention.key_dim, attention.value_dim, format)
}
