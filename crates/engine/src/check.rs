//! What must hold between two steps, whatever has happened: for tests and idle moments.

use crate::kv::pages_for;
use crate::scheduler::Scheduler;
use crate::sequence::Sequence;
use sampan_kernels::attention::PAGE;

impl Scheduler {
    /// Checks the order of the queues and every page count; for tests and idle moments.
    pub(crate) fn check(&self) -> Result<(), String> {
        let all = || self.running.iter().chain(&self.waiting);
        let mut by_client: Vec<_> = all().map(|seq| (seq.client, seq.id)).collect();
        by_client.sort_by_key(|(client, _)| *client);
        if !by_client.is_sorted() {
            return Err(format!("requests of a client are out of order: {by_client:?}"));
        }
        // Those that lost their turn come first, in the order of their turns, which is not that of their ids.
        let place = |seq: &Sequence| (!seq.was_preempted()).then_some(seq.id);
        if !self.waiting.iter().is_sorted_by_key(place) {
            return Err("the queue is out of order".into());
        }
        self.fairness.check(all().map(|seq| seq.client))?;
        if self.waiting.iter().any(|seq| !seq.pages.is_empty() || seq.slot.is_some() || seq.computed > 0) {
            return Err("a waiting request holds pages or a slot".into());
        }
        if let Some(seq) = self.running.iter().find(|seq| seq.pages.len() != pages_for(seq.computed)) {
            return Err(format!("request {}: {} pages for {} tokens", seq.id, seq.pages.len(), seq.computed));
        }
        if let Some(seq) = self.running.iter().find(|seq| seq.slot.is_none()) {
            return Err(format!("request {} is running without a slot", seq.id));
        }
        let tables = self.running.iter().map(|seq| (seq.pages.as_slice(), seq.computed / PAGE));
        self.pages.check(tables, self.running.iter().filter_map(|seq| seq.slot))
    }
}
