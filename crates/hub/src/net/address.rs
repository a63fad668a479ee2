//! URLs, as far as a download needs them.

/// Percent-encodes what cannot stand in a path; slashes stay.
pub(crate) fn encode(path: &str) -> String {
    encode_except(path, b"-_.~/")
}

/// The same for one part of a path: slashes are encoded too.
pub(crate) fn encode_part(part: &str) -> String {
    encode_except(part, b"-_.~")
}

fn encode_except(text: &str, plain: &[u8]) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            true => out.push(byte.into()),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `https://host:port` of a URL, in lower case.
pub(crate) fn authority(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let known = ["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
    let good = !rest[..end].is_empty() && !rest[..end].contains(['@', '\\']);
    (known && good).then(|| format!("{scheme}://{}", &rest[..end]).to_ascii_lowercase())
}

/// The host of a URL without its port.
pub(crate) fn host(url: &str) -> Option<String> {
    let authority = authority(url)?;
    let (_, host) = authority.split_once("://")?;
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address.to_owned()),
        None => Some(host.split(':').next().unwrap_or(host).to_owned()),
    }
}

/// Where a redirect from `base` leads.
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    if location.contains("://") && authority(location).is_some() {
        return Some(location.to_owned());
    }
    let authority = authority(base)?;
    if let Some(rest) = location.strip_prefix("//") {
        let (scheme, _) = authority.split_once("://")?;
        return Some(format!("{scheme}://{rest}")).filter(|url| self::authority(url).is_some());
    }
    location.strip_prefix('/').map(|path| format!("{authority}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together() {
        assert_eq!(encode("a b/ü%.gguf"), "a%20b/%C3%BC%25.gguf");
        assert_eq!(encode_part("refs/pr/1"), "refs%2Fpr%2F1");
        for (url, expected) in [
            ("https://HF.co/a", Some("hf.co")),
            ("http://127.0.0.1:8080", Some("127.0.0.1")),
            ("http://[::1]:80/x", Some("::1")),
            ("https://good.org@evil.org/", None),
            ("https://good.org\\@evil.org/", None),
            ("gopher://x/", None),
            ("x", None),
        ] {
            assert_eq!(host(url).as_deref(), expected, "{url}");
        }
        for (location, expected) in [
            ("https://c.org/y?z", Some("https://c.org/y?z")),
            ("/y", Some("https://a.org:1/y")),
            ("//b.org/y", Some("https://b.org/y")),
            ("file:///etc/passwd", None),
            ("y", None),
        ] {
            assert_eq!(join("https://a.org:1/x?q", location).as_deref(), expected, "{location}");
        }
    }
}
