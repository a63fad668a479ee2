//! Routing: from a token's router logits to its experts and their weights.

use crate::plan::{Groups, Score};
use sampan_kernels::Kernels;

/// An expert of a token, and the factor on its result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pick {
    pub(super) expert: usize,
    pub(super) weight: f32,
}

/// A router of the plan with its vectors at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routing<'a> {
    pub(super) score: Score,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) groups: Option<Groups>,
    pub(super) renormalize: bool,
    pub(super) scale: f32,
    pub(super) expert_scale: Option<&'a [f32]>,
}

/// Keeps the sum above zero where every score underflows (DeepSeek V3).
const TINY: f32 = 1e-20;

impl Routing<'_> {
    /// The experts of one token, best first, equals by index. `logits` become scores. `table` names the experts
    /// where they do not depend on the scores.
    ///
    /// Nothing but the token's own logits enters, so a token's experts do not depend on the batch.
    pub(super) fn pick(
        &self,
        kernels: &Kernels,
        logits: &mut [f32],
        table: Option<&[u32]>,
        picks: &mut [Pick],
    ) {
        self.score(kernels, logits);
        picks.fill(Pick::default());
        match table {
            Some(table) => {
                for (pick, &expert) in picks.iter_mut().zip(table) {
                    pick.expert = expert as usize;
                }
            }
            None => self.choose(logits, picks),
        }
        for pick in picks.iter_mut() {
            pick.weight = logits[pick.expert];
        }
        let sum: f32 = picks.iter().map(|pick| pick.weight).sum();
        let scale = if self.renormalize { self.scale / (sum + TINY) } else { self.scale };
        for pick in picks {
            pick.weight *= scale * self.expert_scale.map_or(1.0, |factors| factors[pick.expert]);
        }
    }

    fn score(&self, kernels: &Kernels, logits: &mut [f32]) {
        match self.score {
            Score::Softmax => kernels.softmax(logits),
            Score::Sigmoid => logits.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            // Above 20, e^-x is lost in rounding.
            Score::SqrtSoftplus => {
                logits.iter_mut().for_each(|x| *x = if *x > 20.0 { *x } else { x.exp().ln_1p() }.sqrt());
            }
        }
    }

    /// Writes the best experts to `picks`, with what they were chosen by as the weight.
    fn choose(&self, scores: &[f32], picks: &mut [Pick]) {
        let value = |expert: usize| scores[expert] + self.bias.map_or(0.0, |bias| bias[expert]);
        let Some(groups) = self.groups else { return best(0..scores.len(), value, picks) };
        let size = scores.len() / groups.count;
        let members = |group: usize| group * size..(group + 1) * size;
        let group_score = |group: usize| {
            let mut top = vec![Pick::default(); groups.top.min(size)];
            best(members(group), value, &mut top);
            top.iter().map(|pick| pick.weight).sum()
        };
        let mut used = vec![Pick::default(); groups.used];
        best(0..groups.count, group_score, &mut used);
        // Equals go by the index of the expert, not by the rank of its group. Experts of other groups are left
        // out: a score of zero could still win against negative biases.
        used.sort_unstable_by_key(|pick| pick.expert);
        best(used.iter().flat_map(|group| members(group.expert)), value, picks);
    }
}

