//! DeepSeek V4: hyper-connections, attention over a window and compressed entries, experts chosen by token id in the
//! first layers. Tensors have the names of the published files, which have no prefix.

use super::{Builder, Family, builder::Place};
use crate::config::{Config, Dialect};
use crate::error::PlanError;
use crate::names::Table;
use crate::plan::*;
use crate::rope::Rope;
use sampan_kernels::attention::PAGE;

pub(super) const FAMILY: Family = Family {
    names: &["deepseek_v4", "deepseek4"],
    translate: plan,
    gguf: GGUF,
    defaults: r#"{"scoring_func": "sqrtsoftplus", "rope_theta": 10000.0,
        "compress_rope_theta": 160000.0, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}}"#,
};

const GGUF: Table = &[
    ("embed", "token_embd"),
    ("norm", "output_norm"),
    ("head", "output"),
    ("hc_head_fn", "output_hc_fn"),
    ("hc_head_base", "output_hc_base"),
    ("hc_head_scale", "output_hc_scale"),
    ("attn.wq_a", "attn_q_a"),
    ("attn.q_norm", "attn_q_a_norm"),
    ("attn.wq_b", "attn_q_b"),
    ("attn.wkv", "attn_kv"),
    ("attn.kv_norm", "attn_kv_a_norm"),
    ("attn.wo_a", "attn_output_a"),
    ("attn.wo_b", "attn_output_b"),
    ("attn.attn_sink", "attn_sinks"),
    ("attn.compressor.wkv", "attn_compressor_kv"),
    ("attn.compressor.wgate", "attn_compressor_gate"),
    ("attn.compressor.ape", "attn_compressor_ape"),
    ("attn.compressor.norm", "attn_compressor_norm"),
    ("attn.indexer.wq_b", "indexer.attn_q_b"),
    ("attn.indexer.weights_proj", "indexer.proj"),
    ("attn.indexer.compressor.wkv", "indexer_compressor_kv"),
    ("attn.indexer.compressor.wgate", "indexer_compressor_gate"),
    ("attn.indexer.compressor.ape", "indexer_compressor_ape"),
    ("attn.indexer.compressor.norm", "indexer_compressor_norm"),
    ("ffn.gate", "ffn_gate_inp"),
    ("ffn.gate.tid2eid", "ffn_gate_tid2eid"),
    ("ffn.shared_experts.w1", "ffn_gate_shexp"),
    ("ffn.shared_experts.w2", "ffn_down_shexp"),
    ("ffn.shared_experts.w3", "ffn_up_shexp"),
    ("ffn.experts.w1", "ffn_gate_exps"),
    ("ffn.experts.w2", "ffn_down_exps"),
    ("ffn.experts.w3", "ffn_up_exps"),
];

/// Indices of [`Plan::ropes`].
const WINDOW_ROPE: usize = 0;
const ENTRY_ROPE: usize = 1;

fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    refuse(config)?;
    let (hidden, vocab) = (config.size("hidden_size")?, config.size("vocab_size")?);
    let layers = config.layers()?;
    let embedding = builder.linear(Place::Global, "embed", (vocab, hidden), false)?.weight;
    let hyper = hyper(builder, hidden)?;
    let layers = (0..layers)
        .map(|index| {
            let place = Place::Layer(index);
            let mut at = |norm: &str, kind: &str| {
                let n = hyper.streams;
                let mix = weights(builder, place, kind, (2 + n) * n, n * hidden, 3)?;
                Ok::<Sublayer, PlanError>(Sublayer {
                    norm: builder.norm(place, norm, hidden)?,
                    post: None,
                    hyper: Some(mix),
                    laurel: None,
                })
            };
            let (mixer_at, ffn_at) = (at("attn_norm", "hc_attn")?, at("ffn_norm", "hc_ffn")?);
            Ok(LayerPlan {
                mixer: Mixer::Compressed(attention(builder, index, layers, hidden)?),
                mixer_at,
                ffn: Ffn::Moe(mixture(builder, index, hidden, vocab)?),
                ffn_at,
                per_layer: None,
                output_scale: None,
                altup: None,
            })
        })
        .collect::<Result<Vec<_>, PlanError>>()?;
    let last = builder.norm(Place::Global, "norm", hidden)?;
    let head = Some(builder.linear(Place::Global, "head", (vocab, hidden), false)?);
    let plan = builder.plain_plan(hidden, vocab, embedding, head, ropes(config)?, layers, last)?;
    Ok(Plan { hyper: Some(hyper), ..plan })
}

