//! The table of routes: which pattern and method reach which handler, and with what means.
//!
//! A handler is written for a [`Scope`], and gets that scope's means and nothing else: a route for
//! anyone holds no way to read a model. A route without a scope does not compile:
//!
//! ```compile_fail,E0599
//! use lode_gateway::route::{Request, Route};
//! # async fn handler(_: (), _: Request) -> lode_gateway::answer::Answer { unreachable!() }
//! let route = Route::get("/open", "Forgets its scope").to(handler);
//! ```
//!
//! ```
//! use lode_gateway::{answer, route::{Request, Route}, scope::{Anyone, Lobby}};
//! async fn handler(_: Lobby, _: Request) -> answer::Answer {
//!     Ok(answer::json(hyper::StatusCode::OK, &"hello"))
//! }
//! let route = Route::get("/open", "Says hello").scope::<Anyone>().to(handler);
//! ```

use std::{fmt, marker::PhantomData, pin::Pin, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{HeaderMap, Method, StatusCode, header::HOST};
use lode_node::command::FailureKind;
use lode_store::name::RESERVED_ALIASES;

use crate::{
    answer::{Answer, Problem},
    describe::Description,
    gateway::Gateway,
    scope::Scope,
    target::Target,
    visitor::Visitor,
};

/// A request on its way to a handler.
#[derive(Debug)]
pub struct Request {
    /// One that the route answers; `HEAD` where that is `GET`.
    pub method: Method,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its path and query.
    pub target: Arc<Target>,
    /// What the pattern's names stand for.
    pub params: Params,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Its body.
    pub body: UnsyncBoxBody<Bytes, hyper::Error>,
}

impl Request {
    /// Where this node is for whoever sent it: `http://HOST`, for addresses in answers.
    pub fn base(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let host = self.headers.get(HOST).map(|host| host.to_str());
        let host = host.and_then(Result::ok).unwrap_or("localhost");
        format!("{scheme}://{host}")
    }

    /// All of its body, for what is short.
    ///
    /// # Errors
    /// 413 for one that is longer than `bytes_max`, 400 when it breaks off.
    pub async fn take_body(&mut self, bytes_max: usize) -> Result<Bytes, Problem> {
        let body = std::mem::take(&mut self.body);
        match Limited::new(body, bytes_max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                let message = format!("this address takes a body of at most {bytes_max} bytes");
                Err(Problem::new(status, FailureKind::Usage, message))
            }
            Err(error) => Err(Problem::usage(format!("the body broke off: {error}"))),
        }
    }
}

/// What the names of a pattern stand for in one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    /// The text that `name` stands for.
    ///
    /// # Panics
    /// When the pattern has no such name, which the first request to the route shows.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| *key == name);
        found
            .map(|(_, value)| value.as_str())
            .expect("the route's pattern has this name")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    /// This text.
    Literal(&'static str),
    /// `{name}`: one segment that is not empty.
    One(&'static str),
    /// `{name..}`: one or more segments, none empty, joined by slashes.
    Rest(&'static str),
}

/// A pattern and method that await their scope.
#[derive(Debug)]
#[must_use]
pub struct Unscoped {
    method: Method,
    pattern: &'static str,
    about: &'static str,
}

/// A pattern and method that await their handler.
#[derive(Debug)]
#[must_use]
pub struct Scoped<S> {
    route: Unscoped,
    scope: PhantomData<S>,
}

type Future = Pin<Box<dyn std::future::Future<Output = Answer> + Send>>;
type Handler = Box<dyn Fn(&Arc<Gateway>, &Visitor, Request) -> Future + Send + Sync>;

/// A pattern, a method, a scope and a handler.
pub struct Route {
    method: Method,
    pattern: &'static str,
    about: &'static str,
    scope: &'static str,
    segments: Vec<Segment>,
    description: Option<fn() -> Description>,
    /// The parameters of the query that the description names.
    queries: Vec<String>,
    handler: Handler,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.method, self.pattern, self.scope)
    }
}

