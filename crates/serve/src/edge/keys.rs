//! Who may ask: API keys, each with its own limits.

use crate::failure::Failure;
use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use subtle::ConstantTimeEq;

/// A key and what its owner may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// For logs; never the key itself.
    pub name: String,
    /// SHA-256 of the key: of equal length for all, so that comparing takes the same time for all.
    digest: [u8; 32],
    /// Requests per minute.
    pub per_minute: Option<u32>,
    /// Requests at the same time.
    pub concurrent: Option<usize>,
    /// Whether its owner may pull and delete models from other machines too.
    pub admin: bool,
}

impl Key {
    /// A key without limits.
    pub fn new(name: &str, key: &str) -> Key {
        Key { name: name.to_owned(), digest: digest(key), per_minute: None, concurrent: None, admin: false }
    }

    /// Reads a file of keys: one in a line, with `name=`, `per-minute=`, `concurrent=` and `admin` behind it if
    /// wanted; `#` begins a comment.
    ///
    /// # Errors
    /// What is wrong with which line.
    pub fn parse_all(text: &str) -> Result<Vec<Key>, String> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(secret) = words.next() else { continue };
            let mut key = Key::new(&format!("key{}", keys.len() + 1), secret);
            for word in words {
                let wrong =
                    || format!("line {}: {word:?} is none of name=, per-minute=, concurrent=, admin", at + 1);
                if word == "admin" {
                    key.admin = true;
                    continue;
                }
                let (what, value) = word.split_once('=').ok_or_else(wrong)?;
                let number = || value.parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(wrong);
                match what {
                    "name" => key.name = value.to_owned(),
                    "per-minute" => key.per_minute = Some(number()?),
                    "concurrent" => key.concurrent = Some(number()? as usize),
                    _ => return Err(wrong()),
                }
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// All keys, and what their owners are doing.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Arc<Owner>>);

#[derive(Debug)]
struct Owner {
    key: Key,
    running: AtomicUsize,
    /// Requests that may come now, and when that was true.
    bucket: Mutex<(f64, Instant)>,
}

/// Leave to do one request; the owner's next one may take its place when this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    client: Client,
    /// Leaves when it is dropped.
    _leaving: Option<Leaving>,
}

impl Pass {
    /// For what needs no key.
    pub(crate) fn open() -> Pass {
        Pass { client: Client::default(), _leaving: None }
    }

    /// Who asks.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

/// Who asks, for the engine's turns and for logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) id: u64,
    /// Whether models may be pulled and deleted from wherever this is.
    pub(crate) admin: bool,
}

#[derive(Debug)]
struct Leaving(Arc<Owner>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Keys {
    pub(crate) fn new(keys: Vec<Key>) -> Keys {
        let owner = |key: Key| {
            let full = f64::from(key.per_minute.unwrap_or(0));
            Arc::new(Owner { key, running: AtomicUsize::new(0), bucket: Mutex::new((full, Instant::now())) })
        };
        Keys(keys.into_iter().map(owner).collect())
    }

    /// Lets a request in if it has a key that is known and not at its limits. Without keys everyone is let in.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Pass, Failure> {
        if self.0.is_empty() {
            return Ok(Pass::open());
        }
        let Some(given) = given(headers) else {
            let message = "an API key is needed: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`";
            return Err(Failure::new(StatusCode::UNAUTHORIZED, "missing_api_key", message));
        };
        let given = digest(given);
        // Every key is compared, so that time tells nothing about which one it was.
        let mut found = None;
        for (at, owner) in self.0.iter().enumerate() {
            if bool::from(owner.key.digest.ct_eq(&given)) {
                found = Some(at);
            }
        }
        let Some(at) = found else {
            return Err(Failure::new(
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                "the API key is not known here",
            ));
        };
        let owner = &self.0[at];
        owner.enter()?;
        let client = Client { name: owner.key.name.clone(), id: at as u64 + 1, admin: owner.key.admin };
        Ok(Pass { client, _leaving: Some(Leaving(owner.clone())) })
    }
}

/// The key that a request brings.
fn given(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let bearer = text("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| text("x-api-key"))
}

impl Owner {
    fn enter(&self) -> Result<(), Failure> {
        let busy = |message: String, after: u64| {
            Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).after(after))
        };
        let before = self.running.fetch_add(1, Ordering::Relaxed);
        if let Some(most) = self.key.concurrent.filter(|most| before >= *most) {
            self.running.fetch_sub(1, Ordering::Relaxed);
            return busy(format!("this key may have {most} requests at a time, and has {before}"), 1);
        }
        if let Some(wait) = self.wait() {
            self.running.fetch_sub(1, Ordering::Relaxed);
            let most = self.key.per_minute.unwrap_or(0);
            return busy(format!("this key may make {most} requests a minute"), wait);
        }
        Ok(())
    }

    /// Takes a request from the bucket; if there is none, the seconds until there is.
    fn wait(&self) -> Option<u64> {
        let rate = f64::from(self.key.per_minute?);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *bucket;
        let left = (left + since.elapsed().as_secs_f64() * rate / 60.0).min(rate);
        *bucket = (if left >= 1.0 { left - 1.0 } else { left }, Instant::now());
        (left < 1.0).then(|| ((1.0 - left) * 60.0 / rate).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys() {
        let text = "# ours\nsecret1 name=ann per-minute=60\n\nsecret2 admin concurrent=2 # ben\n";
        let keys = Key::parse_all(text).unwrap();
        let seen: Vec<_> =
            keys.iter().map(|k| (k.name.as_str(), k.per_minute, k.concurrent, k.admin)).collect();
        assert_eq!(seen, [("ann", Some(60), None, false), ("key2", None, Some(2), true)]);
        for bad in ["secret rate", "secret per-minute=0", "secret colour=red"] {
            assert!(Key::parse_all(bad).unwrap_err().contains("line 1"), "{bad}");
        }
    }

    #[test]
    fn limits_hold_for_each_key_by_itself() {
        let keys = Keys::new(Key::parse_all("a per-minute=2\nb concurrent=1").unwrap());
        let admit = |header: &'static str, value: &'static str| {
            keys.admit(&[(header.parse().unwrap(), value.parse().unwrap())].into_iter().collect())
        };
        assert!(admit("authorization", "Bearer a").is_ok() && admit("x-api-key", "a").is_ok());
        let refused = admit("authorization", "bearer a").unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(30)));
        let held = admit("x-api-key", "b").unwrap();
        assert_eq!(admit("x-api-key", "b").unwrap_err().status.as_u16(), 429);
        drop(held);
        assert!(admit("x-api-key", "b").is_ok());
        assert_eq!(admit("x-api-key", "c").unwrap_err().code, "invalid_api_key");
        assert_eq!(keys.admit(&HeaderMap::new()).unwrap_err().code, "missing_api_key");
    }
}
