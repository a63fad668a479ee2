//! Whatever else goes on, a request gets the tokens that it gets alone.

use super::fake::{alone, scores_alone};
use super::filters::Rhythm;
use super::*;
use crate::sampler::Dry;
use crate::{PromptLogprobs, TokenFilter};
use proptest::prelude::*;

/// A request, when it comes, and when it is cancelled (in steps).
#[derive(Clone, Debug)]
struct Visit {
    request: Request,
    arrival: usize,
    cancel: Option<usize>,
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let drawn = (any::<u64>(), 0usize..20, 0.5f32..1.0).prop_map(|(seed, top_k, top_p)| Sampling {
        temperature: 0.9,
        top_k,
        top_p,
        seed,
        ..Sampling::default()
    });
    let dry = Dry { multiplier: 2.0, base: 1.5, allowed_length: 1, last_n: 50, breakers: vec![3] };
    let penalised = Sampling {
        repeat_penalty: 1.3,
        frequency_penalty: 0.2,
        presence_penalty: 0.3,
        logit_bias: vec![(5, 2.0), (6, f32::NEG_INFINITY)],
        dry: Some(dry),
        ..Sampling::default()
    };
    prop_oneof![Just(Sampling::default()), drawn, Just(penalised)]
}

fn filter() -> impl Strategy<Value = Option<Rhythm>> {
    let rhythm = (0usize..20, prop_oneof![Just(None), (0usize..60).prop_map(Some)], any::<bool>());
    let rhythm =
        rhythm.prop_map(|(dormant, ends, closes)| Rhythm { dormant, ends, closes, ..Rhythm::default() });
    prop_oneof![2 => Just(None), 1 => rhythm.prop_map(Some)]
}

fn prompt_logprobs() -> impl Strategy<Value = Option<PromptLogprobs>> {
    let wanted = (0usize..150, 0usize..3).prop_map(|(from, top)| PromptLogprobs { from, top });
    prop_oneof![3 => Just(None), 1 => wanted.prop_map(Some)]
}

/// Requests that share beginnings of all lengths, many of them whole pages; some say the same things again.
fn visit() -> impl Strategy<Value = Visit> {
    let shared = prop_oneof![Just(0usize), Just(PAGE), Just(2 * PAGE), 0usize..120];
    let parts = (0u32..3, shared, 0u32..5, 0usize..50, 1usize..4);
    let prompt = parts.prop_map(|(base, shared, own, tail, times)| {
        let mut tokens = prompt(base, shared);
        tokens.extend(prompt(100 + own, tail.max(usize::from(shared == 0))).repeat(times));
        tokens
    });
    let max_tokens = prop_oneof![4 => (0usize..80).prop_map(Some), 1 => Just(None)];
    let stops = prop_oneof![Just(vec![]), Just(vec![1, 2])];
    let cancel = prop_oneof![3 => Just(None), 1 => (0usize..60).prop_map(Some)];
    let extent = (20usize..300, 30usize..=VOCAB, max_tokens);
    let choice = (sampling(), stops, filter());
    (prompt, extent, choice, prompt_logprobs(), 0u64..3, 0usize..60, cancel).prop_map(
        |(prompt, extent, choice, prompt_logprobs, client, arrival, cancel)| {
            let (context, vocab_limit, max_tokens) = extent;
            let (sampling, stop_tokens, filter) = choice;
            let filter = filter.map(|filter| filter.boxed_clone());
            let request = Request {
                sampling,
                max_tokens,
                stop_tokens,
                filter,
                prompt_logprobs,
                client,
                ..Request::new(prompt, context, vocab_limit)
            };
            Visit { request, arrival, cancel }
        },
    )
}

fn check(mut engine: Engine, pages: usize, visits: &[Visit]) {
    let room = pages * PAGE;
    let mut log = Log::default();
    let mut ids: Vec<Option<RequestId>> = vec![None; visits.len()];
    for step in 0..=120 {
        for (visit, id) in visits.iter().zip(&mut ids) {
            if visit.arrival == step {
                let fits = visit.request.prompt.len() < visit.request.context.min(room);
                let submitted = engine.submit(visit.request.clone());
                assert_eq!(submitted.is_ok(), fits, "{submitted:?}");
                *id = submitted.ok();
            }
            if let (Some(id), Some(after)) = (*id, visit.cancel)
                && visit.arrival + after == step
            {
                engine.cancel(id);
            }
        }
        log.step(&mut engine);
    }
    let log = log.run(&mut engine);
    for (Visit { request, .. }, id) in visits.iter().zip(ids).filter_map(|(visit, id)| Some((visit, id?))) {
        let (want, why) = alone(request, room);
        let (reason, usage) = log.end(id);
        let got = &log.0[&id].tokens;
        if *reason == FinishReason::Cancelled {
            assert!(want.starts_with(got), "{request:?}: {got:?} is not how {want:?} begins");
        } else {
            assert_eq!((got, reason), (&want, &why), "{request:?}");
        }
        let (likely, scored) = (scores_alone(request), &log.0[&id].scores);
        let all = *reason != FinishReason::Cancelled;
        assert!(
            likely.starts_with(scored) && (!all || likely.len() == scored.len()),
            "{request:?}: {scored:?}"
        );
        let stopped = usize::from(matches!(reason, FinishReason::Stop(_)));
        assert_eq!(
            (usage.prompt_tokens, usage.generated_tokens),
            (request.prompt.len(), got.len() + stopped)
        );
        assert!(usage.cached_tokens < usage.prompt_tokens && usage.cached_tokens.is_multiple_of(PAGE));
        assert!(usage.prefill <= usage.first_token);
        assert!(usage.accepted_tokens <= usage.drafted_tokens.min(usage.generated_tokens));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn any_mix_of_requests_gets_what_each_gets_alone(
        pages in 1usize..14,
        max_batch_tokens in prop_oneof![Just(1usize), Just(7), Just(32), Just(100), Just(512)],
        max_running in 1usize..9,
        snapshots in prop_oneof![Just(None), (0usize..8).prop_map(Some)],
        speculate in prop_oneof![Just(0usize), 1usize..20],
        max_mixed_tokens in prop_oneof![Just(1usize), Just(40), Just(512)],
        prompt_logprob_rows in 1usize..70,
        visits in prop::collection::vec(visit(), 1..20),
    ) {
        let options = EngineOptions { speculate, max_mixed_tokens, prompt_logprob_rows, ..options(pages, max_batch_tokens, max_running) };
        let engine = match snapshots {
            None => engine(options),
            Some(snapshots) => stateful(EngineOptions { snapshots, ..options }),
        };
        check(engine, pages, &visits);
    }
}
