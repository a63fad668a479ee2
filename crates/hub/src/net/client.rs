//! One GET at a time, with redirects under control.

use super::guard::{Guard, PrivateAddress, is_private, literal};
use super::{Failure, Retry, address, tls};
use crate::{Error, HubOptions, Secret};
use std::time::{Duration, SystemTime};
use ureq::http::HeaderMap;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Proxy};

/// A GET request is sent on at most so many times.
const REDIRECTS: usize = 8;

/// What is asked for, for messages about it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `repository a/b`, `file x of a/b`
    pub(crate) what: String,
    /// `a/b`
    pub(crate) repo: String,
    /// The page where a gated repository's terms are accepted.
    pub(crate) page: String,
    /// The variable of the token.
    pub(crate) variable: &'static str,
}

/// An answer that is a success.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Where it came from in the end.
    pub(crate) url: String,
    pub(crate) body: ureq::Body,
}

impl Response {
    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Who speaks HTTP for us.
pub(crate) struct Client {
    direct: Agent,
    /// For plain HTTP and for HTTPS.
    proxied: [Option<Agent>; 2],
    no_proxy: Vec<String>,
    /// Hosts that the user named.
    trusted: Vec<String>,
    /// Which token goes to which `https://host:port`, and nowhere else.
    tokens: Vec<(String, Secret)>,
    pub(crate) retry: Retry,
}

impl Client {
    /// `named` are the URLs that the user gave, besides the endpoints.
    pub(crate) fn new(options: &HubOptions, named: &[&str]) -> Result<Client, Error> {
        let endpoints =
            [(&options.endpoint, &options.token), (&options.modelscope, &options.modelscope_token)];
        let mut trusted: Vec<String> = named.iter().filter_map(|url| address::host(url)).collect();
        let mut tokens = Vec::new();
        for (endpoint, token) in endpoints {
            let authority = address::authority(endpoint).ok_or_else(|| Error::Setting {
                setting: "HF_ENDPOINT".into(),
                why: format!("{endpoint:?} is no URL"),
            })?;
            trusted.extend(address::host(endpoint));
            tokens.extend(token.clone().map(|token| (authority, token)));
        }
        let tls = tls::config(options.certificates.as_deref())?;
        let agent = |proxy: Option<Proxy>| {
            // A proxy is often in the network that it leads out of; who set it named it.
            let named = proxy.as_ref().map(|proxy| proxy.host().to_owned());
            let reachable: Vec<String> = trusted.iter().cloned().chain(named).collect();
            let config = Agent::config_builder()
                .tls_config(tls.clone())
                .proxy(proxy)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .http_status_as_error(false)
                .user_agent(concat!("sampan/", env!("CARGO_PKG_VERSION")))
                .timeout_connect(Some(Duration::from_secs(15)))
                .timeout_resolve(Some(Duration::from_secs(15)))
                .timeout_recv_response(Some(options.patience))
                .timeout_per_read(Some(options.patience))
                .max_idle_connections_per_host(16)
                .build();
            Agent::with_parts(config, DefaultConnector::default(), Guard::new(reachable))
        };
        let proxied = |name: &str, url: &Option<Secret>| -> Result<Option<Agent>, Error> {
            let Some(url) = url else { return Ok(None) };
            let proxy = Proxy::new(url.reveal())
                .map_err(|e| Error::Setting { setting: name.into(), why: e.to_string() })?;
            Ok(Some(agent(Some(proxy))))
        };
        Ok(Client {
            direct: agent(None),
            proxied: [
                proxied("HTTP_PROXY", &options.http_proxy)?,
                proxied("HTTPS_PROXY", &options.https_proxy)?,
            ],
            no_proxy: options.no_proxy.split(',').map(|host| host.trim().to_lowercase()).collect(),
            trusted,
            tokens,
            retry: Retry { attempts: options.attempts.max(1), first_wait: options.first_wait },
        })
    }

    /// Asks for a URL, or for some bytes of it (from, up to and including). The answer's status is 200 or 206.
    ///
    /// # Errors
    /// What came instead, and whether it may come later.
    pub(crate) fn get(
        &self,
        url: &str,
        range: Option<(u64, u64)>,
        asked: &Asked,
    ) -> Result<Response, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS {
            let response = self.once(&url, range)?;
            match response.status {
                200 | 206 => return Ok(response),
                300..=399 => url = self.follow(&response)?,
                _ => return Err(self.refused(&response, asked)),
            }
        }
        Err(Error::BadAnswer { host: host(&url), why: format!("more than {REDIRECTS} redirects") }.into())
    }

