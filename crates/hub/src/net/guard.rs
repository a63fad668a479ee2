//! Which addresses may be connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// A name that resolves into a private network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is an address of a private network")]
pub(crate) struct PrivateAddress(pub(crate) IpAddr);

/// Resolves names, and refuses those that lead into a private network: the addresses that are checked are the ones
/// that are connected to, so a name cannot change its meaning in between.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Hosts that the user named, which may be anywhere.
    trusted: Vec<String>,
    resolver: DefaultResolver,
}

impl Guard {
    pub(crate) fn new(trusted: Vec<String>) -> Guard {
        Guard { trusted, resolver: DefaultResolver::default() }
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.resolver.resolve(uri, config, timeout)?;
        if uri.host().is_some_and(|host| self.trusted.iter().any(|t| t.eq_ignore_ascii_case(host))) {
            return Ok(found);
        }
        match found.iter().map(|address| address.ip()).find(is_private) {
            Some(address) => Err(Error::Other(Box::new(PrivateAddress(address)))),
            None => Ok(found),
        }
    }
}

/// The address that a host is written as, if it is one.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an address means something only inside some network, or nothing that a download can come from.
pub(crate) fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(*address),
        IpAddr::V6(address) => is_private_v6(*address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224 // multicast, reserved, broadcast
        || (a == 100 && (64..128).contains(&b)) // behind a provider's NAT
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] => v4(g, h), // also ::1 and ::
        [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x64, 0xff9b, 1, ..] => true,
        [0x2002, high, low, ..] => v4(high, low),
        _ => {
            a & 0xfe00 == 0xfc00
                || a & 0xffc0 == 0xfe80
                || a & 0xffc0 == 0xfec0
                || a >> 8 == 0xff
                || (a == 0x2001 && b == 0xdb8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_networks_are_known_in_every_spelling() {
        let private = [
            "127.0.0.1",
            "127.8.9.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ];
        let public = [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "18.155.1.2",
            "2600:9000::1",
            "2a04:4e42::1",
            "2002:0101:0101::",
        ];
        for (addresses, expected) in [(&private[..], true), (&public[..], false)] {
            for address in addresses {
                assert_eq!(is_private(&address.parse().unwrap()), expected, "{address}");
            }
        }
        assert_eq!(literal("[::1]"), Some("::1".parse().unwrap()));
        assert_eq!(literal("localhost"), None);
    }
}
