//! From where a request may come. A page on the web can make a browser ask this machine for anything: under a name that
//! the page's owner has pointed at it (DNS rebinding), or across origins. Neither gets in.

use crate::failure::Failure;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use std::net::IpAddr;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

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
        if headers.get_all(header::HOST).iter().nth(1).is_some() {
            return Err(Failure::invalid("the request names more than one host"));
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = uri.authority().map(|a| a.as_str()).or(text(header::HOST)).unwrap_or_default();
        let name = without_port(host);
        let known = name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(name));
        if !known {
            let message = match name {
                "" => "the request names no host; send the header".to_owned(),
                name => {
                    format!(
                        "this server is not called {name:?}; start it with --host-name {name} if it should be"
                    )
                }
            };
            return Err(Failure::new(StatusCode::FORBIDDEN, "unknown_host", message));
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            // A picture or a script that another page names comes without an origin, and may not do anything here either.
            let embedded =
                text(SEC_FETCH_SITE) == Some("cross-site") && text(SEC_FETCH_MODE) != Some("navigate");
            return match embedded {
                true => Err(Failure::new(
                    StatusCode::FORBIDDEN,
                    "unknown_origin",
                    "other pages may not embed this server",
                )),
                false => Ok(None),
            };
        };
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

    #[test]
    fn what_other_pages_embed_stays_out_and_links_to_this_server_work() {
        let check = |headers: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (name.parse().unwrap(), value.parse().unwrap())
            };
            let mut map = HeaderMap::new();
            headers.iter().map(pair).for_each(|(name, value): (HeaderName, _)| {
                map.append(name, value);
            });
            Origins::default().check(&map, &"/".parse().unwrap()).map(|_| ()).map_err(|f| f.status.as_u16())
        };
        let host = ("host", "localhost");
        let (cross, same) = (("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-origin"));
        assert_eq!(check(&[host, cross, ("sec-fetch-mode", "no-cors")]), Err(403));
        assert_eq!(check(&[host, cross, ("sec-fetch-mode", "navigate")]), Ok(()));
        assert_eq!(check(&[host, same, ("sec-fetch-mode", "no-cors")]), Ok(()));
        assert_eq!(check(&[host, host]), Err(400));
    }
}
