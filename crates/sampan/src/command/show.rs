//! `sampan show`: what a model is, read from its headers and its plan.

use super::{print, print_json};
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::{ModelArgs, kv_name};
use crate::render::{self, Facts, bytes, grouped};
use clap::Args;
use sampan::{LoadOptions, Plan, Prepared, speech};
use sampan_kernels::Format;
use sampan_model::PAGE;
use sampan_model::plan::{Mixer, Role as PlanRole};
use sampan_weights::{Checkpoint, Dtype};
use serde_json::{Value, json};

/// Say what a model is, how large it is, and what memory it needs.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

pub(crate) fn run(args: ShowArgs, context: &Context) -> Result<()> {
    let source = args.model.source(context, false)?;
    // What does not fit into memory can still be looked at.
    let options = LoadOptions { check_memory: false, ..args.model.load.options() };
    let prepared = match Prepared::new(&source, &options) {
        Ok(prepared) => prepared,
        // Of an unknown family or a bare vocabulary, the files still say something.
        Err(error) => {
            if args.tensors
                && let Ok(checkpoint) = source.open()
            {
                print(&tensor_table(&checkpoint))?;
            }
            return Err(AppError::from(error));
        }
    };
    let report = Report::of(&prepared)?;
    if args.json {
        let mut value = report.json(&prepared);
        if args.tensors {
            value["tensors"] = tensors_json(&prepared.checkpoint);
        }
        return print_json(&value);
    }
    let mut text = report.text(&prepared);
    if args.tensors {
        text.push('\n');
        text.push_str(&tensor_table(&prepared.checkpoint));
    }
    print(&text)
}

/// How much of a checkpoint is in one format.
struct Share {
    dtype: Dtype,
    tensors: usize,
    bytes: u64,
}

fn format_mix(checkpoint: &Checkpoint) -> Vec<Share> {
    let mut mix: Vec<Share> = Vec::new();
    for tensor in checkpoint.tensors() {
        let bytes = tensor.size() as u64;
        match mix.iter_mut().find(|share| share.dtype == tensor.dtype) {
            Some(share) => {
                share.tensors += 1;
                share.bytes += bytes;
            }
            None => mix.push(Share { dtype: tensor.dtype, tensors: 1, bytes }),
        }
    }
    mix.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    mix
}

/// What is not in the plan.
struct Report {
    tokenizer: Option<(&'static str, usize)>,
    tokenizer_problem: Option<String>,
    template: Option<String>,
    licence: Option<String>,
    mix: Vec<Share>,
}

impl Report {
    fn of(prepared: &Prepared) -> Result<Report> {
        let checkpoint = &prepared.checkpoint;
        let made = speech::tokenizer(&prepared.name, checkpoint);
        let kind = match checkpoint.tokenizer()? {
            files if files.tokenizer_json.is_some() => "tokenizer.json",
            files => match files.gguf.as_ref().map(|vocab| vocab.model.as_str()) {
                Some("gpt2") => "GGUF, byte-level BPE",
                Some("llama") => "GGUF, SentencePiece BPE",
                _ => "GGUF",
            },
        };
        Ok(Report {
            tokenizer: made.as_ref().ok().map(|tokenizer| (kind, tokenizer.vocab_size())),
            tokenizer_problem: made.err().map(|error| error.to_string()),
            template: checkpoint.chat_template()?.and_then(|template| template.hash()),
            licence: checkpoint.licence(),
            mix: format_mix(checkpoint),
        })
    }

