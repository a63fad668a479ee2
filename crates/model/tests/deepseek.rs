//! DeepSeek: GGUF files in every layout, sequences side by side and sharing a beginning, and configurations that make
//! no sense.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Golden, Run, Spoiled, difference, load, refused, shared};
use sampan_kernels::Format;
use sampan_model::{Cache, CacheSizes, Chunk, KvFormat, Logits, Model, PAGE, Plan, PlanOptions, Scratch};
use sampan_weights::gguf::Writer;
use sampan_weights::{Array, Checkpoint, Dtype, Value as Meta};
use serde_json::{Value, json};
use std::path::Path;

/// `config.json` key, GGUF key.
const KEYS: &[(&str, &str)] = &[
    ("vocab_size", "vocab_size"),
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("rope_theta", "rope.freq_base"),
    ("rope_scaling.factor", "rope.scaling.factor"),
    ("rope_scaling.original_max_position_embeddings", "rope.scaling.original_context_length"),
    ("qk_rope_head_dim", "rope.dimension_count"),
    ("kv_lora_rank", "attention.kv_lora_rank"),
    ("q_lora_rank", "attention.q_lora_rank"),
    ("intermediate_size", "feed_forward_length"),
    ("first_k_dense_replace", "leading_dense_block_count"),
    ("moe_intermediate_size", "expert_feed_forward_length"),
    ("n_routed_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"),
    ("n_shared_experts", "expert_shared_count"),
    ("routed_scaling_factor", "expert_weights_scale"),
    ("norm_topk_prob", "expert_weights_norm"),
    ("n_group", "expert_group_count"),
    ("topk_group", "expert_group_used_count"),
    ("index_n_heads", "attention.indexer.head_count"),
    ("index_head_dim", "attention.indexer.key_length"),
    ("index_topk", "attention.indexer.top_k"),
    ("o_groups", "attention.output_group_count"),
    ("o_lora_rank", "attention.output_lora_rank"),
    ("sliding_window", "attention.sliding_window"),
    ("head_dim", "attention.key_length"),
    ("compress_ratios", "attention.compress_ratios"),
    ("compress_rope_theta", "attention.compress_rope_freq_base"),
    ("hc_mult", "hyper_connection.count"),
    ("hc_sinkhorn_iters", "hyper_connection.sinkhorn_iterations"),
    ("hc_eps", "hyper_connection.epsilon"),
    ("num_hash_layers", "hash_layer_count"),
    ("swiglu_limit", "swiglu_clamp_exp"),
];

