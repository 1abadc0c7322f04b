//! Who is asking: the checks that make loopback safe to treat as the owner.
//!
//! A web page in a browser on this machine can send requests to loopback too. Such a request names
//! the page's own host (when its name was rebound to 127.0.0.1) or carries the page's origin, so both
//! must be loopback's. A program on this machine passes; a page from elsewhere does not.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    HeaderMap, Method, Uri,
    header::{HOST, HeaderName, ORIGIN},
};

use crate::answer::Problem;

/// The door that a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// HTTP on a loopback address.
    Loopback,
    /// The Unix socket in the home, whose peer has the owner's uid.
    Socket,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Refuses what a web page from elsewhere could have sent.
///
/// # Errors
/// 400 without a host, 403 with a foreign host or origin.
pub fn check(door: Door, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if door == Door::Socket {
        return Ok(());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return Err(Problem::usage("a request names exactly one Host")),
    };
    let target = uri.authority().map(hyper::http::uri::Authority::as_str);
    for name in std::iter::once(host).chain(target) {
        if !is_loopback(name) {
            let message = format!("this node does not answer to the name {name:?}");
            let advice = "use http://localhost or http://127.0.0.1; other names come with tokens";
            return Err(Problem::refused(message).advise(advice));
        }
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        if origin.strip_prefix("http://") != Some(host) {
            let message = format!("pages of {origin:?} may not read this node");
            return Err(Problem::refused(message));
        }
    }
    let site = headers.get(SEC_FETCH_SITE).map(|value| value.as_bytes());
    let opens = method == Method::GET
        && headers.get(SEC_FETCH_MODE).map(|value| value.as_bytes()) == Some(b"navigate");
    if matches!(site, Some(b"cross-site" | b"same-site")) && !opens {
        return Err(Problem::refused(
            "pages of other sites may not read this node",
        ));
    }
    Ok(())
}

/// Whether `host[:port]` names this machine and cannot name another.
fn is_loopback(authority: &str) -> bool {
    if authority.contains('@') {
        return false;
    }
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    if let Some(literal) = authority.strip_prefix('[') {
        let literal = literal.strip_suffix(']').unwrap_or_default();
        return literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    }
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => authority,
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hyper::header::HeaderValue;

    fn status(uri: &str, pairs: &[(&'static str, &str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let uri: Uri = uri.parse().unwrap();
        check(Door::Loopback, &Method::GET, &uri, &headers)
            .map_or_else(|p| p.status().as_u16(), |()| 200)
    }

    #[test]
    fn names_of_this_machine_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:7070",
            "127.0.0.1",
            "127.0.0.1:7070",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:7070",
        ] {
            assert_eq!(status("/", &[("host", host)]), 200, "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in [
            "evil.example",
            "evil.example:7070",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.0.2:7070",
            "localhost:x",
            "user@localhost",
            "[::2]:7070",
            "[::1",
            "",
            "0.0.0.0",
            "2130706433",
            "localhost:7070:1",
        ] {
            assert_eq!(status("/", &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status("/", &[]), 400);
        assert_eq!(
            status("/", &[("host", "localhost"), ("host", "localhost")]),
            400
        );
        assert_eq!(
            status("http://evil.example/", &[("host", "localhost")]),
            403
        );
        assert_eq!(status("http://localhost/", &[("host", "localhost")]), 200);
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let host = ("host", "localhost:7070");
        for origin in [
            "http://evil.example",
            "https://localhost:7070",
            "http://localhost:3000",
            "null",
            "http://127.0.0.1:7070",
        ] {
            assert_eq!(status("/", &[host, ("origin", origin)]), 403, "{origin}");
        }
        assert_eq!(
            status("/", &[host, ("origin", "http://localhost:7070")]),
            200
        );
        assert_eq!(status("/", &[host, ("sec-fetch-site", "cross-site")]), 403);
        assert_eq!(status("/", &[host, ("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(status("/", &[host, ("sec-fetch-site", "none")]), 200);
        let link = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert_eq!(status("/", &link), 200);
    }

    #[test]
    fn the_socket_needs_no_name() {
        let (uri, headers) = ("/".parse().unwrap(), HeaderMap::new());
        assert!(check(Door::Socket, &Method::POST, &uri, &headers).is_ok());
    }
}
