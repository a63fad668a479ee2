//! Whether a text is a call, and of which tool.

use super::call::{Body, JsonBody};
use super::elements::{Elements, Syntax};
use super::mender::Dialect;
use super::scan::{Scan, Stop};

/// A call whose name is known.
#[derive(Debug)]
pub(super) struct Found {
    /// How many bytes were read: up to the arguments.
    pub(super) bytes: usize,
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) body: Body,
    /// It is the first of a list: `[call, call]`.
    pub(super) list: bool,
}

/// What a call looks like, from its opening marker on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `<tool_call>` around JSON or elements.
    Tagged,
    /// `<function=NAME>` without anything around it.
    Function,
    /// `<｜tool▁calls▁begin｜>`, then calls.
    DeepSeekBlock,
    /// `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS`, or with a type before the name and a fence around the arguments.
    DeepSeekCall,
    /// `<｜DSML｜tool_calls>` (or `function_calls`), then invocations.
    DsmlBlock(&'static str),
    /// `<｜DSML｜invoke name="NAME">`.
    DsmlInvoke,
    /// `OPEN call:NAME{key:value}CLOSE`, with strings between marks.
    Literal { open: &'static str, close: &'static [&'static str], mark: &'static str },
    /// `<|python_tag|>` before JSON.
    PythonTag,
    /// JSON or a list of calls in Python, with a fence around it or without.
    Bare,
    /// The next call in a list of calls in Python.
    NextInList,
}

/// No name comes later than this.
const MAX_PROBE: usize = 8 << 10;
const MAX_NAME: usize = 256;

impl Shape {
    /// Reads the beginning of a call. `known` tells the tools of the request.
    pub(super) fn probe(self, text: &str, ended: bool, known: &dyn Fn(&str) -> bool) -> Result<Found, Stop> {
        // What comes later decides nothing, however much of it is there already.
        let whole = text.len() <= MAX_PROBE;
        let mut scan = Scan::new(&text[..text.floor_char_boundary(MAX_PROBE)], ended || !whole);
        match self.read(&mut scan, known) {
            Ok(found) if found.name.is_empty() || found.name.len() > MAX_NAME => Err(Stop::No),
            found => found,
        }
    }

    fn read(self, scan: &mut Scan<'_>, known: &dyn Fn(&str) -> bool) -> Result<Found, Stop> {
        match self {
            Self::Tagged => {
                scan.expect("<tool_call>")?;
                scan.skip_blank();
                match scan.peek()? {
                    '<' => element(scan, &Syntax::QWEN),
                    _ => json_call(scan, &["</tool_call>"]),
                }
            }
            Self::Function => element(scan, &Syntax::QWEN),
            Self::DeepSeekBlock => {
                scan.expect("<｜tool▁calls▁begin｜>")?;
                scan.skip_blank();
                deepseek_call(scan)
            }
            Self::DeepSeekCall => deepseek_call(scan),
            Self::DsmlBlock(open) => {
                scan.expect(open)?;
                scan.skip_blank();
                element(scan, &Syntax::DSML)
            }
            Self::DsmlInvoke => element(scan, &Syntax::DSML),
            Self::Literal { open, close, mark } => {
                scan.expect(open)?;
                scan.skip_blank();
                scan.expect("call:")?;
                let name = scan.run(|c| c != '{' && !c.is_whitespace())?.to_owned();
                scan.skip_blank();
                if scan.peek()? != '{' {
                    return Err(Stop::No);
                }
                let body = JsonBody::new(Dialect::Marked(mark), close);
                Ok(Found { bytes: scan.at(), name, id: None, body: Body::Json(body), list: false })
            }
            Self::PythonTag => {
                scan.expect("<|python_tag|>")?;
                scan.skip_blank();
                json_call(scan, &[])
            }
            Self::Bare => bare(scan, known),
            Self::NextInList => {
                let found = python_call(*scan, true, false, known)?;
                if known(&found.name) { Ok(found) } else { Err(Stop::No) }
            }
        }
    }
}

/// A call without markup is one only if it names a tool of the request.
fn bare(scan: &mut Scan<'_>, known: &dyn Fn(&str) -> bool) -> Result<Found, Stop> {
    let mut ahead = *scan;
    let fenced = fence(&mut ahead)?;
    let found = match ahead.peek_past_blank()? {
        '{' => json_call(scan, &[])?,
        '[' => {
            let mut inside = ahead;
            inside.expect("[")?;
            match inside.peek_past_blank()? {
                '{' => json_call(scan, &[])?,
                _ => python_call(inside, true, fenced, known)?,
            }
        }
        _ if fenced => python_call(ahead, false, fenced, known)?,
        _ => return Err(Stop::No),
    };
    if !known(&found.name) {
        return Err(Stop::No);
    }
    Ok(found)
}

/// Passes "```json" and its like; whether there was one.
fn fence(scan: &mut Scan<'_>) -> Result<bool, Stop> {
    if !scan.accept("```")? {
        return Ok(false);
    }
    let word = scan.run(|c| c.is_ascii_alphanumeric() || c == '_')?;
    match word {
        "" | "json" | "JSON" | "tool_call" | "tool_calls" | "tool_code" | "python" => Ok(true),
        _ => Err(Stop::No),
    }
}

/// `name(key=value, ...)`, the arguments by name.
fn python_call(
    mut scan: Scan<'_>,
    list: bool,
    fenced: bool,
    known: &dyn Fn(&str) -> bool,
) -> Result<Found, Stop> {
    let word = |c: char| c.is_alphanumeric() || "_.-".contains(c);
    scan.skip_blank();
    let mut name = scan.run(word)?;
    scan.expect("(")?;
    let printed = name == "print" && !known("print");
    if printed {
        scan.skip_blank();
        name = scan.run(word)?;
        scan.expect("(")?;
    }
    if !known(name) {
        // A module in front of the name, as in `default_api.name`.
        name = name.rsplit('.').next().unwrap_or(name);
    }
    let bytes = scan.at();
    if scan.peek_past_blank()? != ')' {
        scan.run(word)?;
        if scan.peek_past_blank()? != '=' {
            return Err(Stop::No);
        }
    }
    let mut body = JsonBody::new(Dialect::Python, &[]);
    body.around(usize::from(printed), fenced);
    Ok(Found { bytes, name: name.to_owned(), id: None, body: Body::Json(body), list })
}

fn deepseek_call(scan: &mut Scan<'_>) -> Result<Found, Stop> {
    const SEPARATOR: &str = "<｜tool▁sep｜>";
    scan.expect("<｜tool▁call▁begin｜>")?;
    let mut name = scan.until(SEPARATOR)?.trim();
    let mut fenced = false;
    if !matches!(scan.peek_past_blank()?, '{' | '`') {
        // What came was the type, and now comes the name.
        name = scan.run(|c| !c.is_whitespace() && c != '`' && c != '{')?;
        scan.skip_blank();
    }
    if scan.peek()? == '`' {
        fenced = fence(scan)?;
    }
    if scan.peek_past_blank()? != '{' || name.contains('<') {
        return Err(Stop::No);
    }
    let mut body = JsonBody::new(Dialect::Json, &["<｜tool▁call▁end｜>"]);
    body.around(0, fenced);
    Ok(Found { bytes: scan.at(), name: name.to_owned(), id: None, body: Body::Json(body), list: false })
}

/// The head of an element that names a function: `<function=NAME>`.
fn element(scan: &mut Scan<'_>, syntax: &'static Syntax) -> Result<Found, Stop> {
    scan.expect(syntax.function)?;
    let head = scan.until(">")?;
    let name = syntax.name(head);
    if head.len() > MAX_NAME || head.contains(['<', '\n']) {
        return Err(Stop::No);
    }
    let name = name.to_owned();
    let mut inside = *scan;
    let body = match inside.peek_past_blank() {
        // Arguments in JSON where elements should be.
        Ok('{') => Body::Json(JsonBody::new(Dialect::Json, syntax.function_close)),
        Err(Stop::More) => return Err(Stop::More),
        _ => Body::Elements(Elements::new(syntax)),
    };
    Ok(Found { bytes: scan.at(), name, id: None, body, list: false })
}

const NAMES: [&str; 5] = ["name", "function", "tool", "tool_name", "function_name"];
const ARGUMENTS: [&str; 5] = ["arguments", "parameters", "args", "input", "params"];
const IDS: [&str; 2] = ["id", "tool_call_id"];

/// `{"name": ..., "arguments": ...}`: in any order, in a fence, in a list, inside `{"function": ...}`.
fn json_call(scan: &mut Scan<'_>, close: &'static [&'static str]) -> Result<Found, Stop> {
    scan.skip_blank();
    let fenced = fence(scan)?;
    scan.skip_blank();
    let list = scan.accept("[")?;
    scan.skip_blank();
    scan.expect("{")?;
    let (mut depth, mut name, mut id, mut before) = (1usize, None, None, None);
    loop {
        if scan.peek_past_blank()? == '}' {
            scan.expect("}")?;
            depth -= 1;
            if depth == 0 {
                break;
            }
            continue;
        }
        if scan.peek()? == ',' {
            scan.expect(",")?;
            continue;
        }
        let key = scan.string()?;
        scan.skip_blank();
        scan.expect(":")?;
        let first = scan.peek_past_blank()?;
        let key = key.as_str();
        if NAMES.contains(&key) && matches!(first, '"' | '\'') {
            name = Some(scan.string()?);
        } else if key == "function" && first == '{' {
            scan.expect("{")?;
            depth += 1;
        } else if ARGUMENTS.contains(&key) && name.is_some() {
            break;
        } else if ARGUMENTS.contains(&key) {
            before = Some(scan.value()?.to_owned());
        } else if IDS.contains(&key) && matches!(first, '"' | '\'') {
            id = Some(scan.string()?);
        } else if key == "type" || !close.is_empty() {
            scan.value()?;
        } else {
            return Err(Stop::No);
        }
        if before.is_some() && name.is_some() {
            break;
        }
    }
    let name = name.ok_or(Stop::No)?;
    let mut body = JsonBody::new(Dialect::Json, close);
    body.around(depth, fenced);
    if let Some(arguments) = before {
        body.arguments_before(arguments);
    } else if depth == 0 {
        body.arguments_before("{}".into());
    }
    Ok(Found { bytes: scan.at(), name, id, body: Body::Json(body), list })
}