/// Switches that this translation does not know.
fn refuse(config: &Config) -> Result<(), PlanError> {
    config.only("hidden_act", &["silu"])?;
    config.only("topk_method", &["noaux_tc"])?;
    config.only("rope_parameters.main.rope_type", &["default"])?;
    match config.usize("num_key_value_heads")? {
        None | Some(1) => Ok(()),
        Some(_) => Err(config.unsupported("num_key_value_heads")),
    }
}

/// The rope of layers without entries, which is not scaled, and that of layers with entries.
fn ropes(config: &Config) -> Result<Vec<Rope>, PlanError> {
    let dim = rotated(config)?;
    let theta = |nested: &str, flat: &str| match config.f32(nested)? {
        Some(theta) => Ok(theta),
        None => config.f32(flat)?.ok_or_else(|| config.missing(flat)),
    };
    let window = Rope::plain(theta("rope_parameters.main.rope_theta", "rope_theta")?, dim);
    let nested = "rope_parameters.compress";
    let key = if config.get(nested).is_some() { nested } else { "rope_scaling" };
    let base = theta("rope_parameters.compress.rope_theta", "compress_rope_theta")?;
    let entries = Rope::scaled_part(config, key, base, dim)?;
    let attention_factor = config.f32(&format!("{key}.attention_factor"))?.unwrap_or(1.0);
    Ok(vec![window, Rope { attention_factor, ..entries }])
}

fn rotated(config: &Config) -> Result<usize, PlanError> {
    let key = if config.dialect() == Dialect::Gguf { "rope_dim" } else { "qk_rope_head_dim" };
    match config.size(key)? {
        dim if dim % 2 == 0 && dim <= config.size("head_dim")? => Ok(dim),
        _ => Err(config.bad(key, "an even number no larger than head_dim")),
    }
}

fn hyper(builder: &mut Builder<'_>, hidden: usize) -> Result<Hyper, PlanError> {
    let config = builder.config;
    let need = |key: &str| config.f32(key)?.ok_or_else(|| config.missing(key));
    let streams = config.size("hc_mult")?;
    Ok(Hyper {
        streams,
        iterations: bounded(config, "hc_sinkhorn_iters", 1000)?,
        eps: need("hc_eps")?,
        norm_eps: need("rms_norm_eps")?,
        head: weights(builder, Place::Global, "hc_head", streams, streams * hidden, 1)?,
    })
}

/// A whole number that nothing in the file confirms.
fn bounded(config: &Config, key: &str, most: usize) -> Result<usize, PlanError> {
    match config.size(key)? {
        n if n <= most => Ok(n),
        _ => Err(config.bad(key, &format!("at most {most}"))),
    }
}

fn weights(
    builder: &mut Builder<'_>,
    place: Place,
    kind: &str,
    rows: usize,
    cols: usize,
    scales: usize,
) -> Result<HyperMix, PlanError> {
    let weight = bare(builder, place, &format!("{kind}_fn"), &[rows, cols], Role::Matrix)?;
    Ok(HyperMix {
        linear: Linear { weight, bias: None, rows, cols },
        base: bare(builder, place, &format!("{kind}_base"), &[rows], Role::Vector)?,
        scale: bare(builder, place, &format!("{kind}_scale"), &[scales], Role::Vector)?,
    })
}

/// A tensor whose name has no part in the published files; in GGUF it is a `weight` like others.
fn bare(
    builder: &mut Builder<'_>,
    place: Place,
    module: &str,
    file: &[usize],
    role: Role,
) -> Result<TensorId, PlanError> {
    let part = if builder.config.dialect() == Dialect::Gguf { "weight" } else { "" };
    let shape = if role == Role::Vector { vec![file.iter().product()] } else { file.to_vec() };
    builder.tensor(place, module, part, file, &shape, role, Source::default())
}

