//! What the fields of several APIs have in common.

use crate::answer::Scored;
use crate::failure::Failure;
use crate::fields::Fields;
use crate::job::Asked;
use crate::loaded::Loaded;
use sampan_facade::random_seed;
use serde_json::{Map, Value, json};
use std::time::SystemTime;

type Result<T> = std::result::Result<T, Failure>;

/// Choices that one request may ask for.
const MOST_CHOICES: usize = 128;

/// The most that makes sense for a token count.
const MOST_TOKENS: usize = 1 << 24;

/// Sampling as OpenAI's APIs and those like them name it, and what vLLM and llama.cpp add to it.
pub(crate) fn sampling(fields: &mut Fields) -> Result<Asked> {
    let max_tokens = most(fields, "max_tokens")?;
    let completion = most(fields, "max_completion_tokens")?;
    if max_tokens.is_some() && completion.is_some() && max_tokens != completion {
        return Err(fields.wrong(
            "max_tokens",
            "contradiction",
            "contradicts max_completion_tokens; send one of them",
        ));
    }
    let stop_tokens = match fields.list("stop_token_ids")? {
        None => Vec::new(),
        Some(ids) => tokens(fields, "stop_token_ids", &ids)?,
    };
    let asked = Asked {
        temperature: fields.number("temperature", 0.0..=100.0)?,
        top_k: top_k(fields)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        min_p: fields.number("min_p", 0.0..=1.0)?,
        typical_p: fields.number("typical_p", 0.0..=1.0)?,
        repeat_penalty: repeat_penalty(fields)?,
        repeat_last_n: fields.count("repeat_last_n", 0..=MOST_TOKENS)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
        seed: fields.whole("seed", i64::MIN..=i64::MAX)?.map(|seed| seed as u64),
        max_tokens: completion.or(max_tokens),
        stop: stop(fields, "stop")?,
        stop_tokens,
        ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
        logit_bias: logit_bias(fields)?,
        context: None,
    };
    Ok(asked)
}

/// A number of tokens; -1, as llama.cpp and LM Studio have it, for as many as the context holds.
fn most(fields: &mut Fields, field: &str) -> Result<Option<usize>> {
    let number = fields.whole(field, -1..=MOST_TOKENS as i64)?;
    Ok(number.map(|number| usize::try_from(number).unwrap_or(MOST_TOKENS)))
}

/// `top_k`, where -1 and 0 both mean all.
fn top_k(fields: &mut Fields) -> Result<Option<usize>> {
    Ok(fields.whole("top_k", -1..=MOST_TOKENS as i64)?.map(|k| k.max(0) as usize))
}

/// `repetition_penalty`, which llama.cpp and Ollama call `repeat_penalty`.
fn repeat_penalty(fields: &mut Fields) -> Result<Option<f32>> {
    let one = fields.number("repetition_penalty", 0.01..=100.0)?;
    let other = fields.number("repeat_penalty", 0.01..=100.0)?;
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(fields.wrong(
            "repeat_penalty",
            "contradiction",
            "contradicts repetition_penalty; send one of them",
        )),
        _ => Ok(one.or(other)),
    }
}

/// Stop strings.
pub(crate) fn stop(fields: &mut Fields, field: &str) -> Result<Vec<String>> {
    let stops = fields.texts(field)?.unwrap_or_default();
    if stops.len() > 64 {
        return Err(fields.wrong(field, "too_many", format!("has {} entries; 64 are the most", stops.len())));
    }
    match stops.iter().any(String::is_empty) {
        true => Err(fields.wrong(
            field,
            "empty_string",
            "has an empty string, which would end every answer at once",
        )),
        false => Ok(stops),
    }
}

/// `{"token id": bias}`; -100 and less forbids a token.
fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>> {
    let Some(map) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let entry = |(id, bias): (String, Value)| {
        let wrong = |why: &str| {
            Failure::field(format!("logit_bias.{id}"), "wrong_type", format!("logit_bias.{id} {why}"))
        };
        let token = id.parse().map_err(|_| wrong("is no token id"))?;
        let bias = bias.as_f64().filter(|b| (-100.0..=100.0).contains(b));
        let bias = bias.ok_or_else(|| wrong("must be a number from -100 to 100"))? as f32;
        Ok((token, if bias <= -100.0 { f32::NEG_INFINITY } else { bias }))
    };
    map.rest().into_iter().map(entry).collect()
}

/// `n`.
pub(crate) fn choices(fields: &mut Fields) -> Result<usize> {
    Ok(fields.count("n", 1..=MOST_CHOICES)?.unwrap_or(1))
}

