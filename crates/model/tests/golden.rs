//! Every family against the logits of the reference implementation, in float32.

mod common;

use common::{Golden, Run, argmax, difference, load, shared};
use sampan_fixtures::Family;
use sampan_model::{KvFormat, Model};
use std::path::Path;

/// Largest difference of a logit, by family: the delta rule and thresholds on gates amplify rounding.
fn tolerance(name: &str) -> f32 {
    let loose = ["qwen3_next", "qwen3_5", "gemma3n"];
    if loose.iter().any(|family| name.starts_with(family)) { 1e-3 } else { 2e-4 }
}

/// One-shot, chunked and token-by-token passes agree with the golden logits; greedy tokens are equal.
fn agrees(model: &Model, golden: &Golden, tolerance: f32) -> Result<f32, String> {
    let vocab = model.plan().vocab;
    let capacity = golden.ids.len() + golden.greedy.len();
    let run = |sizes: &mut dyn Iterator<Item = usize>| {
        let mut run = Run::new(model, KvFormat::F32, capacity);
        let (mut logits, mut rest) = (Vec::new(), &golden.ids[..]);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
            logits.extend(run.feed(now));
            rest = later;
        }
        (run, logits)
    };
    let (mut one_shot, logits) = run(&mut std::iter::empty());
    let max = golden.difference(&logits);
    if max > tolerance {
        return Err(format!("one-shot logits differ by {max}"));
    }
    for sizes in [vec![1; 100], vec![17, 100], vec![7, 1, 13, 100]] {
        let (_, chunked) = run(&mut sizes.iter().copied());
        let drift = difference(&logits, &chunked);
        if drift != 0.0 {
            return Err(format!("chunks of {sizes:?} differ from one shot by {drift}"));
        }
    }
    let mut row = logits[logits.len() - vocab..].to_vec();
    for (step, &token) in golden.greedy.iter().enumerate() {
        if argmax(&row) != token {
            return Err(format!("greedy token {step} is {} instead of {token}", argmax(&row)));
        }
        row = one_shot.feed(&[token]);
    }
    Ok(max)
}

fn check(path: &Path, golden: &Path) {
    let model = load(path);
    let name = golden.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("");
    let file = path.file_stem().and_then(|name| name.to_str()).unwrap_or("");
    let name = if name == "golden-gguf" { file } else { name };
    match agrees(&model, &Golden::read(golden), tolerance(name)) {
        Ok(max) => println!("{}: max difference {max:.1e}", path.display()),
        Err(why) => panic!("{}: {why}", path.display()),
    }
}

#[test]
fn generated_fixtures() {
    for family in Family::all().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        family.write_checkpoint(dir.path()).unwrap();
        check(dir.path(), &Family::root().join(&family.name).join("golden.safetensors"));
    }
}

/// Every golden, and whether it has a configuration in the keys of published files.
const GOLDENS: &[(&str, bool)] = &[
    ("llama", true),
    ("llama3_rope", true),
    ("qwen2", true),
    ("qwen2_distill", true),
    ("qwen2_yarn", true),
    ("qwen2_moe", true),
    ("qwen3", true),
    ("qwen3_untied", true),
    ("qwen3_moe", true),
    ("qwen3_next", true),
    ("qwen3_5", false),
    ("qwen3_5_mm", false),
    ("qwen3_5_moe", false),
    ("qwen3_5_moe_mm", false),
    ("deepseek_v2_lite", true),
    ("deepseek_v2", true),
    ("deepseek_v3", true),
    ("deepseek_v3_fp8", true),
    ("deepseek_v32", true),
    ("deepseek_v4", true),
    ("deepseek_v4_long", true),
    ("deepseek_v4_mixed", true),
    ("gemma2", true),
    ("gemma3", true),
    ("gemma3_mm", false),
    ("gemma3n", true),
    ("gemma4_e2b", true),
    ("gemma4_e2b_mm", false),
    ("gemma4_31b", true),
    ("gemma4_26b_a4b", true),
    ("gemma4_26b_a4b_mm", false),
    ("gpt_oss", true),
    ("gpt_oss_mxfp4", true),
];

#[test]
fn hugging_face_goldens() {
    let Some(root) = shared("golden") else { return };
    for (family, _) in GOLDENS {
        let dir = root.join(family);
        check(&dir, &dir.join("golden.safetensors"));
    }
}

#[test]
fn published_configuration_keys_give_the_same_model() {
    let Some(root) = shared("golden") else { return };
    for (family, _) in GOLDENS.iter().filter(|(_, hub)| *hub) {
        let dir = root.join(family);
        let hub = tempfile::tempdir().unwrap();
        std::fs::copy(dir.join("config.hub.json"), hub.path().join("config.json")).unwrap();
        std::fs::copy(dir.join("model.safetensors"), hub.path().join("model.safetensors")).unwrap();
        check(hub.path(), &dir.join("golden.safetensors"));
    }
}

#[test]
fn gguf_goldens() {
    let Some(root) = shared("golden-gguf") else { return };
    for family in
        ["llama", "qwen2_yarn", "qwen3", "qwen3_moe", "qwen3_5_128", "deepseek_v3", "gpt_oss_trunc", "gemma3"]
    {
        check(&root.join(format!("{family}.gguf")), &root.join(format!("{family}.golden.safetensors")));
    }
}

/// What a cache in fewer bits costs a trained model that goes on from what it wrote: mean KL divergence from a cache in
/// f32, everything else exact.
#[test]
fn keys_and_values_in_fewer_bits_stay_close() {
    let model = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../facade/assets/mini.gguf"));
    let (vocab, mut ids) = (model.plan().vocab, vec![300]);
    let mut run = Run::new(&model, KvFormat::F32, 400);
    while ids.len() < 400 {
        let row = run.feed(&ids[ids.len() - 1..]);
        // Now and then another token, so that it does not go round in circles.
        let token = argmax(&row);
        ids.push(if ids.len() % 25 == 0 { (token * 7 + 11) % vocab as u32 } else { token });
    }
    let logits = |kv| Run::new(&model, kv, ids.len()).feed(&ids);
    let exact = logits(KvFormat::F32);
    for (kv, most) in
        [(KvFormat::F16, 1e-8), (KvFormat::I16, 3e-9), (KvFormat::Bf16, 5e-7), (KvFormat::Q8_0, 1e-5)]
    {
        let other = logits(kv);
        let rows = exact.chunks_exact(vocab).zip(other.chunks_exact(vocab));
        let mean = rows.map(|(p, q)| divergence(p, q)).sum::<f64>() / ids.len() as f64;
        println!("{kv:?}: {mean:.1e}");
        assert!(mean <= most, "{kv:?}: {mean:.1e} above {most:.1e}");
    }
}

/// Kullback-Leibler divergence of two rows of logits, in nats.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let logs = |x: &[f32]| -> Vec<f64> {
        let most = x.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = x.iter().map(|x| f64::from(x - most).exp()).sum();
        x.iter().map(|x| f64::from(x - most) - sum.ln()).collect()
    };
    logs(p).iter().zip(logs(q)).map(|(p, q)| p.exp() * (p - q)).sum()
}
