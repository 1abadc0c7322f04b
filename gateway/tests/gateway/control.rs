//! Commands over the socket: events arrive as they happen, a client that leaves stops its command,
//! and what is not a command of a program of this version is refused in words.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use http_body_util::BodyExt;
use hyper::Method;
use lode_gateway::{
    Running, ServeError, ServeOptions,
    control::{Backend, PROGRAM, Run},
    limits::COMMAND_BYTES_MAX,
    serve,
};
use lode_node::{
    EventSink,
    command::{Command, Failure, FailureKind, Outcome},
    read::Reads,
};
use lode_store::{Store, store::Options};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::client::{Exchange, over_http, over_socket};

/// Carries out commands as the tests want: `gc` waits to be told, `scrub` runs until cancelled,
/// `status` panics, everything else fails.
struct Double {
    reads: Reads,
    proceed: Notify,
    cancelled: Notify,
}

impl Backend for Double {
    fn reads(&self) -> &Reads {
        &self.reads
    }

    fn run(&self, command: Command, events: EventSink) -> Run<'_> {
        Box::pin(async move {
            match command {
                Command::Gc { .. } => {
                    events.note("first");
                    self.proceed.notified().await;
                    events.note("second");
                    Ok(Outcome::Ok)
                }
                Command::Scrub => {
                    events.note("started");
                    events.cancel_token().cancelled().await;
                    self.cancelled.notify_one();
                    Ok(Outcome::Ok)
                }
                Command::Status => panic!("planted"),
                _ => Err(Failure {
                    kind: FailureKind::NotFound,
                    message: "no such model".to_owned(),
                    advice: Some("push one".to_owned()),
                }),
            }
        })
    }
}

impl Double {
    fn new(home: &Path) -> Arc<Self> {
        let store = Store::open(&home.join("store"), Options::default()).unwrap();
        let (proceed, cancelled) = Default::default();
        Arc::new(Self {
            reads: Reads::new(store),
            proceed,
            cancelled,
        })
    }
}

struct Setup {
    double: Arc<Double>,
    socket: PathBuf,
    running: Running,
    shutdown: CancellationToken,
    _home: tempfile::TempDir,
}

async fn setup() -> Setup {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("control.sock");
    let double = Double::new(home.path());
    let shutdown = CancellationToken::new();
    let options = ServeOptions {
        http: Some("127.0.0.1:0".parse().unwrap()),
        socket: socket.clone(),
        policy: lode_gateway::policy::Policy::default(),
        tls: None,
    };
    let running = serve(double.clone(), options, shutdown.clone())
        .await
        .unwrap();
    Setup {
        double,
        socket,
        running,
        shutdown,
        _home: home,
    }
}

async fn send(setup: &Setup, headers: &[(&str, &str)], body: &str) -> Exchange {
    let path = "/lode/v1/commands";
    over_socket(&setup.socket, Method::POST, path, headers, body.to_owned()).await
}

async fn command(setup: &Setup, body: &str) -> Exchange {
    send(setup, &[("lode-program", PROGRAM)], body).await
}

async fn next_line(exchange: &mut Exchange) -> serde_json::Value {
    let frame = exchange.response.frame().await.unwrap().unwrap();
    serde_json::from_slice(frame.data_ref().unwrap()).unwrap()
}

