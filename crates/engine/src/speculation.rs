//! Speculation by prompt lookup: where the last tokens of a text have occurred before in it, what followed them then
//! is proposed again (Saxena 2023, "Prompt Lookup Decoding"). The model runs the proposed tokens together with the last
//! chosen one, and what it would have chosen after each of them is chosen as ever, by the request's own settings, seed
//! and past; as long as that is what was proposed, the next row is as good as one that was run alone.
//!
//! So an answer is the same with and without, whatever was proposed (a row of logits depends on its own sequence only),
//! and speculation only has to be worth its rows. What it would guess is compared with what was chosen in every step,
//! also where nothing is proposed, which costs nothing; of how often that was right follows how long a draft may be:
//! as long as its last token is likelier to be reached than the share of a pass that a row costs. Drafts run only in
//! steps of few rows, where most of the time goes into reading the weights, and never beside a prompt.
//!
//! What was run in vain is forgotten by length: keys and values are found by position, and the next tokens overwrite
//! them. A state that sums up the past cannot go back, so a model that has some is not speculated on.

use crate::filter::{Allowed, FilterError};
use crate::kv::pages_for;
use crate::request::FinishReason;
use crate::sampler::{Choice, Sampler};
use crate::scheduler::{Scheduler, Work};
use crate::sequence::Sequence;
use sampan_kernels::attention::PAGE;

/// Rows of a step up to which another one costs little.
pub(crate) const ROWS: usize = 16;

/// What a row costs, in passes of one row: 0.2 to 0.6 were measured on two cores, by the number of rows.
const COST: f32 = 0.5;

/// How often a guess is right, before anything is known.
const TRUST: f32 = 0.8;

/// The share of the newest guess in what is known.
const NEWS: f32 = 0.125;

/// The shortest occurrence that is taken for one.
const LEAST: usize = 3;

/// Agreement beyond this does not make an occurrence any better.
const MOST: usize = 32;

/// What a request has proposed, and how it went.
#[derive(Debug)]
pub(crate) struct Speculation {
    /// How many tokens, the last of the sequence, are only proposed. More than 0 only within a step.
    pub(crate) draft: usize,
    /// Tokens proposed so far.
    pub(crate) drafted: usize,
    /// Of these, tokens that were chosen.
    pub(crate) accepted: usize,
    /// What the next token would be if the text repeats itself.
    guess: Option<u32>,
    /// How often guesses have been right of late.
    right: f32,
}

impl Default for Speculation {
    fn default() -> Speculation {
        Speculation { draft: 0, drafted: 0, accepted: 0, guess: None, right: TRUST }
    }
}

impl Speculation {
    /// What is worth proposing after `tokens`, at most `most` of them.
    fn propose(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        // The last of n is reached with the probability right^n.
        let worth = COST.ln() / self.right.min(0.999).ln();
        let mut draft = continuation(tokens, most.min(worth as usize).max(1));
        self.guess = draft.first().copied();
        if most == 0 || worth < 1.0 {
            draft.clear();
        }
        draft
    }

    /// These were chosen after the draft was run; the last of them is not of the draft.
    fn learn(&mut self, chosen: &[Choice]) {
        let drafted = std::mem::take(&mut self.draft);
        let accepted = chosen.len().saturating_sub(1);
        self.drafted += drafted;
        self.accepted += accepted;
        let (mut hits, mut missed) = (accepted, accepted < drafted);
        if let (0, Some(guess), Some(Ok((token, _)))) = (drafted, self.guess.take(), chosen.first()) {
            (hits, missed) = (usize::from(guess == *token), guess != *token);
        }
        for _ in 0..hits {
            self.right += NEWS * (1.0 - self.right);
        }
        if missed {
            self.right -= NEWS * self.right;
        }
    }
}

/// What followed the longest occurrence of the end of `tokens` before, of equally long ones the last; no more tokens
/// than agree. A text that repeats itself goes on to do so.
fn continuation(tokens: &[u32], most: usize) -> Vec<u32> {
    let n = tokens.len();
    let agree = |end: usize| {
        let pairs = tokens[..end].iter().rev().zip(tokens.iter().rev());
        pairs.take(MOST).take_while(|(a, b)| a == b).count()
    };
    let (mut best, mut from) = (LEAST - 1, n);
    for end in (LEAST..n).rev() {
        if most > 0 && tokens[end - 1] == tokens[n - 1] {
            let length = agree(end);
            if length > best {
                (best, from) = (length, end);
            }
            if length == MOST {
                break;
            }
        }
    }
    if from == n { Vec::new() } else { (0..most.min(best)).map(|i| tokens[from + i % (n - from)]).collect() }
}

