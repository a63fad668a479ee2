//! Gemma 3n: four residual streams of which layers compute one, a low-rank path beside attention, MLPs that keep few
//! of their gates, per-layer embeddings, layers that share keys and values.

use super::gemma::local_layers;
use super::gemma3::{global_rope, local_theta};
use super::gemma4::{Heads, donor, normed_attention, per_layer_inputs};
use super::{Builder, Family, builder::Place};
use crate::config::{Config, Dialect};
use crate::error::PlanError;
use crate::plan::*;
use crate::rope::Rope;
use serde_json::Value;

/// The defaults are those of the reference implementation; files in GGUF leave out the cap on logits too.
pub(super) const FAMILY: Family = Family {
    names: &["gemma3n", "gemma3n_text"],
    translate: plan,
    gguf: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("per_layer_input_gate", "inp_gate"),
        ("per_layer_projection", "proj"),
        ("post_per_layer_input_norm", "post_norm"),
        ("embed_tokens_per_layer", "per_layer_token_embd"),
        ("per_layer_model_projection", "per_layer_model_proj"),
        ("per_layer_projection_norm", "per_layer_proj_norm"),
        ("altup_projections", "altup_proj"),
        ("altup_unembed_projections", "altup_unembd_proj"),
        ("altup.correct_output_scale", "altup_correct_scale.weight"),
        ("altup.correction_coefs", "altup_correct_coef"),
        ("altup.prediction_coefs", "altup_predict_coef"),
        ("altup.modality_router", "altup_router"),
        ("altup.router_norm", "altup_router_norm"),
        ("laurel.linear_left", "laurel_l"),
        ("laurel.linear_right", "laurel_r"),
        ("laurel.post_laurel_norm", "laurel_post_norm"),
    ],
    defaults: r#"{"tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "head_dim": 256,
        "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "sliding_window": 512,
        "sliding_window_pattern": 5, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
        "max_position_embeddings": 32768, "hidden_size_per_layer_input": 256, "num_kv_shared_layers": 15,
        "altup_num_inputs": 4, "altup_active_idx": 0, "altup_correct_scale": true,
        "final_logit_softcapping": 30.0}"#,
};

fn plan(builder: &mut Builder<'_>) -> Result<Plan, PlanError> {
    let config = builder.config;
    let hidden = config.size("hidden_size")?;
    let (vocab, embedding, head) = builder.embedding(hidden)?;
    let local = local_layers(config, config.layers()?)?;
    let shared = config.usize("num_kv_shared_layers")?.unwrap_or(0);
    if shared >= local.len() {
        return Err(config.bad("num_kv_shared_layers", "less than the number of layers"));
    }
    let altup = altup(builder, hidden)?;
    let inputs = per_layer_inputs(builder, local.len(), hidden, vocab)?;
    let width = inputs.ok_or_else(|| config.unsupported("hidden_size_per_layer_input"))?.width;
    let mut layers = Vec::with_capacity(local.len());
    for index in 0..local.len() {
        let keys = donor(&local, local.len() - shared, index).ok_or_else(|| {
            config.bad("num_kv_shared_layers", "fewer, so that a layer of each kind is left")
        })?;
        layers.push(layer(builder, index, (hidden, width), local[index], keys, &altup)?);
    }
    let dim = head_dim(config)?;
    let ropes = vec![global_rope(config, dim)?, Rope::plain(local_theta(config)?, dim)];
    let last = builder.norm(Place::Global, "norm", hidden)?;
    let plan = builder.plain_plan(hidden, vocab, embedding, head, ropes, layers, last)?;
    let final_softcap = config.f32("final_logit_softcapping")?;
    let embedding_scale = (hidden as f32).sqrt();
    Ok(Plan { embedding_scale, per_layer: inputs, final_softcap, altup: Some(altup), ..plan })
}

fn head_dim(config: &Config) -> Result<usize, PlanError> {
    match config.size("head_dim")? {
        dim if dim % 2 == 0 => Ok(dim),
        _ => Err(config.bad("head_dim", "an even number")),
    }
}

