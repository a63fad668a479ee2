//! Whose turn it is: each client's tokens are counted, and who has had the fewest goes next (Sheng et al. 2024, "Fairness
//! in Serving Large Language Models").

use std::collections::BTreeMap;

/// Tokens computed for each client that has requests, on a clock that they share: one who comes joins at the least of
/// those present, and so neither owes for the time before nor is owed for it.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    served: BTreeMap<u64, u64>,
}

impl Fairness {
    /// A request of this client has come.
    pub(crate) fn join(&mut self, client: u64) {
        let least = self.served.values().min().copied().unwrap_or(0);
        self.served.entry(client).or_insert(least);
    }

    /// The client's last request has ended.
    pub(crate) fn leave(&mut self, client: u64) {
        self.served.remove(&client);
    }

    /// Tokens were computed for this client.
    pub(crate) fn charge(&mut self, client: u64, tokens: usize) {
        if let Some(served) = self.served.get_mut(&client) {
            *served += tokens as u64;
        }
    }

    /// What the client has had. The least of several goes first.
    pub(crate) fn served(&self, client: u64) -> u64 {
        self.served.get(&client).copied().unwrap_or(0)
    }

    /// Checks that exactly these clients are counted.
    pub(crate) fn check(&self, present: impl Iterator<Item = u64>) -> Result<(), String> {
        let present: std::collections::BTreeSet<u64> = present.collect();
        let same = self.served.keys().eq(&present);
        same.then_some(())
            .ok_or_else(|| format!("clients {:?} are counted, {present:?} are there", self.served))
    }
}