impl Route {
    /// A route for `GET` and `HEAD`.
    ///
    /// `pattern` is a path of literals, `{name}` for one segment, and at its end `{name..}` for the
    /// rest; `about` is its line in the OpenAPI document.
    #[allow(clippy::new_ret_no_self, reason = "a route is made in three steps")]
    pub fn get(pattern: &'static str, about: &'static str) -> Unscoped {
        Unscoped::new(Method::GET, pattern, about)
    }

    /// A route for `POST`.
    pub fn post(pattern: &'static str, about: &'static str) -> Unscoped {
        Unscoped::new(Method::POST, pattern, about)
    }

    /// A route for `PUT`.
    pub fn put(pattern: &'static str, about: &'static str) -> Unscoped {
        Unscoped::new(Method::PUT, pattern, about)
    }

    /// A route for `PATCH`.
    pub fn patch(pattern: &'static str, about: &'static str) -> Unscoped {
        Unscoped::new(Method::PATCH, pattern, about)
    }

    /// A route for `DELETE`.
    pub fn delete(pattern: &'static str, about: &'static str) -> Unscoped {
        Unscoped::new(Method::DELETE, pattern, about)
    }

    /// Its method; `GET` stands for `HEAD` too.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Its pattern.
    pub fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// What it does.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// The name of its scope.
    pub fn scope(&self) -> &'static str {
        self.scope
    }

    /// Says what it takes and answers: each route of the native dialect does. From then on a parameter of
    /// the query that this does not name is refused.
    #[must_use]
    pub fn described(mut self, description: fn() -> Description) -> Self {
        self.queries = description().queries().map(str::to_owned).collect();
        self.description = Some(description);
        self
    }

    /// What it takes and answers, if that was said.
    pub fn description(&self) -> Option<Description> {
        self.description.map(|description| description())
    }

    /// That the query has no parameter that the route does not know, and none twice.
    ///
    /// # Errors
    /// 400, if it was said which there are.
    pub(crate) fn check_query(&self, target: &Target) -> Result<(), Problem> {
        if self.description.is_none() {
            return Ok(());
        }
        let mut seen: Vec<&str> = Vec::new();
        for key in target.query_keys() {
            let cut = || key.chars().take(80).collect::<String>();
            if !self.queries.iter().any(|known| known == key) {
                let known = match self.queries.is_empty() {
                    true => "none".to_owned(),
                    false => self.queries.join(", "),
                };
                let message = format!("this address has no parameter {:?}", cut());
                return Err(Problem::usage(message).advise(format!("it knows: {known}")));
            }
            if seen.contains(&key) {
                return Err(Problem::usage(format!("{key} stands twice in the query")));
            }
            seen.push(key);
        }
        Ok(())
    }

    /// The names in its pattern.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.segments.iter().filter_map(|segment| match *segment {
            Segment::Literal(_) => None,
            Segment::One(name) | Segment::Rest(name) => Some(name),
        })
    }

    /// Calls the handler, when the visitor may have the scope's means.
    pub async fn call(
        &self,
        gateway: &Arc<Gateway>,
        visitor: &Visitor,
        request: Request,
    ) -> Answer {
        (self.handler)(gateway, visitor, request).await
    }

    fn answers(&self, method: &Method) -> bool {
        self.method == *method || (self.method == Method::GET && method == Method::HEAD)
    }

    /// Whether its pattern is one of this path.
    fn matches(&self, path: &[String]) -> bool {
        let Some((last, before)) = self.segments.split_last() else {
            return false;
        };
        let fits = match last {
            Segment::Rest(_) => path
                .get(before.len()..)
                .is_some_and(|rest| !rest.is_empty() && !rest.iter().any(String::is_empty)),
            Segment::Literal(_) | Segment::One(_) => path.len() == self.segments.len(),
        };
        // What starts with a name starts with a publisher's, and some words are none.
        let reserved = || {
            matches!(self.segments[0], Segment::One(_))
                && RESERVED_ALIASES.contains(&path[0].as_str())
        };
        let mut pairs = self.segments.iter().zip(path);
        fits && !reserved()
            && pairs.all(|(segment, text)| match segment {
                Segment::Literal(literal) => text == literal,
                Segment::One(_) | Segment::Rest(_) => !text.is_empty(),
            })
    }

    /// What its names stand for in a path that it matches.
    fn params(&self, path: &[String]) -> Params {
        let named = |(at, segment): (usize, &Segment)| match *segment {
            Segment::Literal(_) => None,
            Segment::One(name) => Some((name, path[at].clone())),
            Segment::Rest(name) => Some((name, path[at..].join("/"))),
        };
        Params(self.segments.iter().enumerate().filter_map(named).collect())
    }

    /// Literals before names, position by position: what decides between two patterns that match.
    fn rank(&self) -> Vec<u8> {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::One(_) => 1,
            Segment::Rest(_) => 2,
        };
        self.segments.iter().map(rank).collect()
    }
}

