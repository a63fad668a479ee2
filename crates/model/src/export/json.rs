//! The plan in the words of config.json.

use super::ExportError;
use super::published::Published;
use super::scaling;
use crate::config::Config;
use crate::plan::*;
use serde_json::{Map, Value, json};

/// A float32 as the shortest decimal number that means it.
pub(super) fn number(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, |x| json!(x))
}

/// The configuration that describes `plan`; `config` is the checkpoint's. The types of weights are not in it.
pub(super) fn of(
    plan: &Plan,
    config: &Config,
    published: &Published,
) -> Result<Map<String, Value>, ExportError> {
    let mut words = Words { published: *published, keys: Map::new() };
    words.set("architectures", json!([published.class]));
    words.set("model_type", json!(published.model_type));
    words.set("vocab_size", json!(plan.vocab));
    words.set("hidden_size", json!(plan.hidden));
    words.set("num_hidden_layers", json!(plan.layers.len()));
    words.set("max_position_embeddings", json!(plan.context));
    words.set("rms_norm_eps", number(plan.norm.eps));
    let tied = plan.head.is_none_or(|head| head.weight == plan.embedding);
    words.set("tie_word_embeddings", json!(tied));
    words.attentions(plan);
    for layer in &plan.layers {
        match &layer.mixer {
            Mixer::Latent(latent) => words.latent(latent, plan),
            Mixer::Delta(delta) => words.delta(delta, plan),
            _ => {}
        }
    }
    words.compressed(plan);
    words.feed_forward(plan, config)?;
    words.activation(plan);
    words.gemma(plan);
    if let Some(cap) = plan.final_softcap {
        words.set("final_logit_softcapping", number(cap));
    }
    for (key, value) in scaling::of(plan, config, published)? {
        words.set(&key, value);
    }
    Ok(words.keys)
}

struct Words {
    published: Published,
    keys: Map<String, Value>,
}

impl Words {
    fn set(&mut self, key: &str, value: Value) {
        self.keys.insert(key.to_string(), value);
    }

    fn size(&mut self, key: &str, value: usize) {
        self.set(key, json!(value));
    }

    fn is(&self, types: &[&str]) -> bool {
        types.contains(&self.published.model_type)
    }

    fn attentions(&mut self, plan: &Plan) {
        let all: Vec<&Attention> = plan.attentions().collect();
        let Some(first) = all.first() else { return };
        let local = all.iter().find(|a| a.window.is_some());
        let global = all.iter().find(|a| a.window.is_none()).unwrap_or(first);
        self.size("num_attention_heads", first.heads);
        if self.is(&["gemma4_text"]) {
            let narrow = local.unwrap_or(first);
            let copied = all.iter().any(|a| matches!(a.keys, Keys::Own { v: None, .. }));
            self.size("num_key_value_heads", narrow.kv_heads);
            self.size("head_dim", narrow.key_dim);
            self.size("global_head_dim", global.key_dim);
            self.set("attention_k_eq_v", json!(copied));
            self.set("num_global_key_value_heads", if copied { json!(global.kv_heads) } else { Value::Null });
        } else {
            self.size("num_key_value_heads", first.kv_heads);
            self.size("head_dim", first.key_dim);
        }
        match first.q.bias {
            Some(_) if self.is(&["qwen2", "qwen2_moe"]) => {}
            bias => self.set("attention_bias", json!(bias.is_some())),
        }
        if self.is(&["qwen2_moe"]) {
            self.set("qkv_bias", json!(first.q.bias.is_some()));
        }
        if let Some(window) = local.and_then(|a| a.window) {
            self.size("sliding_window", window);
        }
        if local.is_some() || plan.ropes.len() > 1 {
            self.layer_types(all.iter().map(|a| match a.window {
                Some(_) => "sliding_attention",
                None => "full_attention",
            }));
        } else if self.is(&["qwen2", "qwen2_moe", "qwen3", "qwen3_moe"]) {
            self.set("use_sliding_window", json!(false));
        }
        if self.is(&["gemma2", "gemma3_text"]) {
            // What scores are divided by, squared, is a whole number in every release, and transformers takes no other.
            let scalar = first.scale.powi(-2);
            let whole = scalar.round();
            let exact = 1.0 / whole.sqrt() == first.scale;
            self.set("query_pre_attn_scalar", if exact { json!(whole as i64) } else { number(scalar) });
            self.set("attn_logit_softcapping", first.softcap.map_or(Value::Null, number));
        }
        if self.is(&["gemma3n_text", "gemma4_text"]) {
            let shared = all.iter().filter(|a| matches!(a.keys, Keys::Shared { .. })).count();
            self.size("num_kv_shared_layers", shared);
        }
    }

