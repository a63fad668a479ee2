//! Choosing a token from a row of logits.
//!
//! [`Sampling`] states the order of the stages. At temperature 0 the choice falls after DRY: the largest logit, of
//! equal ones that with the lowest id. Log-probabilities are those of the model: of the row as it came.
//!
//! The choice is a function of the row, the tokens so far and the settings. The random number for a position is
//! computed from the seed and the position, so it does not matter in which batch, or how often, it is drawn.

mod math;
mod options;
mod penalties;

pub use options::{Dry, Sampling};

use crate::filter::Allowed;
use crate::request::{BadLogits, FinishReason, Logprob};
use math::{exp, sum_exp, uniform};

/// The chosen token, and its log-probabilities if they were asked for; or why there is none, and the answer ends.
pub(crate) type Choice = Result<(u32, Option<Logprob>), FinishReason>;

/// Logit and id.
type Candidate = (f32, u32);

/// Buffers that are kept between choices; no state.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    row: Vec<f32>,
    list: Vec<Candidate>,
}

impl Sampler {
    /// Chooses the token after `tokens`, of which the first `prompt` are the prompt. `row`: its logits, without
    /// those that must not be chosen; `allowed`: which of the others may be, if not all.
    pub(crate) fn choose(
        &mut self,
        row: &[f32],
        tokens: &[u32],
        prompt: usize,
        settings: &Sampling,
        allowed: Option<Allowed<'_>>,
    ) -> Choice {
        let fail = |what| FinishReason::Failed(BadLogits { position: tokens.len(), what });
        let model_max = math::max(row).map_err(fail)?;
        let token = if allowed.is_some() || penalties::change_anything(settings) {
            self.row.clear();
            self.row.extend_from_slice(row);
            if let Some(allowed) = allowed {
                allowed.apply(&mut self.row);
            }
            penalties::apply(&mut self.row, tokens, prompt, settings);
            let forbidden = match allowed {
                None => "are all forbidden by logit_bias: allow some token",
                Some(_) => {
                    "of all tokens that the filter allows are minus infinity: allow some in logit_bias"
                }
            };
            let max = math::max(&self.row).map_err(|_| fail(forbidden))?;
            pick(&self.row, max, tokens.len(), settings, &mut self.list)
        } else {
            pick(row, model_max, tokens.len(), settings, &mut self.list)
        };
        let logprob = settings.logprobs.map(|n| self.logprob(row, model_max, token, n));
        Ok((token, logprob))
    }

    /// The log-probabilities of `token`, which is given, at `position`.
    pub(crate) fn score(
        &mut self,
        row: &[f32],
        token: u32,
        position: usize,
        top: usize,
    ) -> Result<Logprob, BadLogits> {
        let max = math::max(row).map_err(|what| BadLogits { position, what })?;
        Ok(self.logprob(row, max, token, top))
    }

    fn logprob(&mut self, row: &[f32], max: f32, token: u32, n: usize) -> Logprob {
        let log_total = sum_exp(row, max, 1.0).ln();
        let of = |logit: f32| (f64::from(logit) - f64::from(max) - log_total) as f32;
        largest(row, n, &mut self.list);
        let top = self.list.iter().map(|&(logit, id)| (id, of(logit))).collect();
        // A prompt may have ids that are never chosen.
        Logprob { logprob: row.get(token as usize).map_or(f32::NEG_INFINITY, |&logit| of(logit)), top }
    }
}

/// The stages from temperature on. `max` is the largest of `row`, and finite.
fn pick(row: &[f32], max: f32, position: usize, s: &Sampling, list: &mut Vec<Candidate>) -> u32 {
    if s.temperature == 0.0 {
        return math::position(row, max).unwrap_or(0) as u32;
    }
    let weight = |logit: f32| exp((logit - max) / s.temperature);
    let random = uniform(s.seed, position as u64);
    let few = s.top_k > 0 && s.top_k < row.len();
    if few || s.typical_p < 1.0 {
        largest(row, if few { s.top_k } else { row.len() }, list);
        if s.typical_p < 1.0 {
            keep_typical(list, s.typical_p, weight);
        }
        let total = list.iter().map(|c| f64::from(weight(c.0))).sum();
        let kept = nucleus(list, total, s, weight).unwrap_or(list.len());
        return draw(&list[..kept], random, weight);
    }
    let total = sum_exp(row, max, s.temperature);
    if s.top_p >= 1.0 && s.min_p <= 0.0 {
        return draw_by_id(row, random * total, weight);
    }
    // Few tokens usually hold all the probability that counts: sort no more than are needed.
    let mut size = 64;
    loop {
        largest(row, size, list);
        let kept = nucleus(list, total, s, weight);
        if let Some(kept) = kept.or((size >= row.len()).then_some(list.len())) {
            return draw(&list[..kept], random, weight);
        }
        size *= 16;
    }
}

