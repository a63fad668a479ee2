//! The plan in the words of GGUF metadata.

use super::ExportError;
use super::special::Special;
use crate::config::Config;
use crate::labels::GGUF_LABELS;
use crate::plan::*;
use crate::rope::{Rope, Scaling, Yarn};
use sampan_weights::{Array, Value};

/// How gpt-oss bounds its gates where a file says nothing.
const SWIGLU_OAI: Activation = Activation::SwigluOai { alpha: 1.702, limit: 7.0 };

/// The keys below `{arch}.` that describe `plan`; `config` is the checkpoint's configuration.
pub(super) fn of(
    plan: &Plan,
    config: &Config,
    special: &Special,
    vector: Vector,
) -> Result<Vec<(String, Value)>, ExportError> {
    let mut keys = Words { arch: special.arch, list: Vec::new() };
    keys.size("vocab_size", plan.vocab);
    keys.size("context_length", plan.context);
    keys.size("embedding_length", plan.hidden);
    keys.size("block_count", plan.layers.len());
    keys.number("attention.layer_norm_rms_epsilon", plan.norm.eps);
    keys.ropes(plan);
    keys.mixers(plan, special);
    keys.feed_forward(plan, config)?;
    if special.sections {
        keys.sections(plan, config);
    }
    if special.inputs {
        keys.size("embedding_length_per_layer_input", plan.per_layer.map_or(0, |inputs| inputs.width));
    }
    if let Some(hyper) = &plan.hyper {
        keys.size("hyper_connection.count", hyper.streams);
        keys.size("hyper_connection.sinkhorn_iterations", hyper.iterations);
        keys.number("hyper_connection.epsilon", hyper.eps);
    }
    // Only sampan reads this: others want as many rows as there are tokens.
    if let Some(inputs) = plan.per_layer.filter(|inputs| inputs.rows != plan.vocab) {
        keys.size("vocab_size_per_layer_input", inputs.rows);
    }
    if let Some(altup) = &plan.altup {
        keys.altup(plan, altup);
    }
    if let Some(cap) = plan.final_softcap {
        keys.number("final_logit_softcapping", cap);
    }
    keys.vector(plan, vector);
    Ok(keys.list)
}

/// What becomes of a text in a model that makes vectors or ranks.
pub(super) struct Vector {
    /// How tokens become one vector.
    pub(super) pooling: Option<u32>,
    /// What the rows of a head mean that ranks.
    pub(super) labels: Option<Vec<String>>,
}

/// The last token's vector.
const LAST: u32 = 3;
/// The head's rows for the last token.
const RANK: u32 = 4;

struct Words {
    arch: &'static str,
    list: Vec<(String, Value)>,
}

impl Words {
    fn set(&mut self, key: &str, value: Value) {
        self.list.push((format!("{}.{key}", self.arch), value));
    }

    /// Sizes come from a plan, whose numbers are below 2^31.
    fn size(&mut self, key: &str, value: usize) {
        self.set(key, Value::U32(value as u32));
    }

    fn number(&mut self, key: &str, value: f32) {
        self.set(key, Value::F32(value));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.set(key, Value::Str(value.to_string()));
    }

    /// One number for all layers, or where they differ one for each.
    fn per_layer(&mut self, key: &str, values: &[usize]) {
        match values {
            [] => {}
            [first, rest @ ..] if rest.iter().all(|value| value == first) => self.size(key, *first),
            _ => self.set(key, Value::Array(Array::U32(values.iter().map(|&n| n as u32).collect()))),
        }
    }

    fn ropes(&mut self, plan: &Plan) {
        let Some(main) = plan.ropes.first() else { return };
        self.number("rope.freq_base", main.recipe.base);
        let compressed = plan.layers.iter().any(|layer| matches!(layer.mixer, Mixer::Compressed(_)));
        match plan.ropes.get(1) {
            Some(entries) if compressed => {
                self.number("attention.compress_rope_freq_base", entries.recipe.base);
                self.scaling(entries, false);
            }
            Some(local) => {
                self.number("rope.freq_base_swa", local.recipe.base);
                self.size("rope.dimension_count_swa", 2 * local.frequencies.len());
                self.scaling(main, true);
            }
            None => self.scaling(main, plan.attentions().next().is_some()),
        }
        self.size("rope.dimension_count", 2 * main.frequencies.len());
    }

