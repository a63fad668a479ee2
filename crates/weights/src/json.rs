//! JSON from strangers: bounded in size, without repeated keys where they matter.

use crate::Error;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

/// The longest configuration file that is read. A parsed value can take some twenty times its text.
const MAX_CONFIG: u64 = 16 << 20;

/// The text of a small file; `None` when it does not exist.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<Option<String>, Error> {
    let io = |e| Error::io(path, e);
    let length = match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
        Ok(kind) if !kind.is_file() => return Err(Error::not_a_model(path, "not a regular file")),
        Ok(kind) => kind.len(),
    };
    if length > limit {
        return Err(Error::json(path, format!("{length} bytes; at most {limit} are read")));
    }
    let mut text = String::new();
    File::open(path).map_err(io)?.take(limit).read_to_string(&mut text).map_err(io)?;
    Ok(Some(text))
}

/// A configuration file as a value; `None` when it does not exist.
pub(crate) fn read_config(path: &Path) -> Result<Option<serde_json::Value>, Error> {
    let Some(text) = read_text(path, MAX_CONFIG)? else { return Ok(None) };
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Error::json(path, format!("not valid JSON: {e}")))?;
    if !value.is_object() {
        return Err(Error::json(path, "not a JSON object"));
    }
    Ok(Some(value))
}

/// A JSON object in which no key is repeated. (Elsewhere the last one silently wins.)
pub(crate) struct Unique<V>(pub(crate) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique<V>, D::Error> {
        struct Walk<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Walk<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
                    }
                    entries.insert(key, value);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Walk(PhantomData))
    }
}