fn altup(builder: &mut Builder<'_>, hidden: usize) -> Result<AltUp, PlanError> {
    let config = builder.config;
    let streams = match config.size("altup_num_inputs")? {
        streams @ 2..=64 => streams,
        _ => return Err(config.bad("altup_num_inputs", "a number of streams from 2 to 64")),
    };
    let active = config.usize("altup_active_idx")?.unwrap_or(0);
    if active >= streams {
        return Err(config.bad("altup_active_idx", "less than altup_num_inputs"));
    }
    let mut projections = |module: &str| {
        let further =
            (0..streams - 1).map(|index| further_stream(builder, module, index, streams - 1, hidden));
        further.collect::<Result<Vec<_>, PlanError>>()
    };
    let spread = projections("altup_projections")?;
    let join = projections("altup_unembed_projections")?;
    Ok(AltUp { streams, active, spread, join })
}

/// One of `count` projections of streams, which GGUF files hold in one tensor.
fn further_stream(
    builder: &mut Builder<'_>,
    module: &str,
    index: usize,
    count: usize,
    hidden: usize,
) -> Result<Linear, PlanError> {
    let (place, shape) = (Place::Global, [hidden, hidden]);
    if builder.config.dialect() == Dialect::HuggingFace {
        return builder.linear(place, &format!("{module}.{index}"), (hidden, hidden), false);
    }
    let source = Source { rows: Rows::from(index * hidden), ..Source::default() };
    let file = [count, hidden, hidden];
    let weight = builder.tensor(place, module, "weight", &file, &shape, Role::Matrix, source)?;
    Ok(Linear { weight, bias: None, rows: hidden, cols: hidden })
}

fn layer(
    builder: &mut Builder<'_>,
    index: usize,
    (hidden, width): (usize, usize),
    local: bool,
    keys: usize,
    altup: &AltUp,
) -> Result<LayerPlan, PlanError> {
    let config = builder.config;
    let place = Place::Layer(index);
    let heads = config.size("num_attention_heads")?;
    let kv_heads = builder.kv_heads(index, heads)?;
    let heads = Heads { heads, kv_heads, dim: head_dim(config)?, copied: false };
    let mut sandwich = |before: &str, after: &str| {
        let before = builder.norm(place, before, hidden)?;
        let post = Some(builder.norm(place, after, hidden)?);
        Ok::<_, PlanError>(Sublayer { post, ..Sublayer::plain(before) })
    };
    let mixer_at = sandwich("input_layernorm", "post_attention_layernorm")?;
    let ffn_at = sandwich("pre_feedforward_layernorm", "post_feedforward_layernorm")?;
    let rank = laurel_rank(builder, place)?;
    let laurel = Laurel {
        left: builder.linear(place, "laurel.linear_left", (rank, hidden), false)?,
        right: builder.linear(place, "laurel.linear_right", (hidden, rank), false)?,
        norm: builder.norm(place, "laurel.post_laurel_norm", hidden)?,
    };
    let wide = config.size_at("intermediate_size", index)?;
    let mlp = builder.gated(place, "mlp", hidden, wide, false)?;
    Ok(LayerPlan {
        mixer: Mixer::Attention(normed_attention(builder, index, hidden, local, keys, &heads)?),
        mixer_at: Sublayer { laurel: Some(laurel), ..mixer_at },
        ffn: Ffn::Gated(Gated { activation: activation(builder, index)?, ..mlp }),
        ffn_at,
        per_layer: Some(PerLayerGate {
            gate: builder.linear(place, "per_layer_input_gate", (width, hidden), false)?,
            projection: builder.linear(place, "per_layer_projection", (hidden, width), false)?,
            norm: builder.norm(place, "post_per_layer_input_norm", hidden)?,
        }),
        output_scale: None,
        altup: Some(altup_layer(builder, place, hidden, altup.streams)?),
    })
}

/// GGUF files say it by the shape of the tensor alone.
fn laurel_rank(builder: &Builder<'_>, place: Place) -> Result<usize, PlanError> {
    let (config, key) = (builder.config, "laurel_rank");
    if config.get(key).is_some() || config.dialect() == Dialect::HuggingFace {
        return config.size(key);
    }
    let left = builder.checkpoint.tensor(&builder.name(place, "laurel.linear_left", "weight"));
    left.and_then(|left| left.shape.first().copied()).ok_or_else(|| config.missing(key))
}