/// End of a published name, GGUF name.
const NAMES: &[(&str, &str)] = &[
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
    ("input_layernorm.weight", "attn_norm.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("self_attn.q_a_proj.weight", "attn_q_a.weight"),
    ("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight"),
    ("self_attn.q_b_proj.weight", "attn_q_b.weight"),
    ("self_attn.q_proj.weight", "attn_q.weight"),
    ("self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight"),
    ("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight"),
    ("self_attn.kv_b_proj.weight", "attn_kv_b.weight"),
    ("self_attn.o_proj.weight", "attn_output.weight"),
    ("self_attn.indexer.k_norm.weight", "indexer.k_norm.weight"),
    ("self_attn.indexer.k_norm.bias", "indexer.k_norm.bias"),
    ("self_attn.indexer.weights_proj.weight", "indexer.proj.weight"),
    ("self_attn.indexer.wk.weight", "indexer.attn_k.weight"),
    ("self_attn.indexer.wq_b.weight", "indexer.attn_q_b.weight"),
    ("mlp.gate_proj.weight", "ffn_gate.weight"),
    ("mlp.up_proj.weight", "ffn_up.weight"),
    ("mlp.down_proj.weight", "ffn_down.weight"),
    ("mlp.gate.weight", "ffn_gate_inp.weight"),
    ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    ("mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight"),
    ("mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight"),
    ("mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight"),
    ("mlp.experts.N.gate_proj.weight", "ffn_gate_exps.weight"),
    ("mlp.experts.N.up_proj.weight", "ffn_up_exps.weight"),
    ("mlp.experts.N.down_proj.weight", "ffn_down_exps.weight"),
    ("embed.weight", "token_embd.weight"),
    ("norm.weight", "output_norm.weight"),
    ("head.weight", "output.weight"),
    ("hc_head_fn", "output_hc_fn.weight"),
    ("hc_head_base", "output_hc_base.weight"),
    ("hc_head_scale", "output_hc_scale.weight"),
    ("attn_norm.weight", "attn_norm.weight"),
    ("ffn_norm.weight", "ffn_norm.weight"),
    ("hc_attn_fn", "hc_attn_fn.weight"),
    ("hc_attn_base", "hc_attn_base.weight"),
    ("hc_attn_scale", "hc_attn_scale.weight"),
    ("hc_ffn_fn", "hc_ffn_fn.weight"),
    ("hc_ffn_base", "hc_ffn_base.weight"),
    ("hc_ffn_scale", "hc_ffn_scale.weight"),
    ("attn.wq_a.weight", "attn_q_a.weight"),
    ("attn.q_norm.weight", "attn_q_a_norm.weight"),
    ("attn.wq_b.weight", "attn_q_b.weight"),
    ("attn.wkv.weight", "attn_kv.weight"),
    ("attn.kv_norm.weight", "attn_kv_a_norm.weight"),
    ("attn.wo_a.weight", "attn_output_a.weight"),
    ("attn.wo_b.weight", "attn_output_b.weight"),
    ("attn.attn_sink", "attn_sinks.weight"),
    ("attn.compressor.wkv.weight", "attn_compressor_kv.weight"),
    ("attn.compressor.wgate.weight", "attn_compressor_gate.weight"),
    ("attn.compressor.ape", "attn_compressor_ape.weight"),
    ("attn.compressor.norm.weight", "attn_compressor_norm.weight"),
    ("attn.indexer.wq_b.weight", "indexer.attn_q_b.weight"),
    ("attn.indexer.weights_proj.weight", "indexer.proj.weight"),
    ("attn.indexer.compressor.wkv.weight", "indexer_compressor_kv.weight"),
    ("attn.indexer.compressor.wgate.weight", "indexer_compressor_gate.weight"),
    ("attn.indexer.compressor.ape", "indexer_compressor_ape.weight"),
    ("attn.indexer.compressor.norm.weight", "indexer_compressor_norm.weight"),
    ("ffn.gate.weight", "ffn_gate_inp.weight"),
    ("ffn.gate.bias", "exp_probs_b.bias"),
    ("ffn.gate.tid2eid", "ffn_gate_tid2eid.weight"),
    ("ffn.shared_experts.w1.weight", "ffn_gate_shexp.weight"),
    ("ffn.shared_experts.w2.weight", "ffn_down_shexp.weight"),
    ("ffn.shared_experts.w3.weight", "ffn_up_shexp.weight"),
    ("ffn.experts.N.w1.weight", "ffn_gate_exps.weight"),
    ("ffn.experts.N.w2.weight", "ffn_down_exps.weight"),
    ("ffn.experts.N.w3.weight", "ffn_up_exps.weight"),
];

/// How a GGUF file holds the projections from the latent space.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// Keys and values in one matrix, as older files do.
    Joined,
    /// Keys, transposed, and values apart.
    Apart,
}

/// How its numbers are written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Numbers {
    Float,
    /// Q8_0.
    Blocks,
    /// Floats that Q8_0 represents.
    Rounded,
}

/// A tensor of the file to write.
struct Out {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    data: Vec<u8>,
}

