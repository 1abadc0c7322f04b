//! What could have been sent by a web page that the user never meant to let in.
//!
//! A page in a browser that reaches this node can send requests to it. Such a request names the page's
//! own host (when its name was rebound to an address of this node) or carries the page's origin. So the
//! host must be one that cannot be rebound, and the origin this node's own, or one that the owner let in.
//! Whoever shows a token is no page that came by: browsers add none by themselves.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    HeaderMap, Method, Uri,
    header::{HOST, HeaderName, ORIGIN},
};

use crate::{answer::Problem, policy::Policy};

/// The door that a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// HTTP.
    Http(Http),
    /// The Unix socket in the home, whose peer has the owner's uid.
    Socket,
}

/// An HTTP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http {
    /// Who connected.
    pub peer: IpAddr,
    /// Whether the address that listens is loopback.
    pub loopback: bool,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// Whose page sent a request, if one did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// None, or one of this node.
    Own,
    /// One of another site that the owner let in.
    Foreign,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The one host that a request names.
///
/// # Errors
/// 400 when there is none, or several.
pub fn host(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host.to_str().unwrap_or_default()),
        _ => Err(Problem::usage("a request names exactly one Host")),
    }
}

/// Refuses names by which this node is not called.
///
/// # Errors
/// 403 with a foreign name.
pub fn check_names(policy: &Policy, http: Http, host: &str, uri: &Uri) -> Result<(), Problem> {
    let target = uri.authority().map(hyper::http::uri::Authority::as_str);
    for name in std::iter::once(host).chain(target) {
        if !is_own(policy, http, name) {
            let message = format!("this node does not answer to the name {name:?}");
            return Err(Problem::refused(message).advise(
                "use an address of this machine, or start the node with --host NAME; with a token any name will do",
            ));
        }
    }
    Ok(())
}

/// Whose page sent the request.
///
/// # Errors
/// 403 for pages that may not read this node.
pub fn page(
    policy: &Policy,
    http: Http,
    host: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Origin, Problem> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.as_bytes());
    let mut page = Origin::Own;
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        if !is_same(policy, http, host, origin) {
            if !policy.cors.allows(origin) {
                let message = format!("pages of {origin:?} may not read this node");
                return Err(Problem::refused(message)
                    .advise("start the node with --cors ORIGIN to let them"));
            }
            page = Origin::Foreign;
        }
    }
    let opens = *method == Method::GET && text(&SEC_FETCH_MODE) == Some(b"navigate");
    let site = text(&SEC_FETCH_SITE);
    if matches!(site, Some(b"cross-site" | b"same-site")) && page == Origin::Own && !opens {
        return Err(Problem::refused(
            "pages of other sites may not read this node",
        ));
    }
    Ok(page)
}

/// Whether a page of `origin` is this node's own. A name that the owner gave may have a proxy before it
/// that speaks TLS.
fn is_same(policy: &Policy, http: Http, host: &str, origin: &str) -> bool {
    let own = match origin.split_once("://") {
        Some(("http", own)) if !http.tls => own,
        Some(("https", own)) if http.tls || is_named(policy, own) => own,
        _ => return false,
    };
    own.eq_ignore_ascii_case(host)
}

/// Whether `host[:port]` names this node and cannot be made to by somebody else.
fn is_own(policy: &Policy, http: Http, authority: &str) -> bool {
    let Some(name) = name_of(authority) else {
        return false;
    };
    match name {
        Name::Address(ip) if http.loopback => ip.is_loopback(),
        // An address is no name: nobody can bind it to another one.
        Name::Address(_) => true,
        Name::Text(name) => name.eq_ignore_ascii_case("localhost") || is_named(policy, authority),
    }
}

fn is_named(policy: &Policy, authority: &str) -> bool {
    let Some(Name::Text(name)) = name_of(authority) else {
        return false;
    };
    policy
        .hosts
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
}

#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Address(IpAddr),
    Text(&'a str),
}

/// What stands before the port.
fn name_of(authority: &str) -> Option<Name<'_>> {
    if authority.contains('@') {
        return None;
    }
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return Some(Name::Address(address.ip()));
    }
    if let Some(literal) = authority.strip_prefix('[') {
        let ip = literal.strip_suffix(']')?.parse::<IpAddr>().ok()?;
        return ip.is_ipv6().then_some(Name::Address(ip));
    }
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return None,
        None => authority,
    };
    match name.parse::<IpAddr>() {
        Ok(ip) => Some(Name::Address(ip)),
        Err(_) => (!name.is_empty()).then_some(Name::Text(name)),
    }
}

#[cfg(test)]
mod tests;
