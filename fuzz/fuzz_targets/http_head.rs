//! What a request's head makes the gateway parse itself: path, query, conditions, host and origin;
//! and a form.
#![no_main]

use hyper::{
    HeaderMap, Method, Uri,
    header::{HOST, HeaderValue, IF_NONE_MATCH, IF_RANGE, ORIGIN},
};
use libfuzzer_sys::fuzz_target;
use lode_gateway::{
    condition::Etag,
    dialect::Dialect,
    guard::{Door, check},
    target::{Target, encode_segment},
};

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
    for (name, at) in [(HOST, 2), (ORIGIN, 3), (IF_NONE_MATCH, 4), (IF_RANGE, 5)] {
        if let Ok(value) = HeaderValue::from_bytes(line(at)) {
            headers.insert(name, value);
        }
    }
    let _ = Etag::new("abc").weigh(&headers);
    let _ = check(
        Door::Loopback,
        &Method::GET,
        &Uri::from_static("/"),
        &headers,
    );
});
