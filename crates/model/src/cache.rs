//! What a model remembers of the sequences that it computes.
//!
//! Two kinds of memory. *Pages* hold what grows with the context: keys and values, latent vectors, compressed
//! entries; page `p` of a sequence is page `p` in every layer, and pages may be shared by sequences with the same
//! beginning. A *slot* holds what does not grow: the keys and values inside a window, the state of recurrent layers.
//! A slot belongs to one sequence; copying a slot saves or restores a sequence at the position it has reached.

use crate::plan::{Attention, Keys, Mixer, Plan};
use sampan_kernels::Kernels;
use sampan_kernels::attention::{KvFormat, KvShape, KvStore, PAGE};

/// Rows of one sequence that are computed together at most, where layers have windows: keys and values of so many
/// rows are written before the first of them attends.
pub(crate) const PASS: usize = 512;

/// How much a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSizes {
    /// How keys and values are stored; latent vectors as [`KvFormat::of_latent`] says.
    pub format: KvFormat,
    /// Pages of [`PAGE`] tokens.
    pub pages: usize,
    /// Slots.
    pub slots: usize,
}

/// Pages and slots of every layer.
///
/// Memory is committed by the operating system when it is first written, so a generous number of pages costs
/// address space only.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    sizes: CacheSizes,
}

/// What one layer remembers.
#[derive(Debug)]
pub(crate) struct LayerCache {
    /// Paged, or, where `ring` is not 0, so many pages for each slot.
    pub(crate) stores: Vec<KvStore>,
    /// Pages of a slot, used in turn.
    pub(crate) ring: usize,
    /// Numbers of a slot.
    state: usize,
    states: Vec<f32>,
}

/// What one layer needs to remember.
struct Needs {
    shapes: Vec<KvShape>,
    /// Positions, where the layer sees no more than these.
    window: Option<usize>,
    /// Numbers per slot.
    state: usize,
}

impl Needs {
    fn of(mixer: &Mixer, format: KvFormat) -> Needs {
        let paged = |shapes| Needs { shapes, window: None, state: 0 };
        match mixer {
            Mixer::Attention(Attention { keys: Keys::Shared { .. }, .. }) => paged(Vec::new()),
            Mixer::Attention(a) => {
                let shapes = vec![KvShape::new(a.kv_heads, a.key_dim, a.value_dim, format)];
                Needs { window: a.window, ..paged(shapes) }
            }
            Mixer::Latent(l) => {
                let own = KvShape::latent(l.rank + l.rotated, l.rank, format.of_latent());
                let index = l.index.as_ref().map(|i| KvShape::latent(i.dim, i.dim, format.of_latent()));
                paged([Some(own), index].into_iter().flatten().collect())
            }
            Mixer::Compressed(c) => {
                let rows = |ratio: usize| (PAGE / ratio).max(1);
                let shape =
                    |dim: usize, ratio: usize| KvShape::rows(dim, dim, rows(ratio), format.of_latent());
                let mut shapes: Vec<_> = c.compressors().map(|e| shape(e.dim, e.ratio)).collect();
                if shapes.is_empty() {
                    // Attention takes a store of the shape of a key even where nothing is in it.
                    shapes.push(shape(c.head_dim, PAGE));
                }
                Needs { state: c.state(), ..paged(shapes) }
            }
            Mixer::Delta(d) => Needs { state: d.state_len(), ..paged(Vec::new()) },
        }
    }

    fn page_bytes(&self) -> usize {
        self.shapes.iter().map(KvShape::page_bytes).sum()
    }

    /// Pages of a slot in a cache of `pages` pages; 0 for a layer without a window.
    fn ring(&self, pages: usize) -> usize {
        self.window.map_or(0, |window| ((window + PASS).div_ceil(PAGE) + 1).min(pages.max(1)))
    }
}

impl Cache {
    /// An empty cache.
    pub fn new(plan: &Plan, sizes: CacheSizes) -> Cache {
        let layer = |mixer: &Mixer| {
            let needs = Needs::of(mixer, sizes.format);
            let ring = needs.ring(sizes.pages);
            let pages = if ring > 0 { ring * sizes.slots } else { sizes.pages };
            LayerCache {
                stores: needs.shapes.iter().map(|&shape| KvStore::new(shape, pages)).collect(),
                ring,
                state: needs.state,
                states: vec![0.0; needs.state * sizes.slots],
            }
        };
        Cache { layers: plan.layers.iter().map(|l| layer(&l.mixer)).collect(), sizes }
    }