impl Out {
    fn new(name: String, shape: &[usize], floats: &[f32], numbers: Numbers) -> Out {
        let format = if numbers == Numbers::Float { Format::F32 } else { Format::Q8_0 };
        let mut data = vec![0; format.row_bytes(floats.len()).unwrap()];
        format.encode(floats, &mut data).unwrap();
        let out = Out { name, shape: shape.to_vec(), dtype: Dtype::Block(format), data };
        if numbers != Numbers::Rounded {
            return out;
        }
        let mut rounded = vec![0.0; floats.len()];
        format.decode(&out.data, &mut rounded);
        Out::new(out.name, shape, &rounded, Numbers::Float)
    }
}

/// Writes a golden as a GGUF file; `latent` is how the projections from the latent space are written.
fn convert(from: &Path, to: &Path, layout: Layout, latent: Numbers) {
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(from.join("config.hub.json")).unwrap()).unwrap();
    let kind = config["model_type"].as_str().unwrap();
    let arch = match kind {
        "deepseek_v32" => "deepseek32",
        "deepseek_v4" => "deepseek4",
        _ => "deepseek2",
    };
    let mut writer = Writer::new();
    writer.set("general.architecture", Meta::Str(arch.into())).unwrap();
    let mut set = |key: &str, value: Meta| writer.set(&format!("{arch}.{key}"), value).unwrap();
    for (ours, theirs) in KEYS {
        let value = ours.split('.').fold(&config, |value, part| &value[part]);
        match value {
            Value::Bool(flag) => set(theirs, Meta::Bool(*flag)),
            Value::Array(list) => {
                let numbers = list.iter().map(|n| n.as_u64().unwrap() as u32).collect::<Vec<u32>>();
                set(theirs, Meta::Array(Array::U32(numbers)));
            }
            Value::Number(n) if n.is_u64() => set(theirs, Meta::U32(n.as_u64().unwrap() as u32)),
            Value::Number(n) => set(theirs, Meta::F32(n.as_f64().unwrap() as f32)),
            _ => {}
        }
    }
    set("rope.scaling.type", Meta::Str("yarn".into()));
    if let Some(slope) = config["rope_scaling"]["mscale_all_dim"].as_f64() {
        set("rope.scaling.yarn_log_multiplier", Meta::F32(0.1 * slope as f32));
    }
    let gating = match config["scoring_func"].as_str() {
        Some("sigmoid") => 2,
        Some("sqrtsoftplus") => 4,
        _ => 1,
    };
    set("expert_gating_func", Meta::U32(gating));
    let size = |key: &str| config[key].as_u64().unwrap_or(0) as usize;
    let (plain, value) = (size("qk_nope_head_dim"), size("v_head_dim"));
    if kind != "deepseek_v4" {
        let suffix = if layout == Layout::Apart { "_mla" } else { "" };
        let key = (plain + size("qk_rope_head_dim")) as u32;
        set(&format!("attention.key_length{suffix}"), Meta::U32(key));
        set(&format!("attention.value_length{suffix}"), Meta::U32(value as u32));
    }
    let tensors = tensors(&Checkpoint::open(from).unwrap(), layout, latent, plain, value);
    for tensor in &tensors {
        writer.tensor(&tensor.name, &tensor.shape, tensor.dtype).unwrap();
    }
    let mut file = writer.create(to).unwrap();
    for tensor in &tensors {
        file.append(&tensor.name, &tensor.data).unwrap();
    }
    file.finish().unwrap();
}

