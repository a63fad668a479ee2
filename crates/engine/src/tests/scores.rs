//! How likely a prompt's tokens are, however it is cut and whatever the cache has of it.

use super::fake::scores_alone;
use super::*;
use crate::{PromptLogprobs, SubmitError};
use std::sync::atomic::Ordering;

fn scored(prompt: Vec<u32>, from: usize, max_tokens: usize) -> Request {
    Request { prompt_logprobs: Some(PromptLogprobs { from, top: 2 }), ..request(prompt, max_tokens) }
}

#[test]
fn every_token_from_the_first_wanted_one_is_scored_once() {
    for (length, from, max_tokens) in
        [(100, 0, 0), (100, 1, 3), (100, 40, 1), (100, 99, 1), (100, 100, 1), (100, 500, 1), (1, 1, 2)]
    {
        for rows in [1, 7, 64] {
            let options = EngineOptions { prompt_logprob_rows: rows, ..options(20, 50, 4) };
            let mut engine = engine(options);
            let request = scored(prompt(1, length), from, max_tokens);
            let ids = [0; 3].map(|_| engine.submit(request.clone()).expect("fits"));
            let log = run_all(&mut engine);
            let want = scores_alone(&request);
            assert_eq!(want.len(), length - from.clamp(1, length));
            for id in ids {
                assert_eq!(log.0[&id].scores, want, "{length} tokens from {from}, {rows} rows");
                assert_eq!(log.0[&id].tokens.len(), max_tokens);
            }
        }
    }
}

#[test]
fn the_cache_is_used_up_to_the_first_token_wanted() {
    let fake = Fake::new(20);
    let ran = fake.tokens.clone();
    let mut engine = Engine::with_forward(Box::new(fake), options(20, 512, 4));
    engine.submit(request(prompt(1, 100), 1)).expect("fits");
    run_all(&mut engine);
    for (from, found) in [(1, 0), (32, 0), (33, 32), (64, 32), (65, 64), (99, 96), (100, 96)] {
        let before = ran.load(Ordering::Relaxed);
        let request = scored(prompt(1, 100), from, 1);
        let id = engine.submit(request.clone()).expect("fits");
        let log = run_all(&mut engine);
        assert_eq!(log.0[&id].scores, scores_alone(&request), "from {from}");
        assert_eq!(log.end(id).1.cached_tokens, found, "from {from}");
        assert_eq!(ran.load(Ordering::Relaxed) - before, 100 - found, "from {from}");
    }
}

#[test]
fn a_step_has_no_more_rows_than_are_set_aside() {
    let fake = Fake::new(100);
    let most = fake.rows.clone();
    let options = EngineOptions { prompt_logprob_rows: 20, ..options(100, 512, 16) };
    let mut engine = Engine::with_forward(Box::new(fake), options);
    for i in 0..5 {
        engine.submit(scored(prompt(i, 90), 1, 20)).expect("fits");
    }
    run_all(&mut engine);
    assert!((20..=25).contains(&most.load(Ordering::Relaxed)), "{most:?}");
}

#[test]
fn a_prompt_that_loses_its_pages_is_not_scored_twice() {
    let mut engine = engine(EngineOptions { prompt_logprob_rows: 1, ..options(8, 64, 4) });
    let talking = engine.submit(request(prompt(1, 20), 200)).expect("fits");
    let request = scored(prompt(2, 150), 1, 4);
    let id = engine.submit(request.clone()).expect("fits");
    let log = run_all(&mut engine);
    assert_eq!((log.0[&talking].tokens.len(), log.end(id).1.preemptions), (200, 1));
    assert_eq!(log.0[&id].scores, scores_alone(&request));
}

#[test]
fn logits_that_are_no_numbers_end_the_scoring() {
    let mut fake = Fake::new(20);
    fake.broken_from = 50;
    let mut engine = Engine::with_forward(Box::new(fake), options(20, 10, 4));
    let id = engine.submit(scored(prompt(1, 80), 1, 3)).expect("fits");
    let log = run_all(&mut engine);
    let FinishReason::Failed(bad) = log.end(id).0 else { panic!("{:?}", log.end(id)) };
    assert_eq!((bad.position, log.0[&id].scores.len()), (50, 40), "the parts before that one");
}

#[test]
fn without_rows_for_it_the_request_is_refused() {
    let mut engine = engine(EngineOptions { prompt_logprob_rows: 0, ..options(20, 512, 4) });
    assert_eq!(engine.submit(scored(prompt(1, 8), 1, 1)), Err(SubmitError::NoPromptLogprobs));
}
