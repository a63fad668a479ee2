//! The sizes of an engine by the memory that there is.

use sampan_engine::{EngineOptions, KvFormat, PAGE};
use sampan_fixtures::Family;
use sampan_kernels::{Kernels, Options};
use sampan_model::{Plan, PlanOptions};
use sampan_weights::Checkpoint;

/// The pages that a pool of `bytes` beside everything else has.
fn check(family: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Family::load(family).expect("whole").write_checkpoint(folder.path()).expect("the folder is there");
    let checkpoint = Checkpoint::open(folder.path()).expect("sound");
    let plan = Plan::from_checkpoint(&checkpoint, PlanOptions::default()).expect("known");
    let kernels = Kernels::new(Options::default()).expect("the best level is there");
    let options = EngineOptions { kv_format: KvFormat::F16, max_running: 4, ..EngineOptions::default() };
    let context = 10 * PAGE;
    let fit = |bytes: usize| options.clone().fit(&plan, &kernels, context, bytes as u64);
    let one = fit(0).expect_err("nothing fits into nothing");
    let alone = EngineOptions { pages: 11, ..options.clone() }.memory(&plan, &kernels);
    assert!(one.kv >= alone.kv && one.scratch >= alone.scratch, "{family}: {one:?}, {alone:?}");
    let page = plan.kv_bytes_per_page(KvFormat::F16);
    assert_eq!(fit(one.total() - 1).expect_err("a byte too few"), one, "{family}");
    for extra in [0, 1, 7] {
        let fitted = fit(one.total() + extra * page).expect("fits");
        assert_eq!(fitted.pages, 11 + extra, "{family}");
        let memory = fitted.memory(&plan, &kernels);
        assert!(memory.total() <= one.total() + extra * page, "{family}: {memory:?}");
    }
    assert_eq!(fit(1 << 40).expect("fits").pages, 44, "{family}: no more than can be used");
}

#[test]
fn pages_fill_what_is_left() {
    check("qwen3");
    check("qwen3_next");
    check("deepseek_v3");
}

#[test]
fn everything_that_can_grow_is_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Family::load("qwen3_next").expect("whole").write_checkpoint(folder.path()).expect("the folder is there");
    let checkpoint = Checkpoint::open(folder.path()).expect("sound");
    let plan = Plan::from_checkpoint(&checkpoint, PlanOptions::default()).expect("known");
    let kernels = Kernels::new(Options::default()).expect("the best level is there");
    let base = EngineOptions { pages: 100, max_running: 4, ..EngineOptions::default() };
    let total = |options: &EngineOptions| options.memory(&plan, &kernels).total();
    let slot = plan.slot_bytes(base.kv_format, base.pages);
    let row = plan.vocab * size_of::<f32>();
    for (more, bytes) in [
        (EngineOptions { pages: 101, ..base.clone() }, plan.kv_bytes_per_page(base.kv_format)),
        (EngineOptions { max_running: 5, ..base.clone() }, slot + row),
        (EngineOptions { snapshots: 33, ..base.clone() }, slot),
        (EngineOptions { prompt_logprob_rows: 65, ..base.clone() }, row),
    ] {
        assert_eq!(total(&more) - total(&base), bytes, "{more:?}");
    }
    let batch = EngineOptions { max_batch_tokens: 513, ..base.clone() };
    let running = EngineOptions { max_running: 485, ..base.clone() };
    let scratch = |options: &EngineOptions| options.memory(&plan, &kernels).scratch;
    assert!(scratch(&batch) > scratch(&base), "rows of activations");
    let rows = scratch(&running) - scratch(&base) - (485 - 4) * row;
    assert_eq!(rows, 5 * (scratch(&batch) - scratch(&base)), "485 that generate, and a page of a prompt");
}