/// All tensors under their GGUF names, the experts of a layer in one.
fn tensors(checkpoint: &Checkpoint, layout: Layout, latent: Numbers, plain: usize, value: usize) -> Vec<Out> {
    let mut out: Vec<Out> = Vec::new();
    let mut sources: Vec<_> = checkpoint.tensors().collect();
    // Experts in the order of their numbers.
    let number = |name: &str| {
        name.split(".experts.")
            .nth(1)
            .map_or(0, |rest| rest.split('.').next().unwrap().parse::<usize>().unwrap())
    };
    sources.sort_by_key(|tensor| number(tensor.name));
    for tensor in sources {
        let mut end = tensor.name.to_string();
        let mut layer = None;
        if let Some(at) = end.find("layers.") {
            let (index, rest) = end[at + 7..].split_once('.').unwrap();
            (layer, end) = (Some(index.parse::<usize>().unwrap()), rest.to_string());
        }
        if end.contains(".experts.") {
            end = end.replace(&format!(".experts.{}.", number(&end)), ".experts.N.");
        }
        let theirs = NAMES.iter().find(|(ours, _)| *ours == end).unwrap_or_else(|| panic!("{end}")).1;
        let name = layer.map_or(theirs.to_string(), |layer| format!("blk.{layer}.{theirs}"));
        if end.ends_with("tid2eid") {
            let ids = tensor.to_i64s().unwrap();
            let data = ids.iter().flat_map(|id| (*id as i32).to_le_bytes()).collect();
            out.push(Out { name, shape: tensor.shape.to_vec(), dtype: Dtype::I32, data });
            continue;
        }
        let floats = tensor.to_f32().unwrap();
        if end.ends_with("kv_b_proj.weight") {
            let rank = tensor.shape[1];
            match layout {
                Layout::Joined => out.push(Out::new(name, tensor.shape, &floats, latent)),
                Layout::Apart => out.extend(apart(&name, &floats, rank, plain, value, latent)),
            }
        } else if end.contains(".N.") {
            let stacked = Out::new(name, &[1, tensor.shape[0], tensor.shape[1]], &floats, Numbers::Float);
            match out.iter_mut().find(|out| out.name == stacked.name) {
                Some(all) => {
                    all.shape[0] += 1;
                    all.data.extend(stacked.data);
                }
                None => out.push(stacked),
            }
        } else {
            out.push(Out::new(name, tensor.shape, &floats, Numbers::Float));
        }
    }
    out
}

/// The joined projections of all heads as keys, transposed, and values.
fn apart(name: &str, joined: &[f32], rank: usize, plain: usize, value: usize, numbers: Numbers) -> [Out; 2] {
    let heads = joined.len() / rank / (plain + value);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for head in joined.chunks_exact(rank * (plain + value)) {
        for latent in 0..rank {
            keys.extend(head[latent..].iter().step_by(rank).take(plain));
        }
        values.extend(&head[rank * plain..]);
    }
    // Rows of the keys are too short for blocks.
    let keys = Out::new(name.replace("kv_b", "k_b"), &[heads, rank, plain], &keys, Numbers::Float);
    [keys, Out::new(name.replace("kv_b", "v_b"), &[heads, value, rank], &values, numbers)]
}

/// The logits of a golden's prompt, the model written as GGUF, and the golden.
fn through_gguf(family: &str, layout: Layout, latent: Numbers) -> Option<(Vec<f32>, Golden)> {
    let from = shared("golden")?.join(family);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    convert(&from, &path, layout, latent);
    let model = load(&path);
    let golden = Golden::read(&from.join("golden.safetensors"));
    Some((Run::new(&model, KvFormat::F32, golden.ids.len()).feed(&golden.ids), golden))
}

#[test]
fn gguf_files_of_every_layout_give_the_same_logits() {
    let latent = ["deepseek_v2_lite", "deepseek_v2", "deepseek_v3", "deepseek_v32"];
    let older = latent.map(|family| (family, Layout::Joined));
    let newer =
        latent.into_iter().chain(["deepseek_v4", "deepseek_v4_long"]).map(|family| (family, Layout::Apart));
    for (family, layout) in older.into_iter().chain(newer) {
        let Some((logits, golden)) = through_gguf(family, layout, Numbers::Float) else { return };
        let max = golden.difference(&logits);
        assert!(max < 2e-4, "{family} {layout:?}: {max}");
    }
}