    /// One request and one answer, whatever it is.
    fn once(&self, url: &str, range: Option<(u64, u64)>) -> Result<Response, Failure> {
        if url.starts_with("https:") {
            tls::check_cpu()?;
        }
        let mut request = self.agent(url).get(url);
        if let Some((from, to)) = range {
            request = request.header("Range", format!("bytes={from}-{to}"));
        }
        if let Some(token) = self.token(url) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let (parts, body) = request.call().map_err(|error| transport(url, error))?.into_parts();
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, url: url.to_owned(), body })
    }

    fn token(&self, url: &str) -> Option<&str> {
        let authority = address::authority(url)?;
        self.tokens.iter().find(|(to, _)| *to == authority).map(|(_, token)| token.reveal())
    }

    fn agent(&self, url: &str) -> &Agent {
        let host = host(url);
        let exempt = |entry: &String| {
            let domain = entry.trim_start_matches('*').trim_start_matches('.');
            entry == "*" || (!domain.is_empty() && (host == domain || host.ends_with(&format!(".{domain}"))))
        };
        let proxied = &self.proxied[usize::from(url.starts_with("https:"))];
        proxied.as_ref().filter(|_| !self.no_proxy.iter().any(exempt)).unwrap_or(&self.direct)
    }

    /// The next URL, if it is one to go to.
    fn follow(&self, response: &Response) -> Result<String, Error> {
        let from = host(&response.url);
        let location = response.header("Location").unwrap_or_default();
        let to = address::join(&response.url, location).ok_or_else(|| Error::BadAnswer {
            host: from.clone(),
            why: format!("a redirect to {location:?}"),
        })?;
        let no = |why| Err(Error::Redirect { from: from.clone(), to: to.clone(), why });
        if response.url.starts_with("https:") && !to.starts_with("https:") {
            return no("which is not encrypted");
        }
        let host = host(&to);
        // Names are checked when they are resolved; behind a proxy only the proxy can do that.
        if !self.trusted.contains(&host) && literal(&host).is_some_and(|address| is_private(&address)) {
            return no("an address of a private network");
        }
        Ok(to)
    }

    fn refused(&self, response: &Response, asked: &Asked) -> Failure {
        let host = host(&response.url);
        let token = self.token(&response.url).is_some();
        let Asked { what, repo, page, variable } = asked.clone();
        let status = response.status;
        let code = response.header("X-Error-Code").unwrap_or_default();
        let gated = |why| Error::Gated { repo: repo.clone(), why, page: page.clone(), variable, token };
        let error = match (status, code) {
            (_, "GatedRepo") if !token => gated("it is given only to people who have accepted its terms"),
            (_, "GatedRepo") => gated("the token's owner has not been let in"),
            (404 | 410, _) | (_, "RepoNotFound" | "RevisionNotFound" | "EntryNotFound") => {
                Error::NotFound { host, what, token, nearest: Vec::new() }
            }
            (401, _) if !token => gated("the hub wants a token"),
            (401, _) => gated("the hub does not accept the token"),
            (403, _) => gated("the token may not read it"),
            _ => Error::Status { host, status, what },
        };
        match status {
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                let wait = response.header("Retry-After").and_then(|text| wish(text, SystemTime::now()));
                Failure::Again { error, wait }
            }
            _ => Failure::Final(error),
        }
    }
}

/// How long a server wants us to wait: seconds, or until a date.
fn wish(text: &str, now: SystemTime) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// The host of a URL, for messages.
fn host(url: &str) -> String {
    address::host(url).unwrap_or_else(|| url.to_owned())
}

/// A request that got no answer.
fn transport(url: &str, error: ureq::Error) -> Failure {
    let host = host(url);
    let unreachable = |why: String| Error::Unreachable { host: host.clone(), why };
    match error {
        ureq::Error::Other(inner) if inner.is::<PrivateAddress>() => {
            let why = "an address of a private network";
            Failure::Final(Error::Redirect { from: "the hub".into(), to: url.to_owned(), why })
        }
        ureq::Error::HostNotFound => Failure::Final(unreachable("no such host".into())),
        ureq::Error::Rustls(error) => Failure::Final(unreachable(error.to_string())),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Failure::Final(unreachable("nobody listens there".into()))
        }
        ureq::Error::Io(error) if error.to_string().contains("lookup address") => {
            Failure::Final(unreachable(error.to_string()))
        }
        error => Failure::Again { error: unreachable(error.to_string()), wait: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_wish_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // the date of RFC 9110, section 5.6.7
        for (text, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)), // past: at once
            ("soon", None),
            ("-5", None),
        ] {
            assert_eq!(wish(text, now).map(|wait| wait.as_secs()), seconds, "{text}");
        }
    }
}
