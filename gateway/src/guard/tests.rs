#![allow(clippy::unwrap_used)]
use hyper::header::HeaderValue;

use super::*;
use crate::policy::Cors;

const NEAR: Http = Http {
    peer: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    loopback: true,
    tls: false,
};
const FAR: Http = Http {
    loopback: false,
    ..NEAR
};

fn asked(policy: &Policy, http: Http, uri: &str, pairs: &[(&'static str, &str)]) -> u16 {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_static(name);
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let uri: Uri = uri.parse().unwrap();
    let checked = host(&headers).and_then(|host| {
        page(policy, http, host, &Method::GET, &headers)?;
        check_names(policy, http, host, &uri)
    });
    checked.map_or_else(|problem| problem.status().as_u16(), |()| 200)
}

fn status(uri: &str, pairs: &[(&'static str, &str)]) -> u16 {
    asked(&Policy::default(), NEAR, uri, pairs)
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
        "[127.0.0.1]",
        "",
        ":7070",
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
fn elsewhere_a_node_answers_to_addresses_and_to_the_names_it_was_given() {
    let policy = Policy {
        hosts: vec!["models.example".to_owned()],
        ..Policy::default()
    };
    for (host, expected) in [
        ("192.168.0.2:7070", 200),
        ("[fe80::2]:7070", 200),
        ("models.example", 200),
        ("MODELS.example:443", 200),
        ("localhost:7070", 200),
        ("evil.example", 403),
        ("models.example.evil.example", 403),
        ("192.168.0.2.evil.example", 403),
    ] {
        let found = asked(&policy, FAR, "/", &[("host", host)]);
        assert_eq!(found, expected, "{host}");
    }
    assert_eq!(
        asked(&policy, NEAR, "/", &[("host", "models.example")]),
        200
    );
}

#[test]
fn pages_of_other_origins_are_refused() {
    let host = ("host", "localhost:7070");
    for origin in [
        "http://evil.example",
        "https://localhost:7070",
        "http://localhost:3000",
        "null",
        "",
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
fn pages_that_the_owner_let_in_are_known_as_foreign() {
    let policy = Policy {
        cors: Cors::Origins(vec!["https://app.example".to_owned()]),
        ..Policy::default()
    };
    let whose = |policy: &Policy, origin: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        let site = HeaderValue::from_static("cross-site");
        headers.insert(SEC_FETCH_SITE, site);
        page(policy, NEAR, "localhost", &Method::GET, &headers).map_err(|p| p.status().as_u16())
    };
    assert_eq!(whose(&policy, "https://app.example"), Ok(Origin::Foreign));
    assert_eq!(whose(&policy, "http://app.example"), Err(403));
    assert_eq!(whose(&policy, "https://app.example.evil.example"), Err(403));
    let anyone = Policy {
        cors: Cors::Anyone,
        ..Policy::default()
    };
    assert_eq!(whose(&anyone, "https://any.example"), Ok(Origin::Foreign));
}

#[test]
fn own_pages_are_own_with_tls_and_behind_a_proxy_that_has_it() {
    let policy = Policy {
        hosts: vec!["models.example".to_owned()],
        ..Policy::default()
    };
    let tls = Http { tls: true, ..FAR };
    let at = |http, host: &str, origin: &str| {
        asked(&policy, http, "/", &[("host", host), ("origin", origin)])
    };
    assert_eq!(at(tls, "10.0.0.1:7070", "https://10.0.0.1:7070"), 200);
    assert_eq!(at(tls, "10.0.0.1:7070", "http://10.0.0.1:7070"), 403);
    assert_eq!(at(FAR, "models.example", "https://models.example"), 200);
    assert_eq!(at(FAR, "10.0.0.1", "https://10.0.0.1"), 403);
}