#[test]
fn quantised_projections_from_the_latent_space_mean_what_they_hold() {
    for layout in [Layout::Joined, Layout::Apart] {
        let [blocks, rounded] =
            [Numbers::Blocks, Numbers::Rounded].map(|numbers| through_gguf("deepseek_v3", layout, numbers));
        let (Some((blocks, golden)), Some((rounded, _))) = (blocks, rounded) else { return };
        let max = difference(&blocks, &rounded);
        assert!(max < 2e-4, "{layout:?}: {max}");
        assert!(difference(&blocks, &golden.logits) > 1e-3, "{layout:?}: blocks round");
    }
}

/// Two sequences of a model: the golden's prompt, and its reverse.
struct Pair<'a> {
    model: &'a Model,
    tokens: [Vec<u32>; 2],
    alone: [Vec<f32>; 2],
}

impl Pair<'_> {
    fn with(family: &str, test: impl Fn(Pair<'_>)) {
        let Some(root) = shared("golden") else { return };
        let model = load(&root.join(family));
        let ids = Golden::read(&root.join(family).join("golden.safetensors")).ids;
        let tokens = [ids.clone(), ids.into_iter().rev().collect()];
        let alone = tokens.each_ref().map(|ids| Run::new(&model, KvFormat::F32, ids.len()).feed(ids));
        test(Pair { model: &model, tokens, alone });
    }

    fn cache(&self, pages: usize) -> Cache {
        Cache::new(self.model.plan(), CacheSizes { format: KvFormat::F32, pages, slots: 3 })
    }

    /// Feeds tokens of sequences, `(sequence, start, end, pages, slot)`; the logits must be those of the sequences
    /// alone.
    fn step(&self, cache: &mut Cache, parts: &[(usize, usize, usize, &[u32], u32)]) {
        let chunks: Vec<Chunk<'_>> = parts
            .iter()
            .map(|&(sequence, start, end, pages, slot)| Chunk {
                tokens: &self.tokens[sequence][start..end],
                start,
                pages,
                slot,
                logits: Logits::All,
                adapter: None,
            })
            .collect();
        let mut logits = Vec::new();
        self.model.forward(&chunks, cache, &mut Scratch::default(), &mut logits);
        let vocab = self.model.plan().vocab;
        let mut rest = &logits[..];
        for &(sequence, start, end, ..) in parts {
            let (now, later) = rest.split_at((end - start) * vocab);
            let expected = &self.alone[sequence][start * vocab..end * vocab];
            assert_eq!(difference(now, expected), 0.0, "{} {start}..{end}", self.model.plan().family);
            rest = later;
        }
    }
}

const SEQUENCES: &[&str] = &["deepseek_v2", "deepseek_v32", "deepseek_v4", "deepseek_v4_long"];

#[test]
fn sequences_in_one_batch_are_what_they_are_alone() {
    for family in SEQUENCES {
        Pair::with(family, |pair| {
            let len = pair.tokens[0].len();
            let count = len.div_ceil(PAGE) as u32;
            let pages = [0, 1].map(|s| (0..count).map(|page| 2 * page + s).collect::<Vec<u32>>());
            let mut cache = pair.cache(2 * count as usize);
            let mut at = [0, 0];
            for step in 0.. {
                let mut parts = Vec::new();
                for s in [1, 0] {
                    let end = (at[s] + [1, 9, 33, 4][(step + s) % 4]).min(len);
                    if end > at[s] {
                        parts.push((s, at[s], end, &pages[s][..], 2 - s as u32));
                    }
                    at[s] = end;
                }
                if parts.is_empty() {
                    break;
                }
                pair.step(&mut cache, &parts);
            }
        });
    }
}

