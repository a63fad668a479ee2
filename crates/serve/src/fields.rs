//! Reading a request field by field. Whatever has not been asked for when all has been read is a field that would have
//! been ignored, and is refused by name.

use crate::failure::Failure;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::ops::RangeInclusive;

/// An object of which fields are taken one after the other. `null` is the same as nothing.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Where the object is: empty, or `messages[0].`.
    path: String,
    map: Map<String, Value>,
}

type Result<T> = std::result::Result<T, Failure>;

impl Fields {
    /// Reads the body of a request.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Fields> {
        let Plain(value) = serde_json::from_slice(bytes).map_err(|e| {
            Failure::new(
                axum::http::StatusCode::BAD_REQUEST,
                "invalid_json",
                format!("the body is not JSON: {e}"),
            )
        })?;
        Fields::of(value, "")
    }

    /// Reads an object inside a request; `path` names it.
    pub(crate) fn of(value: Value, path: &str) -> Result<Fields> {
        match value {
            Value::Object(map) => {
                let path = if path.is_empty() { String::new() } else { format!("{path}.") };
                Ok(Fields { path, map })
            }
            other if path.is_empty() => {
                Err(Failure::invalid(format!("the body must be an object and is {}", kind(&other))))
            }
            other => Err(Failure::field(
                path,
                "wrong_type",
                format!("{path} must be an object and is {}", kind(&other)),
            )),
        }
    }

    /// The full name of a field.
    pub(crate) fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// The failure of a field.
    pub(crate) fn wrong(&self, field: &str, code: &'static str, why: impl std::fmt::Display) -> Failure {
        let name = self.name(field);
        Failure::field(name.clone(), code, format!("{name} {why}"))
    }

    fn wrong_type(&self, field: &str, wanted: &str, value: &Value) -> Failure {
        self.wrong(field, "wrong_type", format!("must be {wanted} and is {}", kind(value)))
    }

    /// Any value.
    pub(crate) fn take(&mut self, field: &str) -> Option<Value> {
        self.map.shift_remove(field).filter(|value| !value.is_null())
    }

    /// A value that stays where it is.
    pub(crate) fn see(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, field: &str) -> Result<Option<String>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(field, "a string", &other)),
        }
    }

    /// A text that must be there.
    pub(crate) fn need_text(&mut self, field: &str) -> Result<String> {
        self.text(field)?.ok_or_else(|| self.missing(field))
    }

    pub(crate) fn missing(&self, field: &str) -> Failure {
        self.wrong(field, "missing", "is missing")
    }

    pub(crate) fn flag(&mut self, field: &str) -> Result<Option<bool>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong_type(field, "true or false", &other)),
        }
    }

    pub(crate) fn number(&mut self, field: &str, range: RangeInclusive<f64>) -> Result<Option<f32>> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let Some(number) = value.as_f64() else { return Err(self.wrong_type(field, "a number", &value)) };
        Ok(Some(self.within(field, number, range)? as f32))
    }

    fn within<T: PartialOrd + std::fmt::Display>(
        &self,
        field: &str,
        number: T,
        range: RangeInclusive<T>,
    ) -> Result<T> {
        if range.contains(&number) {
            return Ok(number);
        }
        let (low, high) = range.into_inner();
        Err(self.wrong(field, "out_of_range", format!("is {number}; it must be from {low} to {high}")))
    }

    pub(crate) fn whole(&mut self, field: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let float = || value.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i128);
        let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from)).or_else(float);
        let Some(number) = whole else {
            return Err(match value {
                Value::Number(_) => {
                    self.wrong(field, "wrong_type", format!("must be a whole number and is {value}"))
                }
                _ => self.wrong_type(field, "a whole number", &value),
            });
        };
        let (low, high) = range.into_inner();
        // What is within the range is as large as its ends at most.
        self.within(field, number, i128::from(low)..=i128::from(high)).map(|number| Some(number as i64))
    }

    pub(crate) fn count(&mut self, field: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let (low, high) = range.into_inner();
        let most = i64::try_from(high).unwrap_or(i64::MAX);
        Ok(self.whole(field, low as i64..=most)?.map(|n| n as usize))
    }

    pub(crate) fn list(&mut self, field: &str) -> Result<Option<Vec<Value>>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong_type(field, "a list", &other)),
        }
    }

    pub(crate) fn object(&mut self, field: &str) -> Result<Option<Fields>> {
        let path = self.name(field);
        self.take(field).map(|value| Fields::of(value, &path)).transpose()
    }

    /// One text or several.
    pub(crate) fn texts(&mut self, field: &str) -> Result<Option<Vec<String>>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text])),
            Some(Value::Array(list)) => {
                let text = |(at, value): (usize, Value)| match value {
                    Value::String(text) => Ok(text),
                    other => Err(self.wrong_type(&format!("{field}[{at}]"), "a string", &other)),
                };
                list.into_iter().enumerate().map(text).collect::<Result<_>>().map(Some)
            }
            Some(other) => Err(self.wrong_type(field, "a string or a list of strings", &other)),
        }
    }

    /// One of the words in `known`.
    pub(crate) fn word<'a>(&mut self, field: &str, known: &[&'a str]) -> Result<Option<&'a str>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        match known.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => {
                Err(self.wrong(field, "unknown_value", format!("is {text:?}; known: {}", known.join(", "))))
            }
        }
    }

    /// A field that may only say what is done anyway.
    pub(crate) fn only(&mut self, field: &str, allowed: &[Value]) -> Result<()> {
        match self.take(field) {
            Some(value) if !allowed.contains(&value) => {
                Err(self.wrong(field, "unsupported_value", format!("is {value}, which is not supported")))
            }
            _ => Ok(()),
        }
    }

    /// What has not been asked for, as it is.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.map
    }

    /// Refuses what has not been asked for.
    pub(crate) fn finish(self) -> Result<()> {
        let left = self.map.iter().find(|(_, value)| !value.is_null());
        left.map_or(Ok(()), |(field, _)| {
            Err(self.wrong(
                field,
                "unknown_field",
                "is not known here; leave it out, as it would have no effect",
            ))
        })
    }
}

/// A JSON value of which no object has the same field twice: one of the two would be ignored.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Plain, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Plain)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> std::result::Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> std::result::Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> std::result::Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> std::result::Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> std::result::Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Plain(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> std::result::Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            let Plain(value) = object.next_value()?;
            if map.contains_key(&name) {
                return Err(de::Error::custom(format!("{name:?} is there twice")));
            }
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

/// What a JSON value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
