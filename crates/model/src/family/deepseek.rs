//! DeepSeek V2 and V2-Lite (arXiv 2405.04434), V3, R1 and V3.1 (arXiv 2412.19437), V3.2 (arXiv 2512.02556): latent
//! attention, mixtures of experts with shared ones, and in V3.2 an index that chooses keys.

use super::experts::PROJECTIONS;
use super::{Builder, Family, builder::Place};
use crate::config::{Config, Dialect};
use crate::error::PlanError;
use crate::names::Table;
use crate::plan::*;
use crate::rope::Rope;
use sampan_kernels::ops::Pairing;

pub(super) const V2: Family = Family {
    names: &["deepseek_v2"],
    translate: plan,
    gguf: GGUF,
    defaults: r#"{"scoring_func": "softmax", "topk_method": "greedy", "routed_scaling_factor": 1.0}"#,
};

pub(super) const V3: Family =
    Family { names: &["deepseek_v3", "deepseek2"], translate: plan, gguf: GGUF, defaults: SIGMOID };

pub(super) const V32: Family =
    Family { names: &["deepseek_v32", "deepseek32"], translate: plan, gguf: GGUF, defaults: SIGMOID };

const SIGMOID: &str = r#"{"scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": true,
    "routed_scaling_factor": 2.5}"#;

