use super::*;
use crate::sampler::Dry;

fn hash(a: u64, b: u64) -> f64 {
    uniform(a, b)
}

/// A row of logits that looks like a model's: a few large ones, many small, some equal, one forbidden.
fn row(seed: u64, n: usize) -> Vec<f32> {
    let mut row: Vec<f32> =
        (0..n).map(|i| (hash(seed, i as u64).powi(3) * 64.0).round() as f32 / 4.0).collect();
    row[n / 2] = f32::NEG_INFINITY;
    row
}

fn choose(row: &[f32], tokens: &[u32], prompt: usize, s: &Sampling) -> Result<u32, BadLogits> {
    match Sampler::default().choose(row, tokens, prompt, s, None) {
        Ok((token, _)) => Ok(token),
        Err(FinishReason::Failed(bad)) => Err(bad),
        Err(other) => panic!("{other:?}"),
    }
}

/// The stages from temperature on, as their definitions say, on the whole vocabulary.
fn probabilities(row: &[f32], s: &Sampling) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut p: Vec<f64> = row.iter().map(|&x| f64::from((x - max) / s.temperature).exp()).collect();
    let falling = |p: &[f64]| {
        let mut ids: Vec<usize> = (0..p.len()).collect();
        ids.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        ids.retain(|&i| p[i] > 0.0);
        ids
    };
    let keep = |p: &mut Vec<f64>, kept: &[usize]| {
        let total: f64 = kept.iter().map(|&i| p[i]).sum();
        *p = (0..p.len()).map(|i| if kept.contains(&i) { p[i] / total } else { 0.0 }).collect();
    };
    let until = |p: &[f64], ids: Vec<usize>, share: f32| {
        let mut sum = 0.0;
        let mut kept = Vec::new();
        for i in ids {
            if !kept.is_empty() && sum >= f64::from(share) {
                break;
            }
            sum += p[i];
            kept.push(i);
        }
        kept
    };
    let mut ids = falling(&p);
    if s.top_k > 0 {
        ids.truncate(s.top_k);
    }
    keep(&mut p, &ids);
    if s.typical_p < 1.0 {
        let entropy: f64 = ids.iter().map(|&i| -p[i] * p[i].ln()).sum();
        ids.sort_by(|&a, &b| (-p[a].ln() - entropy).abs().total_cmp(&(-p[b].ln() - entropy).abs()));
        let kept = until(&p, ids, s.typical_p);
        keep(&mut p, &kept);
    }
    if s.top_p < 1.0 {
        let kept = until(&p, falling(&p), s.top_p);
        keep(&mut p, &kept);
    }
    let most = p.iter().copied().fold(0.0, f64::max);
    let kept: Vec<usize> =
        falling(&p).into_iter().filter(|&i| p[i] >= f64::from(s.min_p) * most * 0.999_999).collect();
    keep(&mut p, &kept);
    p
}

/// Draws often, and compares what is drawn with the definition.
fn check(n: usize, settings: Sampling) {
    const DRAWS: usize = 4_000;
    let row = row(n as u64, n);
    let want = probabilities(&row, &settings);
    let mut counts = vec![0usize; n];
    for position in 0..DRAWS {
        let tokens = vec![0; position];
        counts[choose(&row, &tokens, 0, &settings).expect("the row is sound") as usize] += 1;
    }
    for (id, (&count, &p)) in counts.iter().zip(&want).enumerate() {
        let expected = p * DRAWS as f64;
        let bound = 5.0 * expected.sqrt() + 4.0;
        assert!(
            (count as f64 - expected).abs() < bound,
            "{settings:?}: id {id} {count} times, {expected} expected"
        );
        assert!(p > 0.0 || count == 0, "{settings:?}: id {id} was filtered out and drawn");
    }
}

#[test]
fn draws_follow_the_definition_of_every_filter() {
    let warm = || Sampling { temperature: 1.5, seed: 7, ..Sampling::default() };
    for n in [20, 700] {
        check(n, warm());
        check(n, Sampling { temperature: 0.3, ..warm() });
        check(n, Sampling { top_k: 1, ..warm() });
        check(n, Sampling { top_k: 9, ..warm() });
        check(n, Sampling { top_k: 10_000, ..warm() });
        check(n, Sampling { top_p: 0.0, ..warm() });
        check(n, Sampling { top_p: 0.8, ..warm() });
        check(n, Sampling { top_p: 0.9, temperature: 30.0, ..warm() });
        check(n, Sampling { min_p: 0.05, ..warm() });
        check(n, Sampling { min_p: 1.0, ..warm() });
        check(n, Sampling { typical_p: 0.7, ..warm() });
        check(n, Sampling { top_k: 15, top_p: 0.9, min_p: 0.02, typical_p: 0.95, ..warm() });
        check(n, Sampling { top_p: 0.95, min_p: 0.01, ..warm() });
    }
}

#[test]
fn greedy_takes_the_lowest_of_equal_ids() {
    let greedy = Sampling::default();
    for (row, want) in [
        (&[1.0, 3.0, 3.0, 2.0][..], 1),
        (&[-0.0, 0.0][..], 0),
        (&[f32::NEG_INFINITY, -5.0][..], 1),
        (&[f32::MIN, f32::MAX, f32::MAX][..], 1),
    ] {
        assert_eq!(choose(row, &[0], 1, &greedy), Ok(want), "{row:?}");
        let cold = Sampling { temperature: 1e-30, ..Sampling::default() };
        let drawn = choose(row, &[0], 1, &cold).expect("the row is sound");
        assert_eq!(row[drawn as usize], row[want as usize], "{row:?}");
    }
}

