//! Who is let in over HTTP: tokens, names, pages of other sites, and how much each may ask.

use std::{path::Path, sync::Arc};

use crate::client::{Exchange, exchange, over_http, request};
use crate::guarded::{Guarded, SECRET};
use hyper::Method;
use lode_gateway::{
    ServeError, ServeOptions,
    limits::BURST_SECONDS,
    policy::{Cors, Policy},
    serve,
    tls::Tls,
};
use lode_node::{
    EventSink, Node, NodeOptions,
    command::{Command, Outcome, TokenCreate},
    tokens::Power,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;

const PRIVATE: &str = "/lode/v1/models/acme/hidden/main/files/a.txt";
const OPEN: &str = "/lode/v1/models/acme/open/main/files/a.txt";

async fn get(node: &Guarded, path: &str, headers: &[(&str, &str)]) -> Exchange {
    over_http(node.http, Method::GET, path, headers).await
}

async fn status(node: &Guarded, path: &str, headers: &[(&str, &str)]) -> u16 {
    get(node, path, headers).await.status()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn loopback_is_the_owners_until_the_first_token_and_never_again() {
    let node = Guarded::start(Policy::default()).await;
    assert_eq!(status(&node, PRIVATE, &[]).await, 200);
    // A token of another place does no harm while there is none here.
    let foreign = bearer(&format!("hf_{}", "a".repeat(36)));
    assert_eq!(
        status(&node, PRIVATE, &[("authorization", &foreign)]).await,
        200
    );
    let asked = TokenCreate {
        name: Some("ci".to_owned()),
        scope: Power::Read,
        models: vec!["acme/hidden".to_owned()],
        expires_seconds: None,
    };
    let run = |command| node.node.run(command, EventSink::discard());
    let Outcome::TokenMade { token, .. } = run(Command::TokenCreate(asked)).await.unwrap() else {
        panic!("a token is made");
    };
    let mut answer = get(&node, PRIVATE, &[]).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert!(
        !answer
            .bytes()
            .await
            .unwrap()
            .windows(5)
            .any(|w| w == &SECRET[..5])
    );
    let shown = bearer(&token);
    assert_eq!(
        status(&node, PRIVATE, &[("authorization", &shown)]).await,
        200
    );
    assert_eq!(
        status(&node, PRIVATE, &[("authorization", &foreign)]).await,
        401
    );
    let name = Some("ci".to_owned());
    run(Command::TokenRemove { name }).await.unwrap();
    assert_eq!(
        status(&node, PRIVATE, &[("authorization", &shown)]).await,
        401
    );
    assert_eq!(status(&node, PRIVATE, &[]).await, 401);
    run(Command::TokenRemove { name: None }).await.unwrap();
    assert_eq!(status(&node, PRIVATE, &[]).await, 200);
}

#[tokio::test]
async fn a_token_is_taken_wherever_clients_put_it_and_never_from_an_address() {
    let node = Guarded::start(Policy::default()).await;
    let token = node.token(Power::Read, &["acme/hidden"], None);
    let encoded = data_encoding::BASE64.encode(format!("user:{token}").as_bytes());
    let basic = format!("Basic {encoded}");
    for header in [
        ("authorization", bearer(&token).as_str()),
        ("authorization", &basic),
        ("api-key", &token),
    ] {
        assert_eq!(status(&node, PRIVATE, &[header]).await, 200, "{header:?}");
    }
    for query in ["token", "access_token", "api-key"] {
        let path = format!("{PRIVATE}?{query}={token}");
        assert_eq!(status(&node, &path, &[]).await, 400, "{query}");
    }
    for junk in [
        "Bearer",
        "Basic !",
        "Basic",
        "Negotiate abc",
        "\u{e4}",
        &"x".repeat(10_000),
    ] {
        assert_eq!(
            status(&node, OPEN, &[("authorization", junk)]).await,
            401,
            "{junk}"
        );
    }
}

#[tokio::test]
async fn lists_show_what_the_caller_may_read() {
    let node = Guarded::start(Policy::default()).await;
    let token = node.token(Power::Read, &["acme/hidden"], None);
    let admin = node.token(Power::Admin, &[], None);
    let names = async |token: Option<&str>| {
        let shown = token.map(bearer);
        let headers: Vec<_> = shown
            .iter()
            .map(|t| ("authorization", t.as_str()))
            .collect();
        let list = get(&node, "/lode/v1/models", &headers).await.json().await;
        let rows = list["models"].as_array().unwrap().iter();
        rows.map(|row| row["model"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(None).await, ["open"]);
    assert_eq!(names(Some(&token)).await, ["hidden", "open"]);
    assert_eq!(names(Some(&admin)).await, ["hidden", "open", "other"]);
}

#[tokio::test]
async fn what_one_caller_found_is_not_shown_to_another() {
    let node = Guarded::start(Policy::default()).await;
    let token = bearer(&node.token(Power::Read, &["acme/hidden"], None));
    let other = bearer(&node.token(Power::Read, &["acme/other"], None));
    for _ in 0..3 {
        assert_eq!(
            status(&node, PRIVATE, &[("authorization", &token)]).await,
            200
        );
        assert_eq!(
            status(&node, PRIVATE, &[("authorization", &other)]).await,
            404
        );
        assert_eq!(status(&node, PRIVATE, &[]).await, 401);
        assert_eq!(status(&node, OPEN, &[]).await, 200);
    }
}

#[tokio::test]
async fn a_node_may_want_a_token_for_everything_but_its_health() {
    let policy = Policy {
        anonymous: false,
        ..Policy::default()
    };
    let node = Guarded::start(policy).await;
    let token = bearer(&node.token(Power::Read, &["acme/other"], None));
    assert_eq!(status(&node, OPEN, &[]).await, 401);
    assert_eq!(status(&node, OPEN, &[("authorization", &token)]).await, 200);
    assert_eq!(status(&node, "/healthz", &[]).await, 200);
}

#[tokio::test]
async fn with_a_token_any_name_will_do() {
    let node = Guarded::start(Policy::default()).await;
    let token = bearer(&node.token(Power::Read, &["*"], None));
    let host = ("host", "proxy.example");
    assert_eq!(status(&node, OPEN, &[host]).await, 403);
    assert_eq!(
        status(&node, OPEN, &[host, ("authorization", &token)]).await,
        200
    );
    let junk = ("authorization", "Bearer x");
    assert_eq!(status(&node, OPEN, &[host, junk]).await, 403);
}

#[tokio::test]
async fn a_page_that_was_let_in_reads_what_is_public_and_is_never_the_owner() {
    let policy = Policy {
        cors: Cors::Origins(vec!["https://app.example".to_owned()]),
        ..Policy::default()
    };
    let node = Guarded::start(policy).await;
    let page = [
        ("origin", "https://app.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    let answer = get(&node, OPEN, &page).await;
    assert_eq!(answer.status(), 200);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://app.example"));
    assert!(answer.header("access-control-allow-credentials").is_none());
    let exposed = answer.header("access-control-expose-headers").unwrap();
    for name in [
        "content-length",
        "content-range",
        "etag",
        "x-repo-commit",
        "x-linked-size",
    ] {
        assert!(exposed.split(", ").any(|own| own == name), "{name}");
    }
    // There is no token yet: a program of this machine is the owner, a page is not.
    assert_eq!(status(&node, PRIVATE, &[]).await, 200);
    let refused = get(&node, PRIVATE, &page).await;
    assert_eq!(refused.status(), 401);
    assert!(refused.header("access-control-allow-origin").is_some());
    assert_eq!(status(&node, "/metrics", &page).await, 403);
    let other = get(&node, OPEN, &[("origin", "https://evil.example")]).await;
    assert_eq!(other.status(), 403);
    assert!(other.header("access-control-allow-origin").is_none());
    assert_eq!(other.header("vary"), Some("origin"));
}

#[tokio::test]
async fn a_browser_is_told_what_a_page_may_send() {
    let policy = Policy {
        cors: Cors::Anyone,
        ..Policy::default()
    };
    let node = Guarded::start(policy).await;
    let ask = [
        ("origin", "https://any.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization,range"),
    ];
    let answer = over_http(node.http, Method::OPTIONS, PRIVATE, &ask).await;
    assert_eq!(answer.status(), 204);
    let value = |name| answer.header(name).unwrap();
    assert_eq!(value("access-control-allow-origin"), "https://any.example");
    assert_eq!(value("access-control-allow-methods"), "GET, HEAD, POST");
    let headers = value("access-control-allow-headers");
    for name in ["authorization", "range", "if-none-match"] {
        assert!(headers.split(", ").any(|own| own == name), "{name}");
    }
    let closed = Guarded::start(Policy::default()).await;
    let answer = over_http(closed.http, Method::OPTIONS, PRIVATE, &ask).await;
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn each_token_and_address_has_a_pace_and_the_owner_has_none() {
    let policy = Policy {
        token_rate: Some(1),
        anonymous_rate: Some(1),
        ..Policy::default()
    };
    let node = Guarded::start(policy).await;
    for _ in 0..3 * BURST_SECONDS {
        assert_eq!(status(&node, OPEN, &[]).await, 200);
    }
    let token = bearer(&node.token(Power::Read, &["*"], None));
    let other = bearer(&node.token(Power::Read, &["*"], None));
    let until_refused = async |headers: &[(&str, &str)]| {
        for asked in 0..1000 {
            let answer = get(&node, OPEN, headers).await;
            if answer.status() == 429 {
                return (asked, answer);
            }
        }
        panic!("nobody is refused");
    };
    let (asked, answer) = until_refused(&[("authorization", &token)]).await;
    assert!(asked >= BURST_SECONDS, "{asked}");
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=BURST_SECONDS).contains(&after));
    assert_eq!(
        answer.header("ratelimit").unwrap(),
        format!("\"requests\";r=0;t={after}")
    );
    assert_eq!(status(&node, OPEN, &[("authorization", &other)]).await, 200);
    let (asked, _) = until_refused(&[]).await;
    assert!(asked >= BURST_SECONDS, "{asked}");
    assert_eq!(status(&node, OPEN, &[("authorization", &other)]).await, 200);
}

#[tokio::test]
async fn elsewhere_a_node_listens_with_tokens_or_when_told_to_be_open() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(&folder.path().join("home"), NodeOptions::default()).unwrap();
    let start = async |insecure_open| {
        let options = ServeOptions {
            // An address for documentation: no machine has it, so that it cannot be bound.
            http: Some("192.0.2.1:0".parse().unwrap()),
            socket: folder.path().join("control.sock"),
            policy: Policy {
                insecure_open,
                ..Policy::default()
            },
            tls: None,
        };
        serve(node.clone(), options, CancellationToken::new())
            .await
            .unwrap_err()
    };
    assert!(matches!(start(false).await, ServeError::NotLoopback { .. }));
    assert!(matches!(start(true).await, ServeError::Http { .. }));
    let asked = TokenCreate {
        name: None,
        scope: Power::Admin,
        models: Vec::new(),
        expires_seconds: None,
    };
    node.run(Command::TokenCreate(asked), EventSink::discard())
        .await
        .unwrap();
    assert!(matches!(start(false).await, ServeError::Http { .. }));
}

fn tls_file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls")
        .join(name)
}

fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_file(tls_file("certificate.pem")).unwrap();
    roots.add(own).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn a_node_speaks_tls_beside_clients_that_never_begin() {
    let tls = Tls::load(tls_file("certificate.pem"), tls_file("key.pem")).unwrap();
    let node = Guarded::start_with(Policy::default(), Some(Arc::new(tls))).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(node.http).await.unwrap());
    }
    let stream = TcpStream::connect(node.http).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector().connect(name, stream).await.unwrap();
    let asked = request(Method::GET, PRIVATE, &[("origin", "https://localhost")], "");
    let mut answer = exchange(stream, asked).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), SECRET);
    let mut plain = TcpStream::connect(node.http).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP"), "nothing is said in the clear");
}