const GGUF: Table = &[
    ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_a_layernorm", "attn_q_a_norm"),
    ("self_attn.q_b_proj", "attn_q_b"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    ("self_attn.kv_b_proj", "attn_kv_b"),
    ("self_attn.k_b_proj", "attn_k_b"),
    ("self_attn.v_b_proj", "attn_v_b"),
    ("self_attn.indexer.wq_b", "indexer.attn_q_b"),
    ("self_attn.indexer.wk", "indexer.attn_k"),
    ("self_attn.indexer.k_norm", "indexer.k_norm"),
    ("self_attn.indexer.weights_proj", "indexer.proj"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
    ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
    ("mlp.experts.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.up_proj", "ffn_up_exps"),
    ("mlp.experts.down_proj", "ffn_down_exps"),
];

/// The norms of the latent vectors have this epsilon whatever `rms_norm_eps` is.
const LATENT_EPS: f32 = 1e-6;

fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    let hidden = config.size("hidden_size")?;
    let widths = Widths::of(config)?;
    refuse(config)?;
    let mut rope = Rope::from_config(config, widths.rotated)?;
    if config.dialect() == Dialect::Gguf {
        rope.attention_factor = 1.0; // the files' other readers multiply it in and divide it out again
    }
    let (vocab, embedding, head) = builder.embedding(hidden)?;
    let mut layers = Vec::new();
    for index in 0..config.layers()? {
        let place = Place::Layer(index);
        let mixer_norm = builder.norm(place, "input_layernorm", hidden)?;
        let mixer = Mixer::Latent(latent(builder, place, hidden, &widths)?);
        let ffn_norm = builder.norm(place, "post_attention_layernorm", hidden)?;
        let ffn = match is_mixture(config, index)? {
            true => Ffn::Moe(mixture(builder, place, hidden)?),
            false => Ffn::Gated(gated(builder, place, "mlp", config.size("intermediate_size")?, hidden)?),
        };
        layers.push(LayerPlan::new(mixer_norm, mixer, ffn_norm, ffn));
    }
    let last = builder.norm(Place::Global, "norm", hidden)?;
    builder.plain_plan(hidden, vocab, embedding, head, vec![rope], layers, last)
}

/// Switches that this translation does not know.
fn refuse(config: &Config) -> Result<(), PlanError> {
    config.only("hidden_act", &["silu"])?;
    if config.flag("attention_bias")? {
        return Err(config.unsupported("attention_bias"));
    }
    // Dimensions turn in pairs.
    if config.get("rope_interleave").is_some() && !config.flag("rope_interleave")? {
        return Err(config.unsupported("rope_interleave"));
    }
    // The original then does not scale, other implementations do not renormalise.
    let gguf = config.dialect() == Dialect::Gguf;
    if !gguf && config.family() == "deepseek_v2" && config.flag("norm_topk_prob")? {
        return Err(config.unsupported("norm_topk_prob"));
    }
    let kind = if config.get("index_topk").is_some() { "indexed_attention" } else { "full_attention" };
    match config.layer_types(config.layers()?)? {
        Some(kinds) if kinds.iter().any(|&listed| listed != kind) => Err(config.unsupported("layer_types")),
        _ => Ok(()),
    }
}

/// Widths of latent attention.
struct Widths {
    heads: usize,
    plain: usize,
    rotated: usize,
    value: usize,
    rank: usize,
    q_rank: Option<usize>,
    scale: f32,
}

impl Widths {
    fn of(config: &Config) -> Result<Widths, PlanError> {
        let (head, rotated, value) = match config.dialect() {
            Dialect::HuggingFace => {
                let rotated = config.size("qk_rope_head_dim")?;
                (config.size("qk_nope_head_dim")? + rotated, rotated, config.size("v_head_dim")?)
            }
            Dialect::Gguf => {
                let or =
                    |key, old| if config.get(key).is_some() { config.size(key) } else { config.size(old) };
                (
                    or("qk_head_dim", "head_dim")?,
                    config.size("rope_dim")?,
                    or("v_head_dim", "value_head_dim")?,
                )
            }
        };
        if rotated % 2 != 0 || head <= rotated {
            return Err(config.bad("qk_rope_head_dim", "an even number below the width of a query head"));
        }
        let q_rank = match config.usize("q_lora_rank")? {
            Some(_) => Some(config.size("q_lora_rank")?),
            None => None,
        };
        let scale = mscale(config)?.powi(2) / (head as f32).sqrt();
        let (heads, rank) = (config.size("num_attention_heads")?, config.size("kv_lora_rank")?);
        Ok(Widths { heads, plain: head - rotated, rotated, value, rank, q_rank, scale })
    }
}

/// What YaRN multiplies queries and keys by, each.
fn mscale(config: &Config) -> Result<f32, PlanError> {
    let key = if config.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    let factor = config.f32(&format!("{key}.factor"))?.unwrap_or(1.0);
    let slope = match config.dialect() {
        Dialect::HuggingFace => 0.1 * config.f32(&format!("{key}.mscale_all_dim"))?.unwrap_or(0.0),
        Dialect::Gguf => config.f32(&format!("{key}.yarn_log_multiplier"))?.unwrap_or(0.0),
    };
    Ok(if factor > 1.0 { slope * factor.ln() + 1.0 } else { 1.0 })
}

fn latent(
    builder: &mut Builder<'_>,
    place: Place,
    hidden: usize,
    widths: &Widths,
) -> Result<Latent, PlanError> {
    let Widths { heads, plain, rotated, value, rank, q_rank, scale } = *widths;
    let norm = |builder: &mut Builder<'_>, module: &str, dim: usize| {
        builder.norm(place, module, dim).map(|norm| Norm { eps: LATENT_EPS, ..norm })
    };
    let wide = heads * (plain + rotated);
    let (q_down, q) = match q_rank {
        None => (None, builder.linear(place, "self_attn.q_proj", (wide, hidden), false)?),
        Some(rank) => {
            let linear = builder.linear(place, "self_attn.q_a_proj", (rank, hidden), false)?;
            let norm = norm(builder, "self_attn.q_a_layernorm", rank)?;
            let q = builder.linear(place, "self_attn.q_b_proj", (wide, rank), false)?;
            (Some(Down { linear, norm }), q)
        }
    };
    let kv = builder.linear(place, "self_attn.kv_a_proj_with_mqa", (rank + rotated, hidden), false)?;
    let kv_norm = norm(builder, "self_attn.kv_a_layernorm", rank)?;
    let (absorb, expand) = up(builder, place, widths)?;
    let index = match (q_rank, builder.config.usize("index_topk")?) {
        (_, None) => None,
        (None, _) => return Err(builder.config.missing("q_lora_rank")),
        (Some(q_rank), _) => Some(index(builder, place, hidden, q_rank, rotated)?),
    };
    Ok(Latent {
        heads,
        plain,
        rotated,
        rank,
        value_dim: value,
        q_down,
        q,
        kv,
        kv_norm,
        absorb,
        expand,
        o: builder.linear(place, "self_attn.o_proj", (hidden, heads * value), false)?,
        rope: 0,
        scale,
        index,
    })
}

