//! What is proposed, when, and what it saves. That it never changes an answer is in `same_tokens`.

use super::fake::alone;
use super::*;
use std::sync::atomic::Ordering;

fn speculating(options: EngineOptions) -> EngineOptions {
    EngineOptions { speculate: 15, ..options }
}

/// Runs requests together; the tokens run in each step, and the engine afterwards.
fn rows(requests: &[Request], options: EngineOptions) -> (Vec<usize>, Engine) {
    let fake = Fake::new(options.pages);
    let ran = fake.tokens.clone();
    let mut engine = Engine::with_forward(Box::new(fake), options);
    let ids: Vec<_> = requests.iter().map(|r| engine.submit(r.clone()).expect("fits")).collect();
    let (mut log, mut rows) = (Log::default(), Vec::new());
    while !engine.is_idle() {
        let before = ran.load(Ordering::Relaxed);
        log.step(&mut engine);
        rows.push(ran.load(Ordering::Relaxed) - before);
    }
    for (request, id) in requests.iter().zip(ids) {
        assert_eq!(log.0[&id].tokens, alone(request, engine.stats().pages * PAGE).0);
    }
    (rows, engine)
}

/// A prompt that the model's habit continues: what follows can mostly be looked up.
fn habitual() -> Request {
    request((0..44).map(|i| i % 11).collect(), 200)
}

/// Always the same.
fn monotonous() -> Request {
    let sampling = Sampling { logit_bias: vec![(7, 100.0)], ..Sampling::default() };
    Request { sampling, ..request(vec![7; 40], 200) }
}

#[test]
fn an_answer_that_repeats_what_was_said_takes_fewer_steps() {
    let (plain, _) = rows(&[habitual()], options(20, 512, 4));
    let (rows, engine) = rows(&[habitual()], speculating(options(20, 512, 4)));
    let stats = engine.stats();
    assert_eq!((plain.len(), plain[1..].iter().max()), (200, Some(&1)));
    assert_eq!(rows.len() as u64 + stats.accepted_tokens, 200);
    assert!(rows.len() <= 100, "{} steps", rows.len());
    assert_eq!(rows[1..].iter().sum::<usize>() as u64, rows.len() as u64 - 1 + stats.drafted_tokens);
}

#[test]
fn who_proposes_nothing_but_nonsense_soon_holds_his_tongue() {
    // The end of what was said has always occurred before, and the model never goes on like that.
    let forbidden = (0..11).map(|id| (id, f32::NEG_INFINITY)).collect();
    let sampling = Sampling { temperature: 50.0, seed: 3, logit_bias: forbidden, ..Sampling::default() };
    let few = Request { vocab_limit: 14, max_tokens: Some(600), sampling, ..habitual() };
    let (_, engine) = rows(&[few], speculating(options(30, 512, 4)));
    let stats = engine.stats();
    assert!(stats.accepted_tokens * 3 < stats.drafted_tokens, "{stats:?}");
    assert!(stats.drafted_tokens < 200, "{} tokens for nothing", stats.drafted_tokens);
}

#[test]
fn drafts_keep_to_steps_of_few_rows() {
    for (running, budget, most) in
        [(1, 512, 16), (2, 512, 16), (4, 512, 16), (9, 512, 9), (1, 5, 5), (3, 7, 6)]
    {
        let requests = vec![monotonous(); running];
        let (rows, engine) = rows(&requests, speculating(options(100, budget, 16)));
        let settled = &rows[rows.len() / 2..];
        assert_eq!(settled.iter().max(), Some(&most), "{running} requests, {budget} tokens a step");
        assert_eq!(engine.stats().drafted_tokens > 0, most > running);
    }
}

#[test]
fn nothing_is_proposed_while_a_prompt_is_read() {
    let mut engine = engine(speculating(options(100, PAGE, 4)));
    let mut log = Log::default();
    let talking = engine.submit(habitual()).expect("fits");
    while log.0.get(&talking).is_none_or(|entry| entry.tokens.len() < 20) {
        log.step(&mut engine);
    }
    assert!(engine.stats().drafted_tokens > 0);
    let drafted = engine.stats().drafted_tokens;
    let late = engine.submit(request(prompt(2, 10 * PAGE), 1)).expect("fits");
    while log.0.get(&late).is_none_or(|entry| entry.tokens.is_empty()) {
        let before = log.0[&talking].tokens.len();
        log.step(&mut engine);
        assert_eq!((log.0[&talking].tokens.len(), engine.stats().drafted_tokens), (before + 1, drafted));
    }
    log.run(&mut engine);
    assert!(engine.stats().drafted_tokens > drafted);
}

#[test]
fn a_model_that_cannot_go_back_is_not_speculated_on() {
    let mut engine = stateful(speculating(options(20, 512, 4)));
    let id = engine.submit(habitual()).expect("fits");
    let log = run_all(&mut engine);
    assert_eq!(log.0[&id].tokens, alone(&habitual(), 20 * PAGE).0);
    assert_eq!((engine.stats().drafted_tokens, engine.stats().steps), (0, 201));
}

#[test]
fn what_was_looked_at_in_vain_breaks_nothing() {
    for broken_from in 60..90 {
        let mut fake = Fake::new(20);
        fake.broken_from = broken_from;
        let mut engine = Engine::with_forward(Box::new(fake), speculating(options(20, 512, 4)));
        let id = engine.submit(habitual()).expect("fits");
        let log = run_all(&mut engine);
        let FinishReason::Failed(bad) = log.end(id).0 else { panic!("{:?}", log.end(id)) };
        let want = alone(&habitual(), 20 * PAGE).0;
        assert_eq!((bad.position, log.0[&id].tokens.as_slice()), (broken_from, &want[..broken_from - 44]));
    }
}
