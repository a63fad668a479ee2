//! The stages that change single logits: bias, repetition, presence, frequency, DRY.

use super::{Dry, Sampling};

/// Whether [`apply`] would do anything.
pub(super) fn change_anything(s: &Sampling) -> bool {
    !s.logit_bias.is_empty()
        || (s.repeat_penalty != 1.0 && s.repeat_last_n > 0)
        || s.presence_penalty != 0.0
        || s.frequency_penalty != 0.0
        || s.dry.as_ref().is_some_and(|dry| dry.multiplier > 0.0)
}

/// Changes the row of logits for the token after `tokens`, of which the first `prompt` are the prompt.
pub(super) fn apply(row: &mut [f32], tokens: &[u32], prompt: usize, s: &Sampling) {
    for &(token, bias) in &s.logit_bias {
        change(row, token, |logit| logit + bias);
    }
    // Keskar et al. 2019, "CTRL", section 4.1, with negative logits multiplied so that they get smaller too.
    if s.repeat_penalty != 1.0 {
        let penalty = s.repeat_penalty;
        for (token, _) in counts(last(tokens, s.repeat_last_n)) {
            change(row, token, |logit| if logit > 0.0 { logit / penalty } else { logit * penalty });
        }
    }
    if s.presence_penalty != 0.0 || s.frequency_penalty != 0.0 {
        for (token, count) in counts(&tokens[prompt..]) {
            lower(row, token, s.presence_penalty + s.frequency_penalty * count as f32);
        }
    }
    if let Some(dry) = &s.dry {
        for (token, length) in repetitions(last(tokens, dry.last_n), dry) {
            let power = (length - dry.allowed_length).min(i32::MAX as usize) as i32;
            lower(row, token, dry.multiplier * dry.base.powi(power));
        }
    }
}

fn last(tokens: &[u32], n: usize) -> &[u32] {
    &tokens[tokens.len().saturating_sub(n)..]
}

/// Applies a change; ids without a logit are ignored. The result may be minus infinity but no other extreme.
fn change(row: &mut [f32], token: u32, f: impl Fn(f32) -> f32) {
    if let Some(logit) = row.get_mut(token as usize) {
        *logit = f(*logit).min(f32::MAX);
    }
}

fn lower(row: &mut [f32], token: u32, penalty: f32) {
    let penalty = penalty.clamp(f32::MIN, f32::MAX);
    change(row, token, |logit| logit - penalty);
}

/// Each distinct token and how often it occurs.
fn counts(tokens: &[u32]) -> Vec<(u32, usize)> {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
}

/// For each token that would lengthen a repetition: the longest run before one of its occurrences that is also the
/// end of `tokens`, where that is at least `allowed_length` long. Runs do not contain breakers.
fn repetitions(tokens: &[u32], dry: &Dry) -> Vec<(u32, usize)> {
    let n = tokens.len();
    let longest = tokens.iter().rev().take_while(|token| !dry.breakers.contains(token)).count();
    if n < 2 || dry.multiplier == 0.0 || longest < dry.allowed_length.max(1) {
        return Vec::new();
    }
    // Z function of the reversed tokens: z[k] is how many tokens before place n - k agree with the last ones.
    let back = |i: usize| tokens[n - 1 - i];
    let mut z = vec![0; n];
    let (mut left, mut right) = (0, 0);
    for k in 1..n {
        if k < right {
            z[k] = z[k - left].min(right - k);
        }
        while k + z[k] < n && back(z[k]) == back(k + z[k]) {
            z[k] += 1;
        }
        if k + z[k] > right {
            (left, right) = (k, k + z[k]);
        }
    }
    let mut found: Vec<(u32, usize)> = (1..n)
        .map(|k| (tokens[n - k], z[k].min(longest)))
        .filter(|&(token, length)| length >= dry.allowed_length.max(1) && !dry.breakers.contains(&token))
        .collect();
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    found.dedup_by_key(|found| found.0);
    found
}
