//! The tools that a request offers, and which of them may or must be called.

use crate::failure::Failure;
use crate::fields::{Fields, kind};
use crate::shape::Shape;
use sampan_text::{Beside, Constraint, Tool, Tools};
use serde_json::{Value, json};
use std::collections::HashSet;

type Result<T> = std::result::Result<T, Failure>;

/// The tools of a request.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// As templates know them.
    pub(crate) list: Value,
    /// As whoever looks for calls knows them.
    pub(crate) tools: Tools,
    choice: Choice,
    parallel: bool,
    /// The field that says which of them.
    field: String,
}

/// Which tools the answer may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// At least one call must come.
    pub(crate) required: bool,
    /// None: all.
    pub(crate) only: Option<Vec<String>>,
    /// No tool at all.
    pub(crate) none: bool,
    /// One call and no more, whatever is said of parallel ones.
    pub(crate) single: bool,
}

impl Choice {
    /// The tool of this name and no other, once.
    pub(crate) fn named(name: String) -> Choice {
        Choice { required: true, only: Some(vec![name]), none: false, single: true }
    }
}

impl Offer {
    /// Tools in the form of OpenAI's chat API; no offer where there are none, or none may be called. `field` says which may
    /// be; `tools` is what the field with the tools is called.
    pub(crate) fn new(
        list: Vec<Value>,
        choice: Choice,
        parallel: bool,
        field: &str,
    ) -> Result<Option<Offer>> {
        if list.is_empty() {
            let contradiction = || Failure::field(field, "contradiction", format!("{field} needs tools"));
            return if choice.required || choice.only.is_some() { Err(contradiction()) } else { Ok(None) };
        }
        if choice.none {
            return Ok(None);
        }
        let mut names = HashSet::new();
        let mut called = list.iter().map(|tool| tool["function"]["name"].as_str()).enumerate();
        if let Some((at, name)) = called.find(|&(_, name)| !names.insert(name)) {
            let field = format!("tools[{at}]");
            let message = format!("{field} has the name of another tool, {:?}", name.unwrap_or_default());
            return Err(Failure::field(field, "contradiction", message));
        }
        let list = Value::Array(list);
        let tools = Tools::from_json(&list);
        if let Some(unknown) = choice.only.iter().flatten().find(|name| tools.get(name).is_none()) {
            let known: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
            let message = format!("{field} names {unknown:?}; the tools are: {}", known.join(", "));
            return Err(Failure::field(field, "unknown_value", message));
        }
        let parallel = parallel && !choice.single;
        Ok(Some(Offer { list, tools, choice, parallel, field: field.to_owned() }))
    }

    /// The number of each tool in the request, and the shape of its arguments, where it has one.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = (usize, Constraint)> {
        let list = self.list.as_array().into_iter().flatten().enumerate();
        list.filter_map(|(at, tool)| {
            let schema = tool["function"].get("parameters").filter(|schema| schema.is_object())?;
            Some((at, Constraint::JsonSchema(schema.clone())))
        })
    }

    /// What the calls of an answer must look like, if anything is asked of them; `shape` is what its text must look like
    /// where it calls nothing.
    pub(crate) fn shape(&self, shape: Option<Shape>) -> Option<Shape> {
        let Choice { required, only, .. } = &self.choice;
        let may = |tool: &&Tool| only.as_ref().is_none_or(|names| names.contains(&tool.name));
        let tools: Tools = self.tools.iter().filter(may).cloned().collect();
        let free = self.parallel && only.is_none() && !tools.iter().any(|tool| tool.strict);
        let (beside, field) = match (required, shape) {
            (true, _) => (Beside::Nothing, self.field.clone()),
            (false, Some(shape)) => (Beside::Only(Box::new(shape.constraint)), shape.field),
            (false, None) if free => return None,
            (false, None) if only.is_some() => (Beside::Text, self.field.clone()),
            (false, None) if !self.parallel => (Beside::Text, "parallel_tool_calls".to_owned()),
            (false, None) => (Beside::Text, "tools".to_owned()),
        };
        let constraint = Constraint::Calls { tools, beside, parallel: self.parallel };
        Some(Shape { constraint, field })
    }
}

