//! Which slot of the cache holds whose state. The states themselves live in the model's cache; here are only numbers.
//!
//! A slot is *free*, belongs to a running sequence, or keeps a *snapshot*: the state behind a published page, from
//! which every sequence with the same beginning can go on. A snapshot is known by the number of that page and goes
//! with it. A model without such state has nothing to save: its sequences can go on from any page.

use crate::request::RequestId;
use std::collections::HashMap;

#[derive(Debug)]
struct Snapshot {
    slot: u32,
    /// Larger is later.
    used: u64,
    /// The generating sequence that took it and will replace it with its next one; `None` once somebody else has
    /// found a use for it.
    follows: Option<RequestId>,
}

#[derive(Debug)]
pub(crate) struct Slots {
    total: usize,
    free: Vec<u32>,
    /// By the last page that they cover.
    snapshots: HashMap<u32, Snapshot>,
    /// How many there may be; `None` where the model has no state to save.
    limit: Option<usize>,
    /// Copies that are still to be made, in this order, before the model runs again.
    copies: Vec<(u32, u32)>,
    clock: u64,
    restored: u64,
}

impl Slots {
    /// Slots for so many running sequences, and beside them for so many snapshots (see [`Slots::limit`]).
    pub(crate) fn new(running: usize, limit: Option<usize>) -> Slots {
        let total = running + limit.unwrap_or(0);
        Slots {
            total,
            // Low numbers are given out first, so that a lightly used engine touches little memory.
            free: (0..total as u32).rev().collect(),
            snapshots: HashMap::new(),
            limit,
            copies: Vec::new(),
            clock: 0,
            restored: 0,
        }
    }

    /// Gives a slot to a sequence that begins to run.
    pub(crate) fn take(&mut self) -> u32 {
        self.free.pop().expect("there is a slot for every sequence that may run beside those for snapshots")
    }

    /// A sequence gives its slot back.
    pub(crate) fn give_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Whether states are saved, so that it is worth while to stop where one is wanted.
    pub(crate) fn saves(&self) -> bool {
        self.limit.is_some_and(|limit| limit > 0)
    }

    /// Whether a sequence can ever go on from what another one has computed.
    pub(crate) fn shares(&self) -> bool {
        self.limit != Some(0)
    }

    /// Whether a sequence can go on behind this published page.
    pub(crate) fn resumes(&self, page: u32) -> bool {
        self.limit.is_none() || self.snapshots.contains_key(&page)
    }

    /// The sequence in `slot` goes on behind `page`, for which [`Slots::resumes`] holds.
    pub(crate) fn restore(&mut self, page: u32, slot: u32) {
        self.clock += 1;
        if let Some(snapshot) = self.snapshots.get_mut(&page) {
            snapshot.used = self.clock;
            snapshot.follows = None;
            self.copies.push((snapshot.slot, slot));
            self.restored += 1;
        }
    }

    /// Saves the state of the sequence in `slot`, which has just filled the published `page`. A snapshot that
    /// `follows` a sequence takes the place of the one before it, any other that of the least recently used.
    pub(crate) fn save(&mut self, page: u32, slot: u32, follows: Option<RequestId>) {
        self.clock += 1;
        if let Some(twin) = self.snapshots.get_mut(&page) {
            twin.used = self.clock;
            twin.follows = twin.follows.filter(|&id| Some(id) == follows);
            return;
        }
        let limit = self.limit.unwrap_or(0);
        if limit == 0 {
            return;
        }
        let last = |s: &Snapshot| follows.is_some() && s.follows == follows;
        let replaced = self.snapshots.iter().find(|(_, s)| last(s)).map(|(&page, _)| page);
        let oldest = || self.snapshots.iter().min_by_key(|(_, s)| s.used).map(|(&page, _)| page);
        let full = self.snapshots.len() >= limit;
        if let Some(page) = replaced.or_else(|| if full { oldest() } else { None }) {
            self.forget(page);
        }
        let to = self.take();
        self.copies.push((slot, to));
        self.snapshots.insert(page, Snapshot { slot: to, used: self.clock, follows });
    }

    /// The page is no longer published.
    pub(super) fn forget(&mut self, page: u32) {
        if let Some(snapshot) = self.snapshots.remove(&page) {
            self.give_back(snapshot.slot);
        }
    }

    /// The copies, from slot to slot, to be made in this order before the model runs.
    pub(crate) fn copies(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.copies)
    }

    /// How many snapshots there are.
    pub(crate) fn saved(&self) -> usize {
        self.snapshots.len()
    }

    /// How often a sequence went on from one.
    pub(crate) fn restored(&self) -> u64 {
        self.restored
    }

    /// Checks that every slot is in one place. `running`: the slots of running sequences.
    pub(super) fn check(
        &self,
        running: impl Iterator<Item = u32>,
        published: impl Fn(u32) -> bool,
    ) -> Result<(), String> {
        if let Some(page) = self.snapshots.keys().find(|&&page| !published(page)) {
            return Err(format!("there is a snapshot for page {page}, which is not published"));
        }
        let (saved, limit) = (self.saved(), self.limit.unwrap_or(0));
        if saved > limit {
            return Err(format!("{saved} snapshots and at most {limit} are allowed"));
        }
        let mut places = vec![0; self.total];
        let saved = self.snapshots.values().map(|snapshot| snapshot.slot);
        for slot in running.chain(saved).chain(self.free.iter().copied()) {
            places[slot as usize] += 1;
        }
        let wrong = places.iter().position(|&n| n != 1);
        wrong.map_or(Ok(()), |slot| Err(format!("slot {slot} is in {} places and not in one", places[slot])))
    }
}
