//! Attention of each row over a list of keys of its own: what an index chose, or compressed entries beside a window.
//!
//! The keys of a row are gathered into pages, which the ordinary kernels then read: every sum runs in the order of
//! the list, whatever else is in the batch.

use super::attend::heads_per_tile;
use super::tile::run;
use super::write::{Page, runs};
use super::{AttentionSpec, KvFormat, KvLayout, KvShape, KvStore, PAGE, Scratch, Span, Tile};
use crate::Kernels;
use crate::isa::attention::tile_rows;
use crate::isa::level::Level;

/// What one row attends to, in order.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// Keys that are not in the store, `key_dim` numbers each; rounded to the store's format.
    pub near: &'a [f32],
    /// Keys of the store: token `t` of page `p` is number `p * per_page + t`.
    pub stored: &'a [u32],
}

impl Listed<'_> {
    fn len(&self, key_dim: usize) -> usize {
        self.near.len() / key_dim + self.stored.len()
    }
}

impl Kernels {
    /// Attention where row `i` sees exactly the keys of `lists[i]`; each key's first `value_dim` numbers are its
    /// value. `q` is `n x heads * key_dim`, `out` is `n x heads * value_dim`.
    ///
    /// # Panics
    /// If the store holds values of its own, a list is empty or names what is not in the store, the spec has a
    /// window, or the slices are too short.
    pub fn attend_listed(
        &self,
        spec: &AttentionSpec<'_>,
        store: &KvStore,
        lists: &[Listed<'_>],
        q: &[f32],
        out: &mut [f32],
    ) {
        let shape = store.shape();
        assert!(shape.shared(), "lists name keys whose values are part of them");
        assert!(spec.window.is_none(), "a list says itself what a row sees");
        assert!(spec.sinks.is_none_or(|sinks| sinks.len() == spec.heads), "one sink per head");
        assert!(lists.iter().all(|list| list.len(shape.key_dim) > 0), "a row sees at least one key");
        let (choice, threads) = (self.attention_choice(), self.pool().threads());
        let most = tile_rows(choice, shape.format);
        // Few rows: threads share the heads of one, though each then gathers its keys.
        let few = lists.len() < 2 * threads;
        let block =
            heads_per_tile(spec.heads, if few { spec.heads.div_ceil(threads).min(most) } else { most });
        let together = if few { block } else { spec.heads };
        let out = &mut out[..lists.len() * spec.heads * shape.value_dim];
        self.pool().run_slices(out, together * shape.value_dim, |i, out| {
            let row = i * together / spec.heads;
            self.attention.with(|scratch| {
                let gathered = gather(self.level, store, &lists[row], scratch);
                let pages: Vec<u32> = (0..gathered.pages() as u32).collect();
                for (b, out) in out.chunks_exact_mut(block * shape.value_dim).enumerate() {
                    let first = i * together + b * block; // of all rows' heads
                    let tile = Tile {
                        store: &gathered,
                        pages: &pages,
                        kv_head: 0,
                        heads: block,
                        rows: block,
                        start: lists[row].len(shape.key_dim) - 1,
                        window: usize::MAX,
                        softcap: spec.softcap,
                    };
                    scratch.load_queries(self.level, &gathered.shape(), block, spec.scale, |r| {
                        &q[(first + r) * shape.key_dim..][..shape.key_dim]
                    });
                    run(choice, &tile, tile.partitions(), scratch);
                    for (h, out) in out.chunks_exact_mut(shape.value_dim).enumerate() {
                        let sink = spec.sinks.map(|sinks| sinks[first % spec.heads + h]);
                        scratch.total.finish(self.level, h, shape.value_stride(), sink, out);
                    }
                }
                scratch.gathered = Some(gathered);
            });
        });
    }
}

/// The keys of a list as pages `0..` of a latent store; give it back to the scratch.
pub(super) fn gather(level: Level, store: &KvStore, list: &Listed<'_>, scratch: &mut Scratch) -> KvStore {
    let shape = KvShape { layout: KvLayout::Latent, ..store.shape() };
    let near = list.near.len() / shape.key_dim;
    let pages = (near + list.stored.len()).div_ceil(PAGE);
    let kept = scratch.gathered.take().filter(|kept| kept.shape() == shape && kept.pages() >= pages);
    let mut to = kept.unwrap_or_else(|| KvStore::new(shape, pages.next_power_of_two()));
    let numbers: Vec<u32> = (0..pages as u32).collect();
    let mut page = Page::new(&shape, level);
    for run in runs(&Span { pages: &numbers, rows: 0..near, start: 0 }, PAGE) {
        let bytes = shape.page_bytes();
        page.write(&mut to.data_mut()[run.page * bytes..][..bytes], run, list.near, &[]);
    }
    match shape.format {
        KvFormat::F32 => copy::<u32>(store, list.stored, near, shape.key_stride(), &mut to),
        KvFormat::F16 => copy::<u16>(store, list.stored, near, shape.key_stride(), &mut to),
        KvFormat::Bf16 => copy::<u32>(store, list.stored, near, shape.key_stride() / 2, &mut to),
        KvFormat::I16 | KvFormat::Q8_0 => unreachable!("latent vectors are floats"),
    }
    to
}

/// Copies keys of `units` words each to the tokens from `at` on.
fn copy<T: bytemuck::Pod>(store: &KvStore, keys: &[u32], at: usize, units: usize, to: &mut KvStore) {
    let (from, to): (&[T], &mut [T]) =
        (bytemuck::cast_slice(store.data()), bytemuck::cast_slice_mut(to.data_mut()));
    for (token, key) in keys.iter().map(|key| *key as usize).enumerate().map(|(i, key)| (at + i, key)) {
        let (start, step) = match store.shape().layout {
            KvLayout::Rows(_) => (key * units, 1),
            KvLayout::KeysValues | KvLayout::Latent => (key / PAGE * units * PAGE + key % PAGE, PAGE),
        };
        let from = from[start..].iter().step_by(step).take(units);
        let to = to[token / PAGE * units * PAGE + token % PAGE..].iter_mut().step_by(PAGE);
        to.zip(from).for_each(|(to, from)| *to = *from);
    }
}