impl Unscoped {
    fn new(method: Method, pattern: &'static str, about: &'static str) -> Self {
        Self {
            method,
            pattern,
            about,
        }
    }

    /// Declares who may call the route and what its handler can touch.
    pub fn scope<S: Scope>(self) -> Scoped<S> {
        Scoped {
            route: self,
            scope: PhantomData,
        }
    }
}

impl<S: Scope> Scoped<S> {
    /// Completes the route.
    pub fn to<H, F>(self, handler: H) -> Route
    where
        H: Fn(S::Means, Request) -> F + Send + Sync + 'static,
        F: std::future::Future<Output = Answer> + Send + 'static,
    {
        let Unscoped {
            method,
            pattern,
            about,
        } = self.route;
        let handler: Handler =
            Box::new(
                move |gateway, visitor, request| match S::admit(gateway, visitor) {
                    Ok(means) => Box::pin(handler(means, request)),
                    Err(problem) => Box::pin(std::future::ready(Err(problem))),
                },
            );
        let segments = parse_pattern(pattern);
        Route {
            method,
            pattern,
            about,
            scope: S::NAME,
            segments,
            description: None,
            queries: Vec::new(),
            handler,
        }
    }
}

fn parse_pattern(pattern: &'static str) -> Vec<Segment> {
    let path = pattern
        .strip_prefix('/')
        .expect("patterns start with a slash");
    let segment =
        |text: &'static str| match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            None => Segment::Literal(text),
            Some(name) => match name.strip_suffix("..") {
                None => Segment::One(name),
                Some(name) => Segment::Rest(name),
            },
        };
    path.split('/').map(segment).collect()
}

