//! What a request's head makes the gateway parse itself: path, query, conditions, host, origin and tokens; and a
//! form.
#![no_main]

use hyper::{
    HeaderMap, Method, Uri,
    header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, ORIGIN},
};
use libfuzzer_sys::fuzz_target;
use lode_gateway::{
    condition::Etag,
    dialect::Dialect,
    guard::{self, Http},
    limits::CREDENTIAL_BYTES_MAX,
    policy::Policy,
    target::{Target, encode_segment},
    visitor::{Visitor, credential},
};

/// A name that was let through at a door on loopback names this machine and nothing else.
fn is_own(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    ["localhost", "127.", "[::", "[0"]
        .iter()
        .any(|own| host.starts_with(own))
}

fuzz_target!(|data: &[u8]| {
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let line = |at: usize| lines.get(at).copied().unwrap_or_default();
    if let (Ok(path), Ok(query)) = (std::str::from_utf8(line(0)), std::str::from_utf8(line(1)))
        && let Ok(target) = Target::parse(path, Some(query))
    {
        let again: String = target
            .segments()
            .iter()
            .map(|segment| format!("/{}", encode_segment(segment)))
            .collect();
        if let Ok(encoded) = Target::parse(&again, None) {
            assert_eq!(encoded.segments(), target.segments());
        }
        let query = target.query_text();
        assert!(query.is_ascii() && !query.contains(['\r', '\n', ' ']));
        if let Ok(encoded) = Target::parse("/", query.strip_prefix('?')) {
            assert_eq!(encoded.query_text(), query);
        }
        let _ = Dialect::of(path);
    }
    if let Ok(form) = std::str::from_utf8(line(6)) {
        let pairs = Target::parse_form(form, 8);
        assert!(pairs.is_ok_and(|pairs| pairs.len() <= 8) || !form.is_empty());
    }
    let mut headers = HeaderMap::new();
    let api_key = HeaderName::from_static("api-key");
    for (name, at) in [
        (HOST, 2),
        (ORIGIN, 3),
        (IF_NONE_MATCH, 4),
        (IF_RANGE, 5),
        (AUTHORIZATION, 7),
        (api_key, 8),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(line(at)) {
            headers.insert(name, value);
        }
    }
    let _ = Etag::new("abc").weigh(&headers);
    if let Some(shown) = credential(&headers) {
        assert!(shown.len() <= CREDENTIAL_BYTES_MAX);
    }
    let policy = Policy::default();
    for loopback in [true, false] {
        let http = Http {
            peer: [127, 0, 0, 1].into(),
            loopback,
            tls: false,
        };
        let Ok(host) = guard::host(&headers) else {
            continue;
        };
        let named = guard::check_names(&policy, http, host, &Uri::from_static("/")).is_ok();
        assert!(!named || !loopback || is_own(host));
        if let Ok(page) = guard::page(&policy, http, host, &Method::GET, &headers) {
            let visitor = Visitor::of(&policy, None, http, page, &headers).ok();
            // Nobody acts as the owner of a node that others reach.
            assert!(loopback || visitor.is_none_or(|visitor| visitor.check_admin().is_err()));
        }
    }
});
