//! One request from its head to its answer, whatever the door: guard, table, handler, figures.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{
    Method,
    body::{Body as _, Incoming},
    header::{HeaderValue, ORIGIN, SERVER},
    http::request::Parts,
};
use lode_node::{
    EventSink,
    command::{Command, Outcome, Status},
    fetch::Fetcher,
    origin::Origins,
    read::Reads,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{Answer, Problem, Response},
    control::Backend,
    cors,
    dialect::Dialect,
    guard::{self, Door, Http, Origin},
    hub,
    intake::Seal,
    kept::Kept,
    limits::{BODY_IDLE_TIMEOUT, STORE_FIGURES_AGE_MAX},
    metrics::{Metrics, Moment, Page, write_fetched, write_moment, write_origins, write_status},
    native,
    oci::{self, Registry},
    openapi,
    pace::Pace,
    patience::Patience,
    place,
    policy::Policy,
    qdrant,
    route::{Request, Routes},
    target::Target,
    visitor::Visitor,
    xet::{self, read::XetReads},
};

/// Name and version of this server.
const SERVER_NAME: HeaderValue =
    HeaderValue::from_static(concat!("lode/", env!("CARGO_PKG_VERSION")));

/// What all requests share.
pub struct Gateway {
    routes: Routes,
    openapi: OnceLock<Bytes>,
    backend: Arc<dyn Backend>,
    policy: Policy,
    pace: Pace,
    metrics: Metrics,
    kept: Arc<Kept>,
    seal: Seal,
    xet: Option<XetReads>,
    registry: Arc<Registry>,
    status: tokio::sync::Mutex<Option<(Instant, Arc<Status>)>>,
    stopping: CancellationToken,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway over a node; `stopping` ends the commands that came through it.
    pub fn new(backend: Arc<dyn Backend>, policy: Policy, stopping: CancellationToken) -> Self {
        let routes = native::routes()
            .into_iter()
            .chain(hub::routes())
            .chain(xet::cas::routes())
            .chain(xet::read::routes())
            .chain(oci::routes())
            .chain(qdrant::routes());
        let seal = Seal::default();
        let home = backend.home().filter(|_| policy.xet_reads);
        let xet = home.map(|home| XetReads::new(home, seal.clone(), stopping.clone()));
        Self {
            routes: Routes::new(routes.collect()),
            registry: Arc::new(Registry::new(Arc::clone(&backend), stopping.clone())),
            openapi: OnceLock::new(),
            backend,
            policy,
            pace: Pace::new(),
            metrics: Metrics::default(),
            kept: Arc::default(),
            seal,
            xet,
            status: tokio::sync::Mutex::new(None),
            stopping,
        }
    }

    /// The table.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The OpenAPI document of the native dialect, as JSON.
    pub fn openapi(&self) -> Bytes {
        let document = || {
            let document = openapi::document(&self.routes).to_json();
            let document = document.expect("a document has text keys and finite numbers");
            Bytes::from(document + "\n")
        };
        self.openapi.get_or_init(document).clone()
    }

    /// What carries out commands.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Who is let in.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the home holds. Only scopes that read models hand it out.
    pub(crate) fn reads(&self) -> &Reads {
        self.backend.reads()
    }

    /// What fetches from peers. Only scopes that read models hand it out.
    pub(crate) fn fetcher(&self) -> Option<Fetcher> {
        self.backend.fetcher()
    }

    /// What asks another hub for what nobody else has.
    pub(crate) fn origins(&self) -> Option<Origins> {
        self.backend.origins()
    }

    /// What addresses named a moment ago. Only scopes that read models hand it out.
    pub(crate) fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// What a registry remembers and makes. Only scopes that read models hand it out.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Seals the addresses that take uploads.
    pub(crate) fn seal(&self) -> &Seal {
        &self.seal
    }

    /// What hands out files by Xet, if that is switched on. Only scopes that read models hand it out.
    pub(crate) fn xet(&self) -> Option<&XetReads> {
        self.xet.as_ref()
    }

    /// Cancelled when the gateway stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// The gateway's own counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether requests are welcome.
    pub fn is_ready(&self) -> bool {
        !self.stopping.is_cancelled()
    }

    /// All figures, as Prometheus reads them. Those of the node are at most
    /// [`STORE_FIGURES_AGE_MAX`] old, so that they may be asked for often.
    pub async fn figures(&self) -> String {
        let mut page = Page::default();
        self.metrics.write(&mut page);
        let fetched = self.fetcher().map(|fetcher| fetcher.figures());
        if let Some(fetched) = &fetched {
            write_fetched(&mut page, fetched);
        }
        let origins = self.origins().map(|origins| origins.figures());
        if let Some(origins) = &origins {
            write_origins(&mut page, origins);
        }
        let moment = Moment {
            fetched,
            origins,
            read: self.reads().figures(),
            addresses: self.kept.usage(),
            bodies: place::figures(),
        };
        write_moment(&mut page, &moment);
        if let Some(status) = self.status().await {
            write_status(&mut page, &status);
        }
        page.into_text()
    }