/// All routes of a gateway.
#[derive(Debug)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// Orders the routes so that the most literal pattern that matches comes first.
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(Route::rank);
        Self(routes)
    }

    /// The routes, most literal first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// The route for a method and path.
    ///
    /// # Errors
    /// 404 for a path that no pattern matches, 405 for a method that none of them answers.
    pub fn find(&self, method: &Method, target: &Target) -> Result<(&Route, Params), Problem> {
        let mut allowed: Vec<&str> = Vec::new();
        for route in &self.0 {
            if route.matches(target.segments()) {
                if route.answers(method) {
                    return Ok((route, route.params(target.segments())));
                }
                if route.method == Method::GET {
                    allowed.extend(["GET", "HEAD"]);
                } else {
                    allowed.push(route.method.as_str());
                }
            }
        }
        allowed.sort_unstable();
        allowed.dedup();
        match allowed.is_empty() {
            true => Err(Problem::not_found("there is nothing at this address")
                .advise("/lode/v1/openapi.json lists what there is")),
            false => Err(Problem::method(&allowed.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        dialect::Dialect,
        scope::{Anyone, Lobby},
    };

    fn table(patterns: &[&'static str]) -> Routes {
        async fn nothing(_: Lobby, _: Request) -> Answer {
            Err(Problem::not_found("nothing"))
        }
        let get = |pattern: &&'static str| Route::get(pattern, "").scope::<Anyone>().to(nothing);
        let mut routes: Vec<Route> = patterns.iter().map(get).collect();
        let others = [
            Route::post("/models/new", ""),
            Route::put("/models/new", ""),
            Route::delete("/models/new", ""),
            Route::get("/{publisher}/{model}/resolve/{rev}/{path..}", ""),
        ];
        let scoped = |route: Unscoped| route.scope::<Anyone>().to(nothing);
        routes.extend(others.map(scoped));
        Routes::new(routes)
    }

    fn find(path: &str) -> Option<(&'static str, Vec<String>)> {
        let routes = table(&[
            "/{any..}",
            "/models/{publisher}/{model}/{rev}",
            "/models",
            "/models/",
            "/models/{publisher}/{model}",
            "/models/{publisher}/{model}/{rev}/files/{path..}",
            "/models/{publisher}/new/{rev}",
        ]);
        let target = Target::parse(path, None).unwrap();
        let (route, params) = routes.find(&Method::GET, &target).ok()?;
        Some((
            route.pattern,
            params.0.into_iter().map(|(_, value)| value).collect(),
        ))
    }

    #[test]
    fn the_most_literal_pattern_wins_and_encoded_slashes_stay_inside() {
        for (path, pattern, params) in [
            ("/models", "/models", &[][..]),
            ("/models/", "/models/", &[]),
            (
                "/models/a%2Fb/c",
                "/models/{publisher}/{model}",
                &["a/b", "c"],
            ),
            (
                "/models/a/b/c",
                "/models/{publisher}/{model}/{rev}",
                &["a", "b", "c"],
            ),
            (
                "/models/a/new/c",
                "/models/{publisher}/new/{rev}",
                &["a", "c"],
            ),
            (
                "/models/a/b/c/files/d/e%2Ff",
                "/models/{publisher}/{model}/{rev}/files/{path..}",
                &["a", "b", "c", "d/e/f"],
            ),
            ("/models/a/b/c/d", "/{any..}", &["models/a/b/c/d"]),
            ("/models/a", "/{any..}", &["models/a"]),
        ] {
            let (found, values) = find(path).unwrap();
            assert_eq!(
                (found, values.as_slice()),
                (
                    pattern,
                    &params.iter().map(ToString::to_string).collect::<Vec<_>>()[..]
                )
            );
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let status = async |max: usize| {
            let body = http_body_util::Full::new(Bytes::from_static(b"12345"));
            let mut request = Request {
                method: Method::POST,
                headers: HeaderMap::new(),
                target: Arc::default(),
                params: Params::default(),
                tls: false,
                body: body.map_err(|never| match never {}).boxed_unsync(),
            };
            let body = request.take_body(max).await;
            body.map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(status(5).await, Ok(Bytes::from_static(b"12345")));
        assert_eq!(status(4).await, Err(413));
    }

    #[test]
    fn no_reserved_name_is_a_publisher() {
        let rest = "tiny/resolve/main/config.json";
        let (pattern, params) = find(&format!("/acme/{rest}")).unwrap();
        assert_eq!(pattern, "/{publisher}/{model}/resolve/{rev}/{path..}");
        assert_eq!(params[0], "acme");
        for name in RESERVED_ALIASES {
            let (pattern, _) = find(&format!("/{name}/{rest}")).unwrap();
            assert_eq!(pattern, "/{any..}", "{name}");
        }
    }

    #[test]
    fn empty_segments_match_no_name() {
        for path in [
            "/models//b",
            "/models/a/b/c/files/",
            "/models/a/b/c/files/d//e",
            "/",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn another_method_is_405_with_what_is_allowed() {
        let routes = table(&["/models"]);
        let status = |method: Method, path: &str| {
            let target = Target::parse(path, None).unwrap();
            routes
                .find(&method, &target)
                .map_or_else(|p| p.status().as_u16(), |_| 200)
        };
        assert_eq!(status(Method::HEAD, "/models"), 200);
        assert_eq!(status(Method::POST, "/models"), 405);
        assert_eq!(status(Method::GET, "/models/new"), 405);
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(status(method, "/models/new"), 200);
        }
        assert_eq!(status(Method::PATCH, "/models/new"), 405);
        let target = Target::parse("/models/new", None).unwrap();
        let problem = routes.find(&Method::GET, &target).unwrap_err();
        let response = problem.into_response(Dialect::Native);
        assert_eq!(response.headers()["allow"], "DELETE, POST, PUT");
        assert_eq!(status(Method::DELETE, "/none"), 404);
    }
}
