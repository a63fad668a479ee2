//! Ollama's API.

pub(crate) mod chat;
mod identity;
pub(crate) mod models;
pub(crate) mod store;

use crate::failure::Failure;
use crate::fields::Fields;
use crate::job::Asked;
use crate::registry::KeepAlive;
use crate::wire;
use sampan_text::strftime;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// The name of a model, in its newer field or in its older one.
fn name(fields: &mut Fields) -> Result<String, Failure> {
    match fields.text("model")?.or(fields.text("name")?) {
        Some(name) => Ok(name),
        None => Err(fields.missing("model")),
    }
}

/// `keep_alive`: seconds, or a text such as `5m`; below 0 for ever.
fn keep_alive(fields: &mut Fields) -> Result<Option<KeepAlive>, Failure> {
    let seconds = match fields.take("keep_alive") {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => duration(&text),
        Some(_) => None,
    };
    match seconds {
        Some(seconds) if seconds < 0.0 => Ok(Some(KeepAlive::Forever)),
        Some(seconds) if seconds < 1e9 => Ok(Some(KeepAlive::For(Duration::from_secs_f64(seconds)))),
        _ => Err(fields.wrong("keep_alive", "wrong_type", "must be seconds, or a time such as \"5m\"")),
    }
}

/// `1h30m`, `90s`, `250ms`, `-1` in seconds.
fn duration(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| end + n);
        seconds += number
            * match &rest[end..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(sign * seconds)
}

/// `options`.
fn options(fields: &mut Fields) -> Result<Asked, Failure> {
    let Some(mut o) = fields.object("options")? else { return Ok(Asked::default()) };
    let asked = Asked {
        temperature: o.number("temperature", 0.0..=100.0)?,
        top_k: o.whole("top_k", -1..=1 << 24)?.map(|k| k.max(0) as usize),
        top_p: o.number("top_p", 0.0..=1.0)?,
        min_p: o.number("min_p", 0.0..=1.0)?,
        typical_p: o.number("typical_p", 0.0..=1.0)?,
        repeat_penalty: o.number("repeat_penalty", 0.01..=100.0)?,
        repeat_last_n: o.count("repeat_last_n", 0..=1 << 24)?,
        presence_penalty: o.number("presence_penalty", -2.0..=2.0)?,
        frequency_penalty: o.number("frequency_penalty", -2.0..=2.0)?,
        seed: o.whole("seed", i64::MIN..=i64::MAX)?.map(|seed| seed as u64),
        max_tokens: o.whole("num_predict", -2..=1 << 24)?.and_then(|n| usize::try_from(n).ok()),
        stop: wire::stop(&mut o, "stop")?,
        context: o.count("num_ctx", 1..=1 << 24)?,
        ..Asked::default()
    };
    o.finish()?;
    Ok(asked)
}

/// A time as RFC 3339 has it.
fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let second = strftime("%FT%T", since.as_secs().cast_signed());
    format!("{second}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_ollama_writes_them() {
        for (text, seconds) in [
            ("5m", Some(300.0)),
            ("1h30m", Some(5400.0)),
            ("-1m", Some(-60.0)),
            ("0", Some(0.0)),
            ("250ms", Some(0.25)),
            ("soon", None),
            ("5x", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }

    #[test]
    fn timestamps_have_the_form_of_rfc_3339() {
        let text = timestamp(SystemTime::now());
        assert!(text.len() == 24 && text.starts_with("20") && text.ends_with('Z'), "{text}");
    }
}
