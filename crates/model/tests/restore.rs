//! A sequence saved at a page border goes on where it was, in its own slot or in another, whatever came between.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Golden, difference, load};
use sampan_fixtures::Family;
use sampan_model::{Cache, CacheSizes, Chunk, KvFormat, Logits, Model, PAGE, Scratch};

/// What a sequence uses: its slot, and for pages behind the border those of this group.
#[derive(Clone, Copy)]
struct Place {
    slot: u32,
    group: usize,
}

/// Sequences that share the pages before `border`.
struct Sequences<'a> {
    model: &'a Model,
    cache: Cache,
    scratch: Scratch,
    /// Pages before the border, pages of all.
    pages: (usize, usize),
}

const GROUPS: usize = 2;
const SLOTS: usize = 4;

impl<'a> Sequences<'a> {
    fn new(model: &'a Model, border: usize, length: usize) -> Sequences<'a> {
        let (shared, all) = (border / PAGE, length.div_ceil(PAGE));
        let pages = shared + GROUPS * (all - shared);
        let cache = Cache::new(model.plan(), CacheSizes { format: KvFormat::F32, pages, slots: SLOTS });
        Sequences { model, cache, scratch: Scratch::default(), pages: (shared, all) }
    }

    fn feed(&mut self, place: Place, tokens: &[u32], start: usize) -> Vec<f32> {
        let (shared, all) = self.pages;
        let own = (shared..all).map(|page| page + place.group * (all - shared));
        let pages: Vec<u32> = (0..shared).chain(own).map(|page| page as u32).collect();
        let mut logits = Vec::new();
        let chunk =
            Chunk { tokens, start, pages: &pages, slot: place.slot, logits: Logits::All, adapter: None };
        self.model.forward(&[chunk], &mut self.cache, &mut self.scratch, &mut logits);
        logits
    }

    fn copy(&mut self, from: u32, to: u32) {
        self.cache.copy_slot(self.model.kernels(), from, to);
    }
}

/// `tokens[border..]` gives the same bits after the first pass and after each restoration.
fn goes_on(name: &str, model: &Model, tokens: &[u32], border: usize) {
    let mut sequences = Sequences::new(model, border, tokens.len());
    let (before, after) = tokens.split_at(border);
    let reversed: Vec<u32> = after.iter().rev().copied().collect();
    let (first, saved, other) =
        (Place { slot: 1, group: 0 }, Place { slot: 3, group: 1 }, Place { slot: 0, group: 1 });
    sequences.feed(first, before, 0);
    sequences.copy(first.slot, saved.slot);
    let expected = sequences.feed(first, after, border);
    // A slot with a past of its own, and the sequence's own slot with a future that is to be forgotten.
    sequences.copy(saved.slot, other.slot);
    let different = sequences.feed(other, &reversed, border);
    assert_ne!(difference(&different, &expected), 0.0, "{name}: other tokens, the same logits");
    for place in [other, first] {
        sequences.copy(saved.slot, place.slot);
        let again = sequences.feed(place, after, border);
        let drift = difference(&again, &expected);
        assert_eq!(drift, 0.0, "{name}: restored at {border} into slot {}, off by {drift}", place.slot);
    }
}

#[test]
fn short_sequences() {
    let mut stateful = 0;
    for family in Family::all().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        family.write_checkpoint(dir.path()).unwrap();
        let (model, golden) = (load(dir.path()), Golden::read(&family.golden));
        stateful += usize::from(model.plan().slot_bytes(KvFormat::F32, 4) > 0);
        let tokens = [golden.ids, golden.greedy].concat();
        let tokens = [&tokens[..], &tokens[1..]].concat();
        for border in [PAGE, 2 * PAGE] {
            goes_on(&family.name, &model, &tokens, border);
        }
    }
    assert!(stateful >= 5, "only {stateful} fixtures have anything in a slot");
}

#[test]
fn long_sequences() {
    for family in Family::long().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        family.write_checkpoint(dir.path()).unwrap();
        let (model, golden) = (load(dir.path()), Golden::read(&family.golden));
        let end = golden.ids.len().min(2000);
        goes_on(&family.name, &model, &golden.ids[..end], (end * 3 / 4).next_multiple_of(PAGE));
    }
}