#[test]
fn a_sequence_goes_on_from_shared_pages_and_a_copied_slot() {
    for family in SEQUENCES {
        Pair::with(family, |pair| {
            let len = pair.tokens[0].len();
            let count = len.div_ceil(PAGE) as u32;
            let mut cache = pair.cache(count as usize * 2);
            let first: Vec<u32> = (0..count).collect();
            pair.step(&mut cache, &[(0, 0, PAGE, &first, 0)]);
            cache.copy_slot(pair.model.kernels(), 0, 2);
            // The first goes on; the second has the first page of it and pages of its own.
            pair.step(&mut cache, &[(0, PAGE, len, &first, 0)]);
            let second: Vec<u32> = (0..count).map(|page| if page == 0 { 0 } else { count + page }).collect();
            pair.step(&mut cache, &[(0, PAGE, PAGE + 3, &second, 2)]);
            pair.step(&mut cache, &[(0, PAGE + 3, len, &second, 2)]);
        });
    }
}

#[test]
fn configurations_that_make_no_sense() {
    let cases: &[Spoiled<'_>] = &[
        ("deepseek_v3", &[("scoring_func", json!("coin"))], &["scoring_func", "coin", "not supported"]),
        ("deepseek_v3", &[("topk_method", json!("lottery"))], &["topk_method", "lottery", "not supported"]),
        ("deepseek_v3", &[("n_group", json!(5))], &["n_group = 5", "divisor"]),
        ("deepseek_v3", &[("topk_group", json!(9))], &["topk_group = 9", "at most"]),
        ("deepseek_v3", &[("num_experts_per_tok", json!(17))], &["num_experts_per_tok = 17"]),
        ("deepseek_v3", &[("kv_lora_rank", json!(40))], &["kv_a_proj_with_mqa", "[48, 64]", "[56, 64]"]),
        ("deepseek_v3", &[("qk_rope_head_dim", json!(15))], &["qk_rope_head_dim = 15", "even"]),
        ("deepseek_v3", &[("attention_bias", json!(true))], &["attention_bias = true", "not supported"]),
        ("deepseek_v3", &[("first_k_dense_replace", json!(2))], &["layers.1.mlp.gate_proj", "missing"]),
        ("deepseek_v32", &[("index_head_dim", json!(8))], &["index_head_dim = 8"]),
        ("deepseek_v32", &[("q_lora_rank", Value::Null)], &["q_lora_rank is missing"]),
        ("deepseek_v4", &[("o_groups", json!(3))], &["o_groups = 3", "divisor"]),
        ("deepseek_v4", &[("scoring_func", json!("softmax"))], &["scoring_func", "not supported"]),
        ("deepseek_v4", &[("compress_ratios", Value::Null)], &["compress_ratios is missing"]),
        (
            "deepseek_v4",
            &[("compress_ratios", json!([0, 4, 7, 4, 7, 0]))],
            &["compress_ratios", "not supported"],
        ),
        ("deepseek_v4", &[("hc_mult", json!(0))], &["hc_mult = 0"]),
        ("deepseek_v4", &[("sliding_window", json!(1 << 30))], &["sliding_window", "at most 65536"]),
        ("deepseek_v4", &[("hc_sinkhorn_iters", json!(1 << 30))], &["hc_sinkhorn_iters", "at most 1000"]),
        ("deepseek_v4", &[("swiglu_limit", json!(-1.0))], &["swiglu_limit = -1"]),
        ("deepseek_v4", &[("num_hash_layers", json!(2))], &["layers.2.ffn.gate.bias", "missing"]),
    ];
    cases.iter().for_each(|case| refused("config.hub.json", case));
}

#[test]
fn a_table_that_names_an_expert_that_is_not_there() {
    let Some(root) = shared("golden") else { return };
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(root.join("deepseek_v4").join(file), dir.path().join(file)).unwrap();
    }
    let (_, offset) =
        Checkpoint::open(dir.path()).unwrap().tensor("layers.1.ffn.gate.tid2eid").unwrap().place();
    let file = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[offset as usize..][..8].copy_from_slice(&16_i64.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let error = Plan::from_checkpoint(&checkpoint, PlanOptions::default()).err().unwrap().to_string();
    assert!(error.contains("layers.1.ffn.gate.tid2eid") && error.contains("expert 16 of 16"), "{error}");
}