#[test]
fn rows_that_allow_no_choice_are_reported_with_their_position() {
    const INF: f32 = f32::INFINITY;
    let forbid = |n| Sampling { logit_bias: (0..n).map(|id| (id, -INF)).collect(), ..Sampling::default() };
    for (row, settings, what) in [
        (vec![0.0; 40].into_iter().chain([f32::NAN]).collect(), Sampling::default(), "not finite"),
        (vec![0.0, INF], Sampling { temperature: 1.0, ..Sampling::default() }, "not finite"),
        (vec![-INF, -INF], Sampling::default(), "minus infinity"),
        (vec![0.0, 1.0], forbid(2), "logit_bias"),
    ] {
        let bad = choose(&row, &[1, 2, 3], 3, &settings).expect_err("no choice is possible");
        assert_eq!(bad.position, 3);
        assert!(bad.to_string().contains(what), "{bad}");
    }
}

#[test]
fn extreme_settings_still_choose() {
    for temperature in [0.0, 1e-38, 1e38] {
        for settings in [
            Sampling { repeat_penalty: 1e-38, ..Sampling::default() },
            Sampling { frequency_penalty: f32::MIN, presence_penalty: f32::MIN, ..Sampling::default() },
            Sampling { logit_bias: vec![(1, f32::MAX), (2, f32::MIN)], ..Sampling::default() },
        ] {
            let settings = Sampling { temperature, ..settings };
            let token = choose(&[1.0, 2.0, f32::NEG_INFINITY, 3e38], &[0, 1, 2], 1, &settings);
            assert!(token.is_ok_and(|token| token != 2), "{settings:?}");
        }
    }
}

/// The row after bias and penalties.
fn changed(row: &[f32], tokens: &[u32], prompt: usize, s: Sampling) -> Vec<f32> {
    let mut row = row.to_vec();
    assert!(penalties::change_anything(&s));
    penalties::apply(&mut row, tokens, prompt, &s);
    row
}

#[test]
fn penalties_change_the_right_logits() {
    let off = Sampling::default;
    let row = [2.0, -2.0, 4.0, 1.0];
    let tokens = [3, 0, 1, 2, 2, 99]; // the answer begins at the first 2; 99 has no logit
    let bias = Sampling { logit_bias: vec![(1, 5.0), (3, -1.0)], ..off() };
    assert_eq!(changed(&row, &tokens, 3, bias), [2.0, 3.0, 4.0, 0.0]);
    let repeat = |n| Sampling { repeat_penalty: 2.0, repeat_last_n: n, ..off() };
    assert_eq!(changed(&row, &tokens, 3, repeat(100)), [1.0, -4.0, 2.0, 0.5]);
    assert_eq!(changed(&row, &tokens, 3, repeat(4)), [2.0, -4.0, 2.0, 1.0]);
    assert_eq!(changed(&row, &tokens, 3, Sampling { presence_penalty: 0.5, ..off() }), [2.0, -2.0, 3.5, 1.0]);
    let both = Sampling { presence_penalty: 0.5, frequency_penalty: 1.0, ..off() };
    assert_eq!(changed(&row, &tokens, 3, both), [2.0, -2.0, 1.5, 1.0]);
}

/// What DRY takes from each of 8 ids, found by looking at every occurrence.
fn dry_by_search(tokens: &[u32], dry: &Dry) -> Vec<f32> {
    let tokens = &tokens[tokens.len().saturating_sub(dry.last_n)..];
    let mut taken = vec![0f32; 8];
    for at in 1..tokens.len() {
        let same = |k: &usize| tokens[at - 1 - k] == tokens[tokens.len() - 1 - k];
        let length = (0..at).take_while(|k| same(k) && !dry.breakers.contains(&tokens[at - 1 - k])).count();
        if length >= dry.allowed_length && !dry.breakers.contains(&tokens[at]) {
            let penalty = dry.multiplier * dry.base.powi((length - dry.allowed_length) as i32);
            let taken = &mut taken[tokens[at] as usize];
            *taken = taken.max(penalty);
        }
    }
    taken
}

#[test]
fn dry_finds_what_a_search_finds() {
    for case in 0..200 {
        let n = (hash(case, 0) * 60.0) as u64;
        let tokens: Vec<u32> =
            (1..=n).map(|i| (hash(case, i) * [2.0, 3.0, 8.0][case as usize % 3]) as u32).collect();
        let breakers = if case % 4 == 0 { vec![1] } else { vec![] };
        let last_n = if case % 5 == 0 { 20 } else { 1000 };
        let dry =
            Dry { multiplier: 0.75, base: 1.5, allowed_length: 1 + case as usize % 3, last_n, breakers };
        let want: Vec<f32> = dry_by_search(&tokens, &dry).iter().map(|taken| 0.0 - taken).collect();
        let settings = Sampling { dry: Some(dry), ..Sampling::default() };
        assert_eq!(changed(&[0.0; 8], &tokens, 0, settings), want, "case {case}: {tokens:?}");
    }
}

#[test]
fn logprobs_are_the_models_own() {
    let row = [0.0, 2.0f32.ln(), f32::NEG_INFINITY, 5.0f32.ln()];
    let settings = Sampling { logprobs: Some(3), logit_bias: vec![(0, 100.0)], ..Sampling::default() };
    let (token, logprob) =
        Sampler::default().choose(&row, &[1], 1, &settings, None).expect("the row is sound");
    let logprob = logprob.expect("asked for");
    assert_eq!(token, 0);
    assert!((logprob.logprob - 0.125f32.ln()).abs() < 1e-6);
    let top: Vec<(u32, i32)> =
        logprob.top.iter().map(|&(id, lp)| (id, (lp.exp() * 1000.0).round() as i32)).collect();
    assert_eq!(top, [(3, 625), (1, 250), (0, 125)]);
}
