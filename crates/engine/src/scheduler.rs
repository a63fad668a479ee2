//! Who gets to run which tokens in a step.
//!
//! Waiting requests get their turn by whose they are (`fairness`), those of one client in order of arrival; of two running
//! ones, the one that got its turn first is the older one here, and has the better right to pages. A step carries one token of every request that is generating,
//! so that no prompt, however long, holds up an answer, and shares what is left of its token budget, which is then so small
//! that the step takes no longer than an answer may pause (`pace`), among prompts;
//! without prompts, a few tokens more may be guessed and checked (`speculation`).
//! When pages run out, the newest request gives up its own and waits to be computed again; nothing is ever dropped.
//!
//! What is in the cache is not computed again. Where the model has state beside its pages, a sequence can only go on
//! from a state that was saved, so prompts stop for that where it is of use: where sequences part, and close to the
//! prompt's end; and while a sequence generates, the last of its states is kept for the conversation's next turn.

use crate::fairness::Fairness;
use crate::kv::{Pages, Roots, Slots, pages_for};
use crate::options::EngineOptions;
use crate::pace::Pace;
use crate::request::RequestId;
use crate::sequence::Sequence;
use sampan_kernels::attention::PAGE;
use std::collections::VecDeque;
use std::time::Duration;

/// One sequence's part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Index into [`Scheduler::running`]; valid until the step has been recorded.
    pub(crate) index: usize,
    /// How many tokens to run, from the first that is not yet computed.
    pub(crate) tokens: usize,
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    /// The oldest first, by when they got their turn.
    pub(crate) running: Vec<Sequence>,
    /// First those that had their turn and lost it, the oldest first, then the others in order of arrival.
    pub(crate) waiting: VecDeque<Sequence>,
    pub(crate) fairness: Fairness,
    roots: Roots,
    pub(crate) pages: Pages,
    pub(crate) preemptions: u64,
    max_running: usize,
    pub(crate) max_batch_tokens: usize,
    max_mixed_tokens: usize,
    max_mixed_time: Option<Duration>,
    pub(crate) pace: Pace,
    /// The longest draft.
    pub(crate) speculate: usize,
    /// Rows in which prompts are scored.
    prompt_logprob_rows: usize,
}

impl Scheduler {
    /// `snapshots`: how many states may be saved; `None` where the model has none beside its pages.
    pub(crate) fn new(options: &EngineOptions, snapshots: Option<usize>, rewinds: bool) -> Scheduler {
        let max_running = options.max_running.max(1);
        Scheduler {
            running: Vec::new(),
            waiting: VecDeque::new(),
            fairness: Fairness::default(),
            roots: Roots::default(),
            pages: Pages::new(options.pages, Slots::new(max_running, snapshots)),
            preemptions: 0,
            max_running,
            max_batch_tokens: options.max_batch_tokens.max(1),
            max_mixed_tokens: options.max_mixed_tokens.clamp(1, options.max_batch_tokens.max(1)),
            max_mixed_time: options.max_mixed_time,
            pace: Pace::default(),
            speculate: if rewinds { options.speculate } else { 0 },
            prompt_logprob_rows: options.prompt_logprob_rows,
        }
    }

    /// Takes a new sequence on.
    pub(crate) fn add(&mut self, mut seq: Sequence) {
        seq.root = self.roots.of(seq.adapter.as_ref());
        self.fairness.join(seq.client);
        self.waiting.push_back(seq);
    }

    /// Decides what the next step runs. Every sequence with work has the pages for it. Unless there is no request
    /// at all, the oldest one has work.
    pub(crate) fn schedule(&mut self) -> Vec<Work> {
        self.admit();
        let shares = self.shares();
        let mut batch = Vec::new();
        let mut index = 0;
        // Making room can preempt sequences, but only such as come later.
        while index < self.running.len() {
            let tokens = self.make_room(index, shares[index]);
            if tokens > 0 {
                batch.push(Work { index, tokens });
            }
            index += 1;
        }
        self.draft(&mut batch);
        batch
    }

