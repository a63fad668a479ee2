//! Ropes in the words of config.json.

use super::ExportError;
use super::draft::alike;
use super::json::number;
use super::published::Published;
use crate::config::{Config, Dialect};
use crate::plan::{Mixer, Plan};
use crate::rope::{Rope, Scaling, Yarn};
use serde_json::{Map, Value, json};

/// The keys that describe the ropes of `plan`.
pub(super) fn of(
    plan: &Plan,
    config: &Config,
    published: &Published,
) -> Result<Map<String, Value>, ExportError> {
    let mut keys = Map::new();
    let Some(main) = plan.ropes.first() else { return Ok(keys) };
    let theta = |rope: &Rope| number(rope.recipe.base);
    match (published.model_type, plan.ropes.get(1)) {
        ("gemma4_text", Some(local)) => {
            let mut full = scaled(plan, main, config)?.unwrap_or_else(|| plain(main));
            full.insert("rope_theta".into(), theta(main));
            let mut sliding = plain(local);
            sliding.insert("rope_theta".into(), theta(local));
            keys.insert(
                "rope_parameters".into(),
                json!({ "full_attention": full, "sliding_attention": sliding }),
            );
        }
        ("deepseek_v4", Some(entries)) => {
            keys.insert("rope_theta".into(), theta(main));
            keys.insert("compress_rope_theta".into(), theta(entries));
            keys.insert("rope_scaling".into(), json!(scaled(plan, entries, config)?));
        }
        ("qwen3_5_text" | "qwen3_5_moe_text", _) => {
            let mut recipe = scaled(plan, main, config)?.unwrap_or_else(|| plain(main));
            recipe.insert("rope_theta".into(), theta(main));
            recipe.insert("partial_rotary_factor".into(), turning(plan, main));
            recipe.insert("mrope_interleaved".into(), json!(true));
            if let Some(sections) = sections(config) {
                recipe.insert("mrope_section".into(), sections);
            }
            keys.insert("rope_parameters".into(), json!(recipe));
        }
        (_, local) => {
            keys.insert("rope_theta".into(), theta(main));
            if let Some(local) = local {
                keys.insert("rope_local_base_freq".into(), theta(local));
            }
            keys.insert("rope_scaling".into(), json!(scaled(plan, main, config)?));
            if published.model_type == "qwen3_next" {
                keys.insert("partial_rotary_factor".into(), turning(plan, main));
            }
        }
    }
    Ok(keys)
}

fn plain(_: &Rope) -> Map<String, Value> {
    Map::from_iter([("rope_type".to_string(), json!("default"))])
}

/// The share of a head that turns.
fn turning(plan: &Plan, rope: &Rope) -> Value {
    let dim = plan.attentions().next().map_or(1, |attention| attention.key_dim);
    json!((2 * rope.frequencies.len()) as f64 / dim as f64)
}

/// Parts of a position, which GGUF fills up to four.
fn sections(config: &Config) -> Option<Value> {
    let listed = config.get("rope_sections")?.as_array()?;
    Some(listed.iter().take(3).cloned().collect())
}

/// What is done to a rope; `None`: nothing.
fn scaled(plan: &Plan, rope: &Rope, config: &Config) -> Result<Option<Map<String, Value>>, ExportError> {
    let kind = |kind: &str, rest: Value| {
        let mut map = Map::from_iter([("rope_type".to_string(), json!(kind))]);
        map.extend(rest.as_object().cloned().unwrap_or_default());
        Some(map)
    };
    match rope.recipe.scaling {
        Scaling::None => Ok(None),
        Scaling::Linear { factor } => Ok(kind("linear", json!({ "factor": number(factor) }))),
        Scaling::Yarn(yarn) => Ok(kind("yarn", self::yarn(plan, rope, &yarn, config))),
        Scaling::Divisors => match proportional(rope).or_else(|| llama3(plan, rope)) {
            Some((name, rest)) => Ok(kind(name, rest)),
            None => Err(ExportError::NotSaid {
                words: "config.json".into(),
                what: "the rope".into(),
                wanted: "frequencies that are divided by numbers of their own".into(),
                read: "another recipe".into(),
            }),
        },
    }
}

fn yarn(plan: &Plan, rope: &Rope, yarn: &Yarn, config: &Config) -> Value {
    let mut map = json!({
        "type": "yarn", // what older programs look for
        "factor": number(yarn.factor),
        "original_max_position_embeddings": yarn.original as u64,
        "beta_fast": number(yarn.beta_fast),
        "beta_slow": number(yarn.beta_slow),
    });
    if !yarn.truncate {
        map["truncate"] = json!(false);
    }
    let latent = plan.layers.iter().any(|layer| matches!(layer.mixer, Mixer::Latent(_)));
    let slope = match config.dialect() {
        Dialect::Gguf => config.f32("rope_scaling.yarn_log_multiplier").ok().flatten().map(|x| 10.0 * x),
        Dialect::HuggingFace => yarn.mscale_all_dim,
    };
    if let Some(slope) = slope.filter(|slope| latent && *slope != 0.0) {
        // A decimal number of few digits that a tenth was taken of.
        let slope = format!("{slope:.5}").parse::<f64>().unwrap_or(f64::from(slope));
        map["mscale"] = json!(slope);
        map["mscale_all_dim"] = json!(slope);
        return map;
    }
    let usual = if yarn.factor <= 1.0 { 1.0 } else { 0.1 * yarn.factor.ln() + 1.0 };
    let compressed = plan.layers.iter().any(|layer| matches!(layer.mixer, Mixer::Compressed(_)));
    if !compressed && rope.attention_factor != usual {
        map["attention_factor"] = number(rope.attention_factor);
    }
    map
}

/// The recipe of Gemma 4: of all pairs, only the first turn.
fn proportional(rope: &Rope) -> Option<(&'static str, Value)> {
    let plain = Rope::plain(rope.recipe.base, 2 * rope.frequencies.len());
    let still = |(index, frequency): (usize, &f32)| *frequency < plain.frequencies[index] * 1e-20;
    let turning = rope.frequencies.iter().enumerate().position(still)?;
    let mut made = plain.clone();
    made.frequencies[turning..].fill(0.0);
    let share = turning as f64 / rope.frequencies.len() as f64;
    alike(rope, &made).then(|| ("proportional", json!({ "partial_rotary_factor": share })))
}

/// The recipe of Llama 3: files hold divisors only, so its numbers are those, of the ones that releases have, that give
/// the same.
fn llama3(plan: &Plan, rope: &Rope) -> Option<(&'static str, Value)> {
    let plain = Rope::plain(rope.recipe.base, 2 * rope.frequencies.len());
    let divisors = plain.frequencies.iter().zip(&rope.frequencies).map(|(plain, scaled)| plain / scaled);
    let factor = divisors.fold(1.0, f32::max);
    let factor = if (factor - factor.round()).abs() < 1e-3 { factor.round() } else { factor };
    let by_context = (plan.context as f32 / factor).round() as u64;
    (3..24).map(|power| 1_u64 << power).chain([by_context]).find_map(|original| {
        let recipe = json!({ "factor": number(factor), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": original });
        let mut words = recipe.clone();
        words["rope_type"] = json!("llama3");
        let config = json!({ "model_type": "llama", "rope_scaling": words });
        let config = Config::from_json(&config).ok()?;
        let made =
            Rope::scaled_part(&config, "rope_scaling", rope.recipe.base, 2 * rope.frequencies.len()).ok()?;
        alike(rope, &made).then_some(("llama3", recipe))
    })
}
