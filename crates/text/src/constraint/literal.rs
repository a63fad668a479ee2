//! Arguments as Gemma writes them: keys without quotes, strings between marks.

use super::calls::{Rules, markup};
use super::grammar::quote;
use serde_json::Value;

/// Writes the rules of values in this syntax.
pub(super) struct Literal<'r, 't, 's> {
    rules: &'r mut Rules<'t>,
    mark: &'static str,
    root: &'s Value,
    /// The rules of any value, once they are needed.
    any: Option<String>,
    depth: usize,
}

/// Schemas that refer to themselves are followed this far; deeper values may be anything.
const MAX_DEPTH: usize = 8;

impl<'r, 't, 's> Literal<'r, 't, 's> {
    pub(super) fn new(rules: &'r mut Rules<'t>, mark: &'static str, root: &'s Value) -> Self {
        Self { rules, mark, root, any: None, depth: 0 }
    }

    /// A value of a schema, as an expression.
    fn value(&mut self, schema: &Value) -> String {
        if self.depth >= MAX_DEPTH {
            return self.any();
        }
        self.depth += 1;
        let expression = self.value_here(schema);
        self.depth -= 1;
        expression
    }

    fn value_here(&mut self, schema: &Value) -> String {
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|path| self.root.pointer(path));
            return match target {
                Some(schema) => self.value(schema),
                None => self.any(),
            };
        }
        let constants = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice);
        if let Some(constants) = constants.or(schema.get("const").map(std::slice::from_ref)) {
            return choice(constants.iter().map(|constant| self.constant(constant)).collect());
        }
        if let Some(options) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array()) {
            return choice(options.iter().map(|option| self.value(option)).collect());
        }
        match schema.get("type") {
            Some(Value::String(name)) => self.of_type(name, schema),
            Some(Value::Array(names)) => choice(
                names.iter().filter_map(Value::as_str).map(|name| self.of_type(name, schema)).collect(),
            ),
            _ if schema.get("properties").is_some() => self.object(schema),
            _ => self.any(),
        }
    }

    fn of_type(&mut self, name: &str, schema: &Value) -> String {
        match name {
            "string" => self.string(),
            "integer" => "/-?(0|[1-9][0-9]{0,17})/".into(),
            "number" => NUMBER.into(),
            "boolean" => "(\"true\" | \"false\")".into(),
            "null" => "\"null\"".into(),
            "array" => {
                let item = match schema.get("items") {
                    Some(items) => self.value(items),
                    None => self.any(),
                };
                format!("\"[\" ({item} (\",\" {item})*)? \"]\"")
            }
            "object" => self.object(schema),
            _ => self.any(),
        }
    }

    /// An object of a schema; of one that names no properties, any object.
    pub(super) fn object(&mut self, schema: &Value) -> String {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            let any = self.any();
            return format!("\"{{\" ({KEY} \":\" {any} (\",\" {KEY} \":\" {any})*)? \"}}\"");
        };
        let required = schema.get("required").and_then(Value::as_array);
        let mut members: Vec<(&String, &Value)> = properties.iter().collect();
        members.sort_by_key(|(key, _)| *key);
        // From the last member to the first: what may follow when nothing was written yet, and when something was.
        let (mut first, mut rest) = ("\"\"".to_owned(), "\"\"".to_owned());
        for (key, schema) in members.into_iter().rev() {
            let name = self.rules.name();
            let value = self.value(schema);
            self.rules.rule(&name, &format!("{} {value}", quote(&format!("{key}:"))));
            let [next_first, next_rest] = [self.rules.name(), self.rules.name()];
            if required.into_iter().flatten().any(|required| required == key) {
                self.rules.rule(&next_first, &format!("{name} {rest}"));
                self.rules.rule(&next_rest, &format!("\",\" {name} {rest}"));
            } else {
                self.rules.rule(&next_first, &format!("{name} {rest} | {first}"));
                self.rules.rule(&next_rest, &format!("\",\" {name} {rest} | {rest}"));
            }
            (first, rest) = (next_first, next_rest);
        }
        format!("\"{{\" {first} \"}}\"")
    }

    fn constant(&mut self, constant: &Value) -> String {
        match constant {
            Value::String(text) => {
                let mark = markup(self.rules.tokenizer, self.mark);
                format!("{mark} {} {mark}", quote(text))
            }
            other => quote(&other.to_string()),
        }
    }

    fn string(&mut self) -> String {
        let mark = markup(self.rules.tokenizer, self.mark);
        let text = self.rules.text_until(self.mark);
        format!("({mark} {text})")
    }

    /// Any value at all.
    fn any(&mut self) -> String {
        if let Some(name) = &self.any {
            return name.clone();
        }
        let name = self.rules.name();
        self.any = Some(name.clone());
        let string = self.string();
        self.rules.rule(
            &name,
            &format!(
                "{string} | {NUMBER} | \"true\" | \"false\" | \"null\" | \"[\" ({name} (\",\" {name})*)? \"]\" \
                 | \"{{\" ({KEY} \":\" {name} (\",\" {KEY} \":\" {name})*)? \"}}\""
            ),
        );
        name
    }
}

const NUMBER: &str = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?/";
const KEY: &str = "/[A-Za-z0-9_$-]{1,64}/";

fn choice(options: Vec<String>) -> String {
    format!("({})", options.join(" | "))
}
