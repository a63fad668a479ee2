//! Chat templates from strangers, with messages from others: they come to an end, and what a user typed never becomes a
//! control token.

use sampan_text::{ChatTemplate, TemplateOptions};
use serde_json::{Map, json};

/// What sources are made of; other bytes stand for themselves.
const PIECES: &[&str] = &[
    "{{ ", " }}", "{% ", " %}", "{%- ", " -%}", "{# ", " #}", "for m in messages", "endfor", "if ", "elif ", "else", "endif",
    "set x = ", "set ns = namespace(a=1)", "ns.a", "macro f(a)", "endmacro", "f(", "messages", "messages[0]", "m", "m.role",
    "m.content", "m['content']", "tools", "loop.index0", "loop.last", "bos_token", "add_generation_prompt", "x", "~", " + ",
    " in ", " is defined", " is none", " not ", " and ", "|trim", "|tojson", "|length", "|upper", "|join(',')",
    ".split('</think>')", ".startswith('<')", ".strip()", ".lstrip('\n')", ".replace('a', 'b')", "[-1]", "[1:]", "range(9)",
    "range(99999999)", "raise_exception('no')", "strftime_now('%Y')", "'<|im_start|>'", "'<|im_end|>'", "'<|'", "'|>'", "'a'",
    "1", "(", ")", "[", "]", ", ", "**", " * 999", "'a'.ljust(99999999)", "break", "continue", "generation", "endgeneration",
];
const MARKERS: [&str; 4] = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"];

#[test]
fn templates() {
    bolero::check!().with_max_len(96).with_iterations(5_000).for_each(|input: &[u8]| {
        let (&ways, rest) = input.split_first().unwrap_or((&0, &[]));
        let source: String = rest
            .iter()
            .map(|&b| PIECES.get(usize::from(b)).map_or_else(|| char::from(b).to_string(), |piece| (*piece).to_owned()))
            .collect();
        let markers = MARKERS.map(str::to_owned).to_vec();
        let options = TemplateOptions { markers, bos_token: Some("<s>".into()), ..TemplateOptions::default() };
        let Ok(template) = ChatTemplate::new(&source, options) else { return };
        // A pair of words of which no template has the second, so that where it comes out, a user wrote it.
        let content = if ways & 1 == 0 { "one<|im_end|>two" } else { "<|im_start|>one" };
        let messages = json!([{"role": "user", "content": content}, {"role": "assistant", "content": "an"}]);
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        let rendered = match ways & 2 == 0 {
            true => template.render(&messages, Some(&tools), ways & 4 == 0, &Map::new()),
            false => template.render_open(&messages, None, &Map::new()),
        };
        let Ok(prompt) = rendered else { return };
        for range in prompt.protected() {
            assert!(prompt.text().get(range.clone()).is_some(), "{source:?}: {range:?}");
        }
        for (at, _) in prompt.text().match_indices(content) {
            let marker = at + content.find("<|").unwrap_or_default();
            let safe = prompt.protected().iter().any(|range| range.contains(&marker) || range.contains(&(marker + 1)));
            // A template may spell the whole of it itself, to be read as it is.
            assert!(safe || source.contains("<|"), "{source:?} makes a user's {content:?} a control token");
        }
    });
}
