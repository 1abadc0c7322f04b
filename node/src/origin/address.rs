//! Which addresses a node asks on behalf of others, so that it cannot be sent into its own network.
//!
//! The rule is applied to the address that is dialled, after the name was resolved ([`PublicOnly`]), and to
//! addresses that are written as numbers ([`check`]). A name that resolves to something else a moment later
//! gains nothing: what was checked is what is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

use super::{error::OriginError, limits::URL_BYTES_MAX};

/// Whether an address is one of the public Internet.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// The special blocks of IPv4 (IANA's registry of special-purpose addresses) are not.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 224)
}

/// Of IPv6 only global unicast (2000::/3) is; of what embeds an IPv4 address, what embeds a public one.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let parts = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        // NAT64 (RFC 6052)
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // 6to4 (RFC 3056)
        [0x2002, high, low, ..] => embedded(high, low),
        // IETF protocol assignments, Teredo among them, and documentation
        [0x2001, 0..0x200, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// Reads the address of another hub, as a person gives it.
///
/// # Errors
/// It is no HTTP address, or carries a password, a query or a fragment.
pub(crate) fn parse(text: &str) -> Result<Url, OriginError> {
    let bad = |why: &str| OriginError::Address {
        url: text.chars().take(200).collect(),
        why: why.to_owned(),
    };
    if text.len() > URL_BYTES_MAX {
        return Err(bad("it is too long"));
    }
    let mut url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad(
            "a name or password in it is not used: name a file with --upstream-token-file",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it must end with the host or a path"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Where a redirection leads, if it may be followed.
///
/// # Errors
/// It leads to another scheme than HTTPS from HTTPS, to no HTTP address, or is none.
pub(crate) fn follow(from: &Url, location: &str) -> Result<Url, OriginError> {
    let bad = |why: &str| OriginError::Redirect {
        from: shown(from),
        why: why.to_owned(),
    };
    if location.len() > URL_BYTES_MAX {
        return Err(bad("the address is too long"));
    }
    let to = from
        .join(location)
        .map_err(|error| bad(&error.to_string()))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => return Err(bad("it leads from https to http")),
        (_, "http" | "https") => {}
        (_, scheme) => return Err(bad(&format!("it leads to the scheme {scheme:?}"))),
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(bad("the address has a name or password in it"));
    }
    Ok(to)
}

/// Checks an address whose host is written as a number: those are dialled without being looked up.
///
/// # Errors
/// It is not public, and only those are allowed.
pub(crate) fn check(url: &Url, private: bool) -> Result<(), OriginError> {
    let ip = match url.host_str() {
        None => return Err(OriginError::Private { host: shown(url) }),
        Some(host) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>(),
    };
    match ip {
        Ok(ip) if !private && !is_public(ip) => Err(OriginError::Private {
            host: ip.to_string(),
        }),
        _ => Ok(()),
    }
}

/// An address without what may be secret in it: its query.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.query().is_some() {
        url.set_query(Some(".."));
    }
    url.to_string().chars().take(300).collect()
}

/// Looks names up, and gives only public addresses unless others are allowed.
#[derive(Debug)]
pub(crate) struct PublicOnly {
    pub(crate) private: bool,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut addresses: Vec<SocketAddr> = found.collect();
            addresses.retain(|address| private || is_public(address.ip()));
            if addresses.is_empty() {
                let host = name.as_str().to_owned();
                return Err(OriginError::Private { host }.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "4000::1",
            "100::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "2001:4860::8888",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn numbers_are_checked_however_they_are_written() {
        for host in [
            "127.0.0.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.1",
            "[::1]",
            "[::ffff:7f00:1]",
            "169.254.169.254",
        ] {
            let url = parse(&format!("http://{host}:8080")).unwrap();
            assert!(
                matches!(check(&url, false), Err(OriginError::Private { .. })),
                "{host}"
            );
            assert!(check(&url, true).is_ok(), "{host}");
        }
        assert!(check(&parse("https://example.org").unwrap(), false).is_ok());
    }

    #[test]
    fn an_address_is_a_place_and_nothing_more() {
        for text in [
            "",
            "huggingface.co",
            "ftp://example.org",
            "file:///etc/passwd",
            "https://a:b@example.org",
            "https://a@example.org",
            "https://example.org/?a=b",
            "https://example.org/#a",
            "https://",
        ] {
            assert!(
                matches!(parse(text), Err(OriginError::Address { .. })),
                "{text}"
            );
        }
        assert_eq!(parse("https://example.org/hf/").unwrap().path(), "/hf");
        let long = format!("https://example.org/{}", "a".repeat(URL_BYTES_MAX));
        assert!(parse(&long).is_err());
    }

    #[test]
    fn a_redirection_keeps_what_is_safe() {
        let from = parse("https://example.org/a").unwrap();
        for (location, why) in [
            ("http://example.org/a", "from https to http"),
            ("ftp://example.org/a", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("https://u:p@example.org/a", "password"),
            ("https://[", "IPv6"),
        ] {
            let error = follow(&from, location).unwrap_err().to_string();
            assert!(error.contains(why), "{location}: {error}");
        }
        let to = follow(&from, "/b?c=d").unwrap();
        assert_eq!(to.as_str(), "https://example.org/b?c=d");
        assert_eq!(shown(&to), "https://example.org/b?..");
        let plain = parse("http://example.org").unwrap();
        assert!(follow(&plain, "https://example.org").is_ok());
        assert!(follow(&from, &"a".repeat(URL_BYTES_MAX + 1)).is_err());
    }
}