    /// `plain`: the attention is one for which readers work out YaRN's factor by themselves.
    fn scaling(&mut self, rope: &Rope, plain: bool) {
        match rope.recipe.scaling {
            Scaling::None | Scaling::Divisors => {}
            Scaling::Linear { factor } => {
                self.text("rope.scaling.type", "linear");
                self.number("rope.scaling.factor", factor);
            }
            Scaling::Yarn(yarn) => {
                self.text("rope.scaling.type", "yarn");
                self.yarn(&yarn);
                let usual = if yarn.factor <= 1.0 { 1.0 } else { 0.1 * yarn.factor.ln() + 1.0 };
                if plain && rope.attention_factor != usual {
                    self.number("rope.scaling.attn_factor", rope.attention_factor / usual);
                }
            }
        }
    }

    fn yarn(&mut self, yarn: &Yarn) {
        self.number("rope.scaling.factor", yarn.factor);
        self.size("rope.scaling.original_context_length", yarn.original as usize);
        if (yarn.beta_fast, yarn.beta_slow) != (32.0, 1.0) {
            self.number("rope.scaling.yarn_beta_fast", yarn.beta_fast);
            self.number("rope.scaling.yarn_beta_slow", yarn.beta_slow);
        }
        if let Some(slope) = yarn.mscale_all_dim {
            self.number("rope.scaling.yarn_log_multiplier", 0.1 * slope);
        }
        // Only sampan reads this: others always round.
        if !yarn.truncate {
            self.set("rope.scaling.truncate", Value::Bool(false));
        }
    }

    /// Parts of a position; for text all are equal, and only their sum counts.
    fn sections(&mut self, plan: &Plan, config: &Config) {
        let pairs = plan.ropes.first().map_or(0, |rope| rope.frequencies.len());
        let keys = ["rope_parameters.mrope_section", "rope_scaling.mrope_section"];
        let listed = keys.iter().find_map(|key| config.get(key)).and_then(|list| list.as_array());
        let listed: Option<Vec<i32>> =
            listed.and_then(|list| list.iter().map(|n| i32::try_from(n.as_i64()?).ok()).collect());
        let thirds = || vec![pairs.div_ceil(3) as i32, ((pairs + 1) / 3) as i32, (pairs / 3) as i32];
        let mut sections = listed.filter(|list| list.len() <= 4).unwrap_or_else(thirds);
        sections.resize(4, 0);
        self.set("rope.dimension_sections", Value::Array(Array::I32(sections)));
    }

    fn vector(&mut self, plan: &Plan, vector: Vector) {
        let usual = plan.head.is_none().then_some(LAST);
        let rank = vector.labels.as_ref().map(|_| RANK);
        if let Some(kind) = rank.or(vector.pooling).or(usual) {
            self.set("pooling_type", Value::U32(kind));
        }
        if let Some(labels) = vector.labels {
            self.set(GGUF_LABELS, Value::Array(Array::Str(labels)));
        }
    }

    fn mixers(&mut self, plan: &Plan, special: &Special) {
        let mixers = || plan.layers.iter().map(|layer| &layer.mixer);
        self.attentions(plan, special);
        if let Some(latent) = mixers().find_map(|m| if let Mixer::Latent(l) = m { Some(l) } else { None }) {
            self.latent(latent);
            let dense = plan.layers.iter().take_while(|layer| matches!(layer.ffn, Ffn::Gated(_)));
            self.size("leading_dense_block_count", dense.count());
        }
        let compressed: Vec<&Compressed> =
            mixers().filter_map(|m| if let Mixer::Compressed(c) = m { Some(c) } else { None }).collect();
        self.compressed(&compressed);
        if let Some(delta) = mixers().find_map(|m| if let Mixer::Delta(d) = m { Some(d) } else { None }) {
            self.size("ssm.conv_kernel", delta.taps.len());
            self.size("ssm.state_size", delta.shape.key_dim);
            self.size("ssm.group_count", delta.shape.key_heads);
            self.size("ssm.time_step_rank", delta.shape.value_heads);
            self.size("ssm.inner_size", delta.shape.outputs());
            let recurrent: Vec<bool> = mixers().map(|m| matches!(m, Mixer::Delta(_))).collect();
            match interval(&recurrent) {
                Some(interval) => self.size("full_attention_interval", interval),
                None => self.set("attention.recurrent_layers", Value::Array(Array::Bool(recurrent))),
            }
        }
    }