impl Scheduler {
    /// Adds drafts to the work of sequences that generate, if all of them do.
    pub(crate) fn draft(&mut self, batch: &mut [Work]) {
        if self.speculate == 0 || batch.iter().any(|work| !self.running[work.index].is_decoding()) {
            return;
        }
        let rows = ROWS.min(self.max_batch_tokens).checked_div(batch.len()).unwrap_or(0);
        for work in batch {
            let seq = &mut self.running[work.index];
            // Pages that nobody has to be sent away for.
            let room = (seq.pages.len() + self.pages.available()) * PAGE;
            let end = seq.limit.saturating_sub(1).min(room);
            let most = rows.saturating_sub(1).min(self.speculate).min(end.saturating_sub(seq.tokens.len()));
            let mut draft = seq.speculation.propose(&seq.tokens, most);
            // A token that ends the answer is better chosen than proposed: nothing comes after it.
            let stop = draft.iter().position(|token| seq.stop_tokens.contains(token));
            draft.truncate(stop.unwrap_or(draft.len()));
            if let Some(filter) = seq.filter.as_mut().filter(|_| !draft.is_empty()) {
                draft.truncate(filter.valid(&draft));
            }
            seq.tokens.extend(&draft);
            seq.speculation.draft = draft.len();
            work.tokens += draft.len();
            while seq.pages.len() < pages_for(seq.tokens.len()) {
                seq.pages.extend(self.pages.take());
            }
        }
    }

    /// Takes the draft out of a sequence that has run, as [`verify`] has judged it. Returns the work without what was
    /// done in vain, and the draft's length.
    pub(crate) fn settle(&mut self, work: Work, chosen: &[Choice]) -> (Work, usize) {
        let seq = &mut self.running[work.index];
        let (draft, accepted) = (seq.speculation.draft, chosen.len().saturating_sub(1));
        seq.tokens.truncate(seq.tokens.len() - draft);
        seq.speculation.learn(chosen);
        (Work { tokens: work.tokens - draft + accepted, ..work }, draft)
    }
}

/// Chooses a token from each of the rows of a sequence, the first after what is known and one after each token of the
/// draft, up to the first that is not as proposed.
pub(crate) fn verify(seq: &mut Sequence, rows: &[&[f32]], sampler: &mut Sampler) -> Vec<Choice> {
    let known = seq.tokens.len() - seq.speculation.draft;
    let mut choices = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let choice = choose(seq, &row[..seq.vocab_limit], known + i, sampler);
        let draft = &seq.tokens[known + i..];
        let right = matches!(&choice, Ok((token, _)) if draft.first() == Some(token));
        choices.push(choice);
        if !right {
            break;
        }
    }
    choices
}

/// Chooses the token at `position`, and tells the filter of it.
fn choose(seq: &mut Sequence, row: &[f32], position: usize, sampler: &mut Sampler) -> Choice {
    let (past, stop_tokens) = (&seq.tokens[..position], seq.stop_tokens.as_slice());
    let allowed = match &mut seq.filter {
        Some(filter) => Some(Allowed::by(filter.as_mut(), stop_tokens, row.len(), position)?),
        None => None,
    };
    let choice = sampler.choose(row, past, seq.prompt, &seq.sampling, allowed)?;
    if let Some(filter) = seq.filter.as_mut().filter(|_| !stop_tokens.contains(&choice.0)) {
        let wrong = |cause| FinishReason::Filter(FilterError { position, cause });
        filter.commit(choice.0).map_err(wrong)?;
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::continuation;

    #[test]
    fn the_longest_occurrence_counts_and_of_equal_ones_the_last() {
        for (text, most, want) in [
            ("", 4, ""),
            ("abc", 4, ""),
            ("abxab", 4, ""), // two are no occurrence
            ("abcxyzabc", 0, ""),
            ("abcxyzabc", 2, "xy"),
            ("abcxyzabc", 9, "xyz"), // no more than agree
            ("abcdxyz abcd", 9, "xyz "),
            ("abcx abcy abc", 1, "y"),
            ("zabcx abcy zabc", 1, "x"),
            ("ababab", 9, "abab"), // and on, where it ends
            ("aaaaaa", 9, "aaaaa"),
        ] {
            let tokens: Vec<u32> = text.chars().map(u32::from).collect();
            let want: Vec<u32> = want.chars().map(u32::from).collect();
            assert_eq!(continuation(&tokens, most), want, "{text:?}, at most {most}");
        }
    }
}
