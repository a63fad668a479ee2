//! A model with state beside its pages goes on from a saved state or computes again; when states are saved, and which
//! are given up.

use super::*;
use std::sync::atomic::Ordering;

fn with(snapshots: usize, options: EngineOptions) -> Engine {
    stateful(EngineOptions { snapshots, ..options })
}

/// Runs a prompt for one token and returns how many of its tokens were found.
fn cached(engine: &mut Engine, prompt: &[u32]) -> usize {
    let id = engine.submit(request(prompt.to_vec(), 1)).expect("fits");
    run_all(engine).end(id).1.cached_tokens
}

#[test]
fn a_prompt_shared_by_many_is_computed_once() {
    let n = 10 * PAGE + 5;
    for budget in [7, 64, 512] {
        let options = options(100, budget, 16);
        let fake = Fake::with_slots(100, options.max_running + options.snapshots);
        let ran = fake.tokens.clone();
        let mut engine = Engine::with_forward(Box::new(fake), options);
        // Five go on with tokens of their own, behind seven of the ten pages.
        let own = |i: u32| [&prompt(1, 7 * PAGE)[..], &prompt(10 + i, 20)].concat();
        for i in 0..10 {
            let prompt = if i % 2 == 0 { prompt(1, n) } else { own(i) };
            engine.submit(request(prompt, 1)).expect("fits");
        }
        run_all(&mut engine);
        assert_eq!(ran.load(Ordering::Relaxed), n + 4 * 5 + 5 * 20, "budget {budget}");
    }
}

#[test]
fn a_conversation_goes_on_from_the_state_at_its_end() {
    let mut engine = with(8, options(100, 512, 4));
    let first = engine.submit(request(prompt(1, 40), 60)).expect("fits");
    let log = run_all(&mut engine);
    let stats = engine.stats();
    assert_eq!(
        (stats.snapshots, stats.snapshot_bytes),
        (2, 16),
        "behind the prompt's last page, and at the end"
    );
    let mut tokens = prompt(1, 40);
    tokens.extend(&log.0[&first].tokens);
    // (length of the prompt, tokens found): the state behind 64 is saved when the third request parts there.
    for (length, found) in [(100, 96), (97, 96), (96, 32), (96, 64), (95, 64), (33, 32), (32, 0)] {
        assert_eq!(cached(&mut engine, &tokens[..length]), found, "of {length}");
    }
}

#[test]
fn where_sequences_part_a_state_is_saved_for_the_next() {
    let mut engine = with(8, options(100, 512, 4));
    let parts_at = |at: usize, seed| [&prompt(1, at)[..], &prompt(seed, 70)].concat();
    assert_eq!(cached(&mut engine, &prompt(1, 200)), 0);
    assert_eq!(cached(&mut engine, &parts_at(100, 2)), 0, "a state at 192 only");
    assert_eq!(cached(&mut engine, &parts_at(100, 3)), 96);
    assert_eq!(cached(&mut engine, &parts_at(70, 4)), 0);
    assert_eq!(cached(&mut engine, &parts_at(70, 5)), 64);
    assert_eq!(cached(&mut engine, &prompt(1, 200)), 192);
}

#[test]
fn the_least_recently_used_state_is_given_up_first() {
    let mut engine = with(2, options(100, 512, 4));
    let mut cached = |seed| cached(&mut engine, &prompt(seed, 40)) / PAGE;
    assert_eq!([1, 2, 1, 3].map(&mut cached), [0, 0, 1, 0], "the third costs the second");
    assert_eq!([1, 3, 2].map(&mut cached), [1, 1, 0]);
}

#[test]
fn a_state_goes_with_its_page() {
    let mut engine = with(8, options(4, 512, 4));
    assert_eq!(cached(&mut engine, &prompt(1, 40)), 0);
    assert_eq!((cached(&mut engine, &prompt(1, 40)), engine.stats().snapshots), (32, 1));
    assert_eq!(cached(&mut engine, &prompt(2, 120)), 0, "takes every page");
    assert_eq!((cached(&mut engine, &prompt(1, 40)), engine.stats().snapshot_hits), (0, 1));
}

#[test]
fn without_room_for_states_every_prompt_is_computed() {
    let small = EngineOptions { snapshot_bytes: 7, ..options(100, 512, 4) };
    for mut engine in [with(0, options(100, 512, 4)), stateful(small)] {
        assert_eq!([1, 1].map(|seed| cached(&mut engine, &prompt(seed, 100))), [0, 0]);
        let ids = [1, 1].map(|seed| engine.submit(request(prompt(seed, 100), 1)).expect("fits"));
        let log = run_all(&mut engine);
        assert_eq!(ids.map(|id| log.end(id).1.cached_tokens), [0, 0]);
        assert_eq!(engine.stats().snapshots, 0);
    }
}

#[test]
fn a_prompt_saves_one_state_however_it_is_cut() {
    for budget in [PAGE, 2 * PAGE, 100] {
        let mut engine = with(8, options(100, budget, 4));
        assert_eq!((cached(&mut engine, &prompt(1, 500)), engine.stats().snapshots), (0, 1), "{budget}");
    }
}

#[test]
fn a_conversation_touches_its_slot_and_those_of_its_snapshots() {
    // The model has no more slots than those.
    let fake = Fake::with_slots(100, 1 + 3);
    let mut engine =
        Engine::with_forward(Box::new(fake), EngineOptions { snapshots: 3, ..options(100, 512, 16) });
    let mut tokens = prompt(1, 40);
    for turn in 0..8 {
        let id = engine.submit(request(tokens.clone(), 70)).expect("fits");
        tokens.extend(&run_all(&mut engine).0[&id].tokens);
        tokens.extend(prompt(turn, 50));
    }
    assert_eq!((engine.stats().snapshots, engine.stats().snapshot_hits), (3, 7));
}

#[test]
fn an_answer_keeps_one_state_however_long_it_gets() {
    let mut engine = with(8, options(100, 512, 4));
    for i in 0..3 {
        engine.submit(request(prompt(i, 20), 300)).expect("fits");
    }
    run_all(&mut engine);
    assert_eq!(engine.stats().snapshots, 3);
}

#[test]
fn a_preempted_request_goes_on_from_its_last_state() {
    let options = options(7, 512, 4);
    let fake = Fake::with_slots(7, options.max_running + options.snapshots);
    let ran = fake.tokens.clone();
    let mut engine = Engine::with_forward(Box::new(fake), options);
    // When the first wants its fourth page, the second has four, and 106 tokens in them.
    engine.submit(request(prompt(1, 20), 108)).expect("fits");
    engine.submit(request(prompt(2, 30), 130)).expect("fits");
    run_all(&mut engine);
    let stats = engine.stats();
    assert_eq!((stats.preemptions, stats.snapshot_hits), (1, 1));
    assert_eq!(ran.load(Ordering::Relaxed), 127 + 159 + 10, "computed again from 96 on");
}