/// `tools`, `tool_choice`, `parallel_tool_calls`, as OpenAI's chat API and Ollama have them.
pub(crate) fn of(fields: &mut Fields) -> Result<Option<Offer>> {
    let list = fields.list("tools")?.unwrap_or_default();
    for (at, tool) in list.iter().enumerate() {
        let mut tool = Fields::of(tool.clone(), &format!("tools[{at}]"))?;
        tool.only("type", &[json!("function")])?;
        let mut function = tool.object("function")?.ok_or_else(|| tool.missing("function"))?;
        check_function(&mut function)?;
        function.finish()?;
        tool.finish()?;
    }
    let choice = choice(fields, &|tool| {
        let mut function = tool.object("function")?.ok_or_else(|| tool.missing("function"))?;
        let name = function.need_text("name")?;
        function.finish()?;
        Ok(name)
    })?;
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    Offer::new(list, choice, parallel, "tool_choice")
}

/// The same of the responses API, where nothing is wrapped.
pub(crate) fn of_responses(fields: &mut Fields) -> Result<Option<Offer>> {
    let mut list = Vec::new();
    for (at, value) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        let mut tool = Fields::of(value.clone(), &format!("tools[{at}]"))?;
        tool.word("type", &["function"])?.ok_or_else(|| tool.missing("type"))?;
        check_function(&mut tool)?;
        tool.finish()?;
        let mut function = value;
        if let Some(map) = function.as_object_mut() {
            map.shift_remove("type");
        }
        list.push(json!({"type": "function", "function": function}));
    }
    let choice = choice(fields, &|tool| tool.need_text("name"))?;
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    Offer::new(list, choice, parallel, "tool_choice")
}

fn check_function(function: &mut Fields) -> Result<()> {
    function.need_text("name")?;
    function.text("description")?;
    function.object("parameters")?;
    function.flag("strict")?;
    Ok(())
}

/// `tool_choice`; `name` reads the name of a tool.
fn choice(fields: &mut Fields, name: &dyn Fn(&mut Fields) -> Result<String>) -> Result<Choice> {
    let word = |word: &str| match word {
        "auto" => Some(Choice::default()),
        "none" => Some(Choice { none: true, ..Choice::default() }),
        "required" => Some(Choice { required: true, ..Choice::default() }),
        _ => None,
    };
    let value = match fields.take("tool_choice") {
        None => return Ok(Choice::default()),
        Some(Value::String(text)) => {
            let why = || format!("is {text:?}; known: auto, none, required, or an object that names a tool");
            return word(&text).ok_or_else(|| fields.wrong("tool_choice", "unknown_value", why()));
        }
        Some(value @ Value::Object(_)) => value,
        Some(other) => {
            let why = format!("must be a word or an object and is {}", kind(&other));
            return Err(fields.wrong("tool_choice", "wrong_type", why));
        }
    };
    let mut object = Fields::of(value, &fields.name("tool_choice"))?;
    let known = ["function", "allowed_tools"];
    if object.word("type", &known)?.ok_or_else(|| object.missing("type"))? == "function" {
        let name = name(&mut object)?;
        object.finish()?;
        return Ok(Choice::named(name));
    }
    // The chat API puts the list one level deeper than the responses API does.
    let mut allowed = match object.object("allowed_tools")? {
        Some(inner) => {
            object.finish()?;
            inner
        }
        None => object,
    };
    let mode = allowed.word("mode", &["auto", "required"])?.ok_or_else(|| allowed.missing("mode"))?;
    let list = allowed.list("tools")?.ok_or_else(|| allowed.missing("tools"))?;
    let mut names = Vec::new();
    for (at, value) in list.into_iter().enumerate() {
        let mut tool = Fields::of(value, &allowed.name(&format!("tools[{at}]")))?;
        tool.only("type", &[json!("function")])?;
        names.push(name(&mut tool)?);
        tool.finish()?;
    }
    allowed.finish()?;
    Ok(Choice { required: mode == "required", only: Some(names), ..Choice::default() })
}