    fn attentions(&mut self, plan: &Plan, special: &Special) {
        let all: Vec<&Attention> = plan.attentions().collect();
        let Some(first) = all.first() else { return };
        let each = |read: fn(&Attention) -> usize| all.iter().map(|a| read(a)).collect::<Vec<_>>();
        self.per_layer("attention.head_count", &each(|a| a.heads));
        self.per_layer("attention.head_count_kv", &each(|a| a.kv_heads));
        let global = all.iter().find(|a| a.window.is_none()).unwrap_or(first);
        self.size("attention.key_length", global.key_dim);
        self.size("attention.value_length", global.value_dim);
        if let Some(local) = all.iter().find(|a| a.window.is_some()).filter(|_| plan.ropes.len() > 1) {
            self.size("attention.key_length_swa", local.key_dim);
            self.size("attention.value_length_swa", local.value_dim);
        }
        if let Some(window) = all.iter().find_map(|a| a.window) {
            self.size("attention.sliding_window", window);
            let windowed: Vec<bool> = all.iter().map(|a| a.window.is_some()).collect();
            match interval(&windowed).filter(|_| !special.window_list) {
                Some(every) => self.size("attention.sliding_window_pattern", every),
                None => self.set("attention.sliding_window_pattern", Value::Array(Array::Bool(windowed))),
            }
        }
        if let Some(cap) = first.softcap {
            self.number("attn_logit_softcapping", cap);
        }
        let shared = all.iter().filter(|a| matches!(a.keys, Keys::Shared { .. })).count();
        // Left out, it means none in some families and 15 in Gemma 3n.
        if shared > 0 || special.window_list {
            self.size("attention.shared_kv_layers", shared);
        }
        // Only sampan reads this: others know the scale of each release.
        if special.scalar && first.scale != 1.0 / (first.key_dim as f32).sqrt() {
            let scalar = first.scale.powi(-2);
            let whole = scalar.round();
            let exact = 1.0 / whole.sqrt() == first.scale;
            self.number("attention.query_pre_attn_scalar", if exact { whole } else { scalar });
        }
    }

    fn altup(&mut self, plan: &Plan, altup: &AltUp) {
        self.size("altup.num_inputs", altup.streams);
        self.size("altup.active_idx", altup.active);
        let deviations = plan.layers.iter().map(|layer| match &layer.ffn {
            Ffn::Gated(Gated { activation: Activation::GeluTanhTopK { deviations }, .. }) => *deviations,
            _ => 0.0,
        });
        self.set("activation_sparsity_scale", Value::Array(Array::F32(deviations.collect())));
        if let Some(laurel) = plan.layers.iter().find_map(|layer| layer.mixer_at.laurel.as_ref()) {
            self.size("laurel_rank", laurel.left.rows);
        }
    }

    fn latent(&mut self, latent: &Latent) {
        let key = latent.plain + latent.rotated;
        self.size("attention.head_count", latent.heads);
        // What is cached is one head as wide as the latent vector and the part that rotates.
        self.size("attention.head_count_kv", 1);
        self.size("attention.key_length", latent.rank + latent.rotated);
        self.size("attention.value_length", latent.rank);
        self.size("attention.key_length_mla", key);
        self.size("attention.value_length_mla", latent.value_dim);
        self.size("attention.kv_lora_rank", latent.rank);
        if let Some(down) = &latent.q_down {
            self.size("attention.q_lora_rank", down.linear.rows);
        }
        if let Some(index) = &latent.index {
            self.indexer(index.heads, index.dim, index.top_k);
        }
    }

    fn indexer(&mut self, heads: usize, dim: usize, top_k: usize) {
        self.size("attention.indexer.head_count", heads);
        self.size("attention.indexer.key_length", dim);
        self.size("attention.indexer.top_k", top_k);
    }