/// Fills `list` with the `k` largest logits, in falling order, of equal ones the lower id first. Forbidden ones
/// (minus infinity) are left out.
fn largest(row: &[f32], k: usize, list: &mut Vec<Candidate>) {
    let order = |a: &Candidate, b: &Candidate| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let k = k.min(row.len());
    list.clear();
    let mut floor = f32::NEG_INFINITY;
    for (id, &logit) in row.iter().enumerate() {
        if logit > floor && k > 0 {
            // -0 and +0 are equal as logits; total_cmp would tell them apart.
            list.push((logit + 0.0, id as u32));
            if list.len() == 2 * k {
                list.select_nth_unstable_by(k - 1, order);
                list.truncate(k);
                floor = list[k - 1].0;
            }
        }
    }
    list.sort_unstable_by(order);
    list.truncate(k);
}

/// How many candidates of a list in falling order top-p and then min-p keep; `None` if the list ends before that is
/// known. `total` is the weight of all candidates, those beyond the list included.
fn nucleus(list: &[Candidate], total: f64, s: &Sampling, weight: impl Fn(f32) -> f32) -> Option<usize> {
    let least = list.first().map_or(0.0, |c| s.min_p * weight(c.0));
    let enough = if s.top_p < 1.0 { f64::from(s.top_p) * total } else { f64::INFINITY };
    let mut sum = 0.0;
    for (i, candidate) in list.iter().enumerate() {
        let w = weight(candidate.0);
        if i > 0 && (w < least || sum >= enough) {
            return Some(i);
        }
        sum += f64::from(w);
    }
    (sum >= enough).then_some(list.len())
}

/// Keeps the fewest candidates whose surprise is nearest the distribution's entropy and that have the probability
/// `share` together (Meister et al. 2022, "Locally Typical Sampling"). The list stays in falling order.
fn keep_typical(list: &mut Vec<Candidate>, share: f32, weight: impl Fn(f32) -> f32) {
    let total: f64 = list.iter().map(|c| f64::from(weight(c.0))).sum();
    let p = |c: &Candidate| f64::from(weight(c.0)) / total;
    let surprise = |c: &Candidate| -p(c).max(f64::MIN_POSITIVE).ln();
    let entropy: f64 = list.iter().map(|c| p(c) * surprise(c)).sum();
    let mut order: Vec<(f64, usize)> =
        list.iter().enumerate().map(|(i, c)| ((surprise(c) - entropy).abs(), i)).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut sum = 0.0;
    let enough = order.iter().position(|&(_, i)| {
        sum += p(&list[i]);
        sum >= f64::from(share)
    });
    let mut kept: Vec<usize> =
        order.iter().take(enough.map_or(order.len(), |n| n + 1)).map(|&(_, i)| i).collect();
    kept.sort_unstable();
    *list = kept.into_iter().map(|i| list[i]).collect();
}

/// Draws from a list with at least one candidate; `random` is in `0..1`.
fn draw(list: &[Candidate], random: f64, weight: impl Fn(f32) -> f32) -> u32 {
    let total: f64 = list.iter().map(|c| f64::from(weight(c.0))).sum();
    let mut left = random * total;
    let found = list.iter().find(|c| {
        left -= f64::from(weight(c.0));
        left < 0.0
    });
    // Rounding can leave a rest beyond the last candidate; the first is the most likely one.
    found.unwrap_or(&list[0]).1
}

/// Draws from all ids; `left` is the drawn part of the total weight.
fn draw_by_id(row: &[f32], mut left: f64, weight: impl Fn(f32) -> f32) -> u32 {
    let mut last = 0;
    for (id, &logit) in row.iter().enumerate() {
        let w = f64::from(weight(logit));
        if w > 0.0 {
            last = id;
            left -= w;
            if left < 0.0 {
                break;
            }
        }
    }
    last as u32
}

#[cfg(test)]
mod tests;