    fn layer_types<'t>(&mut self, types: impl Iterator<Item = &'t str>) {
        self.set("layer_types", types.collect());
    }

    fn latent(&mut self, latent: &Latent, plan: &Plan) {
        self.size("num_attention_heads", latent.heads);
        self.size("num_key_value_heads", latent.heads);
        self.size("qk_nope_head_dim", latent.plain);
        self.size("qk_rope_head_dim", latent.rotated);
        self.size("v_head_dim", latent.value_dim);
        self.size("kv_lora_rank", latent.rank);
        let rank = latent.q_down.as_ref().map(|down| down.linear.rows);
        self.set("q_lora_rank", json!(rank));
        if let Some(index) = &latent.index {
            self.indexer(index.heads, index.dim, index.top_k);
        }
        let dense = plan.layers.iter().take_while(|layer| matches!(layer.ffn, Ffn::Gated(_)));
        self.size("first_k_dense_replace", dense.count());
        self.size("moe_layer_freq", 1);
    }

    fn indexer(&mut self, heads: usize, dim: usize, top_k: usize) {
        self.size("index_n_heads", heads);
        self.size("index_head_dim", dim);
        self.size("index_topk", top_k);
    }

    fn delta(&mut self, delta: &Delta, plan: &Plan) {
        self.size("linear_conv_kernel_dim", delta.taps.len());
        self.size("linear_key_head_dim", delta.shape.key_dim);
        self.size("linear_num_key_heads", delta.shape.key_heads);
        self.size("linear_num_value_heads", delta.shape.value_heads);
        self.size("linear_value_head_dim", delta.shape.value_dim);
        self.layer_types(plan.layers.iter().map(|layer| match layer.mixer {
            Mixer::Delta(_) => "linear_attention",
            _ => "full_attention",
        }));
    }

    fn compressed(&mut self, plan: &Plan) {
        let mixers = plan.layers.iter().filter_map(|layer| match &layer.mixer {
            Mixer::Compressed(mixer) => Some(mixer),
            _ => None,
        });
        let all: Vec<&Compressed> = mixers.collect();
        let Some(first) = all.first() else { return };
        self.size("num_attention_heads", first.heads);
        self.size("num_key_value_heads", 1);
        self.size("head_dim", first.head_dim);
        self.size("qk_rope_head_dim", first.rotated);
        self.size("sliding_window", first.window);
        self.size("q_lora_rank", first.q_down.linear.rows);
        self.size("o_groups", first.o_groups.len());
        self.size("o_lora_rank", first.o_groups.first().map_or(0, |group| group.rows));
        let ratio = |c: &&Compressed| c.entries.as_ref().map_or(0, |entries| entries.compressor.ratio);
        self.set("compress_ratios", all.iter().map(ratio).collect());
        if let Some(index) = all.iter().find_map(|c| c.entries.as_ref()?.index.as_ref()) {
            self.indexer(index.heads, index.compressor.dim, index.top_k);
        }
        if let Some(hyper) = &plan.hyper {
            self.size("hc_mult", hyper.streams);
            self.size("hc_sinkhorn_iters", hyper.iterations);
            self.set("hc_eps", number(hyper.eps));
        }
    }

    fn feed_forward(&mut self, plan: &Plan, config: &Config) -> Result<(), ExportError> {
        let dense: Vec<usize> =
            plan.layers.iter().filter_map(|layer| super::keys::dense(&layer.ffn)).collect();
        let biased =
            plan.layers.iter().any(|layer| matches!(&layer.ffn, Ffn::Gated(g) if g.gate.bias.is_some()));
        if self.is(&["llama"]) {
            self.set("mlp_bias", json!(biased));
        }
        self.dense_widths(plan, &dense);
        let Some(moe) = plan.mixtures().next() else { return Ok(()) };
        let wide = moe.experts.first().map_or(0, |expert| expert.gate.rows);
        if self.is(&["gpt_oss"]) {
            self.size("num_local_experts", moe.experts.len());
            self.size("intermediate_size", wide);
        } else {
            self.size("moe_intermediate_size", wide);
            let deepseek = self.published.model_type.starts_with("deepseek");
            self.size(if deepseek { "n_routed_experts" } else { "num_experts" }, moe.experts.len());
            if dense.is_empty() && !self.is(&["deepseek_v4"]) {
                // No layer has one; published configurations name a width all the same.
                self.size("intermediate_size", config.usize("intermediate_size")?.unwrap_or(wide));
            }
        }
        let gemma = self.is(&["gemma4_text"]);
        self.size(if gemma { "top_k_experts" } else { "num_experts_per_tok" }, moe.top_k);
        if gemma {
            self.set("enable_moe_block", json!(true));
        }
        match &moe.shared {
            Some(SharedExpert { mlp, gate: None }) => {
                self.size("n_shared_experts", mlp.gate.rows / wide.max(1));
            }
            Some(shared) => self.size("shared_expert_intermediate_size", shared.mlp.gate.rows),
            None => {}
        }
        self.router(&moe.router);
        let of_layer = |ffn: &Ffn| ffn.moe().is_none();
        let only: Vec<usize> =
            (0..plan.layers.len()).filter(|&index| of_layer(&plan.layers[index].ffn)).collect();
        if self.published.model_type.starts_with("qwen") {
            self.size("decoder_sparse_step", 1);
            self.set("mlp_only_layers", json!(only));
        }
        let hashed = plan.mixtures().filter(|moe| moe.router.table.is_some()).count();
        if hashed > 0 {
            self.size("num_hash_layers", hashed);
        }
        Ok(())
    }

    /// The widths of MLPs: one, or where layers differ one for each.
    fn dense_widths(&mut self, plan: &Plan, widths: &[usize]) {
        let Some(&first) = widths.first() else { return };
        if self.is(&["gemma4_text"]) {
            let shares = |layer: &LayerPlan| matches!(&layer.mixer, Mixer::Attention(a) if matches!(a.keys, Keys::Shared { .. }));
            let shared = plan.layers.iter().position(shares).and_then(|index| widths.get(index));
            self.set("use_double_wide_mlp", json!(shared == Some(&(2 * first))));
            return self.size("intermediate_size", first);
        }
        match widths.iter().all(|width| *width == first) {
            true => self.size("intermediate_size", first),
            false => self.set("intermediate_size", json!(widths)),
        }
    }

    fn router(&mut self, router: &Router) {
        if self.is(&["gpt_oss", "gemma4_text"]) {
            return;
        }
        self.set("norm_topk_prob", json!(router.renormalize));
        if !self.published.model_type.starts_with("deepseek") {
            return;
        }
        self.set("routed_scaling_factor", number(router.scale));
        let (score, method) = match router.score {
            Score::Softmax if router.groups.is_some() => ("softmax", "group_limited_greedy"),
            Score::Softmax => ("softmax", "greedy"),
            Score::Sigmoid => ("sigmoid", "noaux_tc"),
            Score::SqrtSoftplus => ("sqrtsoftplus", "noaux_tc"),
        };
        self.set("scoring_func", json!(score));
        self.set("topk_method", json!(method));
        if !self.is(&["deepseek_v4"]) {
            let groups = router.groups.map_or((1, 1), |groups| (groups.count, groups.used));
            self.size("n_group", groups.0);
            self.size("topk_group", groups.1);
        }
    }

    fn activation(&mut self, plan: &Plan) {
        let gemma = self.published.model_type.starts_with("gemma");
        match gemma {
            true => self.set("hidden_activation", json!("gelu_pytorch_tanh")),
            false => self.set("hidden_act", json!("silu")),
        }
        match plan.mixtures().next().map(|moe| moe.activation) {
            Some(Activation::SiluClamped { limit }) => self.set("swiglu_limit", number(limit)),
            Some(Activation::SwigluOai { alpha, limit }) => {
                self.set("swiglu_alpha", number(alpha));
                self.set("swiglu_limit", number(limit));
            }
            _ => {}
        }
    }

    /// What Gemma 3n and 4 have.
    fn gemma(&mut self, plan: &Plan) {
        if self.is(&["gemma3n_text", "gemma4_text"]) {
            let inputs = plan.per_layer;
            self.size("hidden_size_per_layer_input", inputs.map_or(0, |inputs| inputs.width));
            self.size("vocab_size_per_layer_input", inputs.map_or(plan.vocab, |inputs| inputs.rows));
        }
        let Some(altup) = &plan.altup else { return };
        self.size("altup_num_inputs", altup.streams);
        self.size("altup_active_idx", altup.active);
        let scaled = plan.layers.iter().any(|l| l.altup.as_ref().is_some_and(|a| a.gate_scale.is_some()));
        self.set("altup_correct_scale", json!(scaled));
        let laurel = plan.layers.iter().find_map(|layer| layer.mixer_at.laurel.as_ref());
        self.size("laurel_rank", laurel.map_or(0, |laurel| laurel.left.rows));
        let share = |layer: &LayerPlan| match &layer.ffn {
            Ffn::Gated(Gated { activation: Activation::GeluTanhTopK { deviations }, .. }) => {
                crate::family::share_below(*deviations)
            }
            _ => json!(0.0),
        };
        self.set("activation_sparsity_pattern", plan.layers.iter().map(share).collect());
        // The reference implementation wants one for each layer.
        if let Some(width) = self.keys.get("intermediate_size").filter(|width| !width.is_array()).cloned() {
            self.set("intermediate_size", json!(vec![width; plan.layers.len()]));
        }
    }
}
