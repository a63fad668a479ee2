//! Turns among clients.

use super::*;

fn of(client: u64, prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request { client, ..request(prompt, max_tokens) }
}

/// The clients in the order in which their requests end, by how many they have.
fn order(engine: &mut Engine, requests: &[Request]) -> Vec<u64> {
    let ids: HashMap<RequestId, u64> =
        requests.iter().map(|r| (engine.submit(r.clone()).expect("fits"), r.client)).collect();
    let mut ends = Vec::new();
    while !engine.is_idle() {
        for event in engine.step() {
            if let Event::Finished { id, .. } = event {
                ends.push(ids[&id]);
            }
        }
        assert_eq!(engine.check(), Ok(()));
    }
    ends
}

#[test]
fn one_who_asks_for_much_does_not_hold_up_one_who_asks_for_little() {
    let mut requests: Vec<Request> = (0..8).map(|i| of(1, prompt(i, 40), 10)).collect();
    requests.extend((0..3).map(|i| of(2, prompt(20 + i, 40), 10)));
    let mut engine = engine(options(20, 512, 1));
    assert_eq!(order(&mut engine, &requests), [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1]);
}

#[test]
fn turns_go_by_tokens_and_not_by_requests() {
    let mut requests: Vec<Request> = (0..3).map(|i| of(1, prompt(i, 100), 20)).collect();
    requests.extend((0..6).map(|i| of(2, prompt(20 + i, 30), 10)));
    let mut engine = engine(options(20, 512, 1));
    assert_eq!(order(&mut engine, &requests), [1, 2, 2, 2, 2, 1, 2, 2, 1]);
}

#[test]
fn one_who_comes_late_is_owed_nothing() {
    let mut engine = engine(options(20, 512, 1));
    let mut log = Log::default();
    for i in 0..5 {
        engine.submit(of(1, prompt(i, 40), 10)).expect("fits");
    }
    while log.0.values().filter(|entry| entry.finished.is_some()).count() < 3 {
        log.step(&mut engine);
    }
    // Client 2 comes when client 1 has had three turns, and gets every other turn from then on.
    let mine: Vec<_> = (0..3).map(|i| engine.submit(of(2, prompt(9 + i, 40), 10)).expect("fits")).collect();
    while log.0.values().filter(|entry| entry.finished.is_some()).count() < 6 {
        log.step(&mut engine);
    }
    assert_eq!(mine.iter().filter(|id| log.0.get(id).is_some_and(|e| e.finished.is_some())).count(), 1);
    log.run(&mut engine);
}

#[test]
fn a_large_request_gets_its_turn_beside_any_number_of_small_ones() {
    // Two at a time; the large one needs the whole pool, so that both places must get free for it.
    let mut engine = engine(options(8, 512, 2));
    let mut log = Log::default();
    let mut small = 0;
    let mut feed = |engine: &mut Engine| {
        small += 1;
        engine.submit(of(small % 3, prompt(small as u32, 20), 15)).expect("fits");
    };
    (0..6).for_each(|_| feed(&mut engine));
    let large = engine.submit(of(7, prompt(99, 230), 10)).expect("fits");
    let mut steps = 0;
    while log.0.get(&large).is_none_or(|entry| entry.finished.is_none()) {
        log.step(&mut engine);
        while engine.stats().waiting < 5 {
            feed(&mut engine);
        }
        steps += 1;
        assert!(steps < 200, "it starves");
    }
}

#[test]
fn a_turn_that_is_lost_before_its_first_step_is_the_next_one() {
    // One token of prompt per step, so that the last of three prompts has its turn, but no step for long.
    let mut engine = engine(options(14, 1, 4));
    let mut log = Log::default();
    for i in 0..2 {
        engine.submit(of(1, prompt(i, 3), 200)).expect("fits");
    }
    (0..20).for_each(|_| log.step(&mut engine));
    engine.submit(of(2, prompt(2, 200), 20)).expect("fits");
    (0..20).for_each(|_| log.step(&mut engine));
    let later = engine.submit(of(1, prompt(3, 3), 5)).expect("fits");
    let lost = engine.submit(of(3, prompt(4, 3), 5)).expect("fits");
    while engine.stats().preemptions == 0 && !engine.is_idle() {
        log.step(&mut engine);
    }
    assert!(!log.0.contains_key(&lost), "it has not been run yet");
    let log = log.run(&mut engine);
    let (lost, later) = (log.end(lost).1, log.end(later).1);
    assert!(lost.preemptions > 0 && lost.queued < later.queued, "{lost:?} comes before {later:?}");
}