    fn compressed(&mut self, layers: &[&Compressed]) {
        let Some(first) = layers.first() else { return };
        self.size("attention.head_count", first.heads);
        self.size("attention.head_count_kv", 1);
        self.size("attention.key_length", first.head_dim);
        self.size("attention.value_length", first.head_dim);
        self.size("attention.sliding_window", first.window);
        self.size("attention.q_lora_rank", first.q_down.linear.rows);
        self.size("attention.output_group_count", first.o_groups.len());
        self.size("attention.output_lora_rank", first.o_groups.first().map_or(0, |group| group.rows));
        let ratio = |c: &&Compressed| c.entries.as_ref().map_or(0, |e| e.compressor.ratio as u32);
        let ratios = layers.iter().map(ratio).collect();
        self.set("attention.compress_ratios", Value::Array(Array::U32(ratios)));
        if let Some(index) = layers.iter().find_map(|c| c.entries.as_ref()?.index.as_ref()) {
            self.indexer(index.heads, index.compressor.dim, index.top_k);
        }
    }

    fn feed_forward(&mut self, plan: &Plan, config: &Config) -> Result<(), ExportError> {
        let dense: Vec<usize> = plan.layers.iter().filter_map(|layer| dense(&layer.ffn)).collect();
        let Some(moe) = plan.mixtures().next() else {
            self.per_layer("feed_forward_length", &dense);
            return Ok(());
        };
        let wide = moe.experts.first().map_or(0, |expert| expert.gate.rows);
        match dense.is_empty() {
            true => self.size("feed_forward_length", config.usize("intermediate_size")?.unwrap_or(wide)),
            false => self.per_layer("feed_forward_length", &dense),
        }
        self.size("expert_count", moe.experts.len());
        self.size("expert_used_count", moe.top_k);
        self.size("expert_feed_forward_length", wide);
        match &moe.shared {
            Some(SharedExpert { mlp, gate: None }) => {
                self.size("expert_shared_count", mlp.gate.rows / wide.max(1));
            }
            Some(shared) => self.size("expert_shared_feed_forward_length", shared.mlp.gate.rows),
            None => {}
        }
        self.router(&moe.router, plan.attentions().next().is_some());
        let hashed = plan.mixtures().filter(|moe| moe.router.table.is_some()).count();
        if hashed > 0 {
            self.size("hash_layer_count", hashed);
        }
        self.activation(plan, moe.activation);
        Ok(())
    }

    /// `usual`: the family has one kind of score, which readers know.
    fn router(&mut self, router: &Router, usual: bool) {
        self.set("expert_weights_norm", Value::Bool(router.renormalize));
        if router.scale != 1.0 {
            self.number("expert_weights_scale", router.scale);
        }
        if !usual {
            let number = match router.score {
                Score::Softmax => 1,
                Score::Sigmoid => 2,
                Score::SqrtSoftplus => 4,
            };
            self.size("expert_gating_func", number);
        }
        if let Some(groups) = router.groups {
            self.size("expert_group_count", groups.count);
            self.size("expert_group_used_count", groups.used);
        }
    }

    fn activation(&mut self, plan: &Plan, activation: Activation) {
        let limits = plan.mixtures().map(|moe| match moe.activation {
            Activation::SiluClamped { limit } => limit,
            _ => 0.0,
        });
        match activation {
            Activation::SiluClamped { .. } => {
                let limits: Vec<f32> = limits.collect();
                self.set("swiglu_clamp_exp", Value::Array(Array::F32(limits.clone())));
                self.set("swiglu_clamp_shexp", Value::Array(Array::F32(limits)));
            }
            // Only sampan reads these: others know the numbers of the releases.
            Activation::SwigluOai { alpha, limit } if activation != SWIGLU_OAI => {
                self.number("swiglu_alpha", alpha);
                self.number("swiglu_clamp_exp", limit);
            }
            _ => {}
        }
    }
}

pub(super) fn dense(ffn: &Ffn) -> Option<usize> {
    match ffn {
        Ffn::Gated(gated) | Ffn::Parallel(crate::plan::Parallel { dense: gated, .. }) => {
            Some(gated.gate.rows)
        }
        Ffn::Moe(_) => None,
    }
}

/// `n`, if all layers but every `n`-th are `true`.
fn interval(layers: &[bool]) -> Option<usize> {
    let first = layers.iter().position(|&layer| !layer).unwrap_or(layers.len());
    let every = first + 1;
    let fits = |(index, &layer): (usize, &bool)| layer != (index + 1).is_multiple_of(every);
    layers.iter().enumerate().all(fits).then_some(every)
}