#[tokio::test]
async fn events_arrive_as_they_happen_and_the_reply_comes_last() {
    let setup = setup().await;
    let mut answer = command(&setup, r#"{"command":"gc","dry_run":false}"#).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("application/jsonl"));
    assert_eq!(answer.header("lode-program"), Some(PROGRAM));
    assert_eq!(next_line(&mut answer).await["text"], "first");
    setup.double.proceed.notify_one();
    assert_eq!(next_line(&mut answer).await["text"], "second");
    let reply = next_line(&mut answer).await;
    assert_eq!(reply["reply"], "done");
    assert_eq!(reply["outcome"]["outcome"], "ok");
    assert!(answer.response.frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_command() {
    let setup = setup().await;
    let mut answer = command(&setup, r#"{"command":"scrub"}"#).await;
    assert_eq!(next_line(&mut answer).await["text"], "started");
    drop(answer);
    setup.double.cancelled.notified().await;
}

#[tokio::test]
async fn a_gateway_that_stops_cancels_commands_and_answers_them() {
    let setup = setup().await;
    let mut answer = command(&setup, r#"{"command":"scrub"}"#).await;
    assert_eq!(next_line(&mut answer).await["text"], "started");
    setup.shutdown.cancel();
    assert_eq!(next_line(&mut answer).await["reply"], "done");
    setup.running.stopped().await;
    assert!(!setup.socket.exists(), "the socket is gone");
}

#[tokio::test]
async fn failures_are_replies_with_kind_and_advice() {
    let setup = setup().await;
    let mut answer = command(&setup, r#"{"command":"ls","name":"acme/none"}"#).await;
    let reply = next_line(&mut answer).await;
    assert_eq!(reply["reply"], "failed");
    assert_eq!(reply["error"]["kind"], "not_found");
    assert_eq!(reply["error"]["advice"], "push one");
    let mut answer = command(&setup, r#"{"command":"status"}"#).await;
    let reply = next_line(&mut answer).await;
    assert_eq!(reply["error"]["kind"], "failed", "a panic is a reply too");
}

#[tokio::test]
async fn what_is_not_a_command_is_refused_in_words() {
    let setup = setup().await;
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        (r#"{"command":"dance"}"#, 400),
        (r#"{"command":"gc","dry_run":true,"colour":1}"#, 400),
        (&" ".repeat(COMMAND_BYTES_MAX + 1), 413),
        (&" ".repeat(COMMAND_BYTES_MAX), 400),
    ] {
        let mut answer = command(&setup, body).await;
        assert_eq!(answer.status(), status, "{}", &body[..body.len().min(40)]);
        assert_eq!(next_line(&mut answer).await["error"]["kind"], "usage");
    }
}

#[tokio::test]
async fn a_program_of_another_version_is_told_which_runs() {
    let setup = setup().await;
    let gc = r#"{"command":"gc","dry_run":true}"#;
    let mut answer = send(&setup, &[("lode-program", "99.0.0")], gc).await;
    assert_eq!(answer.status(), 409);
    let reply = next_line(&mut answer).await;
    assert_eq!(reply["error"]["kind"], "refused");
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(
        message.contains(PROGRAM) && message.contains("99.0.0"),
        "{message}"
    );
    assert_eq!(send(&setup, &[], gc).await.status(), 409);
}

#[tokio::test]
async fn commands_are_not_taken_over_http() {
    let setup = setup().await;
    let address = setup.running.http.unwrap();
    let headers = [("lode-program", PROGRAM)];
    let answer = over_http(address, Method::POST, "/lode/v1/commands", &headers).await;
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let options = ServeOptions {
        http: Some("0.0.0.0:0".parse().unwrap()),
        socket: home.path().join("control.sock"),
        policy: lode_gateway::policy::Policy::default(),
        tls: None,
    };
    let error = serve(Double::new(home.path()), options, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, ServeError::NotLoopback { .. }), "{error}");
    assert!(error.to_string().contains("0.0.0.0:0"), "{error}");
}

#[tokio::test]
async fn health_readiness_and_figures_answer() {
    let setup = setup().await;
    let address = setup.running.http.unwrap();
    for (path, text) in [("/healthz", "ok"), ("/readyz", "ready")] {
        let mut answer = over_http(address, Method::GET, path, &[]).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap().trim_ascii(), text.as_bytes());
    }
    let mut answer = over_http(address, Method::GET, "/metrics", &[]).await;
    let text = String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
    let line = "lode_http_requests_total{route=\"/healthz\",method=\"GET\",status=\"200\"} 1";
    assert!(text.contains(line), "{text}");
    let evil = [("host", "evil.example")];
    let answer = over_http(address, Method::GET, "/healthz", &evil).await;
    assert_eq!(answer.status(), 403);
}
