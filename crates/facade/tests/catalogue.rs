//! Every row of the catalogue against the plan of its shape: parameters, sizes and contexts are no hearsay.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sampan_facade::{Plan, Quant};
use sampan_hub::{Catalogue, Pick, Purpose, Release};
use sampan_model::PlanOptions;
use sampan_weights::Checkpoint;

/// Licences as the hub names them.
const LICENCES: &[&str] =
    &["apache-2.0", "mit", "gemma", "llama3", "llama3.1", "llama3.2", "llama3.3", "other"];

/// The part of a published file that is there twice, or in more bits than sampan would write it in.
fn besides(release: &Release) -> f64 {
    match release.name {
        // Half of it is the embedding of each layer.
        "gemma4:e2b" => 0.25,
        // The publisher's files of the smallest sizes hold the tied head beside the embedding.
        "qwen2.5:0.5b" | "qwen2.5-coder:0.5b" | "qwen2.5:1.5b" | "qwen2.5-coder:1.5b" => 0.2,
        _ => 0.0,
    }
}

fn plan(release: &Release) -> Plan {
    let quant = match &release.pick {
        // Only experts are published in four bits; files that are named after them hold the rest in eight.
        Pick::Format(format) if format == "MXFP4" => Some(Quant::Q8_0),
        Pick::Format(format) => Some(format.parse::<Quant>().unwrap()),
        _ => None,
    };
    let checkpoint = Checkpoint::from_config(release.name, release.config().unwrap());
    Plan::from_config(&checkpoint, PlanOptions { quant, requantise: true, ..PlanOptions::default() })
        .unwrap_or_else(|e| panic!("{}: {e}", release.name))
}

/// Bytes of the files: FP8 is held in twice as many as it is stored in.
fn file_bytes(release: &Release, plan: &Plan) -> f64 {
    let config = release.config().unwrap();
    match config["quantization_config"]["quant_method"].as_str() {
        Some("fp8") if config["expert_dtype"].is_null() && release.pick == Pick::Usual => {
            plan.parameters() as f64
        }
        _ => plan.file_bytes() as f64,
    }
}

/// `30.5B` as a number.
fn billions(text: &str) -> f64 {
    match text.strip_suffix('T') {
        Some(trillions) => trillions.parse::<f64>().unwrap() * 1e12,
        None => text.trim_end_matches('B').parse::<f64>().unwrap() * 1e9,
    }
}

/// Whether `said` is `found` to within a part of it, or as well as its digits can say.
fn near(said: f64, found: f64, part: f64, digit: f64) -> bool {
    (said - found).abs() <= (part * found).max(digit)
}

#[test]
fn rows_are_as_their_plans_say() {
    let mut wrong = Vec::new();
    for release in Catalogue::builtin().releases() {
        let plan = plan(release);
        let (total, active) = release.parameters.split_once("-A").unwrap_or((release.parameters, ""));
        let found = (plan.parameters() as f64, plan.active_parameters() as f64);
        let more = besides(release);
        let mut check = |what: &str, good: bool, said: String, found: f64| {
            if !good {
                wrong.push(format!("{}: {what} {said}, of the plan {found:.3e}", release.name));
            }
        };
        let whole = near(billions(total), found.0, 0.03, 6e7);
        check("parameters", whole, total.into(), found.0);
        match active {
            "" => check("all parameters", found.0 == found.1, total.into(), found.1),
            said => {
                check("active parameters", near(billions(said), found.1, 0.15, 6e8), said.into(), found.1)
            }
        }
        let (said, bytes) = (release.bytes as f64, file_bytes(release, &plan));
        check("bytes", near(said, bytes, 0.1 + more, 3e7), format!("{said:.3e}"), bytes);
        let context = release.context as usize;
        check("context", context <= plan.context, context.to_string(), plan.context as f64);
        check("licence", LICENCES.contains(&release.licence), release.licence.into(), 0.0);
        let codes = release.languages.split(',').all(|code| code == "code" || code.len() == 2);
        let languages = release.languages.parse::<u32>().is_ok_and(|n| n > 1) || codes;
        check("languages", languages, release.languages.into(), 0.0);
        let head = plan.head.is_some() || release.purpose() == Purpose::Embedding;
        check("head", head, String::new(), 0.0);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