fn attention(
    builder: &mut Builder<'_>,
    index: usize,
    layers: usize,
    hidden: usize,
) -> Result<Compressed, PlanError> {
    let config = builder.config;
    let place = Place::Layer(index);
    let (heads, head_dim) = (config.size("num_attention_heads")?, config.size("head_dim")?);
    let (q_rank, groups, o_rank) =
        (config.size("q_lora_rank")?, config.size("o_groups")?, config.size("o_lora_rank")?);
    if !heads.is_multiple_of(groups) {
        return Err(config.bad("o_groups", "a divisor of num_attention_heads"));
    }
    let group = heads / groups * head_dim;
    let o_groups = (0..groups)
        .map(|g| {
            let source = Source { rows: Rows::from(g * o_rank), ..Source::default() };
            let (file, shape) = ([groups * o_rank, group], [o_rank, group]);
            let weight = builder.tensor(place, "attn.wo_a", "weight", &file, &shape, Role::Matrix, source)?;
            Ok(Linear { weight, bias: None, rows: o_rank, cols: group })
        })
        .collect::<Result<Vec<_>, PlanError>>()?;
    let q_down = Down {
        linear: builder.linear(place, "attn.wq_a", (q_rank, hidden), false)?,
        norm: builder.norm(place, "attn.q_norm", q_rank)?,
    };
    let kv_norm = builder.norm(place, "attn.kv_norm", head_dim)?;
    let entries = entries(builder, index, layers, hidden, q_rank, head_dim)?;
    Ok(Compressed {
        heads,
        head_dim,
        rotated: rotated(config)?,
        window: bounded(config, "sliding_window", 1 << 16)?, // a sequence carries as many keys
        q_down,
        q: builder.linear(place, "attn.wq_b", (heads * head_dim, q_rank), false)?,
        q_norm: Norm { weight: None, ..kv_norm },
        kv: builder.linear(place, "attn.wkv", (head_dim, hidden), false)?,
        kv_norm,
        sinks: bare(builder, place, "attn.attn_sink", &[heads], Role::Vector)?,
        o_groups,
        o: builder.linear(place, "attn.wo_b", (hidden, groups * o_rank), false)?,
        rope: if entries.is_some() { ENTRY_ROPE } else { WINDOW_ROPE },
        scale: 1.0 / (head_dim as f32).sqrt(),
        entries,
    })
}

/// How many tokens an entry of a layer sums up, and whether an index chooses among them; `None`: no entries.
fn ratio(builder: &Builder<'_>, index: usize, layers: usize) -> Result<Option<(usize, bool)>, PlanError> {
    let config = builder.config;
    let found = match config.layer_types(layers)? {
        Some(kinds) => match kinds[index] {
            "sliding_attention" => return Ok(None),
            "compressed_sparse_attention" => {
                (config.size("compress_rates.compressed_sparse_attention")?, true)
            }
            "heavily_compressed_attention" => {
                (config.size("compress_rates.heavily_compressed_attention")?, false)
            }
            _ => return Err(config.unsupported("layer_types")),
        },
        None => match config.usize_at("compress_ratios", index)? {
            None => return Err(config.missing("compress_ratios")),
            Some(0) => return Ok(None),
            Some(ratio) => (ratio, builder.has(Place::Layer(index), "attn.indexer.wq_b", "weight")),
        },
    };
    match found.0.is_multiple_of(PAGE) || PAGE.is_multiple_of(found.0) {
        true => Ok(Some(found)),
        false => Err(config.unsupported("compress_ratios")),
    }
}

fn entries(
    builder: &mut Builder<'_>,
    index: usize,
    layers: usize,
    hidden: usize,
    q_rank: usize,
    head_dim: usize,
) -> Result<Option<Entries>, PlanError> {
    let config = builder.config;
    let place = Place::Layer(index);
    let Some((ratio, sparse)) = ratio(builder, index, layers)? else { return Ok(None) };
    let mut compressor = |module: &str, dim: usize| {
        let width = if sparse { 2 * dim } else { dim };
        Ok::<Compressor, PlanError>(Compressor {
            ratio,
            overlap: sparse,
            dim,
            kv: builder.linear(place, &format!("{module}.wkv"), (width, hidden), false)?,
            gate: builder.linear(place, &format!("{module}.wgate"), (width, hidden), false)?,
            places: bare(builder, place, &format!("{module}.ape"), &[ratio, width], Role::Vector)?,
            norm: builder.norm(place, &format!("{module}.norm"), dim)?,
        })
    };
    let own = compressor("attn.compressor", head_dim)?;
    if !sparse {
        return Ok(Some(Entries { compressor: own, index: None }));
    }
    let (heads, dim) = (config.size("index_n_heads")?, config.size("index_head_dim")?);
    if dim < rotated(config)? {
        return Err(config.bad("index_head_dim", "no less than qk_rope_head_dim"));
    }
    let compressor = compressor("attn.indexer.compressor", dim)?;
    let index = EntryIndex {
        heads,
        q: builder.linear(place, "attn.indexer.wq_b", (heads * dim, q_rank), false)?,
        weights: builder.linear(place, "attn.indexer.weights_proj", (heads, hidden), false)?,
        compressor,
        top_k: config.size("index_topk")?,
    };
    Ok(Some(Entries { compressor: own, index: Some(index) }))
}

