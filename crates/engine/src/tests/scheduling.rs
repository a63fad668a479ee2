//! Who runs when, what is kept, what is refused.

use super::fake::alone;
use super::*;
use crate::SubmitError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn a_long_prompt_holds_up_neither_answers_nor_short_prompts() {
    let mut engine = engine(options(100, 64, 8));
    let mut log = Log::default();
    let talking = engine.submit(request(prompt(1, 10), 1000)).expect("fits");
    log.step(&mut engine);
    let long = engine.submit(request(prompt(2, 1500), 1)).expect("fits");
    let short = engine.submit(request(prompt(3, 30), 1)).expect("fits");
    let mut steps = 0;
    while log.0.get(&long).is_none_or(|entry| entry.finished.is_none()) {
        let before = log.0[&talking].tokens.len();
        log.step(&mut engine);
        assert_eq!(log.0[&talking].tokens.len(), before + 1);
        steps += 1;
        if steps == 4 {
            assert!(log.0[&short].finished.is_some(), "30 tokens at a quarter of 64 per step");
        }
    }
    assert!(steps <= 1500 / 48 + 2, "{steps} steps");
}

#[test]
fn a_step_that_also_generates_is_a_short_one() {
    let fake = Fake::new(100);
    let ran = fake.tokens.clone();
    let options = EngineOptions { max_mixed_tokens: 40, ..options(100, 200, 8) };
    let mut engine = Engine::with_forward(Box::new(fake), options);
    let mut steps = stepper(ran);
    engine.submit(request(prompt(1, 300), 6)).expect("fits");
    assert_eq!(steps(&mut engine, 3), [200, 100, 1]);
    engine.submit(request(prompt(2, 500), 1)).expect("fits");
    assert_eq!(steps(&mut engine, 7), [40, 40, 40, 40, 200, 144, 0]);
}

#[test]
fn a_step_that_also_generates_takes_no_longer_than_said() {
    let fake = Fake::new(100);
    let ran = fake.tokens.clone();
    let half = Duration::from_millis(500);
    let options = EngineOptions { max_mixed_tokens: 40, max_mixed_time: Some(half), ..options(100, 200, 8) };
    let mut engine = Engine::with_forward(Box::new(fake), options);
    let mut steps = stepper(ran);
    engine.submit(request(prompt(1, 30), 9)).expect("fits");
    assert_eq!(steps(&mut engine, 2), [30, 1]);
    engine.submit(request(prompt(2, 60), 1)).expect("fits");
    assert_eq!(steps(&mut engine, 2), [40, 22], "no step has told");
    engine.scheduler.pace.learn(100, half);
    engine.submit(request(prompt(3, 800), 1)).expect("fits");
    // In whole pages; and as the fake takes no time, more fits each time.
    assert_eq!(steps(&mut engine, 3), [96, 128, 160]);
}

/// Runs steps and tells how many tokens each has run.
fn stepper(ran: Arc<AtomicUsize>) -> impl FnMut(&mut Engine, usize) -> Vec<usize> {
    let mut log = Log::default();
    move |engine, steps| {
        let step = |_| {
            let before = ran.load(Ordering::Relaxed);
            log.step(engine);
            ran.load(Ordering::Relaxed) - before
        };
        (0..steps).map(step).collect()
    }
}

#[test]
fn prompts_move_on_however_many_requests_are_generating() {
    let mut engine = engine(options(100, 4, 9));
    let mut log = Log::default();
    for i in 0..8 {
        engine.submit(request(prompt(i, 3), 500)).expect("fits");
    }
    for _ in 0..20 {
        log.step(&mut engine);
    }
    let late = engine.submit(request(prompt(9, 40), 1)).expect("fits");
    for _ in 0..10 {
        log.step(&mut engine);
    }
    assert!(log.0[&late].finished.is_some());
}

#[test]
fn a_prompt_shared_by_many_is_computed_once() {
    let fake = Fake::new(100);
    let ran = fake.tokens.clone();
    let mut engine = Engine::with_forward(Box::new(fake), options(100, 64, 16));
    let n = 10 * PAGE + 5;
    let ids: Vec<_> = (0..10).map(|_| engine.submit(request(prompt(1, n), 1)).expect("fits")).collect();
    let log = run_all(&mut engine);
    assert_eq!(ran.load(Ordering::Relaxed), n + 9 * 5);
    assert_eq!(ids.iter().filter(|&&id| log.end(id).1.cached_tokens == 10 * PAGE).count(), 9);
    let stats = engine.stats();
    assert_eq!((stats.prompt_tokens, stats.cached_tokens), (10 * n as u64, 90 * PAGE as u64));
}

