//! The plan that the written file will have.

use super::special::Has;
use super::{ExportError, order};
use crate::config::{Config, Dialect};
use crate::family::{self, Builder, Draft, Notes, Place};
use crate::plan::*;
use crate::rope::{Rope, Scaling};
use sampan_kernels::Format;
use sampan_kernels::delta::KeyHeads;
use sampan_weights::Checkpoint;

/// The plan of the file, what is noted beside it, and how it orders rows otherwise than the checkpoint's.
pub(crate) struct Drafted {
    pub(crate) plan: Plan,
    pub(super) notes: Notes,
    pub(super) orders: order::Orders,
}

impl Drafted {
    /// The tensors of `plan` with what each is in the file, and how its rows or columns are ordered there.
    pub(crate) fn pairs<'a>(
        &'a self,
        plan: &'a Plan,
    ) -> impl Iterator<Item = (TensorId, &'a TensorSpec, Option<&'a order::Order>)> {
        let kept = |(_, spec): &(TensorId, &'a TensorSpec)| spec.role != Role::Constant;
        let ours = plan.tensors.iter().enumerate().filter(kept);
        let drafted = self.plan.tensors.iter().enumerate().filter(kept);
        ours.zip(drafted).map(|((id, _), (_, to))| (id, to, self.orders.get(&id)))
    }
}

/// A kind of file as far as plans depend on it.
pub(super) struct Form<'a> {
    /// For messages: whose words describe the model.
    pub(super) words: String,
    /// The model in these words.
    pub(super) config: Config,
    /// Modules that are in the file or not, whatever the checkpoint has.
    pub(super) has: &'a [(&'static str, Has)],
    /// What its names begin with, if they are those of Hugging Face.
    pub(super) prefix: &'static str,
}

/// Makes the plan of a file of this form, and checks that it means the same model as `plan`.
pub(super) fn of(checkpoint: &Checkpoint, plan: &Plan, form: Form<'_>) -> Result<Drafted, ExportError> {
    let own_head = plan.head.is_some_and(|head| head.weight != plan.embedding);
    let has = |builder: &Builder<'_>, place: Place, module: &str, part: &str| {
        if module == "lm_head" {
            return own_head;
        }
        match form.has.iter().find(|(name, _)| *name == module) {
            Some((_, Has::Yes)) => true,
            Some((_, Has::No)) => false,
            Some((_, Has::If(module, part))) => builder.original_has(place, module, part),
            None => builder.original_has(place, module, part),
        }
    };
    let names = family::original_names(checkpoint, &Config::read(checkpoint)?)?;
    let divisors = if form.config.dialect() == Dialect::Gguf { divisors(plan) } else { None };
    let (stored, prefix) = (|_: &Config, _: &str| Format::F32, form.prefix);
    let draft = Draft { has: &has, names, prefix, stored, divisors, notes: Notes::default() };
    let (drafted, notes) = family::draft(checkpoint, form.config, draft)?;
    same(&form.words, plan, &drafted)?;
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
fn same(words: &str, plan: &Plan, drafted: &Plan) -> Result<(), ExportError> {
    let differ = |what: &str, wanted: &dyn std::fmt::Debug, read: &dyn std::fmt::Debug| {
        let (wanted, read) = (format!("{wanted:?}"), format!("{read:?}"));
        if wanted == read {
            return Ok(());
        }
        let (wanted, read) = difference(&wanted, &read);
        Err(ExportError::NotSaid { words: words.to_string(), what: what.to_string(), wanted, read })
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
        let (layer, mut read) = (unordered(layer), unordered(read));
        round_alike(&layer, &mut read);
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
    differ("the number of tensors", &plan.kept().count(), &drafted.kept().count())
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

/// Whether two numbers differ by no more than rounding, as of a quotient that is multiplied again.
fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 2.0 * f32::EPSILON * a.abs().max(b.abs()) + 1e-20
}

/// Lets the factor on a layer's scores, which files say by way of others, be what rounding makes of it.
fn round_alike(layer: &LayerPlan, read: &mut LayerPlan) {
    match (&layer.mixer, &mut read.mixer) {
        (Mixer::Attention(a), Mixer::Attention(b)) if near(a.scale, b.scale) => b.scale = a.scale,
        (Mixer::Latent(a), Mixer::Latent(b)) if near(a.scale, b.scale) => b.scale = a.scale,
        _ => {}
    }
}

/// Whether two ropes turn alike: dividing by a quotient may round.
pub(super) fn alike(a: &Rope, b: &Rope) -> bool {
    near(a.attention_factor, b.attention_factor)
        && a.frequencies.len() == b.frequencies.len()
        && a.frequencies.iter().zip(&b.frequencies).all(|(a, b)| near(*a, *b))
}
