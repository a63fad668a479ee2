//! The plan that the written file will have.

use super::special::{Has, Special};
use super::{ExportError, order};
use crate::config::Config;
use crate::family::{self, Builder, Draft, Notes, Place};
use crate::plan::*;
use crate::rope::{Rope, Scaling};
use sampan_kernels::Format;
use sampan_kernels::delta::KeyHeads;
use sampan_weights::{Checkpoint, Value};

/// The plan of the file, what is noted beside it, and how it orders rows otherwise than the checkpoint's.
pub(super) struct Drafted {
    pub(super) plan: Plan,
    pub(super) notes: Notes,
    pub(super) orders: order::Orders,
}

/// Makes the plan of a file with the metadata `keys`, and checks that it means the same model as `plan`.
pub(super) fn of(
    checkpoint: &Checkpoint,
    plan: &Plan,
    special: &'static Special,
    keys: &[(String, Value)],
) -> Result<Drafted, ExportError> {
    let get = |key: &str| keys.iter().find(|(k, _)| k == key).map(|(_, value)| value);
    let config = Config::of_gguf(special.arch, get);
    let own_head = plan.head.is_some_and(|head| head.weight != plan.embedding);
    let has = |builder: &Builder<'_>, place: Place, module: &str, part: &str| {
        if module == "lm_head" {
            return own_head;
        }
        match special.has.iter().find(|(name, _)| *name == module) {
            Some((_, Has::Yes)) => true,
            Some((_, Has::No)) => false,
            Some((_, Has::If(module, part))) => builder.original_has(place, module, part),
            None => builder.original_has(place, module, part),
        }
    };
    let names = family::original_names(checkpoint, &Config::read(checkpoint)?)?;
    let stored = |_: &Config, _: &str| Format::F32;
    let draft = Draft { has: &has, names, stored, divisors: divisors(plan), notes: Notes::default() };
    let (drafted, notes) = family::draft(checkpoint, config, draft)?;
    same(special.arch, plan, &drafted)?;
    let orders = order::orders(plan, &drafted);
    Ok(Drafted { plan: drafted, notes, orders })
}

/// What a file divides the plain frequencies by; a frequency of 0 is divided by much.
fn divisors(plan: &Plan) -> Option<Vec<f32>> {
    let rope = plan.ropes.first()?;
    if rope.recipe.scaling != Scaling::Divisors {
        return None;
    }
    let plain = Rope::plain(rope.recipe.base, 2 * rope.frequencies.len());
    let divide = |(plain, scaled): (&f32, &f32)| if *scaled == 0.0 { 1e30 } else { plain / scaled };
    Some(plain.frequencies.iter().zip(&rope.frequencies).map(divide).collect())
}

/// Compares the meaning of two plans of one model: everything but where tensors lie, how rows are ordered, and
/// whether a model without a head gets the embedding as one.
fn same(arch: &str, plan: &Plan, drafted: &Plan) -> Result<(), ExportError> {
    let differ = |what: &str, wanted: &dyn std::fmt::Debug, read: &dyn std::fmt::Debug| {
        let (wanted, read) = (format!("{wanted:?}"), format!("{read:?}"));
        if wanted == read {
            return Ok(());
        }
        let (wanted, read) = difference(&wanted, &read);
        Err(ExportError::NotSaid { arch: arch.to_string(), what: what.to_string(), wanted, read })
    };
    differ(
        "the sizes",
        &(plan.hidden, plan.vocab, plan.context),
        &(drafted.hidden, drafted.vocab, drafted.context),
    )?;
    differ("the embedding's factor", &plan.embedding_scale, &drafted.embedding_scale)?;
    differ("the per-layer embedding", &plan.per_layer, &drafted.per_layer)?;
    differ("the number of layers", &plan.layers.len(), &drafted.layers.len())?;
    for (index, (layer, read)) in plan.layers.iter().zip(&drafted.layers).enumerate() {
        let (layer, read) = (unordered(layer), unordered(read));
        differ(&format!("the mixer of layer {index}"), &layer.mixer, &read.mixer)?;
        differ(&format!("the feed-forward part of layer {index}"), &layer.ffn, &read.ffn)?;
        differ(&format!("layer {index}"), &layer, &read)?;
    }
    differ("the last norm", &plan.norm, &drafted.norm)?;
    if plan.head.is_some() {
        differ("the head", &plan.head, &drafted.head)?;
    }
    differ("the streams", &(&plan.hyper, &plan.altup), &(&drafted.hyper, &drafted.altup))?;
    differ("the bound of logits", &plan.final_softcap, &drafted.final_softcap)?;
    differ("the number of ropes", &plan.ropes.len(), &drafted.ropes.len())?;
    for (rope, read) in plan.ropes.iter().zip(&drafted.ropes) {
        if !alike(rope, read) {
            differ("the rope", rope, read)?;
        }
    }
    differ("the number of tensors", &plan.tensors.len(), &drafted.tensors.len())
}

/// The field of two descriptions in which they first differ.
fn difference(a: &str, b: &str) -> (String, String) {
    let at = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    let start = a[..at].rfind([',', '{', '[']).map_or(0, |border| border + 1);
    let field = |text: &str| {
        let end = text[at..].find([',', '}', ']']).map_or(text.len(), |length| at + length);
        text[start..end].trim().to_string()
    };
    (field(a), field(b))
}

/// A layer without what [`order`] makes up for.
fn unordered(layer: &LayerPlan) -> LayerPlan {
    let mut layer = layer.clone();
    match &mut layer.mixer {
        Mixer::Attention(attention) => attention.pairing = sampan_kernels::ops::Pairing::Half,
        Mixer::Delta(delta) => delta.shape.order = KeyHeads::Grouped,
        _ => {}
    }
    layer
}

/// Whether two ropes turn alike: dividing by a quotient may round.
fn alike(a: &Rope, b: &Rope) -> bool {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 2.0 * f32::EPSILON * a.abs().max(b.abs()) + 1e-20;
    a.attention_factor == b.attention_factor
        && a.frequencies.len() == b.frequencies.len()
        && a.frequencies.iter().zip(&b.frequencies).all(near)
}