#[test]
fn a_conversation_is_found_again_and_the_last_token_always_computed() {
    let mut engine = engine(options(100, 512, 4));
    let first = engine.submit(request(prompt(1, 40), 60)).expect("fits");
    let log = run_all(&mut engine);
    let mut tokens = prompt(1, 40);
    tokens.extend(&log.0[&first].tokens);
    // (length of the prompt, tokens found): 99 of the 100 tokens were computed, in 3 full pages.
    for (length, cached) in [(100, 96), (97, 96), (96, 64), (95, 64), (33, 32), (32, 0)] {
        let id = engine.submit(request(tokens[..length].to_vec(), 1)).expect("fits");
        let log = run_all(&mut engine);
        assert_eq!(log.0[&id].started, Some((length, cached)));
        assert_eq!(log.end(id).1.cached_tokens, cached, "of {length}");
    }
}

#[test]
fn the_least_recently_used_prefix_is_evicted_first() {
    let mut engine = engine(options(9, 512, 4));
    let mut cached = |seed| {
        let id = engine.submit(request(prompt(seed, 3 * PAGE), 1)).expect("fits");
        run_all(&mut engine).end(id).1.cached_tokens / PAGE
    };
    // Three prompts fill the pool. The fourth costs the second, as the first was used again since then.
    assert_eq!([1, 2, 3, 1, 4].map(&mut cached), [0, 0, 0, 2, 0]);
    assert_eq!(cached(1), 2);
    assert_eq!(cached(3), 2);
    assert_eq!(cached(2), 0);
}

#[test]
fn when_pages_run_out_the_newest_waits_and_nothing_is_lost() {
    let mut engine = engine(options(8, 512, 4));
    let requests: Vec<_> = (0..4).map(|i| request(prompt(i, 20), 180)).collect();
    let ids: Vec<_> = requests.iter().map(|r| engine.submit(r.clone()).expect("fits")).collect();
    let log = run_all(&mut engine);
    assert!(engine.stats().preemptions > 0);
    for (request, id) in requests.iter().zip(ids) {
        assert_eq!(log.0[&id].tokens, alone(request, 8 * PAGE).0);
    }
}

#[test]
fn a_growing_answer_does_not_keep_an_older_prompt_from_its_pages() {
    let mut engine = engine(options(11, 1, 4));
    let old = engine.submit(request(prompt(1, 240), 1)).expect("fits");
    let new = engine.submit(request(prompt(2, 1), 300)).expect("fits");
    let log = run_all(&mut engine);
    assert!(engine.stats().preemptions > 0);
    assert_eq!([old, new].map(|id| log.0[&id].tokens.len()), [1, 300]);
}

#[test]
fn an_answer_ends_for_the_stated_reason() {
    let base = request(prompt(1, 20), 30);
    let answer = alone(&base, 10_000).0;
    let stop = answer[4];
    let before = answer.iter().position(|&token| token == stop).expect("it is there");
    for (request, tokens, reason) in [
        (base.clone(), 30, FinishReason::Length),
        (Request { max_tokens: Some(0), ..base.clone() }, 0, FinishReason::Length),
        (Request { stop_tokens: vec![stop], ..base.clone() }, before, FinishReason::Stop(stop)),
        (Request { max_tokens: None, context: 70, ..base.clone() }, 50, FinishReason::Context),
        (Request { max_tokens: Some(50), context: 70, ..base.clone() }, 50, FinishReason::Length),
        (Request { max_tokens: None, ..base.clone() }, 4 * PAGE - 20, FinishReason::Context),
    ] {
        let mut engine = engine(options(4, 512, 4));
        let id = engine.submit(request).expect("fits");
        let log = run_all(&mut engine);
        assert_eq!((log.0[&id].tokens.len(), log.end(id).0), (tokens, &reason));
    }
}

