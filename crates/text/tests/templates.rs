//! Every template renders what Hugging Face transformers renders. `tools/fixtures/templates.py` writes the goldens.

use sampan_text::{ChatTemplate, TemplateError, TemplateOptions};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

struct Goldens(Value);

impl Goldens {
    fn load() -> Self {
        let path = root().join("fixtures/templates/goldens.json");
        Self(
            serde_json::from_slice(&std::fs::read(&path).expect("goldens are in the repository"))
                .expect("valid JSON"),
        )
    }

    /// The text that Jinja2 rendered, or none where it raised.
    fn text(&self, template: &str, case: &str) -> Option<String> {
        let lines = self.0["goldens"][template][case].as_array()?;
        let line = |n: &Value| {
            self.0["lines"][n.as_u64().expect("a line number") as usize].as_str().expect("a line")
        };
        Some(lines.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

fn options(goldens: &Goldens, template: &str) -> TemplateOptions {
    let token = |at: usize| goldens.0["tokens"][template][at].as_str().map(str::to_owned);
    TemplateOptions {
        bos_token: token(0),
        eos_token: token(1),
        // 2026-02-03 14:05:06
        now: Some(1_770_127_506),
        markers: Vec::new(),
    }
}

fn render(template: &ChatTemplate, case: &Value) -> Result<String, TemplateError> {
    let no_vars = Map::new();
    let vars = case["vars"].as_object().unwrap_or(&no_vars);
    let tools = Some(&case["tools"]);
    let generation = case["add_generation_prompt"].as_bool().unwrap_or(true);
    template.render(&case["messages"], tools, generation, vars).map(|prompt| prompt.text().to_owned())
}

/// Cases where we render more than transformers can: it has no `from_json` filter.
const BEYOND: [(&str, &str); 2] =
    [("deepseek-ai-DeepSeek-V3.2", "string_arguments"), ("deepseek-ai-DeepSeek-V4", "string_arguments")];

/// The templates of a folder.
fn templates(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|e| e == "jinja"));
    paths
}

fn check(folder: &Path) -> usize {
    let goldens = Goldens::load();
    let cases = goldens.0["cases"].as_object().expect("cases");
    let mut failures = Vec::new();
    let mut checked = 0;
    for path in &templates(folder) {
        let name = path.file_stem().and_then(|s| s.to_str()).expect("a name");
        let source = std::fs::read_to_string(path).expect("a template");
        let template = match ChatTemplate::new(&source, options(&goldens, name)) {
            Ok(template) => template,
            Err(e) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        for (case, spec) in cases {
            if BEYOND.contains(&(name, case)) {
                continue;
            }
            checked += 1;
            match (render(&template, spec), goldens.text(name, case)) {
                (Ok(got), Some(want)) if got == want => {}
                (Err(_), None) => {}
                (Ok(got), Some(want)) => {
                    let same = got.bytes().zip(want.bytes()).take_while(|(a, b)| a == b).count();
                    failures.push(format!(
                        "{name}: {case}: differs at byte {same}\n  got  …{:?}\n  want …{:?}",
                        tail(&got, same),
                        tail(&want, same)
                    ));
                }
                (Ok(got), None) => failures.push(format!("{name}: {case}: Jinja2 refuses, we give {got:?}")),
                (Err(e), Some(want)) => {
                    failures.push(format!("{name}: {case}: {e}, but Jinja2 gives {want:?}"))
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {checked} cases fail:\n{}", failures.len(), failures.join("\n"));
    checked
}

fn tail(text: &str, at: usize) -> String {
    let bytes = &text.as_bytes()[at.saturating_sub(30)..];
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned()
}

#[test]
fn published_templates_render_as_in_transformers() {
    let folder = root().join("../shared/data/templates");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    eprintln!("{} cases agree", check(&folder));
}

#[test]
fn our_own_templates_render_as_in_transformers() {
    assert!(check(&root().join("fixtures/templates")) > 100);
}

/// Expressions that Jinja2 refuses and we render.
const BEYOND_JINJA: [&str; 4] = [
    "{{ people | selectattr('age', 'gt', 1) | list }}",
    "{{ 1 in 'a1' }}",
    "{{ 1 < 'a' }}",
    "{% for i in n %}x{% endfor %}ok",
];

/// What we refuse and Jinja2 renders: the `%` operator on strings, and `varargs`.
const MISSING: [&str; 5] = [
    "{{ '%s' % 'x' }}",
    "{{ '%.2f' % f }}",
    "{{ '%r' % 'a' }}",
    "{{ d.items is callable }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
];

#[test]
fn single_expressions_render_as_in_jinja2() {
    let goldens = Goldens::load();
    let vars = goldens.0["vars"].as_object().expect("variables");
    let mut failures = Vec::new();
    let expressions = goldens.0["expressions"].as_object().expect("expressions");
    for (source, want) in expressions {
        let got = ChatTemplate::new(source, options(&goldens, "")).and_then(|template| {
            template.render(&Value::Null, None, true, vars).map(|p| p.text().to_owned())
        });
        match (got, want.as_str()) {
            (Ok(got), Some(want)) if got == want => {}
            (Err(_), None) => {}
            (Ok(_), None) if BEYOND_JINJA.contains(&source.as_str()) => {}
            _ if MISSING.contains(&source.as_str()) => {}
            (got, want) => failures.push(format!("{source}\n  got  {got:?}\n  want {want:?}")),
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), expressions.len(), failures.join("\n"));
}

/// Every template that shows what the assistant said can be left open there, wherever it trims or cuts.
#[test]
fn the_last_message_is_left_open() {
    let goldens = Goldens::load();
    let said = |content: &str| serde_json::json!([{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": content}]);
    let mut open = 0;
    let published = root().join("../shared/data/templates");
    let folders = [Some(root().join("fixtures/templates")), published.is_dir().then_some(published)];
    for path in folders.iter().flatten().flat_map(|folder| templates(folder)) {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&path).expect("readable");
        let Ok(template) = ChatTemplate::new(&source, options(&goldens, &name)) else { continue };
        let whole = |content: &str| template.render(&said(content), None, false, &Map::new());
        if !whole("The sky is").is_ok_and(|prompt| prompt.text().contains("The sky is")) {
            continue;
        }
        for content in ["The sky is", "Blue", "A\n\nB"] {
            let prompt = template
                .render_open(&said(content), None, &Map::new())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(prompt.text().ends_with(content), "{name}: {:?}", prompt.text());
            let closed = whole(content).expect("rendered before");
            assert!(
                closed.text().starts_with(prompt.text()),
                "{name}: {:?}\n{:?}",
                prompt.text(),
                closed.text()
            );
        }
        // What a template trims at the end of a message is kept where the message goes on.
        let prompt = template
            .render_open(&said("The sky is "), None, &Map::new())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(prompt.text().ends_with("The sky is "), "{name}: {:?}", prompt.text());
        open += 1;
    }
    println!("{open} templates");
    assert!(open >= 3);
    let silent = ChatTemplate::new("{{ messages[0].content }}", TemplateOptions::default()).expect("valid");
    let error =
        silent.render_open(&said("Blue"), None, &Map::new()).expect_err("it does not show the last message");
    assert!(error.message.contains("does not show the last message"), "{error}");
}
