//! What an answer cost: speed, memory, and the share of this machine's limit that was reached.

use crate::render::{Facts, bytes, grouped, three_digits};
use sampan::machine;
use sampan::{Answer, Session};
use sampan_kernels::limits;
use serde_json::{Value, json};

/// The lines of `--stats`.
pub(crate) fn facts(session: &Session, answer: &Answer) -> Facts {
    let usage = answer.usage;
    let speed =
        |speed: Option<f64>| speed.map_or(String::new(), |s| format!(", {} tokens/s", three_digits(s)));
    let mut facts = Facts::default();
    let cached = match usage.cached_tokens {
        0 => String::new(),
        n => format!(" ({} from the cache)", grouped(n as u64)),
    };
    facts.add(
        "prompt",
        format!("{} tokens{cached}{}", grouped(usage.prompt_tokens as u64), speed(answer.prompt_speed())),
    );
    let per_pass = answer.tokens_per_pass();
    let share = answer.generation_speed().map(|tokens_per_s| {
        let model = session.model();
        let limit = limits::measure_bandwidth_of(model.kernels().pool(), model.matrices());
        let share = 100.0 * bytes_per_pass(session, answer) as f64 * tokens_per_s / per_pass / limit;
        format!(
            "; {} % of the {} GB/s that this machine reads",
            three_digits(share),
            three_digits(limit / 1e9)
        )
    });
    facts.add(
        "generation",
        format!(
            "{} tokens{}{}",
            grouped(usage.generated_tokens as u64),
            speed(answer.generation_speed()),
            share.unwrap_or_default()
        ),
    );
    if usage.drafted_tokens > 0 {
        let (right, drafted) = (grouped(usage.accepted_tokens as u64), grouped(usage.drafted_tokens as u64));
        let per_pass = three_digits(per_pass);
        facts.add(
            "speculation",
            format!("{per_pass} tokens per forward pass; {right} of {drafted} proposals right"),
        );
    }
    facts.add("first token", format!("{} s", three_digits(usage.first_token.as_secs_f64())));
    facts.add("loading", format!("{} s", three_digits(session.load_time().as_secs_f64())));
    let planned = bytes(session.memory().total() as u64);
    facts.add(
        "memory",
        match machine::peak_resident() {
            Some(peak) => format!("{} at the most; the plan says {planned} with a full context", bytes(peak)),
            None => format!("the plan says {planned} with a full context"),
        },
    );
    facts.add("seed", answer.seed);
    facts
}

/// Bytes read by a forward pass that generates, on average over the answer.
fn bytes_per_pass(session: &Session, answer: &Answer) -> u64 {
    let context = answer.usage.prompt_tokens + answer.usage.generated_tokens / 2;
    session.plan().decode_bytes(session.model().kernels(), session.kv(), context)
}

/// The object of `--json`.
pub(crate) fn as_json(session: &Session, answer: &Answer) -> Value {
    let usage = answer.usage;
    json!({
        "model": session.name(),
        "text": answer.text,
        "reasoning": answer.reasoning,
        "finish_reason": answer.finish.name(),
        "tokens": {
            "prompt": usage.prompt_tokens,
            "cached": usage.cached_tokens,
            "generated": usage.generated_tokens,
            "drafted": usage.drafted_tokens,
            "accepted": usage.accepted_tokens,
        },
        "timings": {
            "load_s": session.load_time().as_secs_f64(),
            "prefill_s": usage.prefill.as_secs_f64(),
            "first_token_s": usage.first_token.as_secs_f64(),
            "decode_s": usage.decode.as_secs_f64(),
            "prompt_tokens_per_s": answer.prompt_speed(),
            "generated_tokens_per_s": answer.generation_speed(),
        },
        "memory": {
            "peak_bytes": machine::peak_resident(),
            "planned_bytes": session.memory().total(),
        },
        "seed": answer.seed,
    })
}