#[test]
fn usage_says_how_long_each_part_took() {
    const CALL: Duration = Duration::from_millis(3);
    let mut fake = Fake::new(20);
    fake.delay = CALL;
    let mut engine = Engine::with_forward(Box::new(fake), options(20, 10, 1));
    let first = engine.submit(request(prompt(1, 40), 6)).expect("fits"); // 4 calls, then 5
    let second = engine.submit(request(prompt(2, 20), 1)).expect("fits"); // waits, then 2 calls
    let log = run_all(&mut engine);
    let (first, second) = (log.end(first).1, log.end(second).1);
    assert!(first.prefill >= 4 * CALL && first.first_token >= first.prefill && first.decode >= 5 * CALL);
    assert!(second.prefill >= 2 * CALL && second.first_token >= second.prefill + 9 * CALL);
}

#[test]
fn logits_that_are_no_numbers_end_their_request_and_no_other() {
    let mut fake = Fake::new(20);
    fake.broken_from = 50;
    let mut engine = Engine::with_forward(Box::new(fake), options(20, 512, 4));
    let sound = engine.submit(request(prompt(1, 20), 10)).expect("fits");
    let broken = engine.submit(request(prompt(2, 40), 20)).expect("fits");
    let log = run_all(&mut engine);
    assert_eq!(log.end(sound).0, &FinishReason::Length);
    let FinishReason::Failed(bad) = log.end(broken).0 else { panic!("{:?}", log.end(broken)) };
    assert_eq!((bad.position, log.0[&broken].tokens.len()), (50, 10));
}

#[test]
fn cancelled_requests_end_at_once_wherever_they_are() {
    let mut engine = engine(options(20, 32, 1));
    let mut log = Log::default();
    let ids: Vec<_> = (0..3).map(|i| engine.submit(request(prompt(i, 100), 10)).expect("fits")).collect();
    log.step(&mut engine);
    engine.cancel(ids[0]); // in the middle of its prompt
    engine.cancel(ids[1]); // waiting
    engine.cancel(ids[1]);
    assert!(!engine.is_idle());
    let log = log.run(&mut engine);
    assert_eq!([0, 1, 2].map(|i| log.0[&ids[i]].tokens.len()), [0, 0, 10]);
    assert_eq!(log.end(ids[0]).0, &FinishReason::Cancelled);
    assert_eq!(log.end(ids[1]).0, &FinishReason::Cancelled);
    engine.cancel(ids[2]);
    assert!(engine.is_idle(), "cancelling what has ended changes nothing");
}

#[test]
fn what_cannot_run_is_refused_with_the_numbers() {
    let base = request(prompt(1, 50), 1);
    let with = |change: fn(&mut Sampling)| {
        let mut request = base.clone();
        change(&mut request.sampling);
        request
    };
    for (request, message) in [
        (Request { prompt: vec![], ..base.clone() }, "the prompt is empty"),
        (Request { context: 50, ..base.clone() }, "50 tokens and the context holds 50"),
        (request(prompt(1, 64), 1), "64 tokens and the KV cache holds 64"),
        (
            Request { prompt: vec![3, 40], ..base.clone() },
            "token 1 of the prompt is 40, and the model's tokens end at 40",
        ),
        (Request { vocab_limit: 41, ..base.clone() }, "limit is 41"),
        (Request { vocab_limit: 0, ..base.clone() }, "limit is 0"),
        (with(|s| s.temperature = f32::NAN), "temperature is NaN; it must be 0 or more"),
        (with(|s| s.top_p = 1.5), "top_p is 1.5; it must be from 0 to 1"),
        (with(|s| s.min_p = -0.5), "min_p is -0.5"),
        (with(|s| s.repeat_penalty = 0.0), "repeat_penalty is 0; it must be greater than 0"),
        (with(|s| s.presence_penalty = f32::INFINITY), "presence_penalty is inf"),
        (with(|s| s.logit_bias = vec![(40, 1.0)]), "logit_bias token is 40"),
        (with(|s| s.logit_bias = vec![(1, f32::NAN)]), "logit_bias is NaN"),
    ] {
        let mut engine = engine(options(2, 512, 4));
        let error = engine.submit(request).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
        assert!(engine.is_idle());
    }
}

#[test]
fn a_full_queue_refuses_and_takes_requests_again_later() {
    let mut engine = engine(EngineOptions { max_waiting: 2, ..options(20, 512, 1) });
    for i in 0..3 {
        engine.submit(request(prompt(i, 10), 5)).expect("one runs and two wait");
    }
    let refused = engine.submit(request(prompt(4, 10), 5));
    assert_eq!(refused, Err(SubmitError::QueueFull { running: 0, waiting: 3 }));
    run_all(&mut engine);
    assert!(engine.submit(request(prompt(4, 10), 5)).is_ok());
}
