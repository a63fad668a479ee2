//! Memory that requests may still take. A model is loaded only if all that its plan says fits; but pages are committed as
//! they are first used, and other programs may have taken the memory since. So each request is held against what there
//! is when it comes, and refused with the numbers rather than killed with everything else.

use crate::failure::Failure;
use axum::http::StatusCode;
use sampan_facade::LoadOptions;
use sampan_facade::machine::available_memory;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tokens that an answer is taken to have if its request says nothing.
const USUAL_ANSWER: usize = 1024;

/// Bytes that are left to the system.
const MARGIN: u64 = 16 << 20;

/// What the requests under way may take together.
#[derive(Debug, Default)]
pub(crate) struct Budget(Arc<AtomicU64>);

/// A request's part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    /// Lets a request in that may take `bytes`. `uncommitted` is what all models together may still take: whatever the
    /// requests want, it is never more.
    pub(crate) fn admit(
        &self,
        options: &LoadOptions,
        bytes: u64,
        uncommitted: u64,
    ) -> Result<Share, Failure> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let share = Share { budget: self.0.clone(), bytes };
        let wanted = before.saturating_add(bytes).min(uncommitted);
        let Some(available) = options.available().filter(|a| wanted > 0 && wanted + MARGIN > a.bytes) else {
            return Ok(share);
        };
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!(
            "this request and those under way may take {} MiB more, and {} has {} MiB left; come again when others \
             have ended, or ask for fewer tokens",
            mib(wanted),
            available.limited_by,
            mib(available.bytes),
        );
        Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "out_of_memory", message).after(5))
    }
}

/// What a model leaves of the memory that was there for it: adapters, and what vectors and scores are computed in, come
/// into memory later.
#[derive(Debug)]
pub(crate) struct Room {
    /// `None`: nobody counts.
    bytes: Option<u64>,
    /// Taken for vectors and scores.
    encoders: AtomicU64,
}

impl Room {
    pub(crate) fn new(bytes: Option<u64>) -> Room {
        Room { bytes, encoders: AtomicU64::new(0) }
    }

    /// Bytes taken for vectors and scores.
    pub(crate) fn encoders(&self) -> u64 {
        self.encoders.load(Ordering::Relaxed)
    }

    /// Takes `bytes` for vectors or scores, beside adapters of so many bytes.
    pub(crate) fn take(&self, what: &str, bytes: u64, adapters: u64) -> Result<(), Failure> {
        self.check(what, bytes, adapters)?;
        self.encoders.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses what there is no room for.
    pub(crate) fn check(&self, what: &str, bytes: u64, adapters: u64) -> Result<(), Failure> {
        let Some(room) = self.bytes else { return Ok(()) };
        let now = available_memory().map_or(u64::MAX, |available| available.bytes);
        let left = room.saturating_sub(adapters + self.encoders()).min(now);
        if bytes <= left {
            return Ok(());
        }
        let kib = |bytes: u64| bytes.div_ceil(1 << 10);
        let message =
            format!("{what} needs {} KiB, and beside the model {} KiB are left", kib(bytes), kib(left));
        Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "out_of_memory", message).after(30))
    }
}

/// Tokens that a request may bring into the cache.
pub(crate) fn tokens(prompt: usize, answer: Option<usize>, context: usize) -> usize {
    (prompt + answer.unwrap_or(USUAL_ANSWER)).min(context.max(prompt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_facade::machine;

    #[test]
    fn requests_are_let_in_as_long_as_what_they_take_is_there() {
        const MIB: u64 = 1 << 20;
        let resident = machine::resident().unwrap_or(0);
        // Room for some 200 MiB more than this process has now.
        let options = LoadOptions { memory: Some(resident + 200 * MIB), ..LoadOptions::default() };
        let budget = Budget::default();
        let admit = |mib: u64, uncommitted: u64| budget.admit(&options, mib * MIB, uncommitted * MIB);
        let first = admit(100, 1000).unwrap();
        let refused = admit(100, 1000).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (503, Some(5)));
        assert!(refused.message.contains("200 MiB more") && refused.message.contains("left"), "{refused:?}");
        // What is committed already cannot be missing.
        assert!(admit(1000, 0).is_ok());
        drop(first);
        assert!(admit(100, 1000).is_ok());
        let unchecked = LoadOptions { check_memory: false, ..options.clone() };
        assert!(budget.admit(&unchecked, u64::MAX / 4, u64::MAX / 4).is_ok());
    }

    #[test]
    fn an_answer_is_counted_as_long_as_it_may_become() {
        for (prompt, answer, context, counted) in
            [(10, Some(5), 100, 15), (10, None, 4096, 1034), (10, None, 100, 100), (200, Some(1), 100, 200)]
        {
            assert_eq!(tokens(prompt, answer, context), counted);
        }
    }
}
