//! Prompts of hundreds and thousands of tokens against the reference: scaled rope, windows whose ring is written over many times,
//! the state of the delta rule, entries that close many times.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Golden, Run, argmax, difference, load};
use sampan_fixtures::Family;
use sampan_model::{KvFormat, Model};

/// Largest difference of a logit.
const TOLERANCE: f32 = 2e-4;

fn agrees(model: &Model, golden: &Golden) -> Result<f32, String> {
    let capacity = golden.ids.len() + golden.greedy.len();
    let (mut expected, mut worst) = (Vec::new(), 0f32);
    // Whole, and in pieces that meet no border of pages or passes.
    for size in [usize::MAX, 333] {
        let mut run = Run::new(model, KvFormat::F32, capacity);
        let logits: Vec<f32> = golden.ids.chunks(size).flat_map(|ids| run.feed(ids)).collect();
        if expected.is_empty() {
            worst = golden.difference(&logits);
            expected.clone_from(&logits);
        }
        let drift = difference(&logits, &expected);
        if drift != 0.0 {
            return Err(format!("chunks of {size} differ from one shot by {drift}"));
        }
        let mut row = logits[logits.len() - model.plan().vocab..].to_vec();
        for (step, &token) in golden.greedy.iter().enumerate() {
            if argmax(&row) != token {
                return Err(format!("greedy token {step} is {} instead of {token}", argmax(&row)));
            }
            row = run.feed(&[token]);
        }
    }
    if worst > TOLERANCE { Err(format!("logits differ by {worst}")) } else { Ok(worst) }
}

#[test]
fn long_prompts() {
    for family in Family::long().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        family.write_checkpoint(dir.path()).unwrap();
        let golden = Golden::read(&family.golden);
        match agrees(&load(dir.path()), &golden) {
            Ok(max) => println!("{} ({} tokens): max difference {max:.1e}", family.name, golden.ids.len()),
            Err(why) => panic!("{}: {why}", family.name),
        }
    }
}
