//! Letting pages of other sites read: answers to a browser that asks before, and marks on what it reads.
//!
//! Off unless the owner names origins (`--cors`). It would be tempting to let every page read what is
//! public without a token: yet a node often stands where other sites do not reach, and then a page that
//! somebody visits would carry out what the network around it keeps in. Browsers are never told that they
//! may send credentials of their own; a page that has a token sends it as a header.

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
        CONTENT_LENGTH, HeaderValue, ORIGIN, VARY,
    },
};

use crate::{
    answer::Response,
    body::Body,
    policy::{Cors, Policy},
};

/// What a page may send. Searching is a `POST` that reads; scopes keep it from changing anything.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");

const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, api-key, content-type, range, if-match, if-none-match, if-range, accept, x-requested-with",
);

/// What a page may see of an answer beside its body: what transformers.js and the Hub's library read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "accept-ranges, content-disposition, content-encoding, content-length, content-range, etag, link, \
     location, ratelimit, retry-after, x-error-code, x-error-message, x-linked-etag, x-linked-size, \
     x-repo-commit, x-request-id, lode-version, lode-variant, lode-recipe, lode-fork, lode-seq, lode-link, \
     lode-dtype, lode-shape, lode-file, lode-offset, lode-verified",
);

/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The answer to a browser that asks whether a page, which may read, may send a request.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if *method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = hyper::Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.remove(CONTENT_LENGTH);
    Some(response)
}

/// Says in the head of an answer that the page which asked may read it, if it may.
pub(crate) fn mark(policy: &Policy, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
    if policy.cors == Cors::Nobody {
        return;
    }
    // Caches between must not give one page what was marked for another.
    response.append(VARY, HeaderValue::from_name(ORIGIN));
    let Some(origin) = origin else {
        return;
    };
    if origin
        .to_str()
        .is_ok_and(|origin| policy.cors.allows(origin))
    {
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