    /// How much it holds.
    pub fn sizes(&self) -> CacheSizes {
        self.sizes
    }

    /// Makes slot `to` what slot `from` is.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn copy_slot(&mut self, kernels: &Kernels, from: u32, to: u32) {
        let (from, to) = (from as usize, to as usize);
        assert!(from.max(to) < self.sizes.slots, "slots {from} and {to} of {}", self.sizes.slots);
        for layer in &mut self.layers {
            for store in layer.stores.iter_mut().filter(|_| layer.ring > 0) {
                for page in 0..layer.ring {
                    let at = |slot: usize| (slot * layer.ring + page) as u32;
                    kernels.kv_copy_page(store, at(from), at(to));
                }
            }
            let len = layer.state;
            layer.states.copy_within(from * len..(from + 1) * len, to * len);
        }
    }

    /// What layer `index` remembers.
    pub(crate) fn layer(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }

    /// The slot sizes, in pages, that layers with windows have.
    pub(crate) fn rings(&self) -> impl Iterator<Item = usize> {
        self.layers.iter().map(|layer| layer.ring).filter(|&ring| ring > 0)
    }

    /// For every slot size that occurs, a page table for each `(slot, end)`: the slot's pages, in turn, up to
    /// position `end`.
    pub(crate) fn ring_tables(
        &self,
        ends: impl Iterator<Item = (u32, usize)> + Clone,
    ) -> Vec<(usize, Vec<Vec<u32>>)> {
        let mut tables: Vec<(usize, Vec<Vec<u32>>)> = Vec::new();
        for ring in self.rings() {
            if tables.iter().any(|(size, _)| *size == ring) {
                continue;
            }
            let table = |(slot, end): (u32, usize)| {
                (0..end.div_ceil(PAGE)).map(|page| (slot as usize * ring + page % ring) as u32).collect()
            };
            tables.push((ring, ends.clone().map(table).collect()));
        }
        tables
    }

    /// A sequence begins in `slot`.
    pub(crate) fn clear_slot(&mut self, slot: u32) {
        for layer in &mut self.layers {
            layer.states[slot as usize * layer.state..][..layer.state].fill(0.0);
        }
    }
}

impl LayerCache {
    /// The stores, and the state of each slot that is asked for.
    ///
    /// # Panics
    /// If a slot is asked for twice.
    pub(crate) fn parts(&mut self, slots: impl Iterator<Item = u32>) -> (&mut [KvStore], Vec<&mut [f32]>) {
        let mut all: Vec<_> = self.states.chunks_exact_mut(self.state.max(1)).map(Some).collect();
        let states = slots.map(|slot| all[slot as usize].take().expect("a slot has one sequence")).collect();
        (&mut self.stores, states)
    }
}

impl Plan {
    /// Bytes of one page over all layers.
    pub fn kv_bytes_per_page(&self, format: KvFormat) -> usize {
        let needs = self.layers.iter().map(|layer| Needs::of(&layer.mixer, format));
        needs.filter(|needs| needs.window.is_none()).map(|needs| needs.page_bytes()).sum()
    }

    /// Bytes of one slot over all layers, in a cache of `pages` pages. 0: the model has no use for slots.
    pub fn slot_bytes(&self, format: KvFormat, pages: usize) -> usize {
        let needs = self.layers.iter().map(|layer| Needs::of(&layer.mixer, format));
        needs.map(|needs| needs.ring(pages) * needs.page_bytes() + needs.state * size_of::<f32>()).sum()
    }

    /// Whether a sequence can go back to an earlier position, at most [`PASS`] tokens, by running other tokens from there
    /// on: no layer keeps a state that sums up the tokens so far. What is in pages and windows is found by position,
    /// and a window's slot has room for a pass beside the window.
    pub fn rewinds(&self) -> bool {
        self.layers.iter().all(|layer| Needs::of(&layer.mixer, KvFormat::F32).state == 0)
    }

    /// Bytes of pages and slots that one token reads when `context` tokens were computed before.
    pub(crate) fn kv_bytes_read(&self, format: KvFormat, context: usize) -> usize {
        let bytes = |mixer: &Mixer| {
            let needs = Needs::of(mixer, format);
            let seen = needs.window.map_or(context, |window| window.min(context));
            seen * needs.page_bytes() / PAGE + 2 * needs.state * size_of::<f32>()
        };
        self.layers.iter().map(|layer| bytes(&layer.mixer)).sum()
    }
}