fn mixture(builder: &mut Builder<'_>, index: usize, hidden: usize, vocab: usize) -> Result<Moe, PlanError> {
    let config = builder.config;
    let place = Place::Layer(index);
    let (experts, width) = (config.size("n_routed_experts")?, config.size("moe_intermediate_size")?);
    let top_k = config.size("num_experts_per_tok")?;
    if top_k > experts {
        return Err(config.bad("num_experts_per_tok", "at most the number of experts"));
    }
    let limit = config.f32_at("swiglu_limit", index)?;
    let activation = match limit {
        Some(limit) if limit > 0.0 => Activation::SiluClamped { limit },
        Some(_) => return Err(config.bad("swiglu_limit", "numbers above 0")),
        None => Activation::Silu,
    };
    let linear = |builder: &mut Builder<'_>, name: &str, shape| {
        builder.linear(place, &format!("ffn.shared_experts.{name}"), shape, false)
    };
    let shared = config.usize("n_shared_experts")?.unwrap_or(0) * width;
    let shared = match shared {
        0 => None,
        wide => Some(SharedExpert {
            mlp: Gated {
                gate: linear(builder, "w1", (wide, hidden))?,
                up: linear(builder, "w3", (wide, hidden))?,
                down: linear(builder, "w2", (hidden, wide))?,
                activation,
            },
            gate: None,
        }),
    };
    let hashed = is_hashed(config, index)?;
    let router = router(builder, place, hidden, experts, hashed.then_some((vocab, top_k)))?;
    Ok(Moe {
        router,
        experts: builder.experts(place, "ffn.experts", ["w1", "w3", "w2"], experts, (hidden, width))?,
        activation,
        top_k,
        shared,
    })
}

/// Every number in a table of experts is one of an expert.
fn check_table(builder: &Builder<'_>, place: Place, experts: usize) -> Result<(), PlanError> {
    let part = if builder.config.dialect() == Dialect::Gguf { "weight" } else { "" };
    let name = builder.name(place, "ffn.gate.tid2eid", part);
    let Some(table) = builder.checkpoint.tensor(&name) else { return Ok(()) };
    match table.to_i64s()?.iter().find(|&&id| id < 0 || id >= experts as i64) {
        Some(id) => Err(table.error(format!("sends a token to expert {id} of {experts}")).into()),
        None => Ok(()),
    }
}

/// Whether a layer chooses experts by token id.
fn is_hashed(config: &Config, index: usize) -> Result<bool, PlanError> {
    if let Some(kinds) = config.get("mlp_layer_types") {
        return match kinds.get(index).and_then(|kind| kind.as_str()) {
            Some("hash_moe") => Ok(true),
            Some("moe") => Ok(false),
            _ => Err(config.bad("mlp_layer_types", "\"hash_moe\" or \"moe\" for each layer")),
        };
    }
    Ok(index < config.usize("num_hash_layers")?.unwrap_or(0))
}

fn router(
    builder: &mut Builder<'_>,
    place: Place,
    hidden: usize,
    experts: usize,
    table: Option<(usize, usize)>,
) -> Result<Router, PlanError> {
    let config = builder.config;
    let gguf = config.dialect() == Dialect::Gguf;
    match config.get("expert_gating_func").or(config.get("scoring_func")) {
        Some(kind) if kind.as_str() == Some("sqrtsoftplus") || (gguf && kind.as_u64() == Some(4)) => {}
        _ => return Err(config.unsupported("scoring_func")),
    }
    let (table, selection_bias) = match table {
        Some((vocab, top_k)) => {
            let table = bare(builder, place, "ffn.gate.tid2eid", &[vocab, top_k], Role::Ids)?;
            check_table(builder, place, experts)?;
            (Some(table), None)
        }
        None => {
            let module = if gguf { "exp_probs_b" } else { "ffn.gate" };
            (None, Some(builder.vector(place, module, "bias", experts)?))
        }
    };
    Ok(Router {
        linear: builder.router(place, "ffn.gate", (experts, hidden), false)?,
        input: RouterInput::Normed,
        score: Score::SqrtSoftplus,
        selection_bias,
        groups: None,
        table,
        renormalize: true, // whatever norm_topk_prob says: no implementation reads it for this family
        scale: config.f32("routed_scaling_factor")?.unwrap_or(1.0),
        expert_scale: None,
    })
}
