//! The OpenAPI document of the native dialect, made from the table of routes so that it cannot lack one.
//!
//! Paths, methods, scopes and what may go wrong with any request come from here; what a route takes and
//! answers besides, from its own [`Description`](crate::describe::Description). The other dialects are their
//! clients' own, and documented where those are.

use std::collections::BTreeMap;

use hyper::Method;
use utoipa::openapi::{
    Components, HttpMethod, Info, OpenApi, Required, Response,
    extensions::Extensions,
    path::PathItem,
    path::{Operation, OperationBuilder, Parameter, ParameterIn, PathsBuilder},
    schema::ObjectBuilder,
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use crate::{
    describe::{Description, HEX_64, TEXT, parameter, pattern},
    dialect::Dialect,
    route::{Route, Routes},
};

/// How a token is sent.
const SCHEMES: [&str; 3] = ["bearer", "basic", "api-key"];

/// The document for these routes.
pub(crate) fn document(routes: &Routes) -> OpenApi {
    let mut paths = PathsBuilder::new();
    let mut components = Components::new();
    for route in routes.iter().filter(|route| is_native(route)) {
        let description = route.description().unwrap_or_default();
        let path = route.pattern().replace("..}", "}");
        let operation = operation(route, &description);
        let item = match *route.method() {
            Method::GET => {
                let mut item = PathItem::new(HttpMethod::Head, without_content(&operation));
                item.get = Some(operation);
                item
            }
            Method::POST => PathItem::new(HttpMethod::Post, operation),
            Method::PUT => PathItem::new(HttpMethod::Put, operation),
            Method::PATCH => PathItem::new(HttpMethod::Patch, operation),
            _ => PathItem::new(HttpMethod::Delete, operation),
        };
        paths = paths.path(path, item);
        components.schemas.extend(description.schemas);
    }
    let failure = Description::default().problem(500, "");
    components.schemas.extend(failure.schemas);
    for (name, scheme) in SCHEMES.into_iter().zip(schemes()) {
        components.add_security_scheme(name, scheme);
    }
    let mut info = Info::new("Lode", env!("CARGO_PKG_VERSION"));
    info.description = Some("Models, versions, files, tensors and chunks of a node.".to_owned());
    let mut document = OpenApi::new(info, paths);
    document.components = Some(components);
    document
}

/// Whether the document speaks of a route. Sealed addresses for uploads are the Hub's, which alone gives
/// them out.
pub(crate) fn is_native(route: &Route) -> bool {
    let pattern = route.pattern();
    Dialect::of(pattern) == Dialect::Native && !pattern.starts_with("/lode/v1/uploads/")
}

fn operation(route: &Route, description: &Description) -> Operation {
    let method = route.method().as_str().to_ascii_lowercase();
    let words = route.pattern().split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty() && !["lode", "v1"].contains(word));
    let id = words.fold(method, |id, word| format!("{id}_{word}"));
    let mut operation = OperationBuilder::new()
        .summary(Some(route.about()))
        .operation_id(Some(id))
        .parameters(Some(route.names().map(of_path)))
        .parameters(Some(description.parameters.iter().cloned()))
        .request_body(description.body.clone())
        .securities(Some(security(route.scope())))
        .extensions(Some(Extensions::from_iter([(
            "x-lode-scope",
            route.scope(),
        )])));
    let mut answers = failures(route.scope(), description);
    answers.extend(description.answers.clone());
    for (status, answer) in answers {
        operation = operation.response(status.to_string(), answer);
    }
    operation.build()
}

/// What `HEAD` answers: the same heads without what follows them.
fn without_content(operation: &Operation) -> Operation {
    let mut head = operation.clone();
    head.operation_id = head.operation_id.map(|id| id.replacen("get", "head", 1));
    for answer in head.responses.responses.values_mut() {
        if let utoipa::openapi::RefOr::T(answer) = answer {
            answer.content.clear();
        }
    }
    // Ranges count for GET alone; rows that a tensor does not have are 416 for both.
    head.responses.responses.remove("206");
    head
}

/// What may be wrong with any request of a scope.
fn failures(scope: &str, description: &Description) -> BTreeMap<u16, Response> {
    let mut all = vec![
        (400, "The path, the query or the body makes no sense."),
        (
            403,
            "The host, the origin, the scope of the token or a policy forbids it.",
        ),
        (429, "Too many requests a second."),
        (
            500,
            "A disk failed, or stored bytes are not what they must be.",
        ),
    ];
    if scope != "anyone" {
        all.push((401, "A token, or another one, is wanted."));
    }
    if !matches!(scope, "anyone" | "admin" | "control") {
        all.push((404, "There is no such thing, or it may not be seen."));
        all.push((
            503,
            "Nobody has it now, or peers are asked for too much at once.",
        ));
    }
    if description.body.is_some() {
        all.push((408, "The body stopped arriving."));
        all.push((413, "The body is too long."));
    }
    let described = all
        .into_iter()
        .fold(Description::default(), |all, (status, about)| {
            all.problem(status, about)
        });
    let after = "Seconds to wait before asking again.";
    let described = described
        .header(429, "Retry-After", after)
        .header(429, "RateLimit", "What is left of the limit.")
        .header(429, "RateLimit-Policy", "The limit.")
        .header(503, "Retry-After", after)
        .header(401, "WWW-Authenticate", "`Bearer`.");
    let mut answers = described.answers;
    let long = Response::new("The head is longer than 64 KiB, or has more than 100 headers.");
    answers.insert(431, long);
    answers
}

/// A name in a pattern. What a name stands for is the same in every route.
fn of_path(name: &'static str) -> Parameter {
    let text = || pattern(TEXT);
    let (about, schema): (&str, ObjectBuilder) = match name {
        "publisher" => (
            "An alias of this home, or a publisher's key: 64 hex digits.",
            text(),
        ),
        "model" => ("A model's name.", text()),
        "rev" => (
            "A branch, a tag, or a version id's prefix of at least 8 hex digits; `REV:VARIANT` names a variant of it.",
            text(),
        ),
        "path" => (
            "A file's path; its slashes may stand plain or as %2F.",
            text(),
        ),
        "name" => (
            "A tensor's name; its slashes may stand plain or as %2F.",
            text(),
        ),
        "hash" => ("The BLAKE3 of a chunk or document.", pattern(HEX_64)),
        _ => ("A name.", text()),
    };
    parameter(ParameterIn::Path, name, about, Required::True, schema)
}

/// Which tokens a scope wants: any of these, or none until tokens rule.
fn security(scope: &str) -> Vec<SecurityRequirement> {
    if matches!(scope, "anyone" | "control") {
        return Vec::new();
    }
    let none = std::iter::once(SecurityRequirement::default());
    let scheme = |name| SecurityRequirement::new(name, [] as [&str; 0]);
    none.chain(SCHEMES.map(scheme)).collect()
}

/// The schemes of [`SCHEMES`].
fn schemes() -> [SecurityScheme; 3] {
    [
        SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)),
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("api-key"))),
    ]
}