    /// Records that the work was run: its tokens count as computed, pages that became full can be found, and a state
    /// of use to others is saved.
    pub(crate) fn record(&mut self, work: Work) {
        let seq = &mut self.running[work.index];
        let stop = seq.stop();
        let full = seq.computed / PAGE;
        seq.computed += work.tokens;
        self.fairness.charge(seq.client, work.tokens);
        self.pages.release(&seq.pages.split_off(pages_for(seq.computed)));
        for i in full..seq.computed / PAGE {
            let tokens = &seq.tokens[i * PAGE..][..PAGE];
            seq.pages[i] = self.pages.publish(parent(seq, i), tokens, seq.pages[i]);
        }
        // A sequence that can go back has at a border what it has a few tokens later.
        let border = seq.computed.is_multiple_of(PAGE) || (self.speculate > 0 && seq.computed / PAGE > full);
        if let (true, page, Some(slot)) = (border, parent(seq, seq.computed / PAGE), seq.slot) {
            if stop == Some(seq.computed) {
                self.pages.slots.save(page, slot, None);
            } else if seq.computed >= seq.prompt {
                self.pages.slots.save(page, slot, Some(seq.id));
            }
        }
    }

    /// Takes a sequence out, wherever it is, and gives its pages back.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Sequence> {
        let running = self.running.iter().position(|seq| seq.id == id);
        let waiting = self.waiting.iter().position(|seq| seq.id == id);
        let mut seq = match (running, waiting) {
            (Some(i), _) => Some(self.running.remove(i)),
            (None, Some(i)) => self.waiting.remove(i),
            (None, None) => None,
        };
        if let Some(seq) = &mut seq {
            give_back(&mut self.pages, seq);
            if self.running.iter().chain(&self.waiting).all(|other| other.client != seq.client) {
                self.fairness.leave(seq.client);
            }
        }
        seq
    }

    /// Index of the waiting sequence whose turn it is. Where it does not fit it stays the next one, as nobody else's
    /// count gets less.
    fn next(&self) -> Option<usize> {
        if self.waiting.front()?.was_preempted() {
            return Some(0);
        }
        (0..self.waiting.len()).min_by_key(|&i| self.fairness.served(self.waiting[i].client))
    }

    /// Lets waiting sequences run, in turn, as long as the pages that they and the running ones are known to need
    /// are there. With none running, the first always fits: what the whole pool cannot hold was refused.
    fn admit(&mut self) {
        while self.running.len() < self.max_running {
            let Some(next) = self.next() else { return };
            let seq = &mut self.waiting[next];
            reuse(&mut self.pages, seq);
            let promised: usize = self.running.iter().map(Sequence::pages_short).sum();
            if self.pages.available() < promised + seq.pages_short() {
                give_back(&mut self.pages, seq);
                seq.restart();
                return;
            }
            let Some(mut seq) = self.waiting.remove(next) else { return };
            seq.slot = Some(self.pages.slots.take());
            resume(&mut self.pages, &seq);
            self.running.push(seq);
        }
    }

    /// How many tokens each running sequence may run in this step, as far as the budget is concerned.
    fn shares(&mut self) -> Vec<usize> {
        let mut shares: Vec<usize> = vec![0; self.running.len()];
        let mut prompts = Vec::new();
        for (i, share) in shares.iter_mut().enumerate() {
            let (older, newer) = self.running.split_at_mut(i);
            let seq = &mut newer[0];
            if seq.is_decoding() {
                *share = 1;
                continue;
            }
            if reuse(&mut self.pages, seq) {
                resume(&mut self.pages, seq);
            }
            // Where an older sequence is about to compute the same pages, wait for it rather than compute them twice.
            let shared = older.iter_mut().filter_map(|older| Some((about_to_share(older, seq)?, older)));
            match shared.max_by_key(|(until, _)| *until) {
                Some((until, older)) if self.pages.slots.shares() => older.part_at(until),
                _ => prompts.push(i),
            }
        }
        let mut rows = self.prompt_logprob_rows;
        let wanted = |i: usize| {
            let seq = &self.running[i];
            let stop = if self.pages.slots.saves() { seq.stop() } else { None };
            let mut wanted = stop.unwrap_or(usize::MAX).min(seq.tokens.len()) - seq.computed;
            if seq.is_scoring() {
                wanted = wanted.min(rows);
                rows -= wanted;
            } else if seq.scored < seq.prompt {
                wanted = wanted.min(seq.first_row() - seq.computed);
            }
            (i, wanted)
        };
        let prompts: Vec<_> = prompts.into_iter().map(wanted).collect();
        let decodes: usize = shares.iter().sum();
        // However many are generating, prompts move on.
        let most = if decodes > 0 { self.mixed_tokens() } else { self.max_batch_tokens };
        let budget = most.saturating_sub(decodes).max(PAGE.min(most));
        share_out(&prompts, budget, &mut shares);
        shares
    }

    /// Tokens of a step that also generates.
    fn mixed_tokens(&self) -> usize {
        let timed = self.max_mixed_time.and_then(|time| self.pace.tokens_in(time, self.max_batch_tokens));
        timed.unwrap_or(self.max_mixed_tokens)
    }

    /// Gives the sequence the pages for `wanted` more tokens, or for fewer where pages run out; returns for how
    /// many. The oldest sequence and generating ones may preempt newer ones for it.
    fn make_room(&mut self, index: usize, wanted: usize) -> usize {
        let seq = &self.running[index];
        let short = pages_for(seq.computed + wanted).saturating_sub(seq.pages.len());
        if index == 0 || seq.is_decoding() {
            while self.pages.available() < short && index + 1 < self.running.len() {
                self.preempt_newest();
            }
        }
        let seq = &mut self.running[index];
        for _ in 0..short {
            let Some(page) = self.pages.take() else { break };
            seq.pages.push(page);
        }
        wanted.min(seq.pages.len() * PAGE - seq.computed)
    }

    fn preempt_newest(&mut self) {
        if let Some(mut seq) = self.running.pop() {
            give_back(&mut self.pages, &mut seq);
            seq.restart();
            seq.preemptions += 1;
            self.waiting.push_front(seq);
            self.preemptions += 1;
        }
    }
}