    fn text(&self, prepared: &Prepared) -> String {
        let Prepared { plan, checkpoint, memory, .. } = prepared;
        let mut facts = Facts::default();
        facts.add("model", &prepared.name);
        facts.add("family", plan.family);
        let (all, active) = (plan.parameters(), plan.active_parameters());
        facts.add("parameters", format!("{} ({})", render::count(all), grouped(all)));
        facts.add("active per token", format!("{} ({})", render::count(active), grouped(active)));
        facts.add("layers", format!("{}: {}", plan.layers.len(), layer_kinds(plan).join("; ")));
        facts.add("heads", heads(prepared));
        facts.add("hidden size", plan.hidden);
        facts.add("context", format!("{} tokens", grouped(plan.context as u64)));
        facts.add("size on disk", bytes(checkpoint.file_bytes()));
        let mix: Vec<String> = self
            .mix
            .iter()
            .map(|s| format!("{:<8} {:>4} tensors  {}", s.dtype.to_string(), s.tensors, bytes(s.bytes)))
            .collect();
        facts.add("formats", mix.join("\n"));
        let held: Vec<String> = held_mix(prepared)
            .iter()
            .map(|(format, tensors, size)| format!("{format:<8} {tensors:>4} tensors  {}", bytes(*size)))
            .collect();
        facts.add("held as", held.join("\n"));
        for item in &plan.set_aside {
            let what = format!("{} in {} tensors, not read", bytes(item.bytes), item.tensors);
            facts.add(item.what, what);
        }
        facts.add(
            "memory needed",
            format!(
                "{} = weights {} + {} tokens of context in {} {} + activations {}",
                bytes(memory.total() as u64),
                bytes(memory.weights as u64),
                grouped(prepared.context as u64),
                kv_name(prepared.kv),
                bytes(memory.kv as u64),
                bytes(memory.scratch as u64),
            ),
        );
        let slot = plan.slot_bytes(prepared.kv, prepared.context.div_ceil(PAGE));
        facts.add(
            "context memory",
            format!(
                "{} for each page of {PAGE} tokens, {} for windows and states of a sequence",
                bytes(plan.kv_bytes_per_page(prepared.kv) as u64),
                bytes(slot as u64),
            ),
        );
        facts.add(
            "tokenizer",
            match (&self.tokenizer, &self.tokenizer_problem) {
                (Some((kind, size)), _) => format!("{kind}, {} tokens", grouped(*size as u64)),
                (None, problem) => problem.clone().unwrap_or_default(),
            },
        );
        facts.add(
            "chat template",
            self.template.as_ref().map_or("none".into(), |hash| format!("sha256 {hash}")),
        );
        facts.add("licence", self.licence.as_deref().unwrap_or("not stated"));
        facts.to_string()
    }

