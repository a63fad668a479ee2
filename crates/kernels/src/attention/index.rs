//! The lightning indexer: cheap scores that choose which keys attention reads.

use super::listed::gather;
use super::tile::{MAX_ROWS, PARTITION};
use super::{KvLayout, KvStore, Listed, PAGE, Scratch, Tile};
use crate::Kernels;
use crate::isa::attention::index;

/// The keys that one row may choose from: the first `keys` of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Indexed<'a> {
    /// The sequence's pages: key `s` is token `s % per_page` of page `pages[s / per_page]`.
    pub pages: &'a [u32],
    /// How many there are.
    pub keys: usize,
}

/// One call's constants.
struct Call<'a> {
    kernels: &'a Kernels,
    store: &'a KvStore,
    heads: usize,
    q: &'a [f32],
    weights: &'a [f32],
}

impl Kernels {
    /// The `k` best keys of each row in ascending order (all where there are no more), by the scores
    /// `sum_h weights[h] * max(0, q_h * k_s)` (DeepSeek-AI, "DeepSeek-V3.2", 2025); the first among equals.
    ///
    /// `q` is `n x heads * key_dim`, `weights` is `n x heads`.
    ///
    /// # Panics
    /// If the store holds values of its own, there are more than 128 heads, a page table does not cover its keys,
    /// or the slices are too short.
    pub fn index_top(
        &self,
        store: &KvStore,
        rows: &[Indexed<'_>],
        heads: usize,
        q: &[f32],
        weights: &[f32],
        k: usize,
    ) -> Vec<Vec<u32>> {
        assert!(store.shape().shared(), "an index has keys only");
        assert!((1..=MAX_ROWS).contains(&heads), "{heads} index heads");
        let call = Call { kernels: self, store, heads, q, weights };
        let mut chosen = vec![Vec::new(); rows.len()];
        if rows.len() >= self.pool().threads() {
            self.pool().run_slices(&mut chosen, 1, |r, chosen| {
                if rows[r].keys > k {
                    let mut scores = vec![0.0; rows[r].keys];
                    self.attention.with(|scratch| {
                        for (piece, out) in scores.chunks_mut(PARTITION).enumerate() {
                            call.piece(r, &rows[r], piece, scratch, out);
                        }
                    });
                    chosen[0] = top_k(&scores, k);
                }
            });
        } else {
            for (r, (row, chosen)) in
                rows.iter().zip(&mut chosen).enumerate().filter(|(_, (row, _))| row.keys > k)
            {
                let mut scores = vec![0.0; row.keys];
                self.pool().run_slices(&mut scores, PARTITION, |piece, out| {
                    self.attention.with(|scratch| call.piece(r, row, piece, scratch, out));
                });
                *chosen = top_k(&scores, k);
            }
        }
        for (row, chosen) in rows.iter().zip(&mut chosen).filter(|(row, _)| row.keys <= k) {
            chosen.extend(0..row.keys as u32);
        }
        chosen
    }
}

impl Call<'_> {
    /// The scores of row `r` with the keys from `piece * PARTITION` on.
    fn piece(&self, r: usize, row: &Indexed<'_>, piece: usize, scratch: &mut Scratch, out: &mut [f32]) {
        let shape = self.store.shape();
        let (first, dim) = (piece * PARTITION, shape.key_dim);
        let (numbers, gathered);
        let (store, pages) = match shape.layout {
            KvLayout::Rows(per_page) => {
                let key = |s: usize| row.pages[s / per_page] as usize * per_page + s % per_page;
                let keys: Vec<u32> = (first..first + out.len()).map(|s| key(s) as u32).collect();
                let list = Listed { near: &[], stored: &keys };
                gathered = Some(gather(self.kernels.level, self.store, &list, scratch));
                numbers = (0..keys.len().div_ceil(PAGE) as u32).collect::<Vec<u32>>();
                (gathered.as_ref().expect("set above"), &numbers[..])
            }
            KvLayout::KeysValues | KvLayout::Latent => {
                gathered = None;
                (self.store, &row.pages[first / PAGE..])
            }
        };
        let tile = Tile {
            store,
            pages,
            kv_head: 0,
            heads: self.heads,
            rows: self.heads,
            start: out.len() - 1,
            window: usize::MAX,
            softcap: None,
        };
        scratch.load_queries(self.kernels.level, &store.shape(), self.heads, 1.0, |h| {
            &self.q[(r * self.heads + h) * dim..][..dim]
        });
        index(self.kernels.level, &tile, &self.weights[r * self.heads..][..self.heads], scratch, out);
        if gathered.is_some() {
            scratch.gathered = gathered;
        }
    }
}

/// The indices of the `k` largest numbers in ascending order, the first among equals; NaN counts as the lowest.
fn top_k(scores: &[f32], k: usize) -> Vec<u32> {
    let score = |i: &u32| {
        let score = scores[*i as usize] + 0.0; // no negative zero
        if score.is_nan() { f32::NEG_INFINITY } else { score }
    };
    let mut best: Vec<u32> = (0..scores.len() as u32).collect();
    if k > 0 && k < best.len() {
        best.select_nth_unstable_by(k - 1, |a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
    }
    best.truncate(k);
    // Many rows have lists at a time: each keeps what it chose, and not the room of all that it chose from.
    best.shrink_to_fit();
    best.sort_unstable();
    best
}