/// The page before page `i` of a sequence.
fn parent(seq: &Sequence, i: usize) -> u32 {
    i.checked_sub(1).map_or(seq.root, |i| seq.pages[i])
}

/// What identifies the page behind those that the sequence has: the page before it, and its tokens. None if it is
/// not a whole page, or has a token that must be computed so that there are logits: the last known one at least.
fn next_page(seq: &Sequence) -> Option<(u32, &[u32])> {
    let i = seq.pages.len();
    let end = (i + 1) * PAGE;
    (end <= seq.first_row()).then(|| (parent(seq, i), &seq.tokens[end - PAGE..end]))
}

/// Gives back all that the sequence holds.
fn give_back(pages: &mut Pages, seq: &mut Sequence) {
    pages.release(&std::mem::take(&mut seq.pages));
    if let Some(slot) = seq.slot.take() {
        pages.slots.give_back(slot);
    }
}

/// Moves the sequence on over pages that are in the cache already, as far as there is a state to go on from; says
/// whether there was any. More pages than that are where others have parted from it, or will.
fn reuse(pages: &mut Pages, seq: &mut Sequence) -> bool {
    if !seq.computed.is_multiple_of(PAGE) {
        return false;
    }
    let own = seq.pages.len();
    while let Some((parent, tokens)) = next_page(seq)
        && let Some(page) = pages.find(parent, tokens)
    {
        seq.pages.push(page);
    }
    seq.branch = seq.pages.len() * PAGE;
    let found = seq.pages[own..].iter().rposition(|&page| pages.slots.resumes(page));
    let usable = found.map_or(own, |i| own + i + 1);
    pages.release(&seq.pages.split_off(usable));
    seq.computed = usable * PAGE;
    if seq.generated() == 0 {
        seq.cached += (usable - own) * PAGE;
    }
    usable > own
}

/// Gives a sequence that has moved on over pages from the cache the state behind them.
fn resume(pages: &mut Pages, seq: &Sequence) {
    if let (Some(&page), Some(slot)) = (seq.pages.last(), seq.slot) {
        pages.slots.restore(page, slot);
    }
}

/// Up to which border of pages `older` is about to compute what `seq` needs as well.
fn about_to_share(older: &Sequence, seq: &Sequence) -> Option<usize> {
    if older.root != seq.root || older.is_decoding() || older.computed < seq.computed {
        return None;
    }
    let same = older.tokens.iter().zip(&seq.tokens).take_while(|(a, b)| a == b).count();
    let until = same.min(seq.first_row()) / PAGE * PAGE;
    (until > older.computed).then_some(until)
}

/// Shares a budget of tokens among prompts, given oldest first with their outstanding tokens. The oldest gets the
/// larger part, so that all of them end; a quarter goes to the others, the shortest first, so that a short prompt
/// does not wait for the end of a long one.
fn share_out(prompts: &[(usize, usize)], budget: usize, shares: &mut [usize]) {
    let Some((&(oldest, outstanding), others)) = prompts.split_first() else { return };
    let kept = if others.is_empty() { 0 } else { budget / 4 };
    shares[oldest] = outstanding.min(budget - kept);
    let mut left = budget - shares[oldest];
    let mut others = others.to_vec();
    others.sort_by_key(|&(_, outstanding)| outstanding);
    for (i, outstanding) in others {
        shares[i] = outstanding.min(left);
        left -= shares[i];
    }
    shares[oldest] += left.min(outstanding - shares[oldest]);
}
