//! How hard a model is to think, and for how long.

use crate::failure::Failure;
use crate::fields::Fields;
use crate::loaded::Loaded;
use sampan_text::ToolFormat;
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, Failure>;

/// The words for how hard a model should think.
pub(crate) const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// Switches thinking on or off, or sets how hard, in the variables that the model's template knows.
///
/// # Errors
/// When the template has no such switch.
pub(crate) fn effort(
    loaded: &Loaded,
    effort: &str,
    field: &str,
    vars: &mut Map<String, Value>,
) -> Result<()> {
    let template = loaded.speech.template(false)?;
    let format = template.output_format();
    let reasons = format.reasoning.is_some() || format.tools == ToolFormat::Harmony;
    let levels = template.understands("reasoning_effort") && effort != "none";
    // A switch alone has no place for the least: off is nearer to it than on.
    let on = effort != "none" && (levels || effort != "minimal");
    let mut known = levels;
    for switch in ["enable_thinking", "thinking"] {
        if template.understands(switch) {
            known = true;
            vars.entry(switch).or_insert(on.into());
        }
    }
    if levels {
        vars.entry("reasoning_effort").or_insert(level(template.source(), effort).into());
    }
    // A model that always thinks does so when it is told to.
    if known || (on && reasons) {
        return Ok(());
    }
    let why = format!("{field} is {effort:?}, but this model's template has no such switch; leave it out");
    Err(Failure::field(field, "unsupported_value", why))
}

/// The word of a template for a level: its own where it has it, or else the nearest of the three that all have.
fn level<'a>(source: &str, effort: &'a str) -> &'a str {
    let knows = |word: &str| source.contains(&format!("\"{word}\"")) || source.contains(&format!("'{word}'"));
    match effort {
        "minimal" if !knows("minimal") => "low",
        "xhigh" if knows("xhigh") => "xhigh",
        "xhigh" if knows("max") => "max",
        "xhigh" => "high",
        other => other,
    }
}

/// `chat_template_kwargs`: variables of the template. One that it does not look at would be without effect.
pub(crate) fn variables(loaded: &Loaded, fields: &mut Fields) -> Result<Map<String, Value>> {
    const FIELD: &str = "chat_template_kwargs";
    let Some(kwargs) = fields.object(FIELD)? else { return Ok(Map::new()) };
    let vars = kwargs.rest();
    let template = loaded.speech.template(false)?;
    for name in vars.keys() {
        let why = match name.as_str() {
            "messages" | "tools" | "add_generation_prompt" => "is said by a field of its own, if at all",
            _ if template.understands(name) => continue,
            _ => "is a variable that this model's template does not look at; leave it out",
        };
        return Err(fields.wrong(&format!("{FIELD}.{name}"), "unsupported_value", why));
    }
    Ok(vars)
}

/// Tokens that may be spent on reasoning: `max_reasoning_tokens`, which vLLM calls `thinking_token_budget`.
pub(crate) fn limit(fields: &mut Fields) -> Result<Option<usize>> {
    let one = fields.count("max_reasoning_tokens", 0..=1 << 24)?;
    let other = fields.count("thinking_token_budget", 0..=1 << 24)?;
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            let why = "contradicts max_reasoning_tokens; send one of them";
            Err(fields.wrong("thinking_token_budget", "contradiction", why))
        }
        _ => Ok(one.or(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_in_the_words_of_the_template() {
        for (source, effort, expected) in [
            ("{{ reasoning_effort | default('medium') }}", "minimal", "low"),
            ("{{ reasoning_effort }}", "xhigh", "high"),
            ("{% if reasoning_effort == 'max' %}", "xhigh", "max"),
            ("{% if reasoning_effort == \"minimal\" %}", "minimal", "minimal"),
            ("{{ reasoning_effort }}", "low", "low"),
        ] {
            assert_eq!(level(source, effort), expected, "{source} {effort}");
        }
    }
}