    fn json(&self, prepared: &Prepared) -> Value {
        let Prepared { plan, checkpoint, memory, .. } = prepared;
        let attention = plan.attentions().next();
        let mix: Vec<Value> = self
            .mix
            .iter()
            .map(|s| json!({"format": s.dtype.to_string(), "tensors": s.tensors, "bytes": s.bytes}))
            .collect();
        json!({
            "model": prepared.name,
            "family": plan.family,
            "parameters": plan.parameters(),
            "active_parameters": plan.active_parameters(),
            "layers": plan.layers.len(),
            "layer_kinds": layer_kinds(plan),
            "heads": attention.map(|a| a.heads),
            "kv_heads": attention.map(|a| a.kv_heads),
            "head_dim": attention.map(|a| a.key_dim),
            "hidden": plan.hidden,
            "vocab": plan.vocab,
            "context": plan.context,
            "file_bytes": checkpoint.file_bytes(),
            "formats": mix,
            "held": held_mix(prepared)
                .iter()
                .map(|(format, tensors, bytes)| json!({"format": format.name(), "tensors": tensors, "bytes": bytes}))
                .collect::<Vec<_>>(),
            "set_aside": plan.set_aside
                .iter()
                .map(|item| json!({"what": item.what, "tensors": item.tensors, "bytes": item.bytes}))
                .collect::<Vec<_>>(),
            "memory": {
                "context": prepared.context,
                "kv_format": kv_name(prepared.kv),
                "weights_bytes": memory.weights,
                "kv_bytes": memory.kv,
                "page_tokens": PAGE,
                "page_bytes": plan.kv_bytes_per_page(prepared.kv),
                "sequence_state_bytes": plan.slot_bytes(prepared.kv, prepared.context.div_ceil(PAGE)),
                "scratch_bytes": memory.scratch,
                "total_bytes": memory.total(),
            },
            "tokenizer": self.tokenizer.map(|(kind, size)| json!({"kind": kind, "size": size})),
            "template_sha256": self.template,
            "licence": self.licence,
        })
    }
}

/// Matrices in memory by format: how many, and their packed bytes.
fn held_mix(prepared: &Prepared) -> Vec<(Format, usize, u64)> {
    let mut mix: Vec<(Format, usize, u64)> = Vec::new();
    for spec in prepared.plan.kept().filter(|spec| spec.role == PlanRole::Matrix) {
        let (rows, cols) = spec.rows_cols();
        let bytes = prepared.kernels.packed_bytes(spec.format, rows, cols) as u64;
        match mix.iter_mut().find(|(format, ..)| *format == spec.format) {
            Some((_, tensors, sum)) => {
                *tensors += 1;
                *sum += bytes;
            }
            None => mix.push((spec.format, 1, bytes)),
        }
    }
    mix.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
    mix
}

/// `18 delta rule, 6 attention`, `window 512 in 22 of 26 layers`, `128 experts, 8 per token`, `latent 512+64`.
fn layer_kinds(plan: &Plan) -> Vec<String> {
    fn count(list: &mut Vec<(String, usize)>, what: String) {
        match list.iter_mut().find(|(known, _)| *known == what) {
            Some((_, n)) => *n += 1,
            None => list.push((what, 1)),
        }
    }
    let (mut mixers, mut details) = (Vec::new(), Vec::new());
    for layer in &plan.layers {
        match &layer.mixer {
            Mixer::Attention(a) => {
                count(&mut mixers, "attention".into());
                if let Some(window) = a.window {
                    count(&mut details, format!("window {window}"));
                }
            }
            Mixer::Latent(l) => {
                count(&mut mixers, "latent attention".into());
                count(&mut details, format!("latent {}+{}", l.rank, l.rotated));
            }
            Mixer::Compressed(_) => count(&mut mixers, "compressed attention".into()),
            Mixer::Delta(_) => count(&mut mixers, "delta rule".into()),
        }
        if let Some(moe) = layer.ffn.moe() {
            count(&mut details, format!("{} experts, {} per token", moe.experts.len(), moe.top_k));
        }
    }
    let layers = plan.layers.len();
    let mixers: Vec<String> = mixers.iter().map(|(what, n)| format!("{n} {what}")).collect();
    let detail = |(what, n): (String, usize)| match n == layers {
        true => what,
        false => format!("{what} in {n} of {layers} layers"),
    };
    [mixers.join(", ")].into_iter().chain(details.into_iter().map(detail)).collect()
}

fn heads(prepared: &Prepared) -> String {
    match prepared.plan.attentions().next() {
        Some(a) => {
            format!("{} for queries, {} for keys and values, of width {}", a.heads, a.kv_heads, a.key_dim)
        }
        None => match &prepared.plan.layers.first().map(|layer| &layer.mixer) {
            Some(Mixer::Latent(l)) => {
                format!("{} over latent vectors of {} and {} rotated numbers", l.heads, l.rank, l.rotated)
            }
            Some(Mixer::Compressed(c)) => format!("{} of width {}", c.heads, c.head_dim),
            _ => "none".into(),
        },
    }
}

fn tensor_table(checkpoint: &Checkpoint) -> String {
    let rows: Vec<Vec<String>> = checkpoint
        .tensors()
        .map(|t| {
            let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
            vec![t.name.to_owned(), t.dtype.to_string(), shape.join(" x "), grouped(t.size() as u64)]
        })
        .collect();
    render::table(&["tensor", "format", "shape", "bytes"], &rows)
}

fn tensors_json(checkpoint: &Checkpoint) -> Value {
    let one = |t: sampan_weights::Tensor<'_>| json!({"name": t.name, "format": t.dtype.to_string(), "shape": t.shape, "bytes": t.size()});
    checkpoint.tensors().map(one).collect()
}