/// The projections from the latent space, per head: in one matrix, or (newer GGUF files) apart.
fn up(
    builder: &mut Builder<'_>,
    place: Place,
    widths: &Widths,
) -> Result<(Vec<Linear>, Vec<Linear>), PlanError> {
    let Widths { heads, plain, value, rank, .. } = *widths;
    let (mut absorb, mut expand) = (Vec::new(), Vec::new());
    let apart = builder.has(place, "self_attn.k_b_proj", "weight");
    for head in 0..heads {
        let mut part =
            |module: &str, file: &[usize], start: usize, (rows, cols): (usize, usize), transposed: bool| {
                let source = Source { rows: Rows::from(start), transposed, ..Source::default() };
                let weight =
                    builder.tensor(place, module, "weight", file, &[rows, cols], Role::Matrix, source)?;
                Ok::<Linear, PlanError>(Linear { weight, bias: None, rows, cols })
            };
        if apart {
            absorb.push(part(
                "self_attn.k_b_proj",
                &[heads, rank, plain],
                head * rank,
                (rank, plain),
                false,
            )?);
            expand.push(part(
                "self_attn.v_b_proj",
                &[heads, value, rank],
                head * value,
                (value, rank),
                false,
            )?);
        } else {
            let (module, file) = ("self_attn.kv_b_proj", [heads * (plain + value), rank]);
            let start = head * (plain + value);
            absorb.push(part(module, &file, start, (rank, plain), true)?);
            expand.push(part(module, &file, start + plain, (value, rank), false)?);
        }
    }
    Ok((absorb, expand))
}

/// The index of V3.2; it rotates half-split, unlike the attention.
fn index(
    builder: &mut Builder<'_>,
    place: Place,
    hidden: usize,
    q_rank: usize,
    rotated: usize,
) -> Result<Index, PlanError> {
    let config = builder.config;
    let (heads, dim) = (config.size("index_n_heads")?, config.size("index_head_dim")?);
    if dim < rotated {
        return Err(config.bad("index_head_dim", "at least qk_rope_head_dim"));
    }
    let module = |name: &str| format!("self_attn.indexer.{name}");
    Ok(Index {
        heads,
        dim,
        q: builder.linear(place, &module("wq_b"), (heads * dim, q_rank), false)?,
        k: builder.linear(place, &module("wk"), (dim, hidden), false)?,
        k_norm: (
            builder.vector(place, &module("k_norm"), "weight", dim)?,
            builder.vector(place, &module("k_norm"), "bias", dim)?,
        ),
        k_eps: 1e-6,
        weights: builder.linear(place, &module("weights_proj"), (heads, hidden), false)?,
        top_k: config.size("index_topk")?,
        rope: 0,
        pairing: Pairing::Half,
    })
}

fn is_mixture(config: &Config, index: usize) -> Result<bool, PlanError> {
    if let Some(kinds) = config.get("mlp_layer_types") {
        return match kinds.get(index).and_then(|kind| kind.as_str()) {
            Some("dense") => Ok(false),
            Some("sparse") => Ok(true),
            _ => Err(config.bad("mlp_layer_types", "\"dense\" or \"sparse\" for each layer")),
        };
    }
    let first = config.usize("first_k_dense_replace")?.unwrap_or(0);
    Ok(index >= first && index.is_multiple_of(config.usize("moe_layer_freq")?.unwrap_or(1).max(1)))
}

fn mixture(builder: &mut Builder<'_>, place: Place, hidden: usize) -> Result<Moe, PlanError> {
    let config = builder.config;
    let (experts, width) = (config.size("n_routed_experts")?, config.size("moe_intermediate_size")?);
    let top_k = config.size("num_experts_per_tok")?;
    if top_k > experts {
        return Err(config.bad("num_experts_per_tok", "at most the number of experts"));
    }
    let router = router(builder, place, hidden, experts, top_k)?;
    let shared = match config.usize("n_shared_experts")?.unwrap_or(0) {
        0 => None,
        n => {
            let mlp = gated(builder, place, "mlp.shared_experts", n * width, hidden)?;
            Some(SharedExpert { mlp, gate: None })
        }
    };
    Ok(Moe {
        router,
        experts: builder.experts(place, "mlp.experts", PROJECTIONS, experts, (hidden, width))?,
        activation: Activation::Silu,
        top_k,
        shared,
    })
}

