//! From where a request may come. A page on the web can make a browser ask this machine for anything: under a name that
//! the page's owner has pointed at it (DNS rebinding), or across origins. Neither gets in.

use crate::failure::Failure;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use std::net::IpAddr;

/// Names and origins that are allowed beside the machine's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// Names by which clients may call this server.
    pub(crate) hosts: Vec<String>,
    /// Origins of pages that may use this server.
    pub(crate) origins: Vec<String>,
}

impl Origins {
    /// Checks `Host` and `Origin`. Gives the origin to be named in the answer, if a page of another one asks.
    pub(crate) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<String>, Failure> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = uri.authority().map(|a| a.as_str()).or(text(header::HOST)).unwrap_or_default();
        let name = without_port(host);
        let known = name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(name));
        if !known {
            let message = format!(
                "this server is not called {name:?}; start it with --host-name {name} if it should be"
            );
            return Err(Failure::new(StatusCode::FORBIDDEN, "unknown_host", message));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
        let origin = origin.to_str().unwrap_or_default();
        let own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        if own {
            return Ok(None);
        }
        if self.origins.iter().any(|allowed| allowed == origin) {
            return Ok(Some(origin.to_owned()));
        }
        let message = format!(
            "pages of {origin:?} may not use this server; start it with --origin {origin} if they should"
        );
        Err(Failure::new(StatusCode::FORBIDDEN, "unknown_origin", message))
    }
}

/// `[::1]:80` and `name:80` without the port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_and_origins_get_in() {
        let origins = Origins { hosts: vec!["gpu.lan".into()], origins: vec!["https://chat.example".into()] };
        let check = |host: &str, origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if !origin.is_empty() {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            origins.check(&headers, &"/".parse().unwrap()).map_err(|f| f.code)
        };
        for (host, origin, outcome) in [
            ("localhost:8080", "", Ok(None)),
            ("127.0.0.1:8080", "", Ok(None)),
            ("[::1]:8080", "", Ok(None)),
            ("192.168.0.7", "", Ok(None)),
            ("GPU.lan:1", "", Ok(None)),
            ("evil.example:8080", "", Err("unknown_host")),
            ("localhost.evil.example", "", Err("unknown_host")),
            ("", "", Err("unknown_host")),
            ("localhost:8080", "http://localhost:8080", Ok(None)),
            ("localhost:8080", "http://localhost:9090", Err("unknown_origin")),
            ("localhost:8080", "https://evil.example", Err("unknown_origin")),
            ("localhost:8080", "null", Err("unknown_origin")),
            ("localhost:8080", "https://chat.example", Ok(Some("https://chat.example".to_owned()))),
        ] {
            assert_eq!(check(host, origin), outcome, "{host} {origin}");
        }
    }
}
