//! The tools that a request offers: names, and the types of their parameters.

use serde_json::{Map, Value};

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments; an empty object if it declares none.
    pub parameters: Value,
    /// Whether arguments must satisfy the schema.
    pub strict: bool,
}

/// The tools that a request offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tools(Vec<Tool>);

impl Tools {
    /// Reads a list of tools: `{"type": "function", "function": {"name", "parameters", "strict"}}` as in OpenAI's chat API, or
    /// the same keys without the wrapper; `input_schema` is taken for `parameters`. Entries without a name are left out.
    pub fn from_json(tools: &Value) -> Self {
        let tools = tools.as_array().into_iter().flatten();
        Self(tools.filter_map(Tool::from_json).collect())
    }

    /// The tools.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.0.iter()
    }

    /// The tool of that name.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.0.iter().find(|tool| tool.name == name)
    }

    /// Whether there is no tool.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Tool> for Tools {
    fn from_iter<T: IntoIterator<Item = Tool>>(tools: T) -> Self {
        Self(tools.into_iter().collect())
    }
}

impl Tool {
    fn from_json(tool: &Value) -> Option<Self> {
        let tool = tool.get("function").filter(|f| f.is_object()).unwrap_or(tool);
        let parameters = tool.get("parameters").or_else(|| tool.get("input_schema"));
        Some(Self {
            name: tool.get("name")?.as_str()?.to_owned(),
            parameters: parameters.cloned().unwrap_or_else(|| Value::Object(Map::new())),
            strict: tool.get("strict").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// The types that a parameter may have.
    pub(crate) fn types(&self, parameter: &str) -> Types {
        let mut types = Types::default();
        if let Some(schema) = self.parameters.get("properties").and_then(|p| p.get(parameter)) {
            collect(schema, &self.parameters, 0, &mut types);
        }
        types
    }

    /// Whether the schema names a parameter.
    pub(super) fn has(&self, parameter: &str) -> bool {
        self.parameters.get("properties").and_then(|p| p.get(parameter)).is_some()
    }
}

/// Which types a value may have. None at all: nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Types {
    string: bool,
    number: bool,
    boolean: bool,
    null: bool,
    object: bool,
    array: bool,
}

impl Types {
    /// A value that is text whatever it says.
    pub(super) const STRING: Self =
        Self { string: true, number: false, boolean: false, null: false, object: false, array: false };
    /// Any value but text.
    pub(super) const JSON: Self =
        Self { string: false, number: true, boolean: true, null: true, object: true, array: true };

    /// Whether every value is text, so that it need not be read to the end first.
    pub(crate) fn only_text(self) -> bool {
        self == Self::STRING || self == Self::default()
    }

    /// Whether a string is among the types.
    pub(crate) fn string_too(self) -> bool {
        self.string
    }

    fn allows(self, value: &Value) -> bool {
        match value {
            Value::Null => self.null,
            Value::Bool(_) => self.boolean,
            Value::Number(_) => self.number,
            Value::String(_) => false,
            Value::Array(_) => self.array,
            Value::Object(_) => self.object,
        }
    }

    /// The JSON that a raw `text` stands for, if it is of one of these types. A text that may be a string and something else is
    /// something else when it reads as that.
    pub(super) fn read(self, text: &str) -> Option<String> {
        let text = text.trim();
        let mut json = String::new();
        let mut mender = super::mender::Mender::new(super::mender::Dialect::Json);
        let (bytes, progress) = mender.push(text, true, &mut json);
        let whole = progress == super::mender::Progress::Done && bytes == text.len();
        let value = whole.then(|| serde_json::from_str::<Value>(&json).ok()).flatten()?;
        if self.allows(&value) {
            return Some(json);
        }
        // A quoted text where a string is not asked for, but may be meant as what it quotes.
        let inner = value.as_str().map(str::trim).and_then(|s| serde_json::from_str::<Value>(s).ok());
        match inner {
            Some(inner) if !self.string && self.allows(&inner) => Some(inner.to_string()),
            _ if self.boolean && !self.string => word_as_boolean(text),
            _ => None,
        }
    }

    fn add(&mut self, name: &str) {
        match name {
            "string" => self.string = true,
            "number" | "integer" => self.number = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "object" => self.object = true,
            "array" => self.array = true,
            _ => {}
        }
    }
}

fn word_as_boolean(text: &str) -> Option<String> {
    ["true", "false"].into_iter().find(|word| word.eq_ignore_ascii_case(text)).map(String::from)
}

/// Schemas refer to one another; a circle ends here.
const MAX_DEPTH: usize = 16;

fn collect(schema: &Value, root: &Value, depth: usize, types: &mut Types) {
    if depth > MAX_DEPTH {
        return;
    }
    match schema.get("type") {
        Some(Value::String(name)) => return types.add(name),
        Some(Value::Array(names)) => {
            return names.iter().filter_map(Value::as_str).for_each(|n| types.add(n));
        }
        _ => {}
    }
    if schema.get("properties").is_some() {
        types.object = true;
    }
    if schema.get("items").is_some() {
        types.array = true;
    }
    for value in schema
        .get("const")
        .into_iter()
        .chain(schema.get("enum").and_then(Value::as_array).into_iter().flatten())
    {
        types.add(match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        });
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for one in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
            collect(one, root, depth + 1, types);
        }
    }
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?));
    if let Some(target) = target {
        collect(target, root, depth + 1, types);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, cases: &[(&str, Option<&str>)]) {
        let parameters = json!({
            "properties": {"x": schema},
            "$defs": {"point": {"type": "object"}, "circle": {"$ref": "#/$defs/circle"}},
        });
        let tools = Tools::from_json(&json!([{"name": "f", "input_schema": parameters}]));
        let types = tools.get("f").expect("the tool").types("x");
        for (text, want) in cases {
            assert_eq!(types.read(text).as_deref(), *want, "{text:?} as {schema}");
        }
    }

    #[test]
    fn values_are_read_by_their_schema() {
        check(json!({"type": "string"}), &[("5", None), ("true", None), ("null", None)]);
        check(
            json!({"type": "integer"}),
            &[("5", Some("5")), (" 5\n", Some("5")), ("\"5\"", Some("5")), ("five", None)],
        );
        check(json!({"type": "boolean"}), &[("True", Some("true")), ("FALSE", Some("false")), ("1", None)]);
        check(
            json!({"type": ["string", "null"]}),
            &[("null", Some("null")), ("None", Some("null")), ("x", None)],
        );
        check(
            json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
            &[("7", Some("7")), ("\"7\"", None), ("seven", None)],
        );
        check(json!({"enum": [1, 2]}), &[("1", Some("1")), ("x", None)]);
        check(
            json!({"type": "array"}),
            &[("['a', 1]", Some("[\"a\", 1]")), ("[1, 2", None), ("\"[1]\"", Some("[1]"))],
        );
        check(json!({"$ref": "#/$defs/point"}), &[("{\"a\": 1}", Some("{\"a\": 1}")), ("[1]", None)]);
        check(json!({"$ref": "#/$defs/circle"}), &[("{}", None)]);
    }
}