fn router(
    builder: &mut Builder<'_>,
    place: Place,
    hidden: usize,
    experts: usize,
    top_k: usize,
) -> Result<Router, PlanError> {
    let config = builder.config;
    let score = match (config.dialect(), config.get("scoring_func")) {
        (Dialect::Gguf, _) => match config.usize("expert_gating_func")? {
            None | Some(1) => Score::Softmax,
            Some(2) => Score::Sigmoid,
            Some(_) => return Err(config.unsupported("expert_gating_func")),
        },
        (_, func) => match func.and_then(|func| func.as_str()) {
            Some("softmax") => Score::Softmax,
            Some("sigmoid") => Score::Sigmoid,
            _ => return Err(config.unsupported("scoring_func")),
        },
    };
    // V2 takes the best groups by their best expert, V3 by their two best with the bias.
    let limited = config.usize("n_group")?.unwrap_or(1) > 1;
    let (bias, top) = match (config.dialect(), config.string("topk_method")?.as_deref()) {
        (Dialect::Gguf, _) => match score {
            Score::Softmax => (false, limited.then_some(1)),
            _ => (builder.has(place, "exp_probs_b", "bias"), limited.then_some(2)),
        },
        (_, Some("greedy")) => (false, None),
        (_, Some("group_limited_greedy")) => (false, limited.then_some(1)),
        (_, Some("noaux_tc")) => (true, limited.then_some(2)),
        _ => return Err(config.unsupported("topk_method")),
    };
    let groups = match top {
        None => None,
        Some(top) => Some(groups(config, experts, top, top_k)?),
    };
    let (module, part) = match config.dialect() {
        Dialect::HuggingFace => ("mlp.gate", "e_score_correction_bias"),
        Dialect::Gguf => ("exp_probs_b", "bias"),
    };
    // GGUF says nothing, or 0, where there is nothing to do; the defaults are those of config.json.
    let (renormalize, scale) = match config.dialect() {
        Dialect::HuggingFace => ("norm_topk_prob", "routed_scaling_factor"),
        Dialect::Gguf => ("expert_weights_norm", "expert_weights_scale"),
    };
    let scale = config.f32(scale)?.filter(|&scale| scale != 0.0).unwrap_or(1.0);
    Ok(Router {
        linear: builder.router(place, "mlp.gate", (experts, hidden), false)?,
        input: RouterInput::Normed,
        score,
        selection_bias: if bias { Some(builder.vector(place, module, part, experts)?) } else { None },
        groups,
        table: None,
        renormalize: config.flag(renormalize)?,
        scale,
        expert_scale: None,
    })
}

fn groups(config: &Config, experts: usize, top: usize, top_k: usize) -> Result<Groups, PlanError> {
    let (count, used) = (config.size("n_group")?, config.size("topk_group")?);
    if !experts.is_multiple_of(count) || experts / count < top {
        return Err(config.bad("n_group", "a divisor of the number of experts"));
    }
    if used > count || used * (experts / count) < top_k {
        return Err(config.bad("topk_group", "at most n_group, with as many experts as a token uses"));
    }
    Ok(Groups { count, used, top })
}

fn gated(
    builder: &mut Builder<'_>,
    place: Place,
    module: &str,
    wide: usize,
    hidden: usize,
) -> Result<Gated, PlanError> {
    Ok(Gated {
        gate: builder.linear(place, &format!("{module}.gate_proj"), (wide, hidden), false)?,
        up: builder.linear(place, &format!("{module}.up_proj"), (wide, hidden), false)?,
        down: builder.linear(place, &format!("{module}.down_proj"), (hidden, wide), false)?,
        activation: Activation::Silu,
    })
}
