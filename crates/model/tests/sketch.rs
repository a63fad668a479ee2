//! Plans from a config.json alone.

#![allow(clippy::unwrap_used, reason = "tests")]

use sampan_fixtures::Family;
use sampan_kernels::{Kernels, Options};
use sampan_model::{KvFormat, Plan, PlanOptions, Quant};
use sampan_weights::Checkpoint;

/// What is counted from a plan without weights is what is counted from the one with them.
#[test]
fn a_configuration_alone_gives_the_same_figures() {
    let kernels = Kernels::new(Options { threads: 1, ..Options::default() }).unwrap();
    let mut failed = Vec::new();
    for family in Family::all().unwrap() {
        let (whole, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        family.write_checkpoint(whole.path()).unwrap();
        std::fs::copy(whole.path().join("config.json"), alone.path().join("config.json")).unwrap();
        let (whole, alone) =
            (Checkpoint::open(whole.path()).unwrap(), Checkpoint::open(alone.path()).unwrap());
        for quant in [None, Some(Quant::Q4_K_M)] {
            let options = PlanOptions { quant, ..PlanOptions::default() };
            let figures = |plan: &Plan| {
                (
                    (plan.family, plan.parameters(), plan.active_parameters(), plan.file_bytes()),
                    plan.memory(&kernels, KvFormat::F16, 1024, 128),
                    plan.decode_bytes(&kernels, KvFormat::F16, 100),
                    plan.operations(&kernels, KvFormat::F16, 0, 64).total(),
                )
            };
            let expected = figures(&Plan::from_checkpoint(&whole, options).unwrap());
            match Plan::from_config(&alone, options).map(|plan| figures(&plan)) {
                Ok(found) if found == expected => {}
                found => failed.push(format!("{} {quant:?}: {found:?} instead of {expected:?}", family.name)),
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