fn altup_layer(
    builder: &mut Builder<'_>,
    place: Place,
    hidden: usize,
    streams: usize,
) -> Result<AltUpLayer, PlanError> {
    let scale = "altup.correct_output_scale";
    let gate_scale = match builder.config.flag("altup_correct_scale")? {
        true => Some(builder.vector(place, scale, "", hidden)?),
        false => {
            builder.leave_unread(place, scale, "");
            None
        }
    };
    Ok(AltUpLayer {
        router_norm: builder.norm(place, "altup.router_norm", hidden)?,
        router: builder.router(place, "altup.modality_router", (streams, hidden), false)?,
        predict: builder.router(place, "altup.prediction_coefs", (streams * streams, streams), false)?,
        correct: builder.router(place, "altup.correction_coefs", (streams, streams), false)?,
        gate_scale,
    })
}

/// The function between gate and up of layer `index`: most configurations have the first layers keep few gates.
fn activation(builder: &Builder<'_>, index: usize) -> Result<Activation, PlanError> {
    let config = builder.config;
    let deviations = match config.dialect() {
        // 0 and what is below it (files have minus infinity, which JSON does not) means that all are kept.
        Dialect::Gguf => {
            let key = "activation_sparsity_scale";
            match number_at(config, key, index, true)?.ok_or_else(|| config.missing(key))? {
                scale if scale > 0.0 => Some(scale),
                _ => None,
            }
        }
        // The share of gates that a normal distribution has below the threshold.
        Dialect::HuggingFace => {
            let key = "activation_sparsity_pattern";
            match number_at(config, key, index, false)? {
                None if config.layers()? > 10 && index < 10 => Some(normal_quantile(0.95)),
                None | Some(0.0) => None,
                Some(share) if share > 0.0 && share < 1.0 => Some(normal_quantile(share)),
                Some(_) => return Err(config.bad(key, "numbers from 0 to below 1")),
            }
        }
    };
    match (deviations, builder.activation()?) {
        (None, activation) => Ok(activation),
        (Some(deviations), Activation::GeluTanh) => {
            Ok(Activation::GeluTanhTopK { deviations: deviations as f32 })
        }
        (Some(_), _) => Err(config.unsupported("hidden_activation")),
    }
}

/// The number for a layer, in a list or one for all; `null` in a list is 0 where files may have it.
fn number_at(config: &Config, key: &str, index: usize, null: bool) -> Result<Option<f64>, PlanError> {
    let number = match config.get(key) {
        None => return Ok(None),
        Some(Value::Array(list)) => match list.get(index) {
            Some(Value::Null) if null => Some(0.0),
            number => number.and_then(Value::as_f64),
        },
        Some(number) => number.as_f64(),
    };
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(config.bad(key, "a number for each layer")),
    }
}

/// The number of standard deviations above the mean below which the share `p` of a normal distribution lies: Newton's
/// method, which comes from below for the upper half, on the distribution's series.
fn normal_quantile(p: f64) -> f64 {
    if p < 0.5 {
        return -normal_quantile(1.0 - p);
    }
    let mut z = 0.0;
    for _ in 0..100 {
        let density = (-z * z / 2.0_f64).exp() / std::f64::consts::TAU.sqrt();
        let (mut term, mut sum, mut k) = (z, z, 1.0);
        while term > sum * 1e-17 {
            k += 2.0;
            term *= z * z / k;
            sum += term;
        }
        let step = (p - 0.5 - density * sum) / density;
        if step.abs() < 1e-12 || !step.is_finite() {
            break;
        }
        z += step;
    }
    z
}

/// The share of gates below a threshold in `activation_sparsity_pattern`: of the numbers that mean it, that with the
/// fewest digits.
pub(crate) fn share_below(deviations: f32) -> Value {
    let (mut low, mut high) = (0.5, 1.0 - f64::EPSILON);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        match normal_quantile(middle) < f64::from(deviations) {
            true => low = middle,
            false => high = middle,
        }
    }
    let rounded = |digits: usize| format!("{low:.digits$}").parse::<f64>().unwrap_or(low);
    let same = |share: &f64| *share < 1.0 && normal_quantile(*share) as f32 == deviations;
    (1..17).map(rounded).find(same).unwrap_or(low).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_normal_distribution() {
        // Abramowitz and Stegun, table 26.5.
        for (p, z) in [(0.5, 0.0), (0.1, -1.281_551_6), (0.95, 1.644_853_6), (0.9999, 3.719_016_5)] {
            assert!((normal_quantile(p) - z).abs() < 1e-6, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn shares_are_found_again() {
        for share in [0.5, 0.75, 0.9, 0.95, 0.999] {
            assert_eq!(share_below(normal_quantile(share) as f32), share);
        }
    }
}