/// A list of token ids.
pub(crate) fn tokens(fields: &Fields, field: &str, list: &[Value]) -> Result<Vec<u32>> {
    let id = |(at, value): (usize, &Value)| {
        let id = value.as_u64().and_then(|n| u32::try_from(n).ok());
        id.ok_or_else(|| fields.wrong(&format!("{field}[{at}]"), "wrong_type", "is no token id"))
    };
    list.iter().enumerate().map(id).collect()
}

/// Whether the stream is wanted, and whether its usage is: `stream` and `stream_options`.
pub(crate) fn streaming(fields: &mut Fields) -> Result<(bool, bool)> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let Some(mut options) = fields.object("stream_options")? else { return Ok((stream, false)) };
    if !stream {
        return Err(fields.wrong("stream_options", "contradiction", "needs stream: true"));
    }
    let usage = options.flag("include_usage")?.unwrap_or(false);
    options.only("include_obfuscation", &[json!(false)])?;
    options.finish()?;
    Ok((stream, usage))
}

/// Fields that say who asks or what is done anyway.
pub(crate) fn harmless(fields: &mut Fields) -> Result<()> {
    for label in ["user", "safety_identifier", "prompt_cache_key"] {
        fields.text(label)?;
    }
    fields.only("store", &[json!(false)])?;
    fields.only("service_tier", &[json!("auto"), json!("default")])?;
    fields.only("metadata", &[json!({})])
}

/// A token's text as it stands by itself.
pub(crate) fn token_text(loaded: &Loaded, token: u32) -> (String, Vec<u8>) {
    let bytes = loaded.speech.tokenizer.token_bytes(token).unwrap_or_default().to_vec();
    (String::from_utf8_lossy(&bytes).into_owned(), bytes)
}

/// Log-probabilities as the chat API gives them.
pub(crate) fn chat_logprobs(loaded: &Loaded, scores: &[Scored]) -> Value {
    let entry = |token: u32, logprob: f32| {
        let (text, bytes) = token_text(loaded, token);
        json!({"token": text, "logprob": logprob, "bytes": bytes})
    };
    let scored = |s: &Scored| {
        let mut value = entry(s.token, s.logprob.unwrap_or(0.0));
        value["top_logprobs"] = s.top.iter().map(|&(token, logprob)| entry(token, logprob)).collect();
        value
    };
    json!({"content": scores.iter().map(scored).collect::<Vec<_>>(), "refusal": null})
}

/// Log-probabilities as the older completions API gives them; `offset` is where the first token's text begins, in
/// characters.
pub(crate) fn text_logprobs(loaded: &Loaded, scores: &[Scored], mut offset: usize) -> (Value, usize) {
    let (mut tokens, mut logprobs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for score in scores {
        let (text, _) = token_text(loaded, score.token);
        offsets.push(offset);
        offset += text.chars().count();
        tops.push(score.logprob.map(|logprob| {
            // The likeliest first: of tokens that look alike, which are parts of characters, the first one counts. The token
            // itself is always among them.
            let mut top = Map::new();
            for &(token, logprob) in score.top.iter().chain([&(score.token, logprob)]) {
                top.entry(token_text(loaded, token).0).or_insert(json!(logprob));
            }
            top
        }));
        tokens.push(text);
        logprobs.push(score.logprob);
    }
    let value = json!({
        "tokens": tokens,
        "token_logprobs": logprobs,
        "top_logprobs": tops,
        "text_offset": offsets,
    });
    (value, offset)
}

/// Log-probabilities of a prompt as vLLM gives them: for each token an object by token ids.
pub(crate) fn prompt_logprobs(loaded: &Loaded, scores: &[Scored]) -> Value {
    let scored = |score: &Scored| {
        let logprob = score.logprob?;
        let mut tokens = Map::new();
        let top = score.top.iter().enumerate().map(|(at, &(token, logprob))| (token, logprob, Some(at + 1)));
        for (token, logprob, rank) in top.chain([(score.token, logprob, None)]) {
            let text = token_text(loaded, token).0;
            let value = json!({"logprob": logprob, "rank": rank, "decoded_token": text});
            tokens.entry(token.to_string()).or_insert(value);
        }
        Some(tokens)
    };
    scores.iter().map(scored).collect()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// An id that no other answer has.
pub(crate) fn id(prefix: &str) -> String {
    format!("{prefix}{:014x}{:014x}", random_seed(), random_seed())
}