/// Fills `top` with the candidates of the largest values, largest first, equals in their order. NaN comes first, so
/// that it shows. There are at least as many candidates as places.
fn best(candidates: impl Iterator<Item = usize>, value: impl Fn(usize) -> f32, top: &mut [Pick]) {
    let mut count = 0;
    for expert in candidates {
        let weight = value(expert);
        let mut at = count;
        while at > 0 && (weight > top[at - 1].weight || weight.is_nan() && !top[at - 1].weight.is_nan()) {
            at -= 1;
        }
        if at < top.len() {
            count = (count + 1).min(top.len());
            top.copy_within(at..count - 1, at + 1);
            top[at] = Pick { expert, weight };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_kernels::Options;

    fn plain(score: Score) -> Routing<'static> {
        Routing { score, bias: None, groups: None, renormalize: false, scale: 1.0, expert_scale: None }
    }

    fn pick(routing: &Routing<'_>, logits: &[f32], table: Option<&[u32]>, top_k: usize) -> Vec<Pick> {
        let kernels = Kernels::new(Options { threads: 1, ..Options::default() }).expect("this CPU's level");
        let mut picks = vec![Pick { expert: 99, weight: 7.0 }; top_k];
        routing.pick(&kernels, &mut logits.to_vec(), table, &mut picks);
        picks
    }

    #[track_caller]
    fn check(routing: &Routing<'_>, logits: &[f32], expected: &[(usize, f32)]) {
        let picks = pick(routing, logits, None, expected.len());
        let same = |(pick, (expert, weight)): (&Pick, &(usize, f32))| {
            pick.expert == *expert && (pick.weight - weight).abs() < 1e-6
        };
        assert!(picks.iter().zip(expected).all(same), "{picks:?}, not {expected:?}");
    }

    const LOGITS: [f32; 6] = [0.0, 2.0, -1.0, 2.0, 1.0, 0.5];

    #[test]
    fn scores_of_the_best_with_equals_by_index() {
        check(&plain(Score::Sigmoid), &LOGITS, &[(1, 0.880_797), (3, 0.880_797), (4, 0.731_058_6)]);
        check(&plain(Score::SqrtSoftplus), &[0.0, 100.0], &[(1, 10.0), (0, 0.832_554_6)]);
        // e^2 / (1 + 2 e^2 + e^-1 + e + e^0.5)
        check(&plain(Score::Softmax), &LOGITS, &[(1, 0.360_213_4), (3, 0.360_213_4)]);
    }

    #[test]
    fn renormalised_softmax_is_the_softmax_of_the_chosen() {
        let routing = Routing { renormalize: true, ..plain(Score::Softmax) };
        let weight = |x: f32| x.exp() / (2.0 * 2f32.exp() + 1f32.exp());
        check(&routing, &LOGITS, &[(1, weight(2.0)), (3, weight(2.0)), (4, weight(1.0))]);
    }

    #[test]
    fn the_bias_chooses_and_does_not_weigh() {
        let bias = [0.0, -5.0, 3.0, 0.0, 0.0, 0.1];
        let routing = Routing { bias: Some(&bias), scale: 2.5, ..plain(Score::Sigmoid) };
        check(&routing, &LOGITS, &[(2, 2.5 * 0.268_941_4), (3, 2.5 * 0.880_797)]);
    }

    #[test]
    fn groups_by_their_best_or_by_their_two_best() {
        // Groups of two: the third has the largest expert, the first the largest pair.
        let logits = [1.0, 0.9, -2.0, -2.0, 1.5, -9.0];
        let by = |top: usize, used: usize| Routing {
            groups: Some(Groups { count: 3, used, top }),
            ..plain(Score::Sigmoid)
        };
        let s = |x: f32| 1.0 / (1.0 + (-x).exp());
        check(&by(1, 1), &logits, &[(4, s(1.5)), (5, s(-9.0))]);
        check(&by(2, 1), &logits, &[(0, s(1.0)), (1, s(0.9))]);
        check(&by(2, 2), &logits, &[(4, s(1.5)), (0, s(1.0)), (1, s(0.9))]);
        // Negative sums never lose to experts of groups that are not used.
        let bias = [-4.0; 6];
        check(&Routing { bias: Some(&bias), ..by(2, 1) }, &logits, &[(0, s(1.0)), (1, s(0.9))]);
    }

    #[test]
    fn equals_in_groups_go_by_the_expert() {
        let routing = Routing { groups: Some(Groups { count: 3, used: 2, top: 2 }), ..plain(Score::Sigmoid) };
        check(
            &routing,
            &[0.0, 1.0, -3.0, -3.0, 1.0, 3.0],
            &[(5, 0.952_574_1), (1, 0.731_058_6), (4, 0.731_058_6)],
        );
    }

    #[test]
    fn a_table_chooses_and_the_scores_weigh() {
        let routing = Routing { renormalize: true, scale: 1.5, ..plain(Score::Sigmoid) };
        let picks = pick(&routing, &LOGITS, Some(&[4, 0]), 2);
        assert_eq!(picks.iter().map(|pick| pick.expert).collect::<Vec<_>>(), [4, 0]);
        assert!((picks[0].weight - 1.5 * 0.731_058_6 / 1.231_058_6).abs() < 1e-6, "{picks:?}");
        assert!((picks.iter().map(|pick| pick.weight).sum::<f32>() - 1.5).abs() < 1e-6);
    }

    #[test]
    fn every_expert_has_a_factor_of_its_own() {
        let factors = [1.0, 3.0, 1.0, 0.5, 1.0, 1.0];
        let routing = Routing { renormalize: true, expert_scale: Some(&factors), ..plain(Score::Softmax) };
        check(&routing, &LOGITS, &[(1, 1.5), (3, 0.25)]);
    }

    #[test]
    fn logits_that_are_no_numbers_still_give_experts_and_show() {
        for logits in [[f32::NAN; 4], [0.0, f32::NAN, 1.0, 2.0]] {
            let picks = pick(&plain(Score::Softmax), &logits, None, 2);
            assert!(picks.iter().all(|pick| pick.expert < 4), "{picks:?}");
            assert!(picks.iter().any(|pick| pick.weight.is_nan()), "{picks:?}");
        }
        let picks = pick(&plain(Score::Sigmoid), &[f32::NEG_INFINITY; 3], None, 2);
        assert_eq!(picks, [Pick { expert: 0, weight: 0.0 }, Pick { expert: 1, weight: 0.0 }]);
    }
}