    /// What the node says it is doing, if it says so.
    async fn status(&self) -> Option<Arc<Status>> {
        let mut kept = self.status.lock().await;
        if let Some((taken, status)) = &*kept
            && taken.elapsed() < STORE_FIGURES_AGE_MAX
        {
            return Some(Arc::clone(status));
        }
        let backend = Arc::clone(&self.backend);
        let ask = async move { backend.run(Command::Status, EventSink::discard()).await };
        match tokio::spawn(ask).await {
            Ok(Ok(Outcome::Status(status))) => {
                let status = Arc::new(*status);
                *kept = Some((Instant::now(), Arc::clone(&status)));
                Some(status)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the node has no figures");
                None
            }
            _ => None,
        }
    }

    /// Answers one request.
    pub async fn answer(
        self: Arc<Self>,
        door: Door,
        request: hyper::Request<Incoming>,
    ) -> Response {
        let start = Instant::now();
        let in_flight = self.metrics.request();
        let method = request.method().clone();
        let dialect = Dialect::of(request.uri().path());
        let origin = request.headers().get(ORIGIN).cloned();
        let (route, answer) = self.dispatch(door, request).await;
        let mut response = answer.unwrap_or_else(|problem| problem.into_response(dialect));
        response.headers_mut().insert(SERVER, SERVER_NAME);
        if dialect == Dialect::Registry {
            oci::mark(response.headers_mut());
        }
        cors::mark(&self.policy, origin.as_ref(), response.headers_mut());
        drop(in_flight);
        let status = response.status().as_u16();
        let counters = self
            .metrics
            .answered(route, known(&method), status, start.elapsed());
        response.map(|body| body.counted(counters))
    }

    async fn dispatch(
        self: &Arc<Self>,
        door: Door,
        request: hyper::Request<Incoming>,
    ) -> (&'static str, Answer) {
        const NONE: &str = "none";
        let (head, body) = request.into_parts();
        let visitor = match door {
            Door::Socket => Visitor::owner(),
            Door::Http(http) => match self.receive(http, &head) {
                Ok(Received::Visitor(visitor)) => visitor,
                Ok(Received::Preflight(response)) => return (NONE, Ok(*response)),
                Err(problem) => return (NONE, Err(problem)),
            },
        };
        let target = match Target::parse(head.uri.path(), head.uri.query()) {
            Ok(target) => Arc::new(target),
            Err(error) => return (NONE, Err(Problem::usage(error.to_string()))),
        };
        let (route, params) = match self.routes.find(&head.method, &target) {
            Ok(found) => found,
            Err(problem) => return (NONE, Err(problem)),
        };
        if let Err(problem) = route.check_query(&target) {
            return (route.pattern(), Err(problem));
        }
        let patience = (!body.is_end_stream()).then(|| Patience::new(BODY_IDLE_TIMEOUT));
        let request = Request {
            method: head.method,
            headers: head.headers,
            target,
            params,
            tls: matches!(door, Door::Http(http) if http.tls),
            body: match &patience {
                Some(patience) => patience.watch(body).boxed_unsync(),
                None => UnsyncBoxBody::default(),
            },
        };
        let call = route.call(self, &visitor, request);
        let answer = match patience {
            None => call.await,
            Some(patience) => tokio::select! {
                answer = call => answer,
                () = patience.exhausted() => Err(Problem::slow_body()),
            },
        };
        (route.pattern(), answer)
    }

    /// Finds out who asks over HTTP, and turns away who may not ask at all or asks too much.
    fn receive(&self, http: Http, head: &Parts) -> Result<Received, Problem> {
        let policy = &self.policy;
        let refuse = |problem| {
            self.metrics.refuse();
            problem
        };
        let host = guard::host(&head.headers).map_err(refuse)?;
        let page = guard::page(policy, http, host, &head.method, &head.headers).map_err(refuse)?;
        let visitor = match self.seal.admits(head.uri.path(), &head.headers) {
            true => Visitor::granted(http, page),
            false => Visitor::of(policy, self.backend.tokens(), http, page, &head.headers)?,
        };
        self.pace
            .admit(policy, http, visitor.counted())
            .map_err(refuse)?;
        if page == Origin::Foreign
            && let Some(response) = cors::preflight(&head.method, &head.headers)
        {
            return Ok(Received::Preflight(Box::new(response)));
        }
        if !visitor.has_token() {
            guard::check_names(policy, http, host, &head.uri).map_err(refuse)?;
        }
        Ok(Received::Visitor(visitor))
    }
}

/// What came in over HTTP.
enum Received {
    /// A request of this visitor.
    Visitor(Visitor),
    /// A browser's question, and its answer.
    Preflight(Box<Response>),
}

/// A method's name for figures, of which there must not be as many as clients care to invent.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
